"""A picture with one bright object, and its outline, for data sets of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (40, 60)
BOX = (20, 10, 40, 30)
"""x0, y0, x1, y1 of the bright object in each image."""
POLYGON = [20.0, 10.0, 40.0, 10.0, 40.0, 30.0, 20.0, 30.0]


def picture() -> np.ndarray:
    image = np.full((*SIZE, 3), 30, np.uint8)
    image[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 220
    return image


def photo(path: Path, turn: int = 0, image: np.ndarray | None = None) -> Path:
    """A JPEG; `turn` is its EXIF orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if turn:
        exif[0x0112] = turn
    Image.fromarray(picture() if image is None else image).save(path, quality=95, exif=exif)
    return path


def runs(mask: np.ndarray) -> dict[str, Any]:
    """Run lengths as numbers, of the columns."""
    flat = np.concatenate([[0], mask.T.ravel().astype(int), [2]])
    edges = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], edges[:-1], [mask.size]])) if flat[1] == 0 else np.diff(np.concatenate([[0, 0], edges]))
    return {"size": list(mask.shape), "counts": [int(each) for each in counts]}


def the_mask() -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[BOX[1] : BOX[3], BOX[0] : BOX[2]] = True
    return mask


def annotation(image: Any = 1, **changes: Any) -> dict[str, Any]:
    fields = {"id": 1, "image_id": image, "category_id": 1, "iscrowd": 0, "segmentation": [POLYGON], "bbox": [20, 10, 20, 20]}
    return {key: value for key, value in {**fields, **changes}.items() if value is not None}


def listed(name: str = "a.jpg", key: Any = 1, **changes: Any) -> dict[str, Any]:
    return {"id": key, "file_name": name, "width": SIZE[1], "height": SIZE[0], **changes}


def overlap(frame: Any) -> float:
    """IoU of the labels and the bright pixels."""
    bright = frame.image.max(2) > 125
    return float((bright & (frame.labels > 0)).sum() / (bright | (frame.labels > 0)).sum())
