"""YOLO segmentation and Pascal VOC XML: right, or told by count and reason."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import POLYGON, SIZE, overlap, photo, picture, the_mask
from PIL import Image

from wesam_ros.data.datasets.files import DatasetError, read_image
from wesam_ros.data.datasets.folder import read_folder
from wesam_ros.data.datasets.voc_xml import read_voc_xml
from wesam_ros.data.datasets.yolo import read_yolo_seg

SHARES = " ".join(f"{value / side:.6f}" for value, side in zip(POLYGON, (60, 40) * 4, strict=True))
YAML = "path: .\ntrain: images/train\nval: images/val\nnames: [cup]\n"


def yolo(root: Path, line: str, yaml: str = YAML, images: str = "images/{}", labels: str = "labels/{}", splits: str = "train val") -> Path:
    for split in splits.split():
        photo(root / images.format(split) / f"{split}.jpg")
        path = root / labels.format(split) / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line)
    if yaml:
        (root / "data.yaml").write_text(yaml)
    return root


YOLO: dict[str, Callable[[Path], Path]] = {
    "Ultralytics": lambda out: yolo(out, f"0 {SHARES}\n"),
    "path of another machine": lambda out: yolo(out, f"0 {SHARES}\n", YAML.replace("path: .", "path: /home/me/datasets/cups")),
    "Roboflow": lambda out: yolo(
        out, f"0 {SHARES}", "train: ../train/images\nval: ../valid/images\nnames: [cup]\n", "{}/images", "{}/labels", "train valid"
    ),
    "lists": lambda out: yolo(out, f"0 {SHARES}", "train: [images/train]\nval: [images/val]\nnames: [cup]\n"),
    "no data.yaml": lambda out: yolo(out, f"0 {SHARES}", ""),
    "no splits": lambda out: yolo(out, f"0 {SHARES}", "", "images", "labels"),
}


@pytest.mark.parametrize("layout", YOLO)
def test_layouts_of_yolo(layout: str, tmp_path: Path) -> None:
    frames = read_yolo_seg(YOLO[layout](tmp_path))
    assert frames.notes == ()
    assert [overlap(frame) > 0.95 for frame in frames] == [True, True]
    if layout != "no splits":
        assert len(read_yolo_seg(tmp_path, "train")) == len(read_yolo_seg(tmp_path, "val")) == 1


def test_a_text_file_may_list_the_images(tmp_path: Path) -> None:
    yolo(tmp_path, f"0 {SHARES}", "train: train.txt\nnames: [cup]\n")
    (tmp_path / "train.txt").write_text("./images/train/train.jpg\n")
    assert len(read_yolo_seg(tmp_path / "data.yaml")) == 1


BESIDE = f"0 {SHARES}\n"
LINES: dict[str, tuple[str, int, str]] = {
    # label file, objects, note
    "score behind": (f"0 {SHARES} 0.87\n", 1, ""),
    "twice": (BESIDE * 2, 1, ""),
    "a box": (f"{BESIDE}0 0.1 0.1 0.05 0.05\n", 1, "boxes without an outline"),
    "pixels": (f"{BESIDE}0 20 10 40 10 40 30 20 30\n", 1, "no shares of the image"),
    "words": (f"{BESIDE}0 a b c d e f\n", 1, "no numbers"),
    "too few": (f"{BESIDE}0 0.1 0.2\n", 1, "too few numbers"),
    "no class": (f"{BESIDE}{SHARES}\n", 1, "begin with no class"),
    "beyond the image": (f"{BESIDE}0 1.2 1.2 1.3 1.2 1.3 1.3\n", 1, "have no pixel of their image"),
    "over the edge": (f"{BESIDE}0 -0.01 -0.01 0.1 -0.01 0.1 0.1\n", 2, ""),
}


@pytest.mark.parametrize("kind", LINES)
def test_lines_of_yolo(kind: str, tmp_path: Path) -> None:
    text, objects, note = LINES[kind]
    frames = read_yolo_seg(yolo(tmp_path, text))
    assert frames[0].labels.max() == objects
    assert (note in " ".join(frames.notes)) if note else frames.notes == ()
    assert (frames[0].void is not None) == (kind == "a box")


def test_yolo_without_outlines_or_labels(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="data set for detection, without masks"):
        read_yolo_seg(yolo(tmp_path / "a", "0 0.5 0.5 0.2 0.2"))
    yolo(tmp_path / "b", f"0 {SHARES}")
    (tmp_path / "b" / "labels" / "val" / "val.txt").unlink()
    frames = read_yolo_seg(tmp_path / "b")
    assert frames.notes == (f"1 images have no text file, and so no object; the first: {tmp_path / 'b' / 'images' / 'val' / 'val.jpg'}",)
    assert sorted(int(frame.labels.max()) for frame in frames) == [0, 1]


def test_key_points_and_rotated_boxes_of_yolo_are_told_of(tmp_path: Path) -> None:
    points = f"0 0.5 0.5 0.4 0.4 0.4 0.4 0.6 0.6\n0 {SHARES}"
    with pytest.raises(DatasetError, match="4 lines are of key points"):
        read_yolo_seg(yolo(tmp_path / "pose", points, YAML + "kpt_shape: [2, 2]\n"))
    corners = "\n".join(f"0 {x} 0.1 {x + 0.1} 0.1 {x + 0.1} 0.5 {x} 0.5" for x in (0.1, 0.3, 0.5, 0.7))
    assert "just four corners" in " ".join(read_yolo_seg(yolo(tmp_path / "obb", corners)).notes)


def test_a_data_yaml_of_no_use_is_told_of(tmp_path: Path) -> None:
    frames = read_yolo_seg(yolo(tmp_path / "a", BESIDE, YAML + "test: images/test\n"))
    assert "1 entries of data.yaml are no folder or list that is there; the first: images/test" in frames.notes
    assert "YAML files cannot be read" in " ".join(read_yolo_seg(yolo(tmp_path / "b", BESIDE, "train: [images")).notes)


def xml(name: str, inner: str, size: tuple[int, int] = SIZE) -> str:
    return (
        f"<annotation><filename>{name}</filename><size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>"
        f"<object><name>cup</name><bndbox><xmin>20</xmin><ymin>10</ymin><xmax>40</xmax><ymax>30</ymax></bndbox>{inner}</object></annotation>"
    )


ROBOFLOW = "<polygon><x1>20</x1><y1>10</y1><x2>40</x2><y2>10</y2><x3>40</x3><y3>30</y3><x4>20</x4><y4>30</y4></polygon>"
LABELME = "<polygon>" + "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((20, 10), (40, 10), (40, 30), (20, 30))) + "</polygon>"


def voc(root: Path, inner: str = "", mask: Image.Image | None = None, folders: tuple[str, str] = ("Annotations", "JPEGImages")) -> Path:
    photo(root / folders[1] / "a.jpg")
    path = root / folders[0] / "a.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(xml("a.jpg", inner))
    if mask is not None:
        (root / "SegmentationObject").mkdir(exist_ok=True)
        mask.save(root / "SegmentationObject" / "a.png")
    return root


def palette_mask() -> Image.Image:
    ids = the_mask().astype(np.uint8) * 2
    ids[0] = 255
    image = Image.fromarray(ids, "P")
    image.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
    return image


def colour_mask() -> Image.Image:
    rgb = np.zeros((*SIZE, 3), np.uint8)
    rgb[the_mask()] = (128, 0, 0)
    rgb[0] = (224, 224, 192)
    return Image.fromarray(rgb)


VOC: dict[str, tuple[Callable[[Path], Path], bool]] = {
    "masks with a palette": (lambda out: voc(out, "", palette_mask()), True),
    "masks in colours (CVAT)": (lambda out: voc(out, "", colour_mask()), True),
    "polygons of Roboflow": (lambda out: voc(out, ROBOFLOW, folders=("train", "train")), False),
    "polygons of LabelMe": (lambda out: voc(out, LABELME), False),
    "images/ in place of JPEGImages/": (lambda out: voc(out, ROBOFLOW, folders=("Annotations", "images")), False),
    "nested": (lambda out: voc(out / "VOCdevkit" / "VOC2012", LABELME).parents[1], False),
}


@pytest.mark.parametrize("kind", VOC)
def test_pascal_voc(kind: str, tmp_path: Path) -> None:
    make, void = VOC[kind]
    frames = read_voc_xml(make(tmp_path))
    (frame,) = frames
    assert overlap(frame) > 0.95
    assert (frame.void is not None and bool(frame.void[0].all())) == void
    assert frames.notes == ()


def test_splits_of_pascal_voc(tmp_path: Path) -> None:
    voc(tmp_path, LABELME)
    path = tmp_path / "ImageSets" / "Main" / "val.txt"
    path.parent.mkdir(parents=True)
    path.write_text("a\n")
    assert len(read_voc_xml(tmp_path, "val")) == 1
    with pytest.raises(DatasetError, match="XML files of train are missing"):
        read_voc_xml(tmp_path, "train")
    assert len(read_voc_xml(voc(tmp_path / "rf", ROBOFLOW, folders=("train", "train")), "train")) == 1


def beside(root: Path, text: str) -> Path:
    """A good picture, and another XML file."""
    voc(root, LABELME)
    photo(root / "JPEGImages" / "b.jpg")
    (root / "Annotations" / "b.xml").write_text(text)
    return root


@pytest.mark.parametrize(
    ("text", "note", "frames"),
    [
        (xml("b.jpg", ""), "a box and no outline", 2),
        (xml("c.jpg", LABELME), "", 2),  # renamed: the XML file's own name is taken
        (xml("b.jpg", LABELME, (80, 120)), "another size", 2),
        (xml("b.jpg", LABELME, (99, 120)), "another shape", 1),
        ("<annotation>", "cannot be read", 1),
        ("<robot/>", "no annotations of an image", 1),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "defines entities", 1),
    ],
)
def test_xml_of_every_kind(text: str, note: str, frames: int, tmp_path: Path) -> None:
    found = read_voc_xml(beside(tmp_path, text))
    assert len(list(found)) == frames
    assert (note in " ".join(found.notes)) if note else found.notes == ()


def test_pascal_voc_without_masks_or_with_masks_of_another_size(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="masks and polygons are missing: 1 objects have a box and no outline"):
        read_voc_xml(voc(tmp_path / "a"))
    beside(tmp_path / "b", xml("b.jpg", ""))
    (tmp_path / "b" / "SegmentationObject").mkdir()
    cv2.imwrite(str(tmp_path / "b" / "SegmentationObject" / "b.png"), np.ones((10, 10), np.uint8))
    assert "masks have another size" in " ".join(read_voc_xml(tmp_path / "b").notes)


def smoothed(ids: np.ndarray) -> Image.Image:
    """A mask whose edges were smoothed when it was exported: round, so that the greys in between are many."""
    return Image.fromarray(cv2.GaussianBlur(cv2.circle(ids, (30, 20), 15, 200, -1), (5, 5), 1.5))


def as_jpeg(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "JPEG")
    return data.getvalue()


def test_masks_with_smoothed_edges_or_packed_with_loss_are_refused(tmp_path: Path) -> None:
    mask = smoothed(np.zeros(SIZE, np.uint8))
    with pytest.raises(DatasetError, match=r"values are just thin lines; export it as PNG, without smoothing"):
        read_voc_xml(voc(tmp_path / "a", "", mask.convert("RGB")))[0]
    photo(tmp_path / "b" / "images" / "a.jpg")
    (tmp_path / "b" / "masks").mkdir()
    for data in (as_jpeg(Image.fromarray(the_mask().astype(np.uint8) * 200)), None):
        path = tmp_path / "b" / "masks" / "a.png"
        path.write_bytes(data) if data else mask.save(path)
        with pytest.raises(DatasetError, match="just thin lines"):
            read_folder(tmp_path / "b")[0]


def test_a_mask_of_nothing_but_void_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frame = read_voc_xml(voc(tmp_path, "", Image.fromarray(the_mask().astype(np.uint8) * 255)))[0]
    assert not frame.labels.any()
    assert "objects are numbered from 1" in caplog.text


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_pictures_of_sensors_with_more_than_eight_bits(bits: int, ending: str, tmp_path: Path) -> None:
    deep = np.rint(picture().astype(np.float64) * (2**bits - 1) / 255).astype(np.uint16)
    deep[0, 0] = 2**bits - 1
    cv2.imwrite(str(tmp_path / f"a{ending}"), deep)
    assert np.abs(read_image(tmp_path / f"a{ending}").astype(int) - picture())[1:].max() <= 1
