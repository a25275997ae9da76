"""Reader of the Object Clutter Indoor Dataset (OCID, Suchi et al., ICRA 2019) in its published layout.

Layout of OCID-dataset.tar.gz (doi 10.48436/pcbjd-4wa12), 178 sequences of 2390 frames, 640 x 480:

    OCID-dataset/{ARID10,ARID20,YCB10}/{floor,table}/{bottom,top}/[class/]seqNN/{rgb,depth,label,pcd}/result_DATE.png

A scene is built up object by object, in front of a lower (bottom) and a higher (top) camera, which have sequences of the same number.
What labels mean was taken from the loaders of UnseenObjectClustering and of WeSAM: 0 and 1 are background, on a table 2 is the table.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from wesam_ros.data.datasets.files import DatasetError, Frames, check_files, check_split, find_root, natural, read_ids, read_image
from wesam_ros.data.datasets.files import read_millimetres as read_depth
from wesam_ros.data.frames import Frame

SUBSETS = ("ARID10", "ARID20", "YCB10")
SPLITS = ("train", "test", "all")
LAYOUT = (
    "expected layout: OCID-dataset/{ARID10,ARID20,YCB10}/{floor,table}/{bottom,top}/[class/]seqNN/ with rgb/NAME.png (8-bit colour), "
    "depth/NAME.png (16-bit depth in mm, 0 = none) and label/NAME.png (ids)"
)
TEST_EVERY = 7
"""Every seventh scene is for testing: WeSAM's share, but by scene; there it is every seventh frame of the same scenes."""


class _View(NamedTuple):
    sequence: str
    folder: Path
    file: str

    @property
    def name(self) -> str:
        return f"{self.sequence}/{self.file}"


def read_ocid(folder: Path, split: str = "all") -> Frames[_View]:
    """Frames of OCID with depth and labels, sequence after sequence; `sequence` is such as "ARID20/table/top/seq01".

    OCID has no official split. Here, "test" has every seventh scene, "train" the others; both cameras' views of a scene are in the same
    part. Labels keep their numbers (objects from 2 or 3 on). The intrinsics are not published, so `camera` is None.

    Raises:
        DatasetError: at once, for a missing subset or file; while reading, for files that cannot be decoded or differ in size.
    """
    check_split(split, SPLITS)
    root = find_root(folder, ("OCID-dataset",), SUBSETS, LAYOUT)
    sequences = [path.parent.relative_to(root).as_posix() for subset in SUBSETS for path in (root / subset).rglob("seq*/rgb")]
    if not sequences:
        raise DatasetError(f"there is no seq*/rgb in {root}; {LAYOUT}")
    chosen = sorted(_of_split(sequences, split), key=natural)
    views = [_View(each, root / each, path.name) for each in chosen for path in sorted((root / each / "rgb").glob("*.png"))]
    check_files([view.folder / part / view.file for view in views for part in ("depth", "label")], LAYOUT)
    return Frames(views, _read, lambda view: _scene(view.sequence))


def _of_split(sequences: list[str], split: str) -> list[str]:
    scenes = sorted({_scene(each) for each in sequences}, key=natural)
    test = set(scenes[TEST_EVERY - 1 :: TEST_EVERY])
    return [each for each in sequences if split == "all" or (_scene(each) in test) == (split == "test")]


def _scene(sequence: str) -> str:
    """The sequence without the height of its camera."""
    return "/".join(part for part in PurePosixPath(sequence).parts if part not in ("bottom", "top"))


def _read(view: _View) -> Frame:
    labels = read_ids(view.folder / "label" / view.file, LAYOUT)
    background = 2 if "table" in PurePosixPath(view.sequence).parts else 1
    return Frame(
        image=read_image(view.folder / "rgb" / view.file),
        depth=read_depth(view.folder / "depth" / view.file, LAYOUT),
        labels=np.where(labels > background, labels, 0).astype(np.uint16),
        sequence=view.sequence,
    )
