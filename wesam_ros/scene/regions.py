"""Boxes and points on the decoder's grid: the pixels that boxes cover, the boxes of masks, and logits at points."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def box_pixels(boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """(n, h, w) bool: the pixels of a grid (h, w) that boxes (n, 4), x0 y0 x1 y1 in pixels of the grid, cover or cut."""
    rows, columns = (_touched(boxes[:, axis], boxes[:, axis + 2], length) for axis, length in ((1, grid[0]), (0, grid[1])))
    return rows[:, :, None] & columns[:, None, :]


def _touched(first: Tensor, last: Tensor, length: int) -> Tensor:
    """(n, length) bool: the pixels of an axis that intervals (n,) cover or cut."""
    start = torch.arange(length, device=first.device, dtype=torch.float32)[None]
    return (start + 1 > first[:, None]) & (start < last[:, None])


def tight_boxes(masks: Tensor) -> Tensor:
    """(n, 4) x0 y0 x1 y1 of the smallest boxes that hold masks (n, h, w) bool, with exclusive x1, y1; zeros for an empty mask."""
    boxes = torch.zeros(len(masks), 4, device=masks.device)
    for column, axis in ((0, 1), (1, 2)):
        covered = masks.any(axis)
        length = covered.shape[1]
        boxes[:, column] = covered.float().argmax(1)
        boxes[:, column + 2] = length - covered.flip(1).float().argmax(1)
    boxes[~masks.flatten(1).any(1)] = 0
    return boxes


def box_fit(masks: Tensor, boxes: Tensor) -> Tensor:
    """IoU (n,) of the tight boxes of masks (n, h, w) bool with boxes (n, 4), both in pixels of the grid; 0 for an empty mask."""
    tight = tight_boxes(masks)
    overlap = (torch.minimum(tight[:, 2:], boxes[:, 2:]) - torch.maximum(tight[:, :2], boxes[:, :2])).clamp_min(0).prod(1)
    areas = (tight[:, 2:] - tight[:, :2]).prod(1) + (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return overlap / (areas - overlap).clamp_min(1e-6)


def logits_at(logits: Tensor, points: Tensor) -> Tensor:
    """Logits (n, k) of (n, h, w) at points (n, k, 2), x y in pixels of the grid, bilinear between the pixels' centres."""
    size = points.new_tensor([logits.shape[2], logits.shape[1]])
    places = (2 * points / size - 1)[:, None]
    return functional.grid_sample(logits[:, None], places, mode="bilinear", padding_mode="border", align_corners=False)[:, 0, 0]
