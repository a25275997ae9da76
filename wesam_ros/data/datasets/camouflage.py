"""Readers of data sets of camouflaged objects: CHAMELEON, CAMO and COD10K, in their published layouts.

CHAMELEON (Skurowski et al., 2018), 76 images, as SINet and SINet-V2 publish it (github.com/GewelsJI/SINet-V2, TestDataset.zip):

    CHAMELEON/Imgs/NAME.jpg   GT/NAME.png        (SINet: Image/ for Imgs/)

CAMO (Le et al., CVIU 2019; sites.google.com/view/ltnghia/research/camo), 1000 and 250 images:

    CAMO-V.1.0-CVIU2019/Images/{Train,Test}/NAME.jpg   GT/NAME.png

COD10K (Fan et al., CVPR 2020; the data set's Readme), 6000 and 4000 images, of which 3040 and 2026 have a camouflaged object:

    COD10K-v3/{Train,Test}/Image/NAME.jpg   GT_Object/NAME.png   GT_Instance/NAME.png   (GT_Edge, ... are not needed)
    NAME: COD10K-{CAM,NonCAM}-SuperNumber-SuperClass-SubNumber-SubClass-ImageNumber

Masks of objects are grey images, 0 or 255. One mask covers all camouflaged objects of an image; WeSAM scores it as one instance, and so
do these readers, but for `read_cod10k_instances`. Like WeSAM's loaders, those of CAMO and COD10K leave out masks of another size than the
image. How GT_Instance tells objects apart is nowhere written; users of it take its different values or colours for instances.
"""

from __future__ import annotations

from pathlib import Path

from wesam_ros.data.datasets.files import (
    DatasetError,
    Frames,
    Pair,
    check_split,
    find_root,
    frame_of_pair,
    images_in,
    of_one_size,
    pairs_of,
    read_colours,
    read_image,
)
from wesam_ros.data.frames import Frame

CHAMELEON_SPLITS = ("test",)
CHAMELEON_LAYOUT = "expected layout: CHAMELEON/ with Imgs/NAME.jpg (or Image/NAME.jpg) and GT/NAME.png"
CAMO_SPLITS = COD10K_SPLITS = ("train", "test")
CAMO_LAYOUT = "expected layout: CAMO-V.1.0-CVIU2019/ with Images/Train/NAME.jpg, Images/Test/NAME.jpg and GT/NAME.png"
COD10K_LAYOUT = "expected layout: COD10K-v3/ with Train and Test, in each Image/NAME.jpg, GT_Object/NAME.png and GT_Instance/NAME.png"
CAMOUFLAGED = "COD10K-CAM-"


def read_chameleon(folder: Path, split: str = "test") -> Frames[Pair]:
    """Frames of CHAMELEON, each a sequence of its own with one instance.

    Raises:
        DatasetError: at once, for a missing folder or file; while reading, for files that cannot be decoded or differ in size.
    """
    check_split(split, CHAMELEON_SPLITS)
    nested = ("CHAMELEON", "TestDataset/CHAMELEON", "CHAMELEON_TestingDataset")
    images = "Image" if any((folder / each / "Image").is_dir() for each in ("", *nested)) else "Imgs"
    root = find_root(folder, nested, (images, "GT"), CHAMELEON_LAYOUT)
    return Frames(_pairs(root / images, root / "GT", CHAMELEON_LAYOUT), frame_of_pair)


def read_camo(folder: Path, split: str = "test") -> Frames[Pair]:
    """Frames of the training or test images of CAMO, each a sequence of its own with one instance.

    Raises:
        DatasetError: at once, for a missing folder or file; while reading, for files that cannot be decoded.
    """
    check_split(split, CAMO_SPLITS)
    images = f"Images/{split.capitalize()}"
    root = find_root(folder, ("CAMO-V.1.0-CVIU2019", "CAMO-V.1.0-CVIU2019/CAMO-V.1.0-CVIU2019"), (images, "GT"), CAMO_LAYOUT)
    return Frames(of_one_size(_pairs(root / images, root / "GT", CAMO_LAYOUT)), frame_of_pair)


def read_cod10k(folder: Path, split: str = "test") -> Frames[Pair]:
    """Frames of COD10K's images with a camouflaged object, each a sequence of its own with one instance, from GT_Object.

    Raises:
        DatasetError: at once, for a missing folder or file; while reading, for files that cannot be decoded.
    """
    return Frames(_cod10k(folder, split, "GT_Object"), frame_of_pair)


def read_cod10k_instances(folder: Path, split: str = "test") -> Frames[Pair]:
    """The images of `read_cod10k` with the objects told apart, from GT_Instance: each colour or grey but black is an instance."""
    return Frames(_cod10k(folder, split, "GT_Instance"), _read_instances)


def _cod10k(folder: Path, split: str, truth: str) -> list[Pair]:
    check_split(split, COD10K_SPLITS)
    part = split.capitalize()
    root = find_root(folder, ("COD10K-v3",), (f"{part}/Image", f"{part}/{truth}"), COD10K_LAYOUT)
    pairs = _pairs(root / part / "Image", root / part / truth, COD10K_LAYOUT, CAMOUFLAGED)
    return of_one_size(pairs)


def _pairs(images: Path, masks: Path, layout: str, prefix: str = "") -> list[Pair]:
    chosen = [path for path in images_in(images, layout) if path.name.startswith(prefix)]
    if not chosen:
        raise DatasetError(f"there is no image named {prefix}* in {images}; {layout}")
    return pairs_of(chosen, lambda stem: masks / f"{stem}.png", layout)


def _read_instances(pair: Pair) -> Frame:
    return Frame(image=read_image(pair.image), labels=read_colours(pair.mask), sequence=pair.name)
