"""What the guard lets pass: held-back frames judge adapters, each robot's apart; what is misplaced or false has no say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_stream import CONFIG, SIZE, learn, stream

from wesam_ros.adaptation.buffering import make_buffered_frame
from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.guard import Comparison, ValidationScore, fills_box, objection, score_adapter, scored_objects
from wesam_ros.adaptation.learner import Learner
from wesam_ros.adaptation.replay_buffer import BufferedFrame
from wesam_ros.sam import Adapter, Prompts, base_hash
from wesam_ros.scene.constraints import gather_constraints
from wesam_ros.scene.support import Support


def test_candidates_that_judge_worse_are_refused_and_in_the_end_undone(sam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wesam_ros.adaptation.learner.objection", lambda *_: "worse_fit (0.1 after 0.9)")
    learner, published = learn(sam, stream(6), config=replace(CONFIG, patience=2))
    assert not published
    assert learner.counters["refused: worse_fit"] == 2
    assert learner.counters["restored: refused"] == 1
    assert learner._steps_since_restore < learner.counters["steps"]


def test_false_boxes_do_not_judge(sam: Any) -> None:
    """A box of table alone, to depth, beside one with a thing that fills it: an adapter is judged by the latter."""
    frame, _ = stream(1)[0]
    thing, table = [10, 15, 40, 45], [45, 5, 75, 30]
    raised = np.zeros((128, 128), bool)
    raised[24:72, 16:64] = True  # the decoder's grid has 128 pixels for the image's 80

    def keep(*boxes: list[int]) -> BufferedFrame:
        prompts = Prompts.from_boxes(np.array(boxes, np.float32), SIZE)
        return make_buffered_frame(
            sam,
            frame,
            prompts,
            gather_constraints(prompts, Support(~raised, raised, raised.astype(np.float32)), sam.image_encoder.img_size, 128),
            "float32",
        )

    both, alone = keep(thing, table), keep(thing)
    assert scored_objects(both, AdaptationConfig()).tolist() == [True, False]
    assert scored_objects(keep(table), AdaptationConfig()).tolist() == [False]
    assert score_adapter(sam, None, both, AdaptationConfig(precision="float32")).objects == 1
    fits = [score_adapter(sam, None, each, AdaptationConfig(precision="float32")).score for each in (both, alone)]
    assert fits[0] == pytest.approx(fits[1], abs=1e-4)


BOXES = np.array([[10, 15, 30, 35], [45, 20, 65, 40]], np.float32)
SHIFTED = BOXES + np.array([5, -5, 5, -5], np.float32)


def _things_on_a_table(learner: Learner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Depth as if a thing filled each of BOXES, in every frame."""
    raised = np.zeros((128, 128), bool)
    for x0, y0, x1, y1 in (BOXES * 1.6).astype(int):  # the decoder's grid has 128 pixels for the image's 80
        raised[y0:y1, x0:x1] = True
    monkeypatch.setattr(learner, "_support", lambda *_: Support(~raised, raised, raised.astype(np.float32)))


def test_a_frame_whose_boxes_belong_elsewhere_costs_no_forward_pass(sam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    frame, _ = stream(1)[0]
    learner = Learner(sam, CONFIG, 0)
    _things_on_a_table(learner, monkeypatch)
    assert learner.observe(frame, Prompts.from_boxes(BOXES, SIZE)).accepted
    monkeypatch.setattr("wesam_ros.adaptation.learner.with_anchor", None)
    admission = learner.observe(frame, Prompts.from_boxes(SHIFTED, SIZE))
    assert (admission.accepted, admission.reason) == (False, "misplaced_boxes")
    assert admission.offset == pytest.approx((-5, 5), abs=1)
    assert learner.counters["rejected: misplaced_boxes"] == len(learner.replay_buffer) == 1


def test_while_boxes_belong_elsewhere_their_frames_judge_what_is_served(sam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the boxes as they come, against what the frozen model says of them where they belong; without a single step."""
    served = replace(Adapter.untrained(sam, base_hash(sam), 4, seed=0), version=7)
    learner = Learner(sam, replace(CONFIG, tolerance=0.01), 0, replace(served, b=served.b + 0.1))
    _things_on_a_table(learner, monkeypatch)
    frame, _ = stream(1)[0]
    for _ in range(2):
        assert not learner.observe(frame, Prompts.from_boxes(SHIFTED, SIZE)).accepted
        assert learner.propose().reason == "not_due" and not learner.replay_buffer.misplaced
    learner.observe(frame, Prompts.from_boxes(SHIFTED, SIZE))
    (scored_objects,) = learner.replay_buffer.misplaced[""]
    assert [each.box.tolist() for each in scored_objects.prompts.objects if each.box is not None] == SHIFTED.tolist()
    torch.testing.assert_close(scored_objects.constraints.boxes, torch.from_numpy(BOXES * 1.6), atol=1.0, rtol=0)
    right = make_buffered_frame(sam, frame, Prompts.from_boxes(BOXES, SIZE), scored_objects.constraints, "float32")
    assert float(((scored_objects.anchor_logits > 0) == (right.anchor_logits > 0)).float().mean()) > 0.95

    asked = []

    def judged(_: Any, low_rank: Any, frame: Any, __: Any) -> ValidationScore:
        asked.append(frame)
        return ValidationScore(0.8 if low_rank is None else fit, 0.9, 2)

    monkeypatch.setattr("wesam_ros.adaptation.learner.judge", judged)
    fit = 0.8
    assert learner.propose().reason == learner.propose().reason == "not_due"
    assert asked == [scored_objects] * 2  # the adapter and the frozen model, once
    fit = 0.7
    learner.observe(frame, Prompts.from_boxes(SHIFTED, SIZE))
    assert learner.propose().reason == "not_due" and len(learner.replay_buffer.misplaced[""]) == 1  # every second one is held back
    learner.observe(frame, Prompts.from_boxes(SHIFTED, SIZE))
    proposal = learner.propose()
    assert proposal.reason == "below_frozen (0.750, frozen 0.800 and a lead of 0.000)"
    assert proposal.adapter is learner.adapter and (proposal.adapter.version, bool(proposal.adapter.b.any())) == (8, False)
    assert not len(learner.replay_buffer) and learner.step() is None


@pytest.mark.parametrize(
    ("candidate", "frozen", "reason"),
    [
        (ValidationScore(0.80, 0.7, 9), 0.7, None),
        (ValidationScore(0.795, 0.7, 9), 0.77, None),
        (ValidationScore(0.795, 0.7, 9), 0.78, "below_frozen"),  # a better fit, but not by a tenth of the agreement that it cost
        (ValidationScore(0.795, 1.0, 9), 0.8, None),
        (ValidationScore(0.795, 1.0, 9), 0.81, "below_frozen"),
        (ValidationScore(0.70, 0.7, 9), 0.7, "worse_fit"),
        (ValidationScore(0.95, 0.1, 9), 0.7, "diverged"),
        (
            ValidationScore(0.95, 0.35, 9),
            0.7,
            "diverged",
        ),  # half of the last good one's agreement, but not two fifths of the frozen model's
        (ValidationScore(0.95, 0.7, 9, filled=0.5), 0.7, None),
        (ValidationScore(0.95, 0.7, 9, filled=0.6), 0.7, "collapsed"),
    ],
)
def test_objections(candidate: ValidationScore, frozen: float, reason: str | None) -> None:
    found = objection(Comparison(candidate, ValidationScore(0.8, 0.7, 9), ValidationScore(frozen, 1.0, 9)), AdaptationConfig())
    assert (found or "").split(" ")[0] == (reason or "")


def test_masks_that_fill_their_boxes_where_the_anchors_do_not() -> None:
    """A box that is filled, a disc that stays one, a book that the anchor had whole, and points without a box."""
    masks, anchor = torch.zeros(4, 32, 32, dtype=torch.bool), torch.zeros(4, 32, 32, dtype=torch.bool)
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    disc = (rows - 12) ** 2 + (columns - 12) ** 2 <= 64
    masks[:, 4:20, 4:20] = True
    masks[1] = disc
    anchor[:] = disc
    anchor[2, 4:20, 4:20] = True
    anchor[3] = False
    boxes = torch.tensor([[4.0, 4, 20, 20]] * 3 + [[0.0, 0, 0, 0]])
    assert fills_box(masks, anchor, boxes).tolist() == [False, False, False, False]  # a disc has more than 1 / GROWN of its box
    anchor[:2] = anchor[:2] & (columns > 6)
    assert fills_box(masks, anchor, boxes).tolist() == [True, False, False, False]


def test_where_the_last_good_adapter_is_below_the_frozen_model_that_is_served_again(sam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scene has changed: what was good is worse than the frozen model now, and so is the candidate, until training starts anew."""
    learner, published = learn(sam, stream(6), config=replace(CONFIG, tolerance=0.01))
    before, frames = learner.adapter, len(learner.replay_buffer)
    assert published and learner.step() is not None and learner.step() is not None

    def judged(_: Any, low_rank: Any, *__: Any) -> ValidationScore:
        return ValidationScore(0.8 if low_rank is None or not low_rank[1].any() else 0.7, 0.9, 2)

    monkeypatch.setattr("wesam_ros.adaptation.learner.judge", judged)
    learner._judged.clear()
    learner._frozen.clear()
    proposal = learner.propose()
    assert proposal.reason == "below_frozen (0.700, frozen 0.800 and a lead of 0.000)"
    assert proposal.adapter is learner.adapter and proposal.adapter.version == before.version + 1
    assert not proposal.adapter.b.any() and not learner.low_rank[1].any()
    assert (learner.counters["restored: below_frozen"], len(learner.replay_buffer)) == (1, frames)

    for _ in range(2 * CONFIG.publish_every):  # a candidate is still refused, but what is served is no worse than the frozen model
        learner.step()
        assert learner.propose().adapter is None
    assert learner.counters["restored: below_frozen"] == 1


def test_the_newer_half_of_the_held_back_frames_speaks_for_itself(sam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of four frames are of another scene, where the adapters are worse than the frozen model; over all four they are better."""
    learner, published = learn(sam, stream(12), config=replace(CONFIG, tolerance=0.01))
    assert published and learner.step() is not None and learner.step() is not None
    frames = list(learner.replay_buffer.validation[""])
    assert len(frames) == 4
    changed = set(frames[2:])

    def judged(_: Any, low_rank: Any, frame: Any, __: Any) -> ValidationScore:
        trained = low_rank is not None and bool(low_rank[1].any())
        return ValidationScore((0.7 if frame in changed else 0.95) if trained else 0.8, 0.9, 2)

    monkeypatch.setattr("wesam_ros.adaptation.learner.judge", judged)
    learner._judged.clear()
    learner._frozen.clear()
    proposal = learner.propose()
    assert proposal.reason == "below_frozen (0.700, frozen 0.800 and a lead of 0.000) on the newest ones"
    assert proposal.adapter is learner.adapter and not proposal.adapter.b.any()
    changed.clear()
    assert learner.step() is not None and learner.step() is not None
    assert learner.propose().reason == "admitted"


def test_no_robot_may_lose_what_another_gains(sam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the frames of both robots the candidate is better; on those of one it is worse, also than the frozen model."""
    learner = Learner(sam, replace(CONFIG, tolerance=0.01), 0)
    for frame, prompts in stream(3):
        for robot in ("/a", "/b"):
            learner.observe(frame, prompts, f"{robot}/detections", robot)
    worse = set(learner.replay_buffer.validation["/b"])
    assert worse and learner.replay_buffer.validation["/a"]
    better = ValidationScore(0.95, 0.9, 2)

    def judged(_: Any, low_rank: Any, frame: Any, __: Any) -> ValidationScore:
        trained = low_rank is not None and bool(low_rank[1].any())
        return ValidationScore(0.7, 0.9, 2) if trained and frame in worse else better if trained else ValidationScore(0.8, 0.9, 2)

    monkeypatch.setattr("wesam_ros.adaptation.learner.judge", judged)
    assert learner.step() is not None and learner.step() is not None
    proposal = learner.propose()
    assert (proposal.adapter, proposal.reason) == (None, "worse_fit (0.700 after 0.800) on the frames of /b")
    assert proposal.judged is not None and proposal.judged.candidate.score == 0.7
    worse.clear()
    assert learner.step() is not None and learner.step() is not None
    assert learner.propose().reason == "admitted"


def test_an_adapter_from_elsewhere_is_judged_like_a_candidate(sam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    learner, _ = learn(sam, stream(6), config=replace(CONFIG, tolerance=0.01))
    best, frames = learner.adapter, len(learner.replay_buffer)
    monkeypatch.setattr(
        "wesam_ros.adaptation.learner.judge",
        lambda _, low_rank, *__: ValidationScore(0.7 if low_rank is not None and low_rank[1].abs().max() > 2 else 0.8, 0.9, 2),
    )
    learner._judged.clear()
    refused = learner.consider(replace(best, b=best.b + 3, version=70))
    assert (refused.adapter, refused.reason) == (None, "worse_fit (0.700 after 0.800)")
    assert learner.adapter is best

    monkeypatch.setattr(
        "wesam_ros.adaptation.learner.judge",
        lambda _, low_rank, *__: ValidationScore(0.8 if low_rank is None or torch.equal(low_rank[1], best.b) else 0.799, 0.9, 2),
    )
    learner._judged.clear()
    slightly_worse = learner.consider(replace(best, b=best.b + 0.01, version=70))
    assert slightly_worse.reason == "worse_fit (0.799 after 0.800)"  # a candidate may be, within the tolerance

    monkeypatch.setattr("wesam_ros.adaptation.learner.judge", lambda *_: ValidationScore(0.8, 0.9, 2))
    learner._judged.clear()
    good = replace(best, b=best.b + 0.01, version=70)
    admitted = learner.consider(good)
    assert admitted.reason == "admitted"
    assert admitted.adapter.version == best.version + 1  # its own count goes on, not the other's
    assert torch.equal(admitted.adapter.b, good.b)
    torch.testing.assert_close(learner.candidate[1], good.b)
    assert len(learner.replay_buffer) == frames


def test_without_held_back_frames_an_adapter_from_elsewhere_is_taken_unjudged(sam: Any) -> None:
    learner = Learner(sam, CONFIG, 0)
    proposal = learner.consider(Adapter.untrained(sam, base_hash(sam), 8, seed=3))
    assert (proposal.reason, proposal.adapter.version) == ("no_held_back_frames", 1)
    frame, prompts = stream(1)[0]
    learner.observe(frame, prompts)
    assert learner.step() is not None
