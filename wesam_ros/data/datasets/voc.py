"""Reader of the segmentation part of PASCAL VOC 2012 (Everingham et al., IJCV 2015) in its published layout.

Layout of VOCtrainval_11-May-2012.tar (the development kit's documentation, sections 3 and 4):

    VOCdevkit/VOC2012/JPEGImages/NAME.jpg   SegmentationObject/NAME.png   ImageSets/Segmentation/{train,val,trainval}.txt

SegmentationObject has a palette; its indices are 0 = background, 1..N = objects, 255 = void: 5 pixels along objects, and objects too
difficult to tell. The masks of the test images are not published.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wesam_ros.data.datasets.files import Frames, Pair, check_files, check_split, find_root, read_ids, read_image, read_names
from wesam_ros.data.frames import Frame

SPLITS = ("train", "val", "trainval")
VOID = 255
LAYOUT = (
    "expected layout: VOCdevkit/VOC2012/ with JPEGImages/NAME.jpg, SegmentationObject/NAME.png (palette indices: ids, 255 = void) "
    "and ImageSets/Segmentation/{train,val,trainval}.txt"
)


def read_voc2012(folder: Path, split: str = "val") -> Frames[Pair]:
    """Frames of one of the official lists, in its order, each a sequence of its own, with labels and `void`.

    Raises:
        DatasetError: at once, for a missing folder, list or file; while reading, for files that cannot be decoded or differ in size.
    """
    check_split(split, SPLITS)
    listed = f"ImageSets/Segmentation/{split}.txt"
    root = find_root(folder, ("VOCdevkit/VOC2012", "VOC2012"), ("JPEGImages", "SegmentationObject", listed), LAYOUT)
    names = read_names(root / listed, LAYOUT)
    pairs = [Pair(name, root / "JPEGImages" / f"{name}.jpg", root / "SegmentationObject" / f"{name}.png") for name in names]
    check_files([path for pair in pairs for path in (pair.image, pair.mask)], LAYOUT)
    return Frames(pairs, _read)


def _read(pair: Pair) -> Frame:
    ids = read_ids(pair.mask, LAYOUT)
    void = ids == VOID
    return Frame(image=read_image(pair.image), labels=np.where(void, 0, ids).astype(np.uint16), void=void, sequence=pair.name)
