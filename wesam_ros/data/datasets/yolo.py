"""Reader of YOLO segmentation data sets (Ultralytics' layout; docs.ultralytics.com/datasets/segment).

    data.yaml                 path, train, val, test: folders of images, lists of such, or text files that list images
    images/SPLIT/NAME.jpg     labels/SPLIT/NAME.txt: a line for each object, "class x1 y1 x2 y2 ..." in shares of width and height

Roboflow's export has SPLIT/images/NAME.jpg and SPLIT/labels/NAME.txt. Without data.yaml, images/ and labels/ are taken as they are.
An image without a text file has no object, as in training.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from wesam_ros.data.datasets.files import IMAGE_SUFFIXES, DatasetError, Frames, check_split, natural
from wesam_ros.data.datasets.outlines import UNIT, Account, Outline, Picture, frame_of, usable

SPLITS = ("all", "train", "val", "test")
LAYOUT = (
    "expected layout: data.yaml (path, train, val, test), images/[SPLIT/]NAME.jpg and labels/[SPLIT/]NAME.txt "
    "(lines of class x1 y1 x2 y2 ..., in shares of width and height)"
)
BOX_NUMBERS, LEAST_NUMBERS = 4, 6
"""Numbers behind the class of a box (its centre and size), and of the smallest outline."""
CORNERS, MANY = 4, 5
"""Corners of a rotated box, and so many outlines have four of them by no chance."""
OUTSIDE = 1.5
"""Shares beyond which coordinates are pixels, which this format does not have."""


def read_yolo_seg(folder: Path, split: str = "all") -> Frames[Picture]:
    """Frames of a YOLO segmentation data set in natural order, each a sequence of its own, and `void` where an object has just a box.

    What cannot be is left out, counted and logged (`notes` of the result).

    Args:
        folder: or its data.yaml.
        split: as data.yaml or the folders have it; "val" is Roboflow's "valid", too.

    Raises:
        DatasetError: no image, no text file, or no outline in any; while reading, for images that cannot be decoded.
    """
    check_split(split, SPLITS)
    root = folder if folder.is_dir() else folder.parent
    account = Account()
    images = sorted(dict.fromkeys(_images(folder, root, split, account)), key=lambda path: natural(path.as_posix()))
    if not images:
        told = f" ({'; '.join(account.sentences())})" if account.counts else ""
        raise DatasetError(f"there is no image of {split} in {folder}{told}; {LAYOUT}")
    texts = {image: labels_of(image) for image in images}
    present = [image for image in images if texts[image].is_file()]
    if not present:
        raise DatasetError(f"every text file of the labels is missing, such as {texts[images[0]]}; {LAYOUT}")
    poses = "kpt_shape" in _settings(folder if folder.is_file() else root / "data.yaml", Account())
    pictures = [Picture(image.stem, image, tuple(_outlines(texts[image], poses, account)), UNIT) for image in images]
    for image in images:
        if image not in present:
            account.add("images have no text file, and so no object", image)
    kept = usable(pictures, account, LAYOUT)
    polygons = [polygon for picture in kept for outline in picture.outlines for polygon in outline.polygons]
    for each in polygons if len(polygons) >= MANY and all(len(each) == CORNERS for each in polygons) else ():
        account.add("outlines have just four corners, as rotated boxes (OBB) have", each.tolist())
    if not any(outline.polygons for picture in kept for outline in picture.outlines):
        told = "; ".join(account.sentences()) or "the text files are empty"
        raise DatasetError(f"outlines are missing: {told}; this may be a data set for detection, without masks; {LAYOUT}")
    return Frames(kept, frame_of, notes=account.tell(folder))


def labels_of(image: Path) -> Path:
    """The text file of an image: the last folder named images in its path becomes labels."""
    parts = list(image.parts)
    places = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def _images(folder: Path, root: Path, split: str, account: Account) -> Iterator[Path]:
    settings = _settings(folder if folder.is_file() else root / "data.yaml", account)
    names = [split] if split != "all" else list(SPLITS[1:])
    listed = [entry for name in names for entry in _listed(settings, name)]
    base = root / str(settings.get("path", "") or "")
    for entry in listed:
        place = _place(entry, base, root)
        if place is not None:
            yield from _in(place)
        else:
            account.add("entries of data.yaml are no folder or list that is there", entry)
    if listed:
        return
    folders = [root / "images"] if split == "all" else []
    for name in names:
        for each in (name, "valid") if name == "val" else (name,):
            folders += [root / "images" / each, root / each / "images"]
    for place in folders:
        if place.is_dir():
            yield from _in(place)


def _settings(path: Path, account: Account) -> dict[str, Any]:
    files = [path] if path.is_file() else sorted(path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
    for each in files:
        try:
            content = yaml.safe_load(each.read_text(encoding="utf-8"))
        except (yaml.YAMLError, OSError, ValueError, RecursionError):
            account.add("YAML files cannot be read, and are not used", each)
            continue
        if isinstance(content, dict) and {"train", "val", "test", "names"} & content.keys():
            return content
    return {}


def _listed(settings: dict[str, Any], name: str) -> list[str]:
    entry = settings.get(name) or (settings.get("valid") if name == "val" else None)
    return [str(each) for each in entry] if isinstance(entry, list) else [entry] if isinstance(entry, str) else []


def _place(entry: str, base: Path, root: Path) -> Path | None:
    """The folder or list of an entry: below `path`, below the data.yaml, or, as exports are moved, by the end of what it says."""
    plain = entry.replace("\\", "/")
    parts = [part for part in Path(plain).parts if part not in ("..", "/", ".")]
    ends = [root.joinpath(*parts[start:]) for start in range(len(parts))]
    return next((each for each in (base / plain, root / plain, *ends) if each.exists()), None)


def _in(place: Path) -> Iterator[Path]:
    if place.is_dir():
        yield from (each for each in place.rglob("*") if each.suffix.lower() in IMAGE_SUFFIXES)
    elif place.suffix == ".txt":
        for line in place.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.strip():
                path = Path(line.strip())
                yield path if path.is_absolute() and path.exists() else place.parent / path
    elif place.suffix.lower() in IMAGE_SUFFIXES:
        yield place


def _has_class(word: str) -> bool:
    """False for a number with a fraction: the line lacks its class, and begins with a coordinate."""
    try:
        return float(word) % 1 == 0
    except ValueError:
        return True  # a name


def _outlines(path: Path, poses: bool, account: Account) -> Iterator[Outline]:
    if not path.is_file():
        return
    for number, line in enumerate(dict.fromkeys(path.read_text(encoding="utf-8", errors="replace").splitlines()), 1):
        if not line.strip():
            continue
        place = f"line {number} of {path}"
        try:
            values = np.array(line.split()[1:], np.float64)
        except ValueError:
            account.add("lines are no numbers, and left out", place)
            continue
        if not _has_class(line.split()[0]):
            account.add("lines begin with no class, and are left out", place)
        elif poses and values.size > BOX_NUMBERS:
            account.add("lines are of key points (kpt_shape) without an outline; the pixels of their boxes are not scored", place)
            yield _box(values)
        elif values.size and (not np.isfinite(values).all() or np.abs(values).max() > OUTSIDE):
            account.add("lines have coordinates that are no shares of the image (0 to 1), and are left out", place)
        elif values.size in (BOX_NUMBERS, BOX_NUMBERS + 1):  # a predicted one has its score behind
            account.add("lines are boxes without an outline; their pixels are not scored", place)
            yield _box(values)
        elif values.size >= LEAST_NUMBERS:
            yield Outline((values[: values.size // 2 * 2].reshape(-1, 2),))
        else:
            account.add("lines have too few numbers for an outline, and are left out", place)


def _box(values: npt.NDArray[np.float64]) -> Outline:
    """Just the box of a line: centre and size."""
    x, y, width, height = values[:BOX_NUMBERS].tolist()
    return Outline(box=(x - width / 2, y - height / 2, x + width / 2, y + height / 2))
