"""COCO and COCO-C: segmentations as masks, overlaps, crowds; corruptions by a stand-in for the package that makes them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from wesam_ros.data.datasets.coco import read_coco
from wesam_ros.data.datasets.coco_c import KINDS, read_coco_c
from wesam_ros.data.datasets.coco_masks import decode_segmentation, polygon_mask, run_lengths
from wesam_ros.data.datasets.files import DatasetError

SIZE = (6, 8)
BOX = [[1, 2, 5, 2, 5, 4, 1, 4]]  # x 1 to 5, y 2 to 4


def box(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.mark.parametrize(
    ("segmentation", "expected"),
    [
        (BOX, box(1, 2, 5, 4)),
        ([[1.4, 1.6, 5.4, 1.6, 5.4, 4.4, 1.4, 4.4]], box(1, 2, 5, 4)),  # centres of pixels decide
        ([[-9, -9, 99, -9, 99, 99, -9, 99]], box(0, 0, 8, 6)),  # what leaves the image is cut
        ([[0, 0, 4, 0, 4, 6, 0, 6], [2, 0, 8, 0, 8, 6, 2, 6]], box(0, 0, 8, 6)),  # several polygons are joined
        ([], box(0, 0, 0, 0)),
        ({"size": [6, 8], "counts": [8, 2, 4, 2, 4, 2, 4, 2, 20]}, box(1, 2, 5, 4)),
        ({"size": [6, 8], "counts": [0, 48]}, box(0, 0, 8, 6)),
        ({"size": [6, 8], "counts": "82400000`0"}, box(1, 2, 5, 4)),
    ],
)
def test_segmentations(segmentation: Any, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_segmentation(segmentation, SIZE), expected)


def test_a_polygon_that_crosses_itself_has_a_hole() -> None:
    outer, inner = [0, 0, 8, 0, 8, 6, 0, 6, 0, 0], [2, 2, 6, 2, 6, 4, 2, 4, 2, 2]
    mask = polygon_mask(np.array([*outer, *inner], float).reshape(-1, 2), SIZE)
    np.testing.assert_array_equal(mask, ~box(2, 2, 6, 4))


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        # written by pycocotools 2.0.11
        ("X11n0", [40, 1, 30]),  # 40 takes two characters
        ("5:d0G?", [5, 10, 20, 1, 35]),  # 1 is written as -9, the difference from 10
        ("", []),
    ],
)
def test_run_lengths_as_text(text: str, counts: list[int]) -> None:
    assert run_lengths(text) == counts


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "must be polygons, or an object with size and counts"),
        ({"size": [6, 8]}, "must be polygons, or an object with size and counts"),
        ({"size": [8, 6], "counts": [48]}, r"run lengths must be for the image's size \(6, 8\), but are for \(8, 6\)"),
        ({"size": [6, 8], "counts": [40]}, "add up to 6 x 8 pixels, but add up to 40"),
        ({"size": [6, 8], "counts": [50, -2]}, "must not be negative"),
    ],
)
def test_segmentations_of_another_kind(segmentation: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_segmentation(segmentation, SIZE)


def write(root: Path, annotations: list[dict[str, Any]], images: tuple[int, ...] = (139, 7)) -> Path:
    """COCO's val2017 with images of 40 x 60 pixels."""
    for part in ("val2017", "annotations"):
        (root / part).mkdir(exist_ok=True)
    for number in images:
        assert cv2.imwrite(str(root / "val2017" / f"{number:012d}.jpg"), np.full((40, 60, 3), (50, 100, 200), np.uint8))
    content = {"images": [{"id": n, "file_name": f"{n:012d}.jpg"} for n in images], "annotations": annotations}
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return root


def annotated(segmentation: Any, *, image: int = 139, crowd: int = 0) -> dict[str, Any]:
    return {"image_id": image, "iscrowd": crowd, "segmentation": segmentation}


def test_the_smaller_object_is_on_top_and_crowds_are_left_out(tmp_path: Path) -> None:
    small, large = [[5, 5, 15, 5, 15, 15, 5, 15]], [[0, 0, 30, 0, 30, 30, 0, 30]]
    crowd = {"size": [40, 60], "counts": [0, 2400]}
    root = write(tmp_path, [annotated(crowd, crowd=1), annotated(small), annotated(large), annotated(BOX, image=7)])
    first, second = read_coco(root)
    assert (first.sequence, second.sequence) == ("000000000139", "000000000007")
    assert (first.labels == 1).sum() == 100
    assert (first.labels == 2).sum() == 900 - 100
    assert (first.labels[30:] == 0).all()
    np.testing.assert_array_equal(second.labels[:6, :8] == 1, box(1, 2, 5, 4))


def test_an_image_without_annotations_has_empty_labels(tmp_path: Path) -> None:
    assert [frame.labels.max() for frame in read_coco(write(tmp_path, []))] == [0, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a COCO file of instances .*; expected layout"),
        ("[]", "is not a COCO file of instances .*; expected layout"),
        ('{"images": [], "annotations": []}', "there is no image in .*; expected layout"),
        ('{"images": [], "annotations": [{"image_id": 5}]}', "is not a COCO file of instances"),
        ('{"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": []}', r"1 file is missing: .*val2017/1\.jpg; expected layout"),
    ],
)
def test_files_of_another_kind(content: str, message: str, tmp_path: Path) -> None:
    write(tmp_path, [])
    (tmp_path / "annotations" / "instances_val2017.json").write_text(content)
    with pytest.raises(DatasetError, match=message):
        read_coco(tmp_path)


def test_a_segmentation_that_does_not_fit_names_its_image(tmp_path: Path) -> None:
    root = write(tmp_path, [annotated({"size": [1, 1], "counts": [1]})])
    with pytest.raises(DatasetError, match="files of 000000000139 do not belong together: run lengths must be for"):
        read_coco(root)[0]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """In place of imagecorruptions, a function with its signature that draws from the sources that it draws from; lists its calls."""
    calls: list[tuple[int, str]] = []

    def corrupt(image: np.ndarray, severity: int = 1, corruption_name: str = "") -> np.ndarray:
        calls.append((severity, corruption_name))
        if corruption_name == "fog":
            raise AttributeError("`np.float_` was removed")
        noise = np.random.normal(size=image.shape) + np.random.default_rng().normal(size=image.shape)  # noqa: NPY002
        return np.clip(image + 20 * noise, 0, 255)

    module = ModuleType("imagecorruptions")
    module.corrupt = corrupt  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "imagecorruptions", module)
    return calls


def test_corruption_depends_on_image_kind_and_seed_alone(tmp_path: Path, stand_in: list[tuple[int, str]]) -> None:
    root = write(tmp_path, [annotated(BOX)])
    frames = read_coco_c(root, "snow@3")
    first, second = (frame.image for frame in frames)
    assert stand_in == [(3, "snow"), (3, "snow")]
    assert first.dtype == np.uint8
    assert (first != second).any()
    np.testing.assert_array_equal(read_coco_c(root, "snow")[1].image, second)  # read alone
    for other in (read_coco_c(root, "frost"), read_coco_c(root, "snow", seed=1)):
        assert (other[0].image != first).any()
    assert stand_in[2] == (5, "snow")
    np.testing.assert_array_equal(frames[0].labels, read_coco(root)[0].labels)


def test_corruption_leaves_the_global_random_state_alone(tmp_path: Path, stand_in: list[tuple[int, str]]) -> None:
    frames = read_coco_c(write(tmp_path, []), "snow")
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.random(3)  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    frames[0]
    np.testing.assert_array_equal(np.random.random(3), expected)  # noqa: NPY002
    assert np.random.default_rng().random() != np.random.default_rng().random()


def test_what_coco_c_cannot_do_is_one_sentence(tmp_path: Path, stand_in: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path, [])
    failed = r"imagecorruptions failed at fog for 000000000139 \(AttributeError.*pip install imagecorruptions-imaug"
    with pytest.raises(DatasetError, match=failed):
        read_coco_c(root, "fog")[0]
    with pytest.raises(DatasetError, match="severity must be one of 1, 2, 3, 4, 5, but got 'snow@6'"):
        read_coco_c(root, "snow@6")
    with pytest.raises(DatasetError, match="seed must not be negative, but got -1"):
        read_coco_c(root, "snow", seed=-1)
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(DatasetError, match=r"COCO-C needs the package imagecorruptions .*: pip install imagecorruptions-imaug"):
        read_coco_c(root, "snow")


def test_all_kinds_of_the_real_package_are_deterministic(tmp_path: Path) -> None:
    pytest.importorskip("imagecorruptions")
    root = write(tmp_path, [], images=(139,))
    for kind in KINDS:
        image = read_coco_c(root, kind)[0].image
        assert image.shape == (40, 60, 3)
        np.testing.assert_array_equal(read_coco_c(root, kind)[0].image, image, kind)
