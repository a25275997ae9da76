"""Reader of the Object Segmentation Database (OSD 0.2, TU Wien ACIN) in its published layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wesam_ros.data.datasets.files import (
    DatasetError,
    Frames,
    check_files,
    check_split,
    find_root,
    natural,
    read_ids,
    read_image,
    read_millimetres,
)
from wesam_ros.data.frames import Frame

__all__ = ["DatasetError", "osd_names", "read_osd"]

SPLITS = ("all",)
LAYOUT = (
    "expected layout: image_color/NAME.png (8-bit colour), disparity/NAME.png (16-bit depth in mm, 0 = none), "
    "annotation/NAME.png (0 = background, 1..N = objects)"
)
# The Kinect that OSD was recorded with, registered to colour, at 640x480
CAMERA = np.array([[525.0, 0.0, 319.5], [0.0, 525.0, 239.5], [0.0, 0.0, 1.0]])


def read_osd(folder: Path, split: str = "all") -> Frames[str]:
    """Frames of an OSD-like folder in natural order of their names, with depth and labels, without detections.

    Every scene was seen once, so each frame is a sequence of its own, named after its file; stamps are a second apart, from 1 s.

    Raises:
        DatasetError: at once, if a folder or a file is missing; while iterating, if a file cannot be decoded or sizes differ.
    """
    check_split(split, SPLITS)

    def read(name: str) -> Frame:
        return Frame(
            image=read_image(folder / "image_color" / f"{name}.png"),
            depth=read_millimetres(folder / "disparity" / f"{name}.png", LAYOUT),
            camera=CAMERA.copy(),
            labels=read_ids(folder / "annotation" / f"{name}.png", LAYOUT),
            sequence=name,
        )

    return Frames(osd_names(folder), read)


def osd_names(folder: Path) -> list[str]:
    """Names of the scenes in natural order (learn2 before learn10), each with all of its files.

    Raises:
        DatasetError: a folder or a file is missing.
    """
    parts = ("image_color", "disparity", "annotation")
    find_root(folder, (), parts, LAYOUT)
    names = sorted((p.stem for p in (folder / parts[0]).glob("*.png")), key=natural)
    if not names:
        raise DatasetError(f"there is no *.png in {folder / parts[0]}; {LAYOUT}")
    check_files([folder / part / f"{name}.png" for name in names for part in parts[1:]], LAYOUT)
    return names
