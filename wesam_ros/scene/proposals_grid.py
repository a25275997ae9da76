"""Proposals without depth: the model's masks of a grid of points, filtered as segment_anything's automatic mask generator does it.

It asks for hundreds of masks, and so takes many times as long as proposals from depth. Each point has one mask, the engines' single one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wesam_ros.sam.preprocessing import resized_size
from wesam_ros.sam.prompts import Prompt, Prompts
from wesam_ros.scene.proposals_model import Decode

Float = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

SIDE = 16
"""Points along the image's longer side."""
TOGETHER = 32
LEAST_SCORE, LEAST_STABILITY = 0.8, 0.85
"""The model's own prediction of a mask's IoU, and the IoU of the mask at thresholds OFFSET above and below 0."""
OFFSET = 1.0
SAME = 0.6
"""IoU, or share of the smaller one within the larger, from which on two masks are of one thing."""
LARGEST = 0.4
"""Share of the image above which a mask is of the background."""


def grid_boxes(size: tuple[int, int], decode: Decode, least_pixels: int, region: Bool, most: int) -> tuple[Float, Float]:
    """Boxes (n, 4) x0 y0 x1 y1 in pixels of an image of `size` (H, W), and the model's scores (n,), the best one first.

    Args:
        size: of the image.
        decode: the model's masks of prompts in it.
        least_pixels: of a thing.
        region: (H / 2, W / 2) in which points are asked about.
        most: things.
    """
    step = max(size) / SIDE
    x, y = np.meshgrid(np.arange(step / 2, size[1], step), np.arange(step / 2, size[0], step))
    points = np.stack([x.ravel(), y.ravel()], 1).astype(np.float32)
    points = points[region[(points[:, 1] // 2).astype(int), (points[:, 0] // 2).astype(int)]]
    masks, certain = [], []
    scale = 1.0
    for start in range(0, len(points), TOGETHER):
        one = np.ones(1, np.int64)
        found = decode(Prompts(size, tuple(Prompt(points=each[None], point_labels=one) for each in points[start : start + TOGETHER])))
        grid = resized_size(size, found.low_res.shape[1])
        low = found.low_res[:, : grid[0], : grid[1]]
        scale = size[0] / grid[0]
        area = (low > 0).sum((1, 2)) * scale**2
        stable = (low > OFFSET).sum((1, 2)) / np.maximum(1, (low > -OFFSET).sum((1, 2)))
        fine = (found.scores > LEAST_SCORE) & (stable > LEAST_STABILITY) & (area >= least_pixels) & (area < LARGEST * size[0] * size[1])
        masks += list(low[fine] > 0)
        certain += list(found.scores[fine] * stable[fine])
    kept: list[int] = []
    for index in np.argsort(-np.array(certain)):
        if all(_overlap(masks[index], masks[other]) < SAME for other in kept):
            kept.append(int(index))
    kept = kept[:most]
    boxes = [_box(masks[index]) for index in kept]
    scaled = np.array(boxes, np.float32).reshape(-1, 4) * np.float32(scale)
    return np.clip(scaled, 0, np.tile(size[::-1], 2)).astype(np.float32), np.array([certain[each] for each in kept], np.float32)


def _overlap(first: Bool, second: Bool) -> float:
    """Share of the smaller one of two masks that both have."""
    smaller = min(int(np.count_nonzero(first)), int(np.count_nonzero(second)))
    return int(np.count_nonzero(first & second)) / max(1, smaller)


def _box(mask: Bool) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
