"""Masks of ids that cannot be ids: with smoothed edges, or packed with loss."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.data.datasets.files import DatasetError

THIN_IDS = 4
"""So many ids that are nowhere three pixels wide, and more than there are others, are no objects."""
_AROUND = np.ones((3, 3), np.uint8)


def check_flat(ids: npt.NDArray[np.uint16], path: Path) -> None:
    """DatasetError where most of the ids (H, W) of a mask are thin lines, such as the colours between two objects' where edges are
    smoothed, or what JPEG makes of them."""
    inner = (cv2.erode(ids, _AROUND) == ids) & (cv2.dilate(ids, _AROUND) == ids)
    wide = np.unique(ids[inner & (ids > 0)]).size
    thin = np.unique(ids[ids > 0]).size - wide
    if thin >= THIN_IDS and thin > wide:
        raise DatasetError(
            f"{path} must have one value for each object, but {thin} of its {thin + wide} values are just thin lines; "
            "export it as PNG, without smoothing"
        )
