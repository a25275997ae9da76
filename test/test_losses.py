"""The loss terms against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from wesam_ros.adaptation.losses import contrastive_loss, dice_loss, focal_loss, hard_iou, iou_loss, masked_prototypes, point_loss
from wesam_ros.scene.regions import box_fit, box_pixels

SURE = 30.0
"""A logit whose sigmoid is 1 in float32."""


def _logits(*rectangles: tuple[int, int, int, int], side: int = 8) -> Tensor:
    """Sure masks of rectangles x0 y0 x1 y1."""
    logits = torch.full((len(rectangles), side, side), -SURE)
    for row, (x0, y0, x1, y1) in enumerate(rectangles):
        logits[row, y0:y1, x0:x1] = SURE
    return logits


def test_focal_at_an_even_logit() -> None:
    """p = 1/2 everywhere: each pixel costs alpha_t * 1/4 * ln 2; the padded pixels cost nothing."""
    logits, target, valid = torch.zeros(1, 2, 2), torch.tensor([[[1.0, 0], [1, 1]]]), torch.tensor([[1.0, 1], [0, 0]])
    assert focal_loss(logits, target, valid, alpha=0.25).item() == pytest.approx((0.25 + 0.75) / 4 * math.log(2) / 2)


def test_focal_is_per_object() -> None:
    logits = torch.zeros(2, 4, 4)
    logits[1] = -SURE
    assert focal_loss(logits, torch.zeros(2, 4, 4), torch.ones(4, 4)).tolist() == pytest.approx([0.5 / 4 * math.log(2), 0], abs=1e-6)


@pytest.mark.parametrize(
    ("probability", "target", "expected"),
    [
        ([1.0, 1, 0, 0], [1.0, 1, 0, 0], 0.0),
        ([0.0, 0, 0, 0], [1.0, 1, 1, 0], 0.75),
        ([1.0, 0, 0, 0], [0.0, 1, 0, 0], 2 / 3),
        ([0.0], [0.0], 0.0),
    ],
)
def test_dice(probability: list[float], target: list[float], expected: float) -> None:
    assert dice_loss(torch.tensor([probability]), torch.tensor([target])).item() == pytest.approx(expected)


def test_iou_of_masks_and_its_loss() -> None:
    logits = _logits((0, 0, 4, 4), (0, 0, 0, 0))
    target = (_logits((0, 0, 4, 2), (0, 0, 0, 0)) > 0).float()
    assert hard_iou(logits > 0, target > 0).tolist() == [0.5, 0.0]
    assert iou_loss(torch.tensor([0.8, 0.1]), logits, target).tolist() == pytest.approx([0.09, 0.01])


def test_a_box_has_the_pixels_that_it_cuts() -> None:
    pixels = box_pixels(torch.tensor([[1.25, 1.0, 2.5, 2.0], [3.0, 0.0, 9.0, 0.5]]), (3, 4))
    assert pixels.int().tolist() == [[[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]], [[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]]


def test_points_by_hand() -> None:
    """On the object at a pixel of logit 2, off it half-way between 2 and -4; the second object has no point."""
    logits = torch.tensor([[[2.0, -4.0], [2.0, -4.0]]]).repeat(2, 1, 1)
    points = torch.tensor([[[0.5, 0.5], [1.0, 1.5]]]).repeat(2, 1, 1)
    loss = point_loss(logits, points, torch.tensor([[1, 0], [-1, -1]]))
    expected = sum(math.log1p(math.exp(-right)) / (1 + math.exp(right)) ** 2 for right in (2, 1))
    assert loss.tolist() == pytest.approx([expected, 0])


def test_contrastive_loss_by_hand_and_with_one_object() -> None:
    """One object alone: without further negatives the published loss is 0; a background prototype gives it something to tell apart."""
    own, background = torch.tensor([[1.0, 0]]), torch.tensor([[0.0, 1]])
    assert contrastive_loss(own, own, own.new_zeros(0, 2), 0.3).item() == 0
    assert contrastive_loss(own, own, background, 0.5).item() == pytest.approx(math.log(1 + math.exp(-2)))
    crossed = contrastive_loss(torch.cat([own, background]), torch.cat([background, own]), own.new_zeros(0, 2), 1.0)
    assert crossed.tolist() == pytest.approx([math.log(1 + math.e)] * 2)


def test_prototypes_are_means_of_directions() -> None:
    embedding = torch.zeros(2, 1, 2)
    embedding[0, 0, 0], embedding[1, 0, 1] = 10.0, 0.1
    weights = torch.tensor([[[1.0, 0]], [[1.0, 1]]])
    torch.testing.assert_close(masked_prototypes(embedding, weights), torch.tensor([[1.0, 0], [0.5**0.5, 0.5**0.5]]))


@pytest.mark.parametrize(
    ("mask", "expected"),
    [((2, 2, 6, 6), 1.0), ((2, 2, 4, 6), 0.5), ((0, 0, 0, 0), 0.0), ((6, 6, 8, 8), 0.0), ((0, 0, 8, 8), 0.25)],
)
def test_box_fit(mask: tuple[int, int, int, int], expected: float) -> None:
    assert box_fit(_logits(mask) > 0, torch.tensor([[2.0, 2, 6, 6]])).item() == pytest.approx(expected)
