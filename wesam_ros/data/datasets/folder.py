"""Reader of a plain folder of images with id masks: for data of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wesam_ros.data.datasets.files import (
    IMAGE_SUFFIXES,
    DatasetError,
    Frames,
    Pair,
    check_files,
    check_split,
    find_root,
    natural,
    read_ids,
    read_image,
)
from wesam_ros.data.datasets.id_masks import check_flat
from wesam_ros.data.frames import Frame

SPLITS = ("all",)
LAYOUT = (
    "expected layout: images/[SEQUENCE/]NAME.jpg (or .png, .bmp, .webp, .tif) and masks/[SEQUENCE/]NAME.png "
    "(one channel of 8 or 16 bits, or a palette: 0 = background, others = ids)"
)


def read_folder(folder: Path, split: str = "all", *, void: int | None = None) -> Frames[Pair]:
    """Frames of a folder in natural order of their paths.

    Images in a subfolder are a sequence of its name; those right in images/ are each a sequence of their own.

    Args:
        folder: with images/ and masks/.
        split: "all".
        void: the value in masks that says that nobody knows; None = there is no such value.

    Raises:
        DatasetError: at once, for a missing folder or file; while reading, for files that cannot be decoded or differ in size.
    """
    check_split(split, SPLITS)
    root = find_root(folder, (), ("images", "masks"), LAYOUT)
    paths = [path.relative_to(root / "images") for path in (root / "images").rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES]
    if not paths:
        raise DatasetError(f"there is no image ({', '.join(IMAGE_SUFFIXES)}) in {root / 'images'}; {LAYOUT}")
    paths.sort(key=lambda path: natural(path.as_posix()))
    pairs = [Pair(p.with_suffix("").as_posix(), root / "images" / p, (root / "masks" / p).with_suffix(".png")) for p in paths]
    check_files([pair.mask for pair in pairs], LAYOUT)

    def read(pair: Pair) -> Frame:
        ids = read_ids(pair.mask, LAYOUT)
        check_flat(ids, pair.mask)
        unknown = ids == void if void is not None else None
        labels = ids if unknown is None else np.where(unknown, 0, ids).astype(np.uint16)
        return Frame(image=read_image(pair.image), labels=labels, void=unknown, sequence=_sequence(pair))

    return Frames(pairs, read, _sequence)


def _sequence(pair: Pair) -> str:
    parent = Path(pair.name).parent.as_posix()
    return pair.name if parent == "." else parent
