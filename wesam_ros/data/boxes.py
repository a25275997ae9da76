"""Tight boxes of masks, and how far boxes are one."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt


def box_of_mask(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """(4,) x0 y0 x1 y1 of the smallest box that holds a mask (H, W), with exclusive x1, y1; zeros for an empty mask."""
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    return np.array([x, y, x + width, y + height], np.int64)


def boxes_of_labels(labels: npt.NDArray[np.uint16]) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.float32]]:
    """Tight boxes of the instances in an id mask.

    Args:
        labels: (H, W) integer ids, 0 = background.

    Returns:
        ids (n,) in ascending order, and their boxes (n, 4) float32 as x0 y0 x1 y1 with exclusive x1, y1.
    """
    ids = np.unique(labels)
    ids = ids[ids > 0]
    boxes = np.zeros((len(ids), 4), np.float32)
    for row, instance in enumerate(ids):
        boxes[row] = box_of_mask(labels == instance)
    return ids.astype(np.uint16), boxes


def box_iou(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """(n, m) intersection over union of boxes (n, 4) with boxes (m, 4); 0 for a box without an area."""
    a64, b64 = a.reshape(-1, 1, 4).astype(np.float64), b.reshape(1, -1, 4).astype(np.float64)
    overlap = np.clip(np.minimum(a64[..., 2:], b64[..., 2:]) - np.maximum(a64[..., :2], b64[..., :2]), 0, None).prod(-1)
    areas = np.clip(a64[..., 2:] - a64[..., :2], 0, None).prod(-1) + np.clip(b64[..., 2:] - b64[..., :2], 0, None).prod(-1)
    return np.asarray(np.divide(overlap, areas - overlap, out=np.zeros_like(overlap), where=overlap > 0), np.float64)
