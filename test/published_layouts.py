"""Writes labelled pictures into the layouts that data sets are published in, for the readers to read.

    python test/published_layouts.py FOLDER OUT

FOLDER has SET/images/NAME.jpg and SET/masks/NAME.png with ids for each of SETS that it has. OUT gets Kvasir-SEG, ECSSD and COCO's val2017
as their authors publish them, and the others as plain folders. Those that show a thing several times in a row become one scene, so that
halves of it are its first and its second half. Prints what `wesam evaluate` takes, a line each.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def pictures(folder: Path) -> Iterator[tuple[Path, np.ndarray]]:
    """Each image's path in order of their names, and its (H, W) ids."""
    for path in sorted((folder / "images").iterdir()):
        yield path, np.asarray(cv2.imread(str(folder / "masks" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED))


def _as_pairs(folder: Path, root: Path, images: str, masks: str, suffix: str) -> None:
    """Images as they are, masks of 0 and 255 beside them."""
    for part in (images, masks):
        (root / part).mkdir(parents=True)
    for path, ids in pictures(folder):
        shutil.copy(path, root / images / path.name)
        mask = np.where(ids > 0, 255, 0).astype(np.uint8)
        assert cv2.imwrite(str(root / masks / f"{path.stem}{suffix}"), mask)


def kvasir_seg(folder: Path, out: Path) -> str:
    """Kvasir-SEG's layout: masks are JPEG, as the published ones."""
    _as_pairs(folder, out / "Kvasir-SEG", "images", "masks", ".jpg")
    return f"kvasir-seg/all:{out / 'Kvasir-SEG'}"


def ecssd(folder: Path, out: Path) -> str:
    """ECSSD's layout."""
    _as_pairs(folder, out / "ECSSD", "images", "ground_truth_mask", ".png")
    return f"ecssd:{out / 'ECSSD'}"


def run_lengths(mask: np.ndarray) -> list[int]:
    """Of a mask (H, W), down its columns, beginning with the background."""
    flat = mask.T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    return [0] * int(flat[0]) + [int(each) for each in np.diff([0, *changes, flat.size])]


def coco2017(folder: Path, out: Path) -> str:
    """COCO's layout, with val2017 alone, and run lengths for masks."""
    root = out / "coco2017"
    for part in ("val2017", "annotations"):
        (root / part).mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (path, ids) in enumerate(pictures(folder), 1):
        shutil.copy(path, root / "val2017" / path.name)
        images.append({"id": number, "file_name": path.name, "height": ids.shape[0], "width": ids.shape[1]})
        for instance in np.unique(ids[ids > 0]):
            runs = {"size": list(ids.shape), "counts": run_lengths(ids == instance)}
            annotations.append({"id": len(annotations) + 1, "image_id": number, "iscrowd": 0, "segmentation": runs})
    content = {"images": images, "annotations": annotations}
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return f"coco/val2017:{root}"


def vcod_cd(folder: Path, out: Path) -> str:
    """A plain folder, each picture a scene."""
    shutil.copytree(folder, out / "camouflaged")
    return f"folder:{out / 'camouflaged'}"


def food_trays(folder: Path, out: Path) -> str:
    """A plain folder, all pictures one scene: neighbours show the same plate."""
    for part in ("images", "masks"):
        shutil.copytree(folder / part, out / "food_trays" / part / "trays")
    return f"folder:{out / 'food_trays'}"


SETS: dict[str, Callable[[Path, Path], str]] = {
    "coco2017": coco2017,
    "kvasir_seg": kvasir_seg,
    "ecssd": ecssd,
    "food_trays": food_trays,
    "vcod_cd": vcod_cd,
}


def main() -> int:
    folder, out = map(Path, sys.argv[1:])
    for name, write in SETS.items():
        if (folder / name).is_dir():
            print(write(folder / name, out), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
