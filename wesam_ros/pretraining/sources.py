"""Labelled pictures to train on: folders of real ones, and simulated scenes, each with its share of the samples."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.data.datasets.files import DatasetError

Labels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Picture = tuple[npt.NDArray[np.uint8], Labels]
"""An RGB image (H, W, 3), and instance ids (H, W), 0 = background or not labelled."""
SHARES = {
    "coco2017": 0.48,
    "animals7": 0.11,
    "medical_waste": 0.09,
    "class5": 0.03,
    "electronic_parts": 0.04,
    "granular": 0.05,
    "simulated": 0.2,
}
"""Of the samples, by source. A source that is not named here has as many as its pictures would give it, at most a tenth."""
HELD_OUT = 8
"""Per cent of each real source that is held out: what choices are made on."""


class Pictures(Protocol):
    """Labelled pictures by index. `scenes.Scenes` is one such source."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Picture: ...


@dataclass(frozen=True)
class Folder:
    """Pictures of a folder with `images/NAME.jpg` and `masks/NAME.png`.

    Attributes:
        folder: where they are.
        names: without their ends.
    """

    folder: Path
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Picture:
        """Raises DatasetError where a file cannot be decoded, or the two differ in size."""
        name = self.names[index]
        image = cv2.imread(str(self.folder / "images" / f"{name}.jpg"), cv2.IMREAD_COLOR_RGB)
        labels = cv2.imread(str(self.folder / "masks" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        if image is None or labels is None or labels.shape != image.shape[:2] or labels.dtype not in (np.uint8, np.uint16):
            raise DatasetError(f"{self.folder}: images/{name}.jpg and masks/{name}.png must be a picture and ids of its size")
        return np.asarray(image, np.uint8), np.asarray(labels, np.uint16)


@dataclass(frozen=True)
class Mixture:
    """Sources by name, and the share of the samples that each has."""

    sources: tuple[tuple[str, Pictures], ...]

    def draw(self, rng: np.random.Generator, *, without: Sequence[str] = ()) -> Picture:
        """A picture of a source drawn by its share, but of none that is named in `without`."""
        chosen = [(name, pictures) for name, pictures in self.sources if name not in without]
        pictures = chosen[rng.choice(len(chosen), p=_shares(chosen))][1]
        return pictures[int(rng.integers(len(pictures)))]


def _shares(sources: Sequence[tuple[str, Pictures]]) -> npt.NDArray[np.float64]:
    total = sum(len(pictures) for _, pictures in sources)
    shares = np.array([SHARES.get(name, min(0.1, len(pictures) / total)) for name, pictures in sources])
    return np.asarray(shares / shares.sum(), np.float64)


def read_folders(root: Path) -> dict[str, Folder]:
    """Every folder in `root` that has `images` and `masks`, by name, with the pictures in order of their names.

    Raises:
        DatasetError: there is none, or a picture has no mask.
    """
    found: dict[str, Folder] = {}
    for images in sorted(root.glob("*/images")):
        names = tuple(sorted(path.stem for path in images.glob("*.jpg")))
        missing = [name for name in names if not (images.parent / "masks" / f"{name}.png").is_file()]
        if missing:
            raise DatasetError(f"{images.parent}: masks/{missing[0]}.png is missing, and {len(missing) - 1} more")
        found[images.parent.name] = Folder(images.parent, names)
    if not found:
        raise DatasetError(f"there are no pictures in {root}; expected layout: SET/images/NAME.jpg and SET/masks/NAME.png")
    return found


def split(pictures: Folder) -> tuple[Folder, Folder]:
    """Those to train on and those held out; a picture's name alone decides, so that it stays where it is when others are added."""
    held_out = tuple(name for name in pictures.names if zlib.crc32(f"{pictures.folder.name}/{name}".encode()) % 100 < HELD_OUT)
    kept = tuple(name for name in pictures.names if name not in held_out)
    return Folder(pictures.folder, kept), Folder(pictures.folder, held_out)
