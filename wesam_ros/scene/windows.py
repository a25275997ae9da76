"""Windows: the part of an image in which each object can be, so that the cost grows with the objects and not with the image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wesam_ros.sam.prompts import Prompts
from wesam_ros.sam.upscaling import Rectangle
from wesam_ros.scene.constraints import rough_boxes

MARGIN = 0.2
"""Share of a box's side by which an object may leave it: a detector's boxes are off by that much."""
LEAST_MARGIN = 4.0
"""Pixels of margin of the smallest boxes."""

Float = npt.NDArray[np.float32]


def object_boxes(prompts: Prompts, low_res: Float, side: int) -> Float:
    """(n, 4) x0 y0 x1 y1 in pixels of the image: the box of each prompt; of points alone, that of the model's mask and the points.

    Args:
        prompts: of n objects.
        low_res: (n, h, w) the model's logits.
        side: the model's input size in pixels.
    """
    boxes = rough_boxes(prompts)
    scale = max(prompts.size) / low_res.shape[1]  # the longest side of the image is the grid's
    for index, each in enumerate(prompts.objects):
        if each.box is None and each.mask is None:
            rows, columns = np.nonzero(low_res[index] > 0)
            if len(rows):
                mask = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32) * np.float32(scale)
                boxes[index, :2], boxes[index, 2:] = np.minimum(boxes[index, :2], mask[:2]), np.maximum(boxes[index, 2:], mask[2:])
    height, width = prompts.size
    return np.clip(boxes, 0, (width, height, width, height)).astype(np.float32)


def window_of(box: Float, size: tuple[int, int]) -> Rectangle:
    """Rows and columns of a box (4,) x0 y0 x1 y1 with its margin, as far as they are in an image of `size` (H, W); one pixel at least."""
    dx, dy = np.maximum(MARGIN * (box[2:] - box[:2]), LEAST_MARGIN)
    return _span(box[1] - dy, box[3] + dy, size[0]), _span(box[0] - dx, box[2] + dx, size[1])


def _span(first: float, last: float, length: int) -> slice:
    start = min(max(0, int(first)), length - 1)
    return slice(start, max(start + 1, min(length, int(np.ceil(last)))))


def within(window: Rectangle, outer: Rectangle) -> Rectangle:
    """A window's rows and columns, counted from the start of an outer one that holds it."""
    rows, columns = ((slice(each.start - all_.start, each.stop - all_.start)) for each, all_ in zip(window, outer, strict=True))
    return rows, columns


def around_all(windows: list[Rectangle]) -> Rectangle:
    """The smallest rectangle that holds all windows; it starts in an even row and column, so that its half resolution is the image's."""
    rows, columns = (
        slice(min(each[axis].start for each in windows) // 2 * 2, max(each[axis].stop for each in windows)) for axis in range(2)
    )
    return rows, columns


def depth_in_box(box: Float, window: Rectangle) -> Float:
    """(h, w) of a window: how deep each pixel lies in a box, as a share of its sides; the least of both axes, negative outside."""
    rows, columns = (np.arange(each.start, each.stop, dtype=np.float32) + np.float32(0.5) for each in window)
    y = np.minimum(rows - box[1], box[3] - rows) / max(float(box[3] - box[1]), 1.0)
    x = np.minimum(columns - box[0], box[2] - columns) / max(float(box[2] - box[0]), 1.0)
    return np.asarray(np.minimum(y[:, None], x[None]), np.float32)


def overlap_of(first: Rectangle, second: Rectangle) -> tuple[Rectangle, Rectangle]:
    """The rows and columns that two windows share, counted from the start of the first, and of the second; empty where there are none."""
    shared = [slice(max(a.start, b.start), max(a.start, b.start, min(a.stop, b.stop))) for a, b in zip(first, second, strict=True)]
    return within((shared[0], shared[1]), first), within((shared[0], shared[1]), second)


def moved_to(values: Float, source: Rectangle, target: Rectangle) -> Float:
    """Values (h, w) of one window in another; 0 where they are not."""
    if source == target:
        return values
    own, there = overlap_of(source, target)
    out = np.zeros((target[0].stop - target[0].start, target[1].stop - target[1].start), np.float32)
    out[there] = values[own]
    return out
