"""The data of a run, made small enough to be carried to a machine with a GPU: pictures and simulated scenes as JPEG and PNG."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from wesam_ros.pretraining.sources import Mixture
from wesam_ros.sam.preprocessing import resize_image


def pack(mixture: Mixture, folder: Path, side: int, quality: int, most: int) -> int:
    """Writes pictures as the folders that `sources.read_folders` reads; returns their bytes.

    Args:
        mixture: whose sources are written, under their own names and those of their pictures.
        folder: to write to.
        side: of the pictures at most, in pixels.
        quality: of the JPEG files.
        most: pictures of a source, evenly spread.
    """
    total = 0
    for name, pictures in mixture.sources:
        names = getattr(pictures, "names", None)
        for part in ("images", "masks"):
            (folder / name / part).mkdir(parents=True, exist_ok=True)
        for index in np.unique(np.linspace(0, len(pictures) - 1, min(most, len(pictures))).round().astype(int)):
            image, labels = pictures[int(index)]
            stem = names[index] if names else f"{index:05d}"
            small = resize_image(np.asarray(image), min(side, max(labels.shape)))
            ids = cv2.resize(labels, small.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)
            picture, mask = folder / name / "images" / f"{stem}.jpg", folder / name / "masks" / f"{stem}.png"
            Image.fromarray(small).save(picture, quality=quality)
            cv2.imwrite(str(mask), ids, [cv2.IMWRITE_PNG_COMPRESSION, 9])
            total += picture.stat().st_size + mask.stat().st_size
    return total
