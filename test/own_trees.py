"""Data sets of one's own in their layouts, with the square that test_datasets.py looks for."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

SIZE = (40, 60)
SEARCHED = ("coco-file", "voc-xml")
"""Data sets whose annotations are found wherever they lie in the folder."""


def put(path: Path, pixels: np.ndarray) -> None:
    """Writes an image; colour as RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)


def photo(path: Path, size: tuple[int, int] = SIZE) -> None:
    put(path, np.full((*size, 3), (200, 100, 50), np.uint8))


def square(value: int, *, dtype: type = np.uint8) -> np.ndarray:
    pixels: np.ndarray = np.zeros(SIZE, dtype)
    pixels[10:30, 20:40] = value
    return pixels


POLYGON = [20, 10, 40, 10, 40, 30, 20, 30]


def coco_file(root: Path) -> Path:
    for number, split in enumerate(("train", "val", "test")):
        photo(root / "images" / f"{split}.jpg")
        content = {
            "images": [{"id": number, "file_name": f"{split}.jpg", "width": SIZE[1], "height": SIZE[0]}],
            "annotations": [{"id": 1, "image_id": number, "iscrowd": 0, "segmentation": [POLYGON]}],
        }
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


def yolo_seg(root: Path) -> Path:
    (root / "data.yaml").write_text("".join(f"{split}: images/train\n" for split in ("train", "val", "test")) + "names: [cup]\n")
    photo(root / "images" / "train" / "a.jpg")
    (root / "labels" / "train").mkdir(parents=True, exist_ok=True)
    shares = (str(value / side) for value, side in zip(POLYGON, (SIZE[1], SIZE[0]) * 4, strict=True))
    (root / "labels" / "train" / "a.txt").write_text(f"0 {' '.join(shares)}")
    return root


def voc_xml(root: Path) -> Path:
    photo(root / "JPEGImages" / "a.jpg")
    points = "".join(f"<x{n}>{x}</x{n}><y{n}>{y}</y{n}>" for n, (x, y) in enumerate(zip(POLYGON[::2], POLYGON[1::2], strict=True), 1))
    (root / "Annotations").mkdir(exist_ok=True)
    (root / "Annotations" / "a.xml").write_text(
        f"<annotation><filename>a.jpg</filename><object><polygon>{points}</polygon></object></annotation>"
    )
    for split in ("train", "val", "test"):
        (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("a\n")
    return root


def plain(root: Path) -> Path:
    photo(root / "images" / "frame10.png")
    photo(root / "images" / "frame9.jpg")
    photo(root / "images" / "kitchen" / "1.png")
    for name in ("frame10", "frame9", "kitchen/1"):
        put(root / "masks" / f"{name}.png", square(1000, dtype=np.uint16))
    return root
