"""Bad input to the readers of data sets: frames or the documented error, never anything else, as in test_fuzzing.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz_inputs import JSON, NUMBERS, PLANE, RGB, SIZE, Attempt, damaged
from hypothesis import given
from hypothesis import strategies as st

from wesam_ros.data import codecs
from wesam_ros.data.datasets.coco import read_coco
from wesam_ros.data.datasets.coco_files import read_coco_file
from wesam_ros.data.datasets.files import DatasetError
from wesam_ros.data.datasets.registry import DATASETS
from wesam_ros.data.frames import Frame

IDS = (PLANE // 10000).astype(np.uint8)
IMAGES = [codecs.encode_jpeg(RGB), codecs.encode_png(RGB), codecs.encode_png(PLANE), codecs.encode_png(RGB[..., 0])]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One image of each data set in its published layout, in a folder of the data set's name."""
    root = tmp_path_factory.mktemp("datasets")
    jpeg, png, png16, grey = IMAGES
    ocid = {f"{subset}/table/top/seq01/{part}/a.png": data for subset in ("ARID10", "ARID20", "YCB10")
            for part, data in (("rgb", png), ("depth", png16), ("label", grey))}  # fmt: skip
    part = "ISBI2016_ISIC_Part1_Test"
    polygon = {"image_id": 1, "segmentation": [[1, 1, 20, 1, 20, 20]]}
    runs = {"image_id": 1, "segmentation": {"size": list(SIZE), "counts": [5, SIZE[0] * SIZE[1] - 5]}}
    instances = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [polygon, runs]}
    xml = b"<annotation><filename>a.jpg</filename><object><bndbox><xmin>1</xmin></bndbox></object></annotation>"
    files = {
        "ocid": ocid,
        "osd": {"image_color/a.png": png, "disparity/a.png": png16, "annotation/a.png": grey},
        "voc2012": {"JPEGImages/a.jpg": jpeg, "SegmentationObject/a.png": grey, "ImageSets/Segmentation/val.txt": b"a\n"},
        "kvasir-seg": {"images/a.jpg": jpeg, "masks/a.jpg": jpeg},
        "ecssd": {"images/a.jpg": jpeg, "ground_truth_mask/a.png": grey},
        "isic2016": {f"{part}_Data/a.jpg": jpeg, f"{part}_GroundTruth/a_Segmentation.png": grey},
        "folder": {"images/a.jpg": jpeg, "masks/a.png": codecs.encode_png(IDS)},
        "coco": {"val2017/a.jpg": jpeg, "annotations/instances_val2017.json": json.dumps(instances).encode()},
        "coco-file": {"images/a.jpg": jpeg, "result.json": json.dumps(instances).encode()},
        "yolo-seg": {"images/a.jpg": jpeg, "labels/a.txt": b"0 0.1 0.1 0.5 0.1 0.5 0.5\n", "data.yaml": b"train: images\nnames: [a]\n"},
        "voc-xml": {"JPEGImages/a.jpg": jpeg, "SegmentationObject/a.png": codecs.encode_png(IDS), "Annotations/a.xml": xml},
    }
    for name, content in files.items():
        for path, data in content.items():
            (root / name / path).parent.mkdir(parents=True, exist_ok=True)
            (root / name / path).write_bytes(data)
    return root


@pytest.mark.parametrize(
    "name", ["ocid", "osd", "voc2012", "kvasir-seg", "ecssd", "isic2016", "folder", "coco", "coco-file", "yolo-seg", "voc-xml"]
)
@given(data=st.data())
def test_data_sets(attempt: Attempt, datasets: Path, name: str, data: st.DataObject) -> None:
    folder, entry = datasets / name, DATASETS[name]

    def read() -> list[Frame]:
        return list(entry.read(folder, entry.default))

    path = data.draw(st.sampled_from(sorted(each for each in folder.rglob("*") if each.is_file())))
    whole = path.read_bytes()
    assert read()
    try:
        if data.draw(st.integers(0, 9)):
            path.write_bytes(data.draw(damaged(whole) | st.sampled_from(IMAGES)))
        else:
            path.unlink()
        attempt(read, refusal=DatasetError)
    finally:
        path.write_bytes(whole)


RUNS = st.text(max_size=12) | st.lists(st.integers(-(2**70), 2**70) | st.integers(0, 800), max_size=4) | JSON
SEGMENTATIONS = (
    JSON | st.lists(st.lists(NUMBERS, max_size=9), max_size=3) | st.fixed_dictionaries({"size": st.just(list(SIZE)) | JSON, "counts": RUNS})
)
ANNOTATION = st.fixed_dictionaries({"image_id": st.just(1) | JSON, "segmentation": SEGMENTATIONS}, optional={"iscrowd": JSON})


@given(content=JSON | st.fixed_dictionaries({"annotations": st.lists(ANNOTATION, max_size=3) | JSON}))
def test_annotations_of_coco(attempt: Attempt, datasets: Path, content: Any) -> None:
    path = datasets / "coco" / "annotations" / "instances_val2017.json"
    whole = path.read_bytes()
    try:
        path.write_text(json.dumps({**json.loads(whole), **content} if isinstance(content, dict) else content))
        attempt(lambda: list(read_coco(datasets / "coco")), refusal=DatasetError)
        (datasets / "coco-file" / "result.json").write_text(path.read_text())
        attempt(lambda: list(read_coco_file(datasets / "coco-file")), refusal=DatasetError)
        path.write_text("[" * 200_000)
        assert attempt(read_coco, datasets / "coco", refusal=DatasetError) is None
    finally:
        path.write_bytes(whole)
        (datasets / "coco-file" / "result.json").write_bytes(whole)
