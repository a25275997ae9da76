"""Parts that the readers of data sets share: finding files in a folder, reading them, and frames that are read only when asked for."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from wesam_ros.data.codecs import MAX_PIXELS, PNG_START, png_is_whole
from wesam_ros.data.codecs.colour import rgb_of
from wesam_ros.data.frames import Frame

log = logging.getLogger(__name__)

STAMP_STEP_NS = 10**9
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
MASK_THRESHOLD = 128
EXIF_ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)
"""EXIF tag, and its values that stand for an image turned by a quarter."""

Part = TypeVar("Part")


class DatasetError(ValueError):
    """A folder that is not the data set it was said to be; the sentence names what is missing and the layout expected."""


class Frames(Generic[Part]):
    """Frames of a data set in a fixed order, each read from its files when asked for; stamps are a second apart, from 1 s.

    Args:
        parts: what is known of each frame before its files are read.
        read: makes the frame of a part; a ValueError of it becomes a DatasetError that names the part.
        scene_of: of a part; None where each frame is of a scene of its own.
        notes: sentences on what was left out of the data set, or is taken otherwise than it stands there.

    Attributes:
        notes: as given.
        scenes: each frame's scene; where a split cuts through one, frames to learn from and frames to score on show the same things.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        read: Callable[[Part], Frame],
        scene_of: Callable[[Part], str] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self._parts, self._read, self.notes = parts, read, tuple(notes)
        self.scenes = [str(index) if scene_of is None else scene_of(part) for index, part in enumerate(parts)]

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, index: int) -> Frame:
        part = self._parts[index]
        try:
            frame = self._read(part)
        except DatasetError:
            raise
        except ValueError as error:
            raise DatasetError(f"files of {getattr(part, 'name', part)} do not belong together: {error}") from error
        return replace(frame, stamp_ns=(index % len(self) + 1) * STAMP_STEP_NS)

    def __iter__(self) -> Iterator[Frame]:
        return (self[index] for index in range(len(self)))


class Pair(NamedTuple):
    """An image and its mask by one name."""

    name: str
    image: Path
    mask: Path


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key: learn2 before learn10."""
    return [(0, int(s), "") if s.isdecimal() else (1, 0, s) for s in re.split(r"(\d+)", name) if s]


def check_split(split: str, splits: Collection[str]) -> None:
    """DatasetError where there is no such split."""
    if split not in splits:
        raise DatasetError(f"split must be one of {', '.join(splits)}, but got {split!r}")


def find_root(folder: Path, nested: Sequence[str], parts: Sequence[str], layout: str) -> Path:
    """The folder that has all `parts`: `folder`, or one of `nested` in it, as archives differ in what they wrap their content in.

    Raises:
        DatasetError: a part is missing; it names those missing where most of them were found.
    """
    candidates = [folder, *(folder / each for each in nested)]
    absent = [[root / part for part in parts if not (root / part).exists()] for root in candidates]
    best = min(range(len(candidates)), key=lambda i: len(absent[i]))
    if missing := absent[best]:
        kind = "" if any(path.suffix for path in missing) else "folder "
        raise DatasetError(f"{kind}{', '.join(map(str, missing))} {'is' if len(missing) == 1 else 'are'} missing; {layout}")
    return candidates[best]


def check_files(paths: Collection[Path], layout: str) -> None:
    """DatasetError where a file is missing; it gives their number and names the first."""
    if absent := [path for path in paths if not path.is_file()]:
        what = "1 file is missing: " if len(absent) == 1 else f"{len(absent)} files are missing, the first is "
        raise DatasetError(f"{what}{absent[0]}; {layout}")


def images_in(folder: Path, layout: str) -> list[Path]:
    """Images right in a folder, in natural order of their names; DatasetError where there is none."""
    found = sorted((p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES), key=lambda p: natural(p.name))
    if not found:
        raise DatasetError(f"there is no image ({', '.join(IMAGE_SUFFIXES)}) in {folder}; {layout}")
    return found


def read_names(path: Path, layout: str) -> list[str]:
    """The words of a list of names; DatasetError where it is not text, or has none."""
    try:
        names = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as text ({error}); {layout}") from error
    if not names:
        raise DatasetError(f"{path} is empty; {layout}")
    return names


def pairs_of(images: Sequence[Path], mask_of: Callable[[str], Path], layout: str) -> list[Pair]:
    """Images with their masks, `mask_of(stem)`; DatasetError where a mask is missing."""
    pairs = [Pair(path.stem, path, mask_of(path.stem)) for path in images]
    check_files([pair.mask for pair in pairs], layout)
    return pairs


def of_one_size(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs whose mask has the image's size. Some published sets have a few others, which the official code leaves out as well."""
    others = [pair for pair in pairs if image_size(pair.image) != image_size(pair.mask)]
    if others:
        text = "%d of %d images are left out, as their masks have another size; the first is %s"
        log.warning(text, len(others), len(pairs), others[0].image)
    return [pair for pair in pairs if pair not in others]


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) that `read_image` will give, from the file's header."""
    with _opened(path) as image:
        width, height = image.size
        turned = image.getexif().get(EXIF_ORIENTATION) in TURNED
    return (width, height) if turned else (height, width)


def exif_turn(path: Path) -> int:
    """EXIF orientation of an image: 0 where there is none, 1 for upright, 2 to 8 for turned or mirrored."""
    with _opened(path) as image:
        turn = image.getexif().get(EXIF_ORIENTATION, 0)
    return turn if isinstance(turn, int) else 0


def stored_size(path: Path) -> tuple[int, int]:
    """(H, W) that `read_stored_image` will give, from the file's header."""
    with _opened(path) as image:
        return image.size[1], image.size[0]


def read_stored_image(path: Path) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB as it is stored, whatever its EXIF orientation says: so some annotators' tools showed it."""
    return _rgb(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, turned upright as its EXIF orientation says: so annotators saw it."""
    return _rgb(path, cv2.IMREAD_COLOR)


def read_mask(path: Path) -> npt.NDArray[np.bool_]:
    """(H, W) bool of a grey image, from `MASK_THRESHOLD` on: JPEG and smoothing leave greys along edges, and specks near 0 and 255."""
    return np.asarray(_decoded(path, cv2.IMREAD_GRAYSCALE) >= MASK_THRESHOLD, np.bool_)


def read_ids(path: Path, layout: str) -> npt.NDArray[np.uint16]:
    """(H, W) ids of an image of one channel of 8 or 16 bits, or with a palette, whose indices are the ids; DatasetError for others."""
    with _opened(path) as image:
        ids = np.asarray(_upright(image))
    if ids.ndim != 2:
        raise DatasetError(f"{path} must have one channel, but has shape {ids.shape}; {layout}")
    if ids.size and (ids.min() < 0 or ids.max() > np.iinfo(np.uint16).max):
        raise DatasetError(f"{path} must have ids from 0 to 65535, but has {ids.min()} to {ids.max()}; {layout}")
    return ids.astype(np.uint16)


def read_colours(path: Path) -> npt.NDArray[np.uint16]:
    """(H, W) ids of an image in which each colour but black is an instance, in ascending order of r, g, b."""
    with _opened(path) as image:
        rgb = np.asarray(_upright(image).convert("RGB"), np.uint32)
    packed = rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
    colours = np.unique(packed)
    return np.searchsorted(colours[colours > 0], packed).astype(np.uint16) + (packed > 0).astype(np.uint16)


def read_millimetres(path: Path, layout: str) -> npt.NDArray[np.float32]:
    """(H, W) metres of a 16-bit image in millimetres, 0 = none; DatasetError for others."""
    depth = _decoded(path, cv2.IMREAD_UNCHANGED)
    if depth.dtype != np.uint16 or depth.ndim != 2:
        raise DatasetError(f"{path} must be one channel of 16 bits, but is {depth.shape} {depth.dtype}; {layout}")
    return depth.astype(np.float32) * np.float32(0.001)


def frame_of_pair(pair: Pair) -> Frame:
    """Frame whose mask is one object; a sequence of its own."""
    return Frame(image=read_image(pair.image), labels=read_mask(pair.mask).astype(np.uint16), sequence=pair.name)


def _rgb(path: Path, flags: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of an image file; 16 bits are reduced as in messages, where a sensor's 10, 12 or 14 are not black either."""
    pixels = _decoded(path, flags | cv2.IMREAD_ANYDEPTH)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DatasetError(f"{path} must have 8 or 16 bits a channel, but has {pixels.dtype}; convert it to PNG")
    return rgb_of(pixels, "bgr8")


def _decoded(path: Path, flags: int) -> npt.NDArray[Any]:
    height, width = image_size(path)
    if height * width > MAX_PIXELS:
        raise DatasetError(f"{path} must have at most {MAX_PIXELS} pixels, but its header says {width} x {height}; download it again")
    try:
        pixels = cv2.imread(str(path), flags)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise DatasetError(f"{path} cannot be decoded as an image; download it again, or save it as PNG")
    return pixels


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says, as `read_image` does: masks are drawn on what a viewer shows."""
    return ImageOps.exif_transpose(image) if image.getexif().get(EXIF_ORIENTATION, 1) != 1 else image


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image, loaded when used; DatasetError for what is wrong with the file, then as well."""
    try:
        with path.open("rb") as file:
            damaged = file.read(len(PNG_START)) == PNG_START and not png_is_whole(file)
        if damaged:
            raise ValueError("a chunk of the PNG goes beyond the end of the file")
        with Image.open(path) as image:
            yield image
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise DatasetError(f"{path} cannot be decoded as an image; download it again") from error
