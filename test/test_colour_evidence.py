"""Colour where depth is silent: it corrects the masks that are learnt from, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from wesam_ros.adaptation.admission import admit
from wesam_ros.adaptation.buffering import buffered_frame
from wesam_ros.adaptation.colour_evidence import colour_evidence
from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.losses import hard_iou
from wesam_ros.adaptation.predictions import predict_both_ways, predict_views
from wesam_ros.adaptation.pseudo_labels import make_pseudo_labels
from wesam_ros.adaptation.validation import validation_iou
from wesam_ros.data.frames import Frame
from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene.constraints import Constraints, gather_constraints
from wesam_ros.scene.refine import prompt_fit
from wesam_ros.scene.support import Support

SIZE = (96, 128)
GRID = 32
BOX = (32, 24, 96, 72)
"""The box of a red thing on green, in pixels of the image; it fills the box's left three quarters."""
RED_ENDS = 80


def _image() -> np.ndarray:
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


def _constraints(support: Support | None = None) -> Constraints:
    return gather_constraints(Prompts.from_boxes(np.array([BOX], np.float32), SIZE), support, 128, GRID)


@pytest.mark.parametrize("last", [64, 96])  # the model's mask is too small, or fills the box
def test_a_mask_is_corrected_by_its_colours(last: int) -> None:
    logits = _logits(last)
    corrected = logits + colour_evidence(_image(), logits, _constraints(), SIZE) > 0
    true = _logits(RED_ENDS) > 0
    assert float(hard_iou(logits > 0, true)) < 0.8
    assert float(hard_iou(corrected, true)) > 0.9


@pytest.mark.parametrize(("agreement", "started"), [(0.1, True), (0.9, False)])
def test_where_a_mask_does_not_fit_its_box_box_and_colour_are_a_start(agreement: float, started: bool) -> None:
    """The model has only a corner of the red thing, and is sure of it; the box is the thing's own."""
    box = np.array([[BOX[0], BOX[1], RED_ENDS, BOX[3]]], np.float32)
    constraints = gather_constraints(Prompts.from_boxes(box, SIZE), None, 128, GRID)
    logits = torch.full((1, GRID, GRID), -9.0)
    logits[:, BOX[1] // 4 : BOX[1] // 4 + 5, BOX[0] // 4 : BOX[0] // 4 + 5] = 9.0
    corrected = logits + colour_evidence(_image(), logits, constraints, SIZE, 0.6, agreement) > 0
    assert (float(hard_iou(corrected, constraints.allowed)) > 0.8) == started
    assert torch.equal(corrected, logits > 0) != started


def test_colour_is_silent_where_depth_sees_and_where_all_is_of_one_colour() -> None:
    logits = _logits(64)
    raised = np.zeros((GRID, GRID), bool)
    raised[8:16, 10:18] = True
    support = Support(~raised, raised, raised.astype(np.float32))
    assert not colour_evidence(_image(), logits, _constraints(support), SIZE).any()
    assert not colour_evidence(np.full((*SIZE, 3), 90, np.uint8), logits, _constraints(), SIZE).abs().gt(0.2).any()


def test_teacher_and_anchor_are_the_mean_of_both_ways(sam: Any) -> None:
    image = _image()
    frame, prompts = Frame(image), Prompts.from_boxes(np.array([BOX], np.float32), SIZE)
    kept = {}
    for both_ways, colour in ((True, 1.0), (True, 0.0), (False, 0.0)):
        config = AdaptationConfig(both_ways=both_ways, colour=colour, precision="float32")
        admission, observation = admit(sam, frame, prompts, config, np.random.default_rng(0))
        assert observation is not None
        kept[both_ways, colour] = buffered_frame(sam, frame, observation, admission, config)
    plain, mean = kept[False, 0.0], kept[True, 0.0]
    flipped = np.ascontiguousarray(plain.pixels[:, ::-1])
    with torch.no_grad():
        (other,) = predict_views(sam, None, [flipped], True, prompts, "float32")
        both = predict_both_ways(sam, None, plain.pixels, prompts, "float32")
    torch.testing.assert_close(mean.anchor_logits, (plain.anchor_logits + other.logits) / 2, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(both, mean.anchor_logits, rtol=1e-4, atol=1e-4)
    assert not mean.colour.any() and kept[True, 1.0].colour.any()


def test_pseudo_labels_and_the_guards_reference_have_the_colours(sam: Any) -> None:
    config = AdaptationConfig(precision="float32")
    frame, prompts = Frame(_image()), Prompts.from_boxes(np.array([BOX], np.float32), SIZE)
    admission, observation = admit(sam, frame, prompts, config, np.random.default_rng(0))
    assert observation is not None
    kept = buffered_frame(sam, frame, observation, admission, config)
    assert kept is not None
    labels = make_pseudo_labels(kept.anchor_logits, kept, torch.arange(1), config)
    wanted = (kept.anchor_logits + kept.colour > 0) & kept.constraints.allowed
    assert torch.equal(labels.anchor > 0, wanted) and torch.equal(labels.teacher > 0, wanted)
    fit = prompt_fit(wanted, kept.constraints)
    assert torch.equal(validation_iou(wanted, kept), (fit + 1) / 2)
    plain = replace(kept, colour=torch.zeros_like(kept.colour))
    assert torch.equal(validation_iou(wanted, plain), fit)
