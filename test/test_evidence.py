"""Evidence: what is served corrects the masks that are learnt from, and what the guard judges by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from wesam_ros.adaptation.admission import admit
from wesam_ros.adaptation.buffering import buffered_frame
from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.evidence import gather_evidence
from wesam_ros.adaptation.losses import hard_iou
from wesam_ros.adaptation.predictions import predict_both_ways, predict_views
from wesam_ros.adaptation.pseudo_labels import make_pseudo_labels
from wesam_ros.adaptation.validation import validation_iou
from wesam_ros.data.frames import Frame
from wesam_ros.sam.masks import Masks
from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene.constraints import gather_constraints
from wesam_ros.scene.refine import prompt_fit, shared_out
from wesam_ros.scene.refiner import Refiner

SIZE = (96, 128)
GRID = 32
BOX = (32, 24, 96, 72)
"""The box of a red thing on green, in pixels of the image; it fills the box's left three quarters."""
RED_ENDS = 80


def _image() -> npt.NDArray[np.uint8]:
    image = np.full((*SIZE, 3), (40, 160, 60), np.uint8)
    image[BOX[1] : BOX[3], BOX[0] : RED_ENDS] = 200, 50, 40
    return image


def _logits(last: int) -> torch.Tensor:
    """One object's logits on the grid: on it from the box's left to a column of the image, unsure where that is not where the red ends."""
    logits = torch.full((1, GRID, GRID), -2.0)
    first, end, rows = min(last, RED_ENDS) // 4, max(last, RED_ENDS) // 4, slice(BOX[1] // 4, BOX[3] // 4)
    logits[:, rows, BOX[0] // 4 : first] = 2.0
    logits[:, rows, first:end] = 0.3 if last > RED_ENDS else -0.3
    return logits


def _corrected(logits: torch.Tensor, box: tuple[int, ...] = BOX, choice: str = "all", agreement: float = 0.2, **scene: Any) -> torch.Tensor:
    """The mask on the grid with all evidence."""
    prompts = Prompts.from_boxes(np.array([box], np.float32), SIZE)
    constraints = gather_constraints(prompts, None, 4 * GRID, GRID)
    evidence = gather_evidence(Frame(_image(), **scene), prompts, logits, constraints, choice, 0.6, agreement)
    return shared_out(logits + evidence) > 0


@pytest.mark.parametrize("last", [64, 96])  # the model's mask is too small, or fills the box
def test_a_mask_is_corrected_by_its_colours(last: int) -> None:
    logits, true = _logits(last), _logits(RED_ENDS) > 0
    assert float(hard_iou(logits > 0, true)) < 0.8
    assert float(hard_iou(_corrected(logits), true)) > 0.82
    assert torch.equal(_corrected(logits, choice="off"), logits > 0)


def test_a_mask_is_corrected_by_depth() -> None:
    """The thing rises from the table to the red's end; colour is left out."""
    depth = np.full(SIZE, 1.0, np.float32)
    depth[BOX[1] : BOX[3], BOX[0] : RED_ENDS] = 0.9
    scene = {"depth": depth, "camera": np.array([[100.0, 0, 64], [0, 100, 48], [0, 0, 1]])}
    logits, true = _logits(64), _logits(RED_ENDS) > 0
    logits[logits == -0.3] = -1.5
    before, after = (float(hard_iou(_corrected(logits, choice=choice, **scene), true)) for choice in ("boxes", "depth"))
    assert after > 0.9 > before


@pytest.mark.parametrize(("agreement", "started"), [(0.1, True), (0.9, False)])
def test_where_a_mask_does_not_fit_its_box_box_and_colour_are_a_start(agreement: float, started: bool) -> None:
    """The model has only a corner of the red thing, and is sure of it; the box is the thing's own."""
    box = (BOX[0], BOX[1], RED_ENDS, BOX[3])
    logits = torch.full((1, GRID, GRID), -9.0)
    logits[:, BOX[1] // 4 : BOX[1] // 4 + 5, BOX[0] // 4 : BOX[0] // 4 + 5] = 9.0
    thing = torch.zeros(1, GRID, GRID, dtype=torch.bool)
    thing[:, box[1] // 4 : box[3] // 4, box[0] // 4 : box[2] // 4] = True
    assert (float(hard_iou(_corrected(logits, box, agreement=agreement), thing)) > 0.8) == started


def test_evidence_and_logits_are_what_is_served() -> None:
    """On the grid, the logits and their evidence say of a cell what the served mask has most of."""
    logits = _logits(64)
    prompts = Prompts.from_boxes(np.array([BOX], np.float32), SIZE)
    masks = Masks(np.zeros((1, *SIZE), bool), np.ones(1, np.float32), logits.numpy())
    served = Refiner(stream=False).refine(Frame(_image()), prompts, masks).masks[0]
    share = served.reshape(SIZE[0] // 4, 4, SIZE[1] // 4, 4).mean((1, 3))
    clear = np.abs(share - 0.5) > 0.4
    corrected = _corrected(logits)[0, : SIZE[0] // 4, : SIZE[1] // 4].numpy()
    assert clear.mean() > 0.9 and np.array_equal(corrected[clear], share[clear] > 0.5)


def test_shares_of_objects_meet_where_their_log_odds_are_equal() -> None:
    odds = torch.tensor([[[3.0, 1.0, -1.0, 2.0]], [[1.0, 2.0, -2.0, 2.0]]])
    torch.testing.assert_close(shared_out(odds), torch.tensor([[[2.0, -1.0, -1.0, 0.0]], [[-2.0, 1.0, -2.0, 0.0]]]))
    torch.testing.assert_close(shared_out(odds[:1]), odds[:1])


def test_teacher_and_anchor_are_the_mean_of_both_ways(sam: Any) -> None:
    frame, prompts = Frame(_image()), Prompts.from_boxes(np.array([BOX], np.float32), SIZE)
    kept = {}
    for both_ways, refine in ((True, "all"), (True, "off"), (False, "off")):
        config = AdaptationConfig(both_ways=both_ways, refine=refine, precision="float32")
        admission, observation = admit(sam, frame, prompts, config, np.random.default_rng(0))
        assert observation is not None
        kept[both_ways, refine] = buffered_frame(sam, frame, observation, admission, config)
    plain, mean, refined = kept[False, "off"], kept[True, "off"], kept[True, "all"]
    assert plain is not None and mean is not None and refined is not None
    flipped = np.ascontiguousarray(plain.pixels[:, ::-1])
    with torch.no_grad():
        (other,) = predict_views(sam, None, [flipped], True, prompts, "float32")
        both = predict_both_ways(sam, None, plain.pixels, prompts, "float32")
    torch.testing.assert_close(mean.anchor_logits, (plain.anchor_logits + other.logits) / 2, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(both, mean.anchor_logits, rtol=1e-4, atol=1e-4)
    assert not mean.evidence.any() and refined.evidence.any()


def test_pseudo_labels_and_the_guards_reference_have_the_evidence(sam: Any) -> None:
    config = AdaptationConfig(precision="float32")
    frame, prompts = Frame(_image()), Prompts.from_boxes(np.array([BOX], np.float32), SIZE)
    admission, observation = admit(sam, frame, prompts, config, np.random.default_rng(0))
    assert observation is not None
    kept = buffered_frame(sam, frame, observation, admission, config)
    assert kept is not None
    labels = make_pseudo_labels(kept.anchor_logits, kept, torch.arange(1), config)
    wanted = (kept.anchor_logits + kept.evidence > 0) & kept.constraints.allowed
    assert torch.equal(labels.anchor > 0, wanted) and torch.equal(labels.teacher > 0, wanted)
    fit = prompt_fit(wanted, kept.constraints)
    assert torch.equal(validation_iou(wanted, kept), (fit + 1) / 2)
    plain = replace(kept, evidence=torch.zeros_like(kept.evidence))
    assert torch.equal(validation_iou(wanted, plain), fit)
