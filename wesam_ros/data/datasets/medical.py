"""Readers of Kvasir-SEG and of the ISIC 2016 challenge, task 1, in their published layouts.

Kvasir-SEG (Jha et al., MMM 2020; datasets.simula.no/kvasir-seg), 1000 images, masks of the same names, JPEG as well:

    Kvasir-SEG/images/NAME.jpg   masks/NAME.jpg   kavsir_bboxes.json (sic; not needed)

and, apart from the archive, the authors' split in train.txt (880) and val.txt (120), a name a line
(github.com/DebeshJha/2020-MediaEval-Medico-polyp-segmentation, kvasir-seg-train-val).

ISIC 2016 (Gutman et al., arXiv 1605.01397; challenge.isic-archive.com/data), 900 and 379 images, four archives side by side:

    ISBI2016_ISIC_Part1_Training_Data/NAME.jpg   ISBI2016_ISIC_Part1_Training_GroundTruth/NAME_Segmentation.png   (and Test)
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.data.datasets.files import (
    Frames,
    Pair,
    check_files,
    check_split,
    find_root,
    frame_of_pair,
    images_in,
    pairs_of,
    read_image,
    read_mask,
    read_names,
)
from wesam_ros.data.frames import Frame

KVASIR_SPLITS = ("all", "train", "val")
KVASIR_LAYOUT = "expected layout: Kvasir-SEG/ with images/NAME.jpg and masks/NAME.jpg; for the splits train.txt and val.txt, a name a line"
ISIC_SPLITS = ("train", "test")
ISIC_LAYOUT = (
    "expected layout: ISBI2016_ISIC_Part1_Training_Data/NAME.jpg and ISBI2016_ISIC_Part1_Training_GroundTruth/NAME_Segmentation.png, "
    "and the same with Test"
)
SMALLEST_POLYP = 64
"""Pixels: the artefacts of JPEG stay within its blocks of 8 x 8."""


def read_kvasir_seg(folder: Path, split: str = "all") -> Frames[Pair]:
    """Frames of Kvasir-SEG, each a sequence of its own.

    The masks do not tell polyps apart: each 8-connected region of at least `SMALLEST_POLYP` pixels is an instance, from the left.

    Raises:
        DatasetError: at once, for a missing folder or file; while reading, for files that cannot be decoded or differ in size.
    """
    check_split(split, KVASIR_SPLITS)
    lists = () if split == "all" else (f"{split}.txt",)
    root = find_root(folder, ("Kvasir-SEG", "kvasir-seg"), ("images", "masks", *lists), KVASIR_LAYOUT)
    if lists:
        names = read_names(root / lists[0], KVASIR_LAYOUT)
        images = [root / "images" / f"{name.removesuffix('.jpg')}.jpg" for name in names]
        check_files(images, KVASIR_LAYOUT)
    else:
        images = images_in(root / "images", KVASIR_LAYOUT)
    return Frames(pairs_of(images, lambda stem: root / "masks" / f"{stem}.jpg", KVASIR_LAYOUT), _read_polyps)


def _read_polyps(pair: Pair) -> Frame:
    return Frame(image=read_image(pair.image), labels=regions(read_mask(pair.mask), SMALLEST_POLYP), sequence=pair.name)


def regions(mask: npt.NDArray[np.bool_], smallest: int) -> npt.NDArray[np.uint16]:
    """(H, W) ids 1..N of the 8-connected regions of a mask (H, W) of at least `smallest` pixels, ordered by their left sides."""
    _, found, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    kept = [row for row in range(1, len(stats)) if stats[row, cv2.CC_STAT_AREA] >= smallest]
    ids = np.zeros(len(stats), np.uint16)
    ids[sorted(kept, key=lambda row: int(stats[row, cv2.CC_STAT_LEFT]))] = np.arange(1, len(kept) + 1)
    return np.asarray(ids[found], np.uint16)


def read_isic2016(folder: Path, split: str = "test") -> Frames[Pair]:
    """Frames of the training or test images of ISIC 2016, each a sequence of its own with one instance, the lesion.

    Raises:
        DatasetError: at once, for a missing folder or file; while reading, for files that cannot be decoded or differ in size.
    """
    check_split(split, ISIC_SPLITS)
    part = "ISBI2016_ISIC_Part1_" + {"train": "Training", "test": "Test"}[split]
    root = find_root(folder, ("ISIC", "ISIC2016"), (f"{part}_Data", f"{part}_GroundTruth"), ISIC_LAYOUT)
    images = images_in(root / f"{part}_Data", ISIC_LAYOUT)
    return Frames(pairs_of(images, lambda stem: root / f"{part}_GroundTruth" / f"{stem}_Segmentation.png", ISIC_LAYOUT), frame_of_pair)
