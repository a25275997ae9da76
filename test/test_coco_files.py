"""COCO files of annotators' tools: right, or told by count and reason."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import POLYGON, SIZE, annotation, listed, overlap, photo, picture, runs, the_mask

from wesam_ros.data.datasets.coco import read_coco
from wesam_ros.data.datasets.coco_files import outline_of, polygons_of, read_coco_file
from wesam_ros.data.datasets.files import DatasetError
from wesam_ros.data.datasets.outlines import DIFFERS, SCALED, STORED, UPRIGHT, fit


def coco(path: Path, images: list[Any], annotations: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cup"}]}))
    return path


LAYOUTS: dict[str, tuple[str, str, str]] = {
    # tool: file, image's place, image's name in the file
    "CVAT": ("annotations/instances_default.json", "images/a.jpg", "a.jpg"),
    "CVAT, subset": ("annotations/instances_Train.json", "images/Train/a.jpg", "a.jpg"),
    "Label Studio": ("result.json", "images/1a2b3c4d-a.jpg", "images/1a2b3c4d-a.jpg"),
    "Label Studio on Windows": ("result.json", "images/1a2b3c4d-a.jpg", "images\\1a2b3c4d-a.jpg"),
    "Label Studio, local files": ("result.json", "images/a b.jpg", "/data/local-files/?d=set/images/a%20b.jpg"),
    "Label Studio, images elsewhere": ("result.json", "pictures/a.jpg", "../../label-studio/data/media/upload/1/1a2b3c4d-a.jpg"),
    "Roboflow": ("train/_annotations.coco.json", "train/a_jpg.rf.12.jpg", "a_jpg.rf.12.jpg"),
    "labelme2coco": ("annotations.json", "JPEGImages/a.jpg", "JPEGImages/a.jpg"),
    "another machine": ("coco.json", "photos/day 1/a.jpg", "/home/me/photos/a.jpg"),
}


@pytest.mark.parametrize("tool", LAYOUTS)
def test_layouts_of_tools(tool: str, tmp_path: Path) -> None:
    file, place, name = LAYOUTS[tool]
    photo(tmp_path / place)
    coco(tmp_path / file, [listed(name)], [annotation()])
    frames = read_coco_file(tmp_path)
    assert frames.notes == ()
    assert [overlap(frame) > 0.95 for frame in frames] == [True]
    assert len(read_coco_file(tmp_path / file)) == 1


def test_splits_by_folder_and_file(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        photo(tmp_path / name / f"{name}.jpg")
        coco(tmp_path / name / "_annotations.coco.json", [listed(f"{name}.jpg")], [annotation()])
    found = {split: [frame.sequence for frame in read_coco_file(tmp_path, split)] for split in ("train", "val", "test", "all")}
    assert found == {"train": ["train"], "val": ["valid"], "test": ["test"], "all": ["test", "train", "valid"]}


UPRIGHT_POLYGON = [40 - 30.0, 20.0, 40 - 10.0, 20.0, 40 - 10.0, 40.0, 40 - 30.0, 40.0]
"""The object's outline in the image turned by EXIF 6 (a quarter, clockwise)."""
ODD = {"size": [2, 2], "counts": [1]}
TRUE = runs(the_mask())


@pytest.mark.parametrize(
    ("turn", "size", "segmentation", "way"),
    [
        (0, SIZE, [POLYGON], UPRIGHT),
        (0, None, [POLYGON], UPRIGHT),
        (6, SIZE, [POLYGON], STORED),  # width and height as they are stored: the tool did not turn
        (6, (60, 40), [UPRIGHT_POLYGON], UPRIGHT),
        (6, SIZE, TRUE, STORED),
        (0, (80, 120), [[2 * each for each in POLYGON]], SCALED),
        (0, (20, 30), [[each / 2 for each in POLYGON]], SCALED),
        (0, (80, 120), runs(np.kron(the_mask(), np.ones((2, 2), bool))), SCALED),
        (0, (100, 100), [POLYGON], DIFFERS),
    ],
)
def test_sizes_and_turns(turn: int, size: tuple[int, int] | None, segmentation: Any, way: str, tmp_path: Path) -> None:
    path = photo(tmp_path / "images" / "a.jpg", turn)
    sides = {"width": size[1], "height": size[0]} if size else {"width": None, "height": None}
    coco(tmp_path / "a.json", [listed(**sides)], [annotation(segmentation=segmentation, bbox=None)])
    assert fit(path, size) == way
    if way == DIFFERS:
        with pytest.raises(DatasetError, match="1 images are left out, as they have another shape"):
            read_coco_file(tmp_path)
        return
    frames = read_coco_file(tmp_path)
    assert overlap(frames[0]) > 0.9
    assert len(frames.notes) == (way != UPRIGHT)


def test_a_half_turn_is_taken_as_upright_and_told_of(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg", 3, picture()[::-1, ::-1])
    coco(tmp_path / "a.json", [listed()], [annotation()])
    frames = read_coco_file(tmp_path)
    assert overlap(frames[0]) > 0.95
    assert "upright is taken" in " ".join(frames.notes)


def test_the_published_layout_is_read_by_the_annotated_size_too(tmp_path: Path) -> None:
    photo(tmp_path / "val2017" / "a.jpg", 6)
    coco(tmp_path / "annotations" / "instances_val2017.json", [listed()], [annotation()])
    assert overlap(read_coco(tmp_path)[0]) > 0.95
    coco(tmp_path / "annotations" / "instances_val2017.json", [listed(width=99, height=98)], [annotation()])
    with pytest.raises(DatasetError, match=r"annotations are for \(98, 99\) \(height, width\), but the image has \(60, 40\)"):
        read_coco(tmp_path)[0]


OBJECT, VOID, NOTHING = "object", "void", "nothing"
TURNED = {"size": [60, 40], "counts": [800, 20, 1580]}
NEGATIVE = {"size": [40, 60], "counts": [-1, 1, 2400]}
SHARES = [0.1, 0.1, 0.5, 0.1, 0.5, 0.5]
BEYOND = [each + 500 for each in POLYGON]
ANNOTATIONS: dict[str, tuple[list[Any], str, str]] = {
    "polygon": ([annotation()], OBJECT, ""),
    "two parts": ([annotation(segmentation=[[20, 10, 40, 10, 40, 20, 20, 20], [20, 20, 40, 20, 40, 30, 20, 30]])], OBJECT, ""),
    "flat list": ([annotation(segmentation=POLYGON)], OBJECT, ""),
    "list of points": ([annotation(segmentation=[[20, 10], [40, 10], [40, 30], [20, 30]])], OBJECT, ""),
    "list of lists of points": ([annotation(segmentation=[[[20, 10], [40, 10], [40, 30], [20, 30]]])], OBJECT, ""),
    "runs": ([annotation(segmentation=TRUE)], OBJECT, ""),
    "runs as text": ([annotation(segmentation={"size": [40, 60], "counts": "RUNS"})], OBJECT, ""),
    "only crowds": ([annotation(segmentation=TRUE, iscrowd=1)], OBJECT, "taken as objects"),
    "half crowds": ([annotation(), annotation(segmentation=TRUE, iscrowd=1, id=2)], OBJECT, "taken as objects"),
    "twice": ([annotation(), annotation(id=2)], OBJECT, "stand there twice"),
    "of no image": ([annotation(), annotation(image=9, id=2)], OBJECT, "images that are not listed"),
    "no object at all": ([annotation(), 5], OBJECT, "images that are not listed"),
    "a box beside": ([annotation(), annotation(segmentation=[], bbox=[2, 2, 5, 5], id=2)], OBJECT, "a box and no outline"),
    "no fields": ([annotation(), {"image_id": 1}], OBJECT, "neither an outline nor a box"),
    "too few corners": ([annotation(), annotation(segmentation=[[1, 2, 3, 4]], bbox=None, id=2)], OBJECT, "neither an outline nor a box"),
    "ids of another kind": ([annotation(image="1")], OBJECT, ""),
    "ids as floats": ([annotation(image=1.0)], OBJECT, ""),
    "no crowd, in words": ([annotation(iscrowd="0")], OBJECT, ""),
    "a bad part beside": ([annotation(segmentation=[POLYGON, [1, 2, 3]])], OBJECT, "parts that are no polygons"),
    "runs of another shape": (
        [annotation(), annotation(segmentation=TURNED, bbox=None, id=2)],
        OBJECT,
        "for another shape than their image",
    ),
    "negative runs": ([annotation(), annotation(segmentation=NEGATIVE, bbox=[2, 2, 5, 5], id=2)], OBJECT, "a box and no outline"),
    "shares of the image": ([annotation(), annotation(segmentation=[SHARES], bbox=None, id=2)], OBJECT, "have no pixel of their image"),
    "beyond the image": ([annotation(), annotation(segmentation=[BEYOND], bbox=None, id=2)], OBJECT, "have no pixel of their image"),
    "half beyond": ([annotation(segmentation=[[20, 10, 90, 10, 90, 20]], bbox=None), annotation(id=2)], "", "reach beyond their image"),
    "x and y swapped": ([annotation(segmentation=[[10, 20, 30, 20, 30, 40, 10, 40]])], "", "elsewhere than the boxes"),
    "runs that do not add up": ([annotation(), annotation(segmentation=ODD, bbox=[2, 2, 5, 5], id=2)], OBJECT, "a box and no outline"),
}


def compressed(counts: list[int]) -> str:
    """Run lengths as text, as pycocotools writes them."""
    text = ""
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        while True:
            group = value & 31
            value >>= 5
            more = value != (-1 if group & 16 else 0)
            text += chr(48 + group + (32 if more else 0))
            if not more:
                break
    return text


@pytest.mark.parametrize("kind", ANNOTATIONS)
def test_annotations_of_every_kind(kind: str, tmp_path: Path) -> None:
    rows, expected, note = ANNOTATIONS[kind]
    for row in rows:
        if isinstance(row, dict) and isinstance(row.get("segmentation"), dict) and row["segmentation"]["counts"] == "RUNS":
            row["segmentation"] = {"size": list(SIZE), "counts": compressed(TRUE["counts"])}
    photo(tmp_path / "images" / "a.jpg")
    coco(tmp_path / "a.json", [listed()], rows)
    frames = read_coco_file(tmp_path)
    assert overlap(frames[0]) > 0.95 or not expected
    assert (note in " ".join(frames.notes)) if note else frames.notes == ()


def test_pixels_of_a_box_without_an_outline_are_not_scored(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    coco(tmp_path / "a.json", [listed()], [annotation(), annotation(segmentation=[], bbox=[30, 20, 20, 15], id=2)])
    (frame,) = read_coco_file(tmp_path)
    assert frame.void is not None
    assert frame.void[31, 45]
    assert not frame.void[25, 35]  # of the object with an outline
    assert frame.void.sum() == 20 * 15 - 10 * 10


def test_few_crowds_are_left_out(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    others = [annotation(segmentation=[[each + 1 for each in POLYGON]], id=number) for number in range(2, 8)]
    crowd = annotation(segmentation=runs(np.ones(SIZE, bool)), iscrowd=1, id=9)
    rows = [annotation(segmentation=[[each + number / 8 for each in POLYGON]], id=number) for number in range(len(others))]
    coco(tmp_path / "a.json", [listed()], [*rows, crowd])
    frames = read_coco_file(tmp_path)
    assert "1 annotations are crowds, and left out" in " ".join(frames.notes)
    assert overlap(frames[0]) > 0.8


IMAGES: dict[str, tuple[list[Any], int, str]] = {
    "missing": ([listed(), listed("b.jpg", 2)], 1, "1 images are missing, and left out"),
    "one id twice": ([listed(), listed("c.jpg", 2), listed("a.jpg", 2)], 1, "share an id"),
    "listed twice": ([listed(), listed()], 1, ""),
    "no name": ([listed(), {"id": 2}, 7], 1, "no id or no file name"),
    "ids of text": ([listed(key="one")], 1, ""),
    "another case": ([listed("A.JPG")], 1, ""),
    "another Unicode form": ([listed("a.jpg"), listed(unicodedata.normalize("NFC", "ü.jpg"), 2)], 2, ""),
    "an address": ([listed("https://example.org/set/a.jpg?token=1")], 1, ""),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_images_of_every_kind(kind: str, tmp_path: Path) -> None:
    images, count, note = IMAGES[kind]
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "c.jpg")
    photo(tmp_path / unicodedata.normalize("NFD", "ü.jpg"))
    coco(tmp_path / "a.json", images, [annotation(image=images[0]["id"])])
    frames = read_coco_file(tmp_path)
    assert len(frames) == len(list(frames)) == count
    assert (note in " ".join(frames.notes)) if note else frames.notes == ()


@pytest.mark.parametrize(
    ("images", "rows", "words"),
    [
        ([listed()], [annotation(segmentation=[])], "all 1 annotations are boxes; export them with polygons or masks"),
        ([listed()], [annotation(segmentation=None)], "all 1 annotations are boxes"),
        ([listed()], [], "no image has an annotation"),
        ([listed("b.jpg")], [annotation()], "there is no image that can be used: 1 images are missing"),
        ([], [], "there is no image that can be used: none is listed"),
    ],
)
def test_files_of_no_use_say_why(images: list[Any], rows: list[Any], words: str, tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    coco(tmp_path / "a.json", images, rows)
    with pytest.raises(DatasetError, match=words):
        read_coco_file(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"images": [', "1 files are no JSON, or cut short"),
        ("", "1 files are no JSON, or cut short"),
        ('{"shapes": [], "imagePath": "a.jpg"}', "1 files are of labelme, and left out: make a COCO file of them"),
        ('[{"id": 1, "data": {}, "annotations": []}]', "1 files are of Label Studio, and left out: export them as COCO"),
        ('{"images": [], "annotations": {}}', "1 files are JSON of another kind"),
    ],
)
def test_files_that_are_no_coco_are_named(text: str, words: str, tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    (tmp_path / "a.json").write_text(text)
    for place in (tmp_path, tmp_path / "a.json"):
        with pytest.raises(DatasetError, match=words):
            read_coco_file(place)


def test_outlines_in_percent_are_told_of(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg", image=np.zeros((400, 500, 3), np.uint8))
    rows = [annotation(segmentation=[[x, 5, x + 9, 5, x + 4, 95]], bbox=None, id=x) for x in range(2, 90, 15)]
    coco(tmp_path / "a.json", [listed(width=500, height=400)], rows)
    assert "may be in percent" in " ".join(read_coco_file(tmp_path).notes)


def test_an_image_turned_by_exif_without_an_annotated_size_is_told_of(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg", 6)
    coco(tmp_path / "a.json", [{"id": 1, "file_name": "a.jpg"}], [annotation(segmentation=[UPRIGHT_POLYGON], bbox=None)])
    frames = read_coco_file(tmp_path)
    assert overlap(frames[0]) > 0.9
    assert "upright is taken" in " ".join(frames.notes)


def test_masks_that_are_just_boxes_are_told_of(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    coco(tmp_path / "a.json", [listed()], [annotation()])
    assert "rectangles of their boxes" not in " ".join(read_coco_file(tmp_path).notes)  # one alone may be a rectangle
    rows = [annotation(segmentation=[[x, 5, x + 4, 5, x + 4, 9, x, 9]], bbox=[x, 5, 4, 4], id=x) for x in range(2, 50, 8)]
    coco(tmp_path / "a.json", [listed()], rows)
    assert "6 outlines are just the rectangles of their boxes" in " ".join(read_coco_file(tmp_path).notes)


@pytest.mark.parametrize(
    "segmentation", [None, 5, "text", {}, [[]], [[1, 2, float("nan"), 4, 5, 6]], [["a"] * 6], {"size": [1], "counts": [1]}]
)
def test_segmentations_that_are_none(segmentation: Any) -> None:
    assert outline_of({"segmentation": segmentation}) is None
    if not isinstance(segmentation, dict):
        assert polygons_of(segmentation) == []
