"""Proposals without a detector: pieces of depth, limits, the grid without depth, and their scores. Scenes are drawn here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from wesam_ros.cli import main
from wesam_ros.commands.segment import coco
from wesam_ros.data.boxes import box_iou
from wesam_ros.data.codecs.files import encode_png
from wesam_ros.data.datasets.coco_masks import decode_segmentation
from wesam_ros.data.frames import Frame
from wesam_ros.evaluation.clusters import euclidean_clusters
from wesam_ros.evaluation.unprompted import mean_score, score_unprompted
from wesam_ros.sam.masks import Masks
from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene.proposals import DEPTH, GRID, Proposals, Proposer
from wesam_ros.scene.proposals_limits import Limits, region_of
from wesam_ros.scene.proposals_relief import find_raised
from wesam_ros.scene.proposals_score import fit, joined, scores

SIZE = (240, 320)
CAMERA = np.array([[260.0, 0, 159.5], [0, 260.0, 119.5], [0, 0, 1]])
THINGS = ((60, 60, 110, 120), (200, 70, 260, 130))
"""Boxes x0 y0 x1 y1 of two things, 10 cm above a table that is 1 m away."""


def scene(things: tuple[tuple[int, int, int, int], ...] = THINGS, rise: float = 0.1, noise: float = 0.001) -> Frame:
    """A table seen from above, with boxes on it."""
    rng = np.random.default_rng(0)
    depth, image = np.full(SIZE, 1.0, np.float32), rng.integers(100, 120, (*SIZE, 3), dtype=np.uint8)
    for index, (x0, y0, x1, y1) in enumerate(things):
        depth[y0:y1, x0:x1] -= np.float32(rise)
        image[y0:y1, x0:x1, index % 3] += 90
    return Frame(image, (depth + rng.normal(0, noise, SIZE)).astype(np.float32), CAMERA)


def found(frame: Frame, limits: Limits | None = None) -> Proposals:
    return Proposer(limits).propose(frame, None)


def test_things_that_rise_are_proposed_and_the_table_is_not() -> None:
    proposals = found(scene())
    assert proposals.way == DEPTH
    overlap = box_iou(proposals.boxes, np.array(THINGS, np.float32))
    assert overlap.shape == (2, 2)
    assert (overlap.max(0) > 0.9).all()
    assert (proposals.scores > 0.5).all()
    assert not len(found(scene(())).boxes)


@pytest.mark.parametrize("tilt", [-0.4, 0.3, 0.6])
def test_a_tilted_plane_has_nothing(tilt: float) -> None:
    slope = (np.arange(SIZE[1], dtype=np.float32) - 160) / 260 * np.float32(tilt)
    depth = np.broadcast_to(1 / (1 + slope), SIZE) + np.random.default_rng(0).normal(0, 0.001, SIZE)
    assert not len(found(Frame(np.full((*SIZE, 3), 120, np.uint8), depth.astype(np.float32), CAMERA)).boxes)


def test_things_that_stand_one_before_the_other_are_two() -> None:
    frame = scene(((80, 60, 180, 140), (120, 100, 160, 180)), rise=0.08)
    assert frame.depth is not None
    frame.depth[100:180, 120:160] = 0.8
    assert len(found(frame).boxes) == 2


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        (Limits(), [0, 1]),
        (Limits(least_pixels=3200), [1]),
        (Limits(region=region_of("0 0 150 240")), [0]),
        (Limits(region=region_of("180,0 320,0 320,240 180,240")), [1]),
        (Limits(heights=(0.0, 0.05)), []),
        (Limits(heights=(0.15, 0.5)), []),
        (Limits(most=1), [1]),
    ],
)
def test_limits(limits: Limits, kept: list[int]) -> None:
    boxes = found(scene(), limits).boxes
    overlap = box_iou(boxes, np.array(THINGS, np.float32)) if len(boxes) else np.zeros((0, 2))
    assert sorted(overlap.argmax(1).tolist()) == kept


@pytest.mark.parametrize("text", ["1 2 3", "5 5 1 9", "0 0 1 1 2", "a b c d"])
def test_a_region_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="region must be"):
        region_of(text)
    assert region_of(" ") is None


@pytest.mark.parametrize("wrong", [{"heights": (0.5, 0.1)}, {"least_pixels": 0}, {"region": np.zeros((2, 2), np.float32)}])
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Limits(**wrong)


def test_what_a_detector_boxed_is_not_proposed_again() -> None:
    proposals = found(scene())
    left = proposals.missing_from(np.array([THINGS[0]], np.float32))
    assert box_iou(left.boxes, np.array([THINGS[1]], np.float32)).item() > 0.9
    assert len(proposals.missing_from(np.zeros((0, 4), np.float32)).boxes) == 2


def test_without_depth_a_grid_of_points_is_asked() -> None:
    """Stands for a model that knows the two things, and takes all else for background."""
    low = np.full((2, 64, 64), -8.0, np.float32)
    for mask, (x0, y0, x1, y1) in zip(low, THINGS, strict=True):
        mask[y0 // 5 : y1 // 5, x0 // 5 : x1 // 5] = 8.0

    def decode(prompts: Prompts) -> Masks:
        logits, certain = np.full((len(prompts), 64, 64), -8.0, np.float32), np.full(len(prompts), 0.2, np.float32)
        for row, each in enumerate(prompts.objects):
            x, y = each.points[0]
            for mask, (x0, y0, x1, y1) in zip(low, THINGS, strict=True):
                if x0 <= x < x1 and y0 <= y < y1:
                    logits[row], certain[row] = mask, 0.95
        return Masks(np.zeros((len(prompts), *SIZE), bool), certain, logits)

    frame = scene()
    proposals = Proposer().propose(Frame(frame.image), decode)
    assert proposals.way == GRID
    assert (box_iou(proposals.boxes, np.array(THINGS, np.float32)).max(0) > 0.8).all()
    with pytest.raises(ValueError, match="depth"):
        Proposer().propose(Frame(frame.image), None)


def test_clusters_join_what_touches() -> None:
    apart, touching = (scene(things) for things in (THINGS, ((60, 60, 110, 120), (110, 60, 160, 120))))
    for frame, count in ((apart, 2), (touching, 1)):
        assert frame.depth is not None
        raised = find_raised(frame.depth, CAMERA, np.random.default_rng(0))
        assert raised is not None
        assert euclidean_clusters(raised).max() == count


def test_pairs_are_joined_from_the_surest_on() -> None:
    pairs = np.array([(0, 1), (1, 2), (0, 2), (2, 3)])
    # 0 and 1 are joined first; their mean odds with 2 are then below 0.
    ids = joined(4, pairs, np.array([3.0, 1.0, -2.0, -1.0]), np.ones(4, np.float32))
    assert ids.tolist() == [0, 0, 1, 2]
    assert joined(1, np.zeros((0, 2), np.int64), np.zeros(0), np.zeros(0, np.float32)).tolist() == [0]


def test_a_score_is_fitted_and_the_shipped_ones_are_whole() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 2)).astype(np.float32)
    truth = rng.random(2000) < 1 / (1 + np.exp(-(2 * x[:, 0] - 1)))
    score = fit(x, truth, ("a", "b"))
    assert score.weights == pytest.approx([2, 0], abs=0.3)
    assert score.bias == pytest.approx(-1, abs=0.2)
    with pytest.raises(ValueError, match="both kinds"):
        fit(x, np.ones(2000, bool), ("a", "b"))
    assert {name: len(each.names) for name, each in scores().items()} == {
        "neighbours": 16, "bridges": 15, "neighbours by depth": 11, "bridges by depth": 10, "things": 8
    }  # fmt: skip


def labels(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    image = np.zeros((100, 100), np.uint16)
    for index, (x0, y0, x1, y1) in enumerate(boxes):
        image[y0:y1, x0:x1] = index + 1
    return image


@pytest.mark.parametrize(
    ("own", "p", "r", "above"),
    [
        (labels((10, 10, 30, 30), (50, 50, 70, 70)), 1, 1, 1),
        (labels((50, 50, 70, 70), (10, 10, 30, 30)), 1, 1, 1),  # whatever the order
        (labels((10, 10, 30, 30)), 1, 0.5, 0.5),  # one is missed
        (labels((10, 10, 20, 30), (20, 10, 30, 30), (50, 50, 70, 70)), 0.75, 0.75, 0.5),  # one is cut in two
        (labels((10, 10, 30, 30), (50, 50, 70, 70), (80, 80, 100, 100)), 2 / 3, 1, 1),  # one is invented
        (labels(), 0, 0, 0),
    ],
)
def test_overlap_as_defined(own: np.ndarray, p: float, r: float, above: float) -> None:
    true = labels((10, 10, 30, 30), (50, 50, 70, 70))
    score = score_unprompted(own, true)
    assert (score.overlap_p, score.overlap_r, score.above_75) == pytest.approx((p, r, above))
    assert score.overlap_f == pytest.approx(2 * p * r / (p + r) if p + r else 0)
    assert score.true == 2


def test_boundaries_within_the_tolerance_are_right() -> None:
    true = labels((20, 20, 60, 60))
    near, far = (score_unprompted(labels((20 + by, 20, 60 + by, 60)), true) for by in (1, 8))
    assert near.boundary_f == 1
    assert far.boundary_f < 0.75
    nothing = score_unprompted(labels(), labels())
    assert (nothing.overlap_f, nothing.boundary_f, nothing.above_75) == (1, 1, 1)
    assert mean_score([near, far]).boundary_f == pytest.approx((1 + far.boundary_f) / 2)
    with pytest.raises(ValueError, match="one size"):
        score_unprompted(labels(), np.zeros((5, 5), np.uint16))


def test_evaluation_without_prompts(tmp_path: Path, untrained_tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("image_color", "disparity", "annotation"):
        (tmp_path / part).mkdir()
    frame, true = scene(), np.zeros(SIZE, np.uint16)
    assert frame.depth is not None
    for index, (x0, y0, x1, y1) in enumerate(THINGS):
        true[y0:y1, x0:x1] = index + 1
    for name in ("learn0", "learn1"):
        for part, pixels in (("image_color", frame.image), ("disparity", np.round(frame.depth * 1000)), ("annotation", true)):
            (tmp_path / part / f"{name}.png").write_bytes(encode_png(pixels if part == "image_color" else pixels.astype(np.uint16)))
    words = ["evaluate", f"osd:{tmp_path}", "--checkpoint", str(untrained_tiny), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main([*words, "--prompts", "none", "box"]) == 2
    assert "cannot be mixed" in capsys.readouterr().err
    assert main([*words, "--prompts", "none"]) == 0
    rows = {row["way"]: row for row in json.loads((tmp_path / "out" / "no_detector.json").read_text())}
    assert set(rows) == {"proposals", "depth", "model", "clusters"}
    assert rows["depth"]["above_75"] == rows["clusters"]["above_75"] == 1
    assert rows["depth"]["found"] == 2


def test_coco_has_the_masks() -> None:
    shown = labels((0, 0, 7, 5), (50, 60, 100, 100))
    written = json.loads(json.dumps(coco("a.png", shown, np.array([0.9, 0.8], np.float32))))
    for each in written["annotations"]:
        mask = decode_segmentation(each["segmentation"], (100, 100))
        assert np.array_equal(mask, shown == each["id"])
        assert each["area"] == mask.sum()
    assert written["annotations"][1]["bbox"] == [50, 60, 50, 40]


def test_the_command_writes_what_it_finds(tmp_path: Path, untrained_tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = scene()
    assert frame.depth is not None
    (tmp_path / "a.png").write_bytes(encode_png(frame.image))
    (tmp_path / "depth.png").write_bytes(encode_png(np.round(frame.depth * 1000).astype(np.uint16)))
    common = [str(tmp_path / "a.png"), str(tmp_path / "depth.png"), "--checkpoint", str(untrained_tiny), "--device", "cpu"]
    assert main(["segment", *common, "--out", str(tmp_path / "out")]) == 2
    assert "--camera" in capsys.readouterr().err
    camera = ["--camera", "260", "260", "159.5", "119.5"]
    assert main(["segment", *common, *camera, "--out", str(tmp_path / "out")]) == 0
    assert {each.name for each in (tmp_path / "out").iterdir()} == {"a_labels.png", "a.json", "a_overlay.png"}
    assert len(json.loads((tmp_path / "out" / "a.json").read_text())["annotations"]) <= 2
    assert "2 things" in capsys.readouterr().out
