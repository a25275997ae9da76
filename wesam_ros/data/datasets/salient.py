"""Reader of ECSSD (Shi et al., TPAMI 2016; cse.cuhk.edu.hk/leojia/projects/hsaliency), salient objects, in its published layout.

1000 images, as images.zip and ground_truth_mask.zip unpack side by side:

    ECSSD/images/NAME.jpg   ground_truth_mask/NAME.png

Masks are grey images, 0 or 255. One mask covers all that is salient in an image, and is one instance here.
"""

from __future__ import annotations

from pathlib import Path

from wesam_ros.data.datasets.files import Frames, Pair, check_split, find_root, frame_of_pair, images_in, pairs_of

SPLITS = ("all",)
LAYOUT = "expected layout: ECSSD/ with images/NAME.jpg and ground_truth_mask/NAME.png"


def read_ecssd(folder: Path, split: str = "all") -> Frames[Pair]:
    """Frames of ECSSD, each a sequence of its own with one instance.

    Raises:
        DatasetError: at once, for a missing folder or file; while reading, for files that cannot be decoded or differ in size.
    """
    check_split(split, SPLITS)
    root = find_root(folder, ("ECSSD", "ecssd"), ("images", "ground_truth_mask"), LAYOUT)
    pairs = pairs_of(images_in(root / "images", LAYOUT), lambda stem: root / "ground_truth_mask" / f"{stem}.png", LAYOUT)
    return Frames(pairs, frame_of_pair)
