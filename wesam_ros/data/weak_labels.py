"""Weak supervision drawn from true masks: what a person or a detector would have given. For simulation and scoring protocols only."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.data.boxes import box_of_mask
from wesam_ros.sam.prompts import Prompt


def jittered_box(mask: npt.NDArray[np.bool_], rng: np.random.Generator, jitter: float) -> npt.NDArray[np.float32]:
    """The tight box of a mask (H, W), each side moved by a normal error of `jitter` times the box's extent; inside the image."""
    height, width = mask.shape
    box = box_of_mask(mask).astype(np.float32)
    extent = np.array([box[2] - box[0], box[3] - box[1]] * 2, np.float32)
    moved = np.clip(box + rng.normal(0, 1, 4) * jitter * extent, 0, (width, height, width, height)).astype(np.float32)
    if moved[2] - moved[0] < 2 or moved[3] - moved[1] < 2:
        return box
    return moved


def points_prompt(mask: npt.NDArray[np.bool_], rng: np.random.Generator, positive: int, negative: int) -> Prompt:
    """Points drawn uniformly on the object, and around it: in its box enlarged by a quarter, as WeSAM's protocol draws negatives near it.

    Args:
        mask: (H, W) bool, the true mask, not empty.
        rng: the source of randomness.
        positive: number of points on the object.
        negative: number of points off it; fewer where the surroundings have none.
    """
    height, width = mask.shape
    ys, xs = np.nonzero(mask)
    chosen = rng.integers(len(xs), size=positive)
    on = np.stack([xs[chosen], ys[chosen]], 1) + 0.5
    x0, y0, x1, y1 = box_of_mask(mask)
    dx, dy = max(2, (x1 - x0) // 4), max(2, (y1 - y0) // 4)
    x0, y0, x1, y1 = max(0, x0 - dx), max(0, y0 - dy), min(width, x1 + dx), min(height, y1 + dy)
    off_y, off_x = np.nonzero(~mask[y0:y1, x0:x1])
    chosen = rng.integers(len(off_x), size=negative) if len(off_x) else np.zeros(0, int)
    off = np.stack([off_x[chosen] + x0, off_y[chosen] + y0], 1) + 0.5
    return Prompt(
        points=np.concatenate([on, off]).astype(np.float32),
        point_labels=np.r_[np.ones(len(on), np.int64), np.zeros(len(off), np.int64)],
    )


def coarse_mask(mask: npt.NDArray[np.bool_], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """A blob like a hasty annotator's: the true mask (H, W) as a rough polygon or a dilated or eroded blob, shifted by some of its size."""
    height, width = mask.shape
    size = float(np.sqrt(mask.sum()))
    if rng.random() < 0.5:
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        hull = max(contours, key=cv2.contourArea)
        polygon = cv2.approxPolyDP(hull, rng.uniform(0.03, 0.08) * cv2.arcLength(hull, True), True).astype(np.float64)
        polygon += rng.normal(0, 0.05 * size, polygon.shape)
        blob = cv2.fillPoly(np.zeros((height, width), np.uint8), [np.round(polygon).astype(np.int32)], 1)
    else:
        radius = max(1, round(size * rng.uniform(0.04, 0.15)))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        change = cv2.dilate if rng.random() < 0.7 else cv2.erode
        blob = change(mask.astype(np.uint8), kernel)
    dx, dy = np.round(rng.normal(0, 0.05 * size, 2))
    blob = cv2.warpAffine(blob, np.array([[1, 0, dx], [0, 1, dy]], np.float64), (width, height), flags=cv2.INTER_NEAREST)
    return blob.astype(bool) if blob.any() else mask.copy()
