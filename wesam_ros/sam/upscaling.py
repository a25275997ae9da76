"""Masks in the original image from low-resolution logits. The cost grows with the objects, not with the image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from wesam_ros.sam.preprocessing import resized_size, upscale

THRESHOLD = 0.0
"""A pixel belongs to the object where its logit is above this (Sam.mask_threshold of all official models)."""


Rectangle = tuple[slice, slice]
"""Rows and columns."""


def masks_from_logits(low_res: Tensor, size: tuple[int, int], side: int) -> tuple[npt.NDArray[np.bool_], tuple[Rectangle, ...]]:
    """The masks that `upscale(low_res, size, side) > THRESHOLD` gives, up to the rounding of logits next to the threshold.

    An upscaled logit is a weighted mean of low-resolution ones, so that a pixel is outside the object where all of these are. On the CPU
    only the rectangle around an object's positive logits is computed, as a product with the weights of its rows and of its columns.

    Args:
        low_res: (n, h, w) float32, n may be 0.
        size: (H, W) of the original image.
        side: the model's input size in pixels.

    Returns:
        (n, H, W) bool, and the rectangle beyond which each mask is empty, or () on a GPU (see Masks.within).
    """
    if low_res.device.type != "cpu":
        return to_host(upscale(low_res, size, side) > THRESHOLD) if len(low_res) else np.zeros((0, *size), bool), ()
    masks = np.zeros((len(low_res), *size), bool)
    height, width = resized_size(size, side)
    rows, columns = _axis(low_res.shape[1], side, height, size[0]), _axis(low_res.shape[2], side, width, size[1])
    positive: npt.NDArray[np.bool_] = low_res.numpy() > THRESHOLD
    within: list[Rectangle] = []
    inside = np.asarray(positive.any(2)), np.asarray(positive.any(1))
    for index, (in_row, in_column) in enumerate(zip(*inside, strict=True)):
        out_y, in_y = rows.around(in_row)
        out_x, in_x = columns.around(in_column)
        logits = rows.weights[out_y, in_y] @ low_res[index, in_y, in_x] @ columns.weights[out_x, in_x].T
        np.greater(logits.numpy(), THRESHOLD, out=masks[index, out_y, out_x])
        within.append((out_y, out_x))
    return masks, tuple(within)


def logits_within(low_res: npt.NDArray[np.float32], window: Rectangle, size: tuple[int, int], side: int) -> npt.NDArray[np.float32]:
    """`upscale` of one object's low-resolution logits (h, w), in a window of the image alone: its rows and columns, one at least."""
    height, width = resized_size(size, side)
    axes = _axis(low_res.shape[0], side, height, size[0]), _axis(low_res.shape[1], side, width, size[1])
    (rows, in_rows), (columns, in_columns) = (axis.of(span) for axis, span in zip(axes, window, strict=True))
    return np.asarray((rows @ torch.from_numpy(low_res[in_rows, in_columns]) @ columns.T).numpy())


def to_host(tensor: Tensor) -> npt.NDArray[Any]:
    """A tensor's values as an array: its own memory on the CPU, a copy of a GPU's into pinned memory, which takes no second one."""
    if tensor.device.type != "cuda":
        return np.asarray(tensor.cpu().numpy())
    return np.asarray(torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor).numpy())


@dataclass(frozen=True, eq=False)
class _Axis:
    """One axis of the upscaling.

    Attributes:
        weights: (size, low) float32, the share that each low-resolution logit has in an image row (or column); rows sum to 1.
        first: (size,) the first low-resolution index with a share in each row; it never decreases.
        last: (size,) the last one, likewise.
    """

    weights: Tensor
    first: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]

    def around(self, inside: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
        """Image rows that have a share of any index that is `inside` (low,), and the indices that have a share in these rows."""
        found = np.flatnonzero(inside)
        if not len(found):
            return slice(0, 0), slice(0, 0)
        start, stop = int(np.searchsorted(self.last, found[0])), int(np.searchsorted(self.first, found[-1], side="right"))
        if start >= stop:  # the logits inside are all in the padding, or between the rows that a small image takes
            return slice(0, 0), slice(0, 0)
        return slice(start, stop), slice(self.first[start], self.last[stop - 1] + 1)

    def of(self, span: slice) -> tuple[Tensor, slice]:
        """Weights of some image rows, and the low-resolution indices that they are of."""
        inside = slice(int(self.first[span].min()), int(self.last[span].max()) + 1)
        return self.weights[span, inside], inside


@lru_cache(maxsize=64)
def _axis(low: int, side: int, resized: int, size: int) -> _Axis:
    """Weights of both interpolations, low to side and the first `resized` of these to size: the unit vectors, interpolated."""
    padded = functional.interpolate(torch.eye(low)[None], side, mode="linear", align_corners=False)
    weights = functional.interpolate(padded[..., :resized], size, mode="linear", align_corners=False)[0].T.contiguous()
    share = weights.numpy() > 0
    return _Axis(weights, share.argmax(1), low - 1 - share[:, ::-1].argmax(1))
