"""Reader of the Object Segmentation Database (OSD 0.2, TU Wien ACIN) in its published layout."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.data.frames import Frame

LAYOUT = (
    "expected layout: image_color/NAME.png (8-bit colour), disparity/NAME.png (16-bit depth in mm, 0 = none), "
    "annotation/NAME.png (0 = background, 1..N = objects)"
)
# The Kinect that OSD was recorded with, registered to colour, at 640x480
CAMERA = np.array([[525.0, 0.0, 319.5], [0.0, 525.0, 239.5], [0.0, 0.0, 1.0]])
STAMP_STEP_NS = 10**9


class DatasetError(ValueError):
    """A folder that is not the data set it was said to be; the sentence names what is missing and the layout expected."""


def read_osd(folder: Path) -> Iterator[Frame]:
    """Frames of an OSD-like folder in natural order of their names, with depth and labels, without detections.

    Every scene was seen once, so each frame is a sequence of its own, named after its file; stamps are a second apart, from 1 s.

    Raises:
        DatasetError: at once, if a folder or a file is missing; while iterating, if a file cannot be decoded or sizes differ.
    """
    return _frames(folder, osd_names(folder))


def osd_names(folder: Path) -> list[str]:
    """Names of the scenes in natural order (learn2 before learn10), each with all of its files.

    Raises:
        DatasetError: a folder or a file is missing.
    """
    folders = [folder / part for part in ("image_color", "disparity", "annotation")]
    if missing := [str(part) for part in folders if not part.is_dir()]:
        raise DatasetError(f"folder {', '.join(missing)} is missing; {LAYOUT}")
    names = sorted((p.stem for p in folders[0].glob("*.png")), key=lambda n: [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", n)])
    if not names:
        raise DatasetError(f"there is no *.png in {folders[0]}; {LAYOUT}")
    if absent := [str(part / f"{name}.png") for name in names for part in folders[1:] if not (part / f"{name}.png").is_file()]:
        raise DatasetError(f"{len(absent)} files are missing, the first is {absent[0]}; {LAYOUT}")
    return names


def _frames(folder: Path, names: list[str]) -> Iterator[Frame]:
    for index, name in enumerate(names):
        bgr = _read(folder / "image_color" / f"{name}.png", cv2.IMREAD_COLOR)
        millimetres = _read(folder / "disparity" / f"{name}.png", cv2.IMREAD_UNCHANGED)
        labels = _read(folder / "annotation" / f"{name}.png", cv2.IMREAD_UNCHANGED)
        if millimetres.dtype != np.uint16 or millimetres.ndim != 2:
            raise DatasetError(
                f"disparity/{name}.png must be one channel of 16 bits, but is {millimetres.shape} {millimetres.dtype}; {LAYOUT}"
            )
        if labels.ndim != 2:
            raise DatasetError(f"annotation/{name}.png must have one channel, but has shape {labels.shape}; {LAYOUT}")
        try:
            yield Frame(
                image=np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8),
                depth=millimetres.astype(np.float32) * np.float32(0.001),
                camera=CAMERA.copy(),
                labels=labels.astype(np.uint16),
                stamp_ns=(index + 1) * STAMP_STEP_NS,
                sequence=name,
            )
        except ValueError as error:
            raise DatasetError(f"files of scene {name} do not belong together: {error}") from error


def _read(path: Path, flags: int) -> npt.NDArray[Any]:
    pixels = cv2.imread(str(path), flags)
    if pixels is None:
        raise DatasetError(f"{path} cannot be decoded as an image; download it again")
    return pixels
