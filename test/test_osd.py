"""The OSD reader, on a tiny tree in the true layout."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from wesam_ros.data.datasets.osd import DatasetError, read_osd

NAMES = ("learn0", "learn10", "learn2")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        files = {
            "image_color": np.full((4, 6, 3), (1, 2, 250 + number), np.uint8),  # BGR
            "disparity": np.full((4, 6), 1500 + number, np.uint16),
            "annotation": np.full((4, 6), number, np.uint8),
        }
        for folder, pixels in files.items():
            (tmp_path / folder).mkdir(exist_ok=True)
            assert cv2.imwrite(str(tmp_path / folder / f"{name}.png"), np.asarray(pixels))
    return tmp_path


def test_frames_in_natural_order_with_everything(tree: Path) -> None:
    frames = list(read_osd(tree))
    assert [f.sequence for f in frames] == ["learn0", "learn2", "learn10"]
    assert [f.stamp_ns for f in frames] == [10**9, 2 * 10**9, 3 * 10**9]
    assert frames[2].image[0, 0].tolist() == [251, 2, 1]
    np.testing.assert_allclose(frames[2].depth, 1.501)
    assert frames[2].labels.dtype == np.uint16
    assert frames[2].labels[0, 0] == 1
    assert frames[0].detections is None


@pytest.mark.parametrize("folder", ["image_color", "disparity", "annotation"])
def test_a_missing_folder_is_named_with_the_layout(tree: Path, folder: str) -> None:
    (tree / folder).rename(tree / "elsewhere")
    with pytest.raises(DatasetError, match=rf"{folder} is missing; expected layout"):
        read_osd(tree)


def test_a_missing_file_is_named(tree: Path) -> None:
    (tree / "disparity" / "learn2.png").unlink()
    with pytest.raises(DatasetError, match=r"disparity/learn2\.png; expected layout"):
        read_osd(tree)


@pytest.mark.parametrize(
    ("file", "pixels", "message"),
    [
        ("disparity/learn0.png", np.zeros((4, 6), np.uint8), "16 bits"),
        ("annotation/learn0.png", np.zeros((4, 6, 3), np.uint8), "one channel"),
        ("annotation/learn0.png", np.zeros((3, 6), np.uint8), "do not belong together"),
        ("image_color/learn0.png", None, "cannot be decoded"),
    ],
)
def test_files_of_another_kind(tree: Path, file: str, pixels: np.ndarray | None, message: str) -> None:
    if pixels is None:
        (tree / file).write_bytes(b"nothing")
    else:
        cv2.imwrite(str(tree / file), pixels)
    with pytest.raises(DatasetError, match=message):
        list(read_osd(tree))
