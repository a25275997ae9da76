"""Attacks on learning: each changes the attacked frames only, and a seed decides everything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from wesam_ros.adaptation.admission import MISPLACED_BOXES
from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.learner import Learner
from wesam_ros.data.boxes import boxes_of_labels
from wesam_ros.data.detections import Detections
from wesam_ros.data.frames import Frame
from wesam_ros.evaluation.attacks import ATTACKS, SHIFT, scene_change
from wesam_ros.sam import Prompts

SIZE = (60, 80)
DURING = range(2, 5)


def stream(count: int = 7, shade: int = 0) -> list[Frame]:
    """Two rectangles that move to the right, with depth and tight boxes."""
    frames = []
    for i in range(count):
        labels = np.zeros(SIZE, np.uint16)
        labels[10:30, 5 + 3 * i : 25 + 3 * i] = 1
        labels[35:55, 20 + 3 * i : 50 + 3 * i] = 2
        image = np.array([[60, 60, 60], [200, 40, 40], [40, 40, 200]], np.uint8)[labels] + np.uint8(shade)
        depth = np.where(labels > 0, 0.8, 1.0).astype(np.float32)
        camera = np.array([[65.0, 0, 39.5], [0, 65, 29.5], [0, 0, 1]])
        ids, boxes = boxes_of_labels(labels)
        frames.append(Frame(image, depth, camera, Detections(boxes, tuple(map(str, ids))), labels, stamp_ns=10 * (i + 1)))
    return frames


def attacked(name: str, seed: int = 0) -> list[Frame]:
    return list(ATTACKS[name](iter(stream()), DURING, np.random.default_rng(seed)))


def same(a: Frame, b: Frame) -> bool:
    planes = all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("image", "depth", "labels", "camera"))
    return planes and a.stamp_ns == b.stamp_ns and np.array_equal(a.detections.boxes, b.detections.boxes)


@pytest.mark.parametrize("name", ATTACKS)
def test_only_the_attacked_frames_change_and_the_seed_decides_how(name: str) -> None:
    clean, bad = stream(), attacked(name)
    assert len(bad) == len(clean)
    assert [frame.stamp_ns for frame in bad] == [frame.stamp_ns for frame in clean]
    assert all(same(bad[i], clean[i]) for i in range(len(clean)) if i not in DURING)
    assert (name == "none") == all(same(bad[i], clean[i]) for i in DURING)
    assert all(same(a, b) for a, b in zip(bad, attacked(name), strict=True))


def test_a_share_of_the_boxes_is_wrong() -> None:
    frames = [stream(1)[0]] * 400
    bad = list(ATTACKS["wrong boxes"](frames, range(400), np.random.default_rng(0)))
    moved = [np.any(b.detections.boxes != a.detections.boxes, 1) for a, b in zip(frames, bad, strict=True)]
    assert 0.25 < np.mean(moved) < 0.35
    boxes = np.concatenate([frame.detections.boxes for frame in bad])
    assert ((boxes >= 0) & (boxes <= (80, 60, 80, 60))).all()


def test_labels_and_boxes_turn_with_the_camera() -> None:
    frame = attacked("camera flipped")[2]
    ids, tight = boxes_of_labels(frame.labels)
    np.testing.assert_array_equal(frame.detections.boxes, tight)
    assert frame.labels[5, 79] == stream()[2].labels[54, 0]
    assert (frame.image[frame.labels == 1] == (200, 40, 40)).all()
    assert len(ids) == 2


def test_what_a_hand_or_a_cover_hides_has_no_label() -> None:
    clean, hand = stream()[2], attacked("hand in view")[2]
    assert clean.depth is not None
    hidden = (hand.image != clean.image).any(-1)
    assert 0.05 < hidden.mean() < 0.6
    assert not hand.labels[hidden].any()
    np.testing.assert_array_equal(hand.labels[~hidden], clean.labels[~hidden])
    assert (hand.depth[hidden] < clean.depth[clean.depth > 0].min()).all()
    covered = attacked("camera covered")[2]
    assert not covered.labels.any()
    assert not covered.depth.any()
    assert covered.image.max() < 40


def test_a_frozen_camera_keeps_its_labels_and_the_detector_goes_on() -> None:
    clean, frozen, repeated = stream(), attacked("camera frozen"), attacked("same frame")
    np.testing.assert_array_equal(frozen[4].image, clean[2].image)
    np.testing.assert_array_equal(frozen[4].labels, clean[2].labels)
    np.testing.assert_array_equal(frozen[4].detections.boxes, clean[4].detections.boxes)
    np.testing.assert_array_equal(repeated[4].detections.boxes, clean[2].detections.boxes)


def test_depth_is_missing_shifted_or_in_another_unit() -> None:
    clean = stream()[2]
    assert clean.depth is not None
    assert attacked("depth missing")[2].depth is None
    np.testing.assert_array_equal(attacked("depth in millimetres")[2].depth, clean.depth * 1000)
    moved = attacked("depth shifted")[2].depth
    np.testing.assert_array_equal(moved[2:, 4:], clean.depth[:-2, :-4])
    assert not moved[:2].any()


def test_one_box_is_the_one_nearest_to_the_middle() -> None:
    clean, (frame,) = stream()[0], list(ATTACKS["one box"](stream(1), range(1), np.random.default_rng(0)))
    assert clean.detections is not None and frame.detections is not None
    np.testing.assert_array_equal(frame.detections.boxes, clean.detections.boxes[1:])
    assert frame.detections.ids == clean.detections.ids[1:]


def test_another_scene_comes_and_goes() -> None:
    clean, other = stream(), stream(shade=30)
    bad = list(scene_change(other)(clean, DURING, np.random.default_rng(0)))
    assert all(same(bad[i], clean[i]) for i in (0, 1, 5, 6))
    np.testing.assert_array_equal(bad[2].image, other[0].image)
    assert bad[2].stamp_ns == clean[2].stamp_ns


@pytest.mark.parametrize("name", ATTACKS)
def test_learning_survives(sam: Any, name: str) -> None:
    """An attacked frame is learnt from or rejected with a reason; the adapter stays finite."""
    learner = Learner(sam, AdaptationConfig(rank=1), 0)
    frame = replace(attacked(name)[2], labels=None)
    boxes = frame.detections.boxes
    admission = learner.observe(frame, Prompts.from_boxes(boxes[Prompts.checked_boxes(boxes, SIZE)[0]], SIZE))
    assert admission.accepted == (name != "detector dies")
    assert admission.accepted != bool(admission.reason)
    result = learner.step()
    assert (result is None) == (name == "detector dies")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in learner.trainer.low_rank)
    assert learner.counters["restored.not_finite"] == 0


@pytest.mark.parametrize(("name", "back"), [("none", 0), ("shifted boxes", -1), ("depth shifted", 1)])
def test_nothing_is_learnt_where_boxes_and_depth_do_not_belong_together(sam: Any, name: str, back: int) -> None:
    """And the learner tells by how much the boxes are off, as nearly as its grid of 128 pixels for 320 can tell."""
    large = []
    for frame in stream(1):
        planes = {field: np.kron(getattr(frame, field), np.ones((4, 4), getattr(frame, field).dtype)) for field in ("depth", "labels")}
        assert frame.camera is not None and frame.detections is not None
        camera, found = np.diag([4.0, 4, 1]) @ frame.camera, replace(frame.detections, boxes=frame.detections.boxes * 4)
        large.append(replace(frame, image=frame.image.repeat(4, 0).repeat(4, 1), camera=camera, detections=found, **planes))
    (frame,) = ATTACKS[name](large, range(1), np.random.default_rng(0))
    assert frame.detections is not None
    learner = Learner(sam, AdaptationConfig(rank=1), 0)
    admission = learner.observe(frame, Prompts.from_boxes(frame.detections.boxes, frame.size))
    assert learner.counters["support_planes.found"] == 1
    assert admission.reason == (MISPLACED_BOXES if back else "")
    assert admission.accepted == (not back)
    np.testing.assert_allclose(admission.offset, np.array(SHIFT) * (320, 240) * back, atol=5)
    assert len(learner.replay_buffer) == admission.accepted
