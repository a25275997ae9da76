"""Where a box lies on the decoder's grid: which pixels and which rows and columns it covers, surely or perhaps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Extents:
    """n boxes on an (h, w) grid, with a margin by which each side may be wrong.

    Attributes:
        rows: (n, h) share of each row between the box's top and bottom; `columns` (n, w) likewise.
        unsure_rows: (n, h) bool, rows within the margin of the top or bottom; `unsure_columns` (n, w) likewise.
        reach: (n, h, w) bool, pixels in the box enlarged by the margin.
    """

    rows: Tensor
    columns: Tensor
    unsure_rows: Tensor
    unsure_columns: Tensor
    reach: Tensor

    def __getitem__(self, index: Tensor) -> Extents:
        """The extents of some of the boxes."""
        return Extents(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


def box_extents(boxes: Tensor, grid: tuple[int, int], margin: float) -> Extents:
    """Extents of boxes (n, 4), x0 y0 x1 y1 in pixels of the grid, on a grid (h, w)."""
    height, width = grid
    columns, unsure_columns, reach_columns = _interval(boxes[:, 0], boxes[:, 2], width, margin)
    rows, unsure_rows, reach_rows = _interval(boxes[:, 1], boxes[:, 3], height, margin)
    return Extents(rows, columns, unsure_rows, unsure_columns, reach_rows[:, :, None] & reach_columns[:, None, :])


def _interval(first: Tensor, last: Tensor, length: int, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of intervals (n,) on an axis of `length` pixels: covered share, whether a pixel is within the margin of an end, and the reach."""
    start = torch.arange(length, device=first.device, dtype=torch.float32)[None]
    end = start + 1
    first, last = first[:, None], last[:, None]
    share = (torch.minimum(end, last) - torch.maximum(start, first)).clamp(0, 1)
    unsure = ((end > first - margin) & (start < first + margin)) | ((end > last - margin) & (start < last + margin))
    reach = (end > first - margin) & (start < last + margin)
    return share, unsure, reach


def box_fit(masks: Tensor, boxes: Tensor) -> Tensor:
    """IoU (n,) of the tight boxes of masks (n, h, w) bool with boxes (n, 4), both in pixels of the grid; 0 for an empty mask."""
    tight = boxes.new_zeros(len(masks), 4)
    for column, axis in ((0, 1), (1, 2)):
        covered = masks.any(axis)
        length = covered.shape[1]
        tight[:, column] = covered.float().argmax(1)
        tight[:, column + 2] = length - covered.flip(1).float().argmax(1)
    tight[~masks.flatten(1).any(1)] = 0
    overlap = (torch.minimum(tight[:, 2:], boxes[:, 2:]) - torch.maximum(tight[:, :2], boxes[:, :2])).clamp_min(0).prod(1)
    areas = (tight[:, 2:] - tight[:, :2]).prod(1) + (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return overlap / (areas - overlap).clamp_min(1e-6)
