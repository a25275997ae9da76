"""Masks refined by boxes and depth: two things on a table, on a grid of 8 x 8, their boxes overlapping."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.predictions import Prediction
from wesam_ros.adaptation.pseudo_labels import make_pseudo_labels
from wesam_ros.adaptation.replay_buffer import BufferedFrame
from wesam_ros.adaptation.step import loss_terms, train_from
from wesam_ros.adaptation.validation import validation_iou
from wesam_ros.sam import Adapter, base_hash
from wesam_ros.sam.lora import term_by_term
from wesam_ros.sam.predictor import embed_images
from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene.constraints import Constraints, gather_constraints
from wesam_ros.scene.refine import refine
from wesam_ros.scene.support import Support

BOXES = np.array([[0, 2, 5, 6], [3, 2, 8, 6]], np.float32)


def _frame(logits: Tensor, depth: bool = True, prompts: Prompts | None = None) -> BufferedFrame:
    """Rows 3 to 5 rise from the table, all else is its surface; without depth nothing is known."""
    raised = np.zeros((8, 8), bool)
    raised[3:6] = True
    prompts = prompts or Prompts.from_boxes(BOXES, (8, 8))
    support = Support(~raised, raised, raised.astype(np.float32)) if depth else None
    constraints = gather_constraints(prompts, support, 32, 8)
    return BufferedFrame(
        pixels=np.zeros((8, 8, 3), np.uint8),
        prompts=prompts,
        constraints=constraints,
        anchor_logits=logits,
        anchor_prototypes=torch.eye(len(prompts), 4),
        background=torch.eye(4)[3:],
        evidence=_evidence(logits, constraints) if depth else torch.zeros_like(logits),
        stamp_ns=0,
    )


def _evidence(logits: Tensor, constraints: Constraints) -> Tensor:
    """Evidence of what prompts and depth alone say of logits."""
    return torch.where(refine(logits, constraints) > 0, 5.0, -5.0) - logits


def test_masks_are_cut_filled_and_kept_apart() -> None:
    """The first object's mask spills over table and box, the second's is empty: what rises is shared out, by logit where boxes overlap."""
    logits = torch.stack([torch.full((8, 8), 2.0), torch.full((8, 8), -1.0)])
    logits[1, :, 4] = 3
    frame = _frame(logits)
    masks = refine(logits, frame.constraints) > 0
    expected = torch.zeros(2, 8, 8, dtype=torch.bool)
    expected[0, 3:6, :4] = True
    expected[1, 3:6, 4:] = True
    assert torch.equal(masks, expected)


def test_without_depth_masks_are_only_cut_to_boxes_and_kept_apart() -> None:
    logits = torch.stack([torch.full((8, 8), 2.0), torch.full((8, 8), -1.0)])
    frame = _frame(logits, depth=False)
    masks = refine(logits, frame.constraints) > 0
    assert torch.equal(masks[0], frame.constraints.allowed[0]) and not masks[1].any()


@pytest.mark.parametrize(
    ("rows", "depth", "expected"),
    [
        ((3, 6), True, 1.0),
        ((3, 4), True, 1 / 3),  # one of three rows that rise
        ((2, 6), True, 15 / 20),  # a row of the table as well
        ((8, 8), True, 0.0),
        ((2, 4), False, 0.5),  # half of the box
    ],
)
def test_validation_iou(rows: tuple[int, int], depth: bool, expected: float) -> None:
    frame = _frame(torch.zeros(2, 8, 8), depth)
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[0, rows[0] : rows[1], :5] = True
    assert validation_iou(masks, frame)[0].item() == pytest.approx(expected)


def test_where_depth_knows_nothing_the_anchor_is_what_a_mask_has_to_fit() -> None:
    """Row 3 rises, row 5 is table, and row 4 is neither: the anchor has it on the object."""
    raised, surface = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    raised[3], surface[5] = True, True
    prompts = Prompts.from_boxes(BOXES[:1], (8, 8))
    logits, masks = torch.full((1, 8, 8), -1.0), torch.zeros(1, 8, 8, dtype=torch.bool)
    logits[0, 4:6, :5] = 1.0  # the anchor misses what rises, and has some of the table
    constraints = gather_constraints(prompts, Support(surface, raised, raised.astype(np.float32)), 32, 8)
    frame = replace(_frame(logits, prompts=prompts), constraints=constraints, evidence=_evidence(logits, constraints))
    assert validation_iou(logits > 0, frame).item() == pytest.approx(5 / 15)
    for rows, expected in (((3, 5), 1.0), ((3, 4), 0.5), ((3, 6), 10 / 15)):
        masks[:] = False
        masks[0, rows[0] : rows[1], :5] = True
        assert validation_iou(masks, frame).item() == pytest.approx(expected)


def test_a_false_box_teaches_nothing() -> None:
    """Two boxes on what rises, one on the bare table: the third's pseudo-mask is empty, and no gradient reaches its masks."""
    boxes = np.array([[0, 3, 3, 6], [4, 3, 8, 6], [0, 6, 8, 8]], np.float32)
    logits = torch.ones(3, 8, 8)
    frame = _frame(logits, prompts=Prompts.from_boxes(boxes, (8, 8)))
    view = torch.ones(3, 8, 8, requires_grad=True)
    student = Prediction(view, torch.ones(3), torch.ones(4, 2, 2))
    config, chosen = AdaptationConfig(), torch.arange(3)
    pseudo_labels = make_pseudo_labels(logits, frame, chosen, config)
    assert pseudo_labels.agreed.tolist() == pseudo_labels.measured.tolist() == [True, True, False]
    terms = loss_terms(student, pseudo_labels, frame, chosen, torch.ones(8, 8), torch.zeros(0, 4), config)
    torch.stack(list(terms.values())).sum().backward()
    assert view.grad is not None
    assert view.grad[:2].abs().amax((1, 2)).min() > 0 and not view.grad[2].any()


def test_a_gradient_that_ends_at_a_term_is_the_whole_one_from_there_on(sam: Any) -> None:
    fresh = Adapter.untrained(sam, base_hash(sam), rank=4, seed=0)
    a, b = fresh.a.requires_grad_(), torch.full_like(fresh.b, 0.01).requires_grad_()
    pixels = torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    terms, first = term_by_term(sam, (a, b)), 20
    whole, part = (torch.autograd.grad(embed_images(sam, pixels, train_from(each, terms)).square().mean(), (a, b)) for each in (0, first))
    for all_terms, late_ones in zip(term_by_term(sam, whole), term_by_term(sam, part), strict=True):
        assert all(bool(each.any()) for each in all_terms) and not any(bool(each.any()) for each in late_ones[:first])
        for one, other in zip(all_terms[first:], late_ones[first:], strict=True):
            torch.testing.assert_close(one, other)
