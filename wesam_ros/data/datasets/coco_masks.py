"""Segmentations of COCO annotations as masks: polygons, and run lengths as numbers or as text (cocodataset.org, "data format").

Polygons agree with pycocotools up to its rounding of corners to a fifth of a pixel; run lengths agree exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]


def decode_segmentation(segmentation: Any, size: tuple[int, int]) -> Bool:
    """(H, W) mask of the field `segmentation` of an annotation, for an image of `size` (H, W).

    Raises:
        ValueError: neither polygons nor run lengths, or run lengths for another size.
    """
    try:
        return _decoded(segmentation, size)
    except (LookupError, TypeError, OverflowError) as error:
        raise ValueError(f"segmentation must be polygons or run lengths, but got {str(segmentation)[:60]} ({error})") from error


def _decoded(segmentation: Any, size: tuple[int, int]) -> Bool:
    if isinstance(segmentation, list):
        mask = np.zeros(size, bool)
        for polygon in segmentation:
            mask |= polygon_mask(np.asarray(polygon, np.float64).reshape(-1, 2), size)
        return mask
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise ValueError(f"segmentation must be polygons, or an object with size and counts, but got {str(segmentation)[:60]}")
    if tuple(segmentation["size"]) != size:
        raise ValueError(f"run lengths must be for the image's size {size}, but are for {tuple(segmentation['size'])}")
    counts = segmentation["counts"]
    return runs_mask(run_lengths(counts) if isinstance(counts, str) else counts, size)


def polygon_mask(corners: npt.NDArray[np.float64], size: tuple[int, int]) -> Bool:
    """(H, W) mask of the pixels whose centres lie in a polygon, by the even-odd rule.

    Args:
        corners: (k, 2) x, y in pixels; the centre of the first pixel is at 0.5, 0.5. The last corner is joined to the first.
        size: (H, W).
    """
    height, width = size
    start, end = corners, np.roll(corners, -1, axis=0)
    # Each edge flips all pixels below it, in the columns whose centre lines it crosses.
    first = np.clip(np.ceil(np.minimum(start[:, 0], end[:, 0]) - 0.5), 0, width).astype(np.intp)
    behind = np.clip(np.ceil(np.maximum(start[:, 0], end[:, 0]) - 0.5), 0, width).astype(np.intp)
    columns = behind - first
    edge = np.repeat(np.arange(len(corners)), columns)
    column = np.arange(len(edge)) - np.repeat(np.cumsum(columns) - columns - first, columns)
    along = (column + 0.5 - start[edge, 0]) / (end[edge, 0] - start[edge, 0])
    crossing = start[edge, 1] + along * (end[edge, 1] - start[edge, 1])
    row = np.clip(np.ceil(crossing - 0.5), 0, height).astype(np.intp)
    flips = np.bincount(row * width + column, minlength=(height + 1) * width).reshape(height + 1, width)
    return np.asarray(np.cumsum(flips[:height], axis=0) % 2 == 1, np.bool_)


def runs_mask(counts: Sequence[int], size: tuple[int, int]) -> Bool:
    """(H, W) mask of run lengths down the columns, which begin with one of background; ValueError where they do not fill it."""
    runs = np.asarray(counts, np.int64)
    if (runs < 0).any() or runs.sum() != size[0] * size[1]:
        raise ValueError(f"run lengths must not be negative and add up to {size[0]} x {size[1]} pixels, but add up to {runs.sum()}")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(size[1], size[0]).T


def mask_runs(mask: Bool) -> list[int]:
    """The run lengths of an (H, W) mask, as `runs_mask` takes them."""
    flat = mask.T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return [0, *runs] if flat.size and flat[0] else runs


def run_lengths(text: str) -> list[int]:
    """Run lengths of their text form.

    A number is written as groups of 5 bits, the lowest first, each as the character 48 + group, + 32 where another one follows; the last
    group's highest bit is the sign. From the fourth on, numbers are differences from the one two places before.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    return counts
