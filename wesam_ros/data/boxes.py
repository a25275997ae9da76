"""Tight boxes of masks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


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
        mask = labels == instance
        ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes[row] = xs[0], ys[0], xs[-1] + 1, ys[-1] + 1
    return ids.astype(np.uint16), boxes
