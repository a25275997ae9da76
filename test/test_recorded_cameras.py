"""Frames of recorded cameras: encodings, the words of a format, and intrinsics, by the functions that live messages go through."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from packed_pixels import GREY, RGB, H, W, file_of, mosaic
from rosbags.rosbag2 import StoragePlugin, Writer

from wesam_ros.data.frames import Frame
from wesam_ros.data.messages import camera_of, image_of
from wesam_ros.data.recordings import messages
from wesam_ros.data.recordings.bags import read_bag

K = np.array([[26.0, 0, 8], [0, 26, 6], [0, 0, 1]])
DOUBLE = K * [[2], [2], [1]]
TYPES = messages.typestore().types


def raw(pixels: np.ndarray, encoding: str) -> Any:
    data = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
    fields = {"height": H, "width": W, "encoding": encoding, "is_bigendian": 0, "step": data.size // H, "data": data}
    return TYPES[messages.IMAGE](header=messages.header(1), **fields)


def info(k: np.ndarray = K, size: tuple[int, int] = (H, W), **changes: Any) -> Any:
    message = messages.camera_info(1, k, size)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def recorded(folder: Path, image: Any, camera_info: Any, topic: str = "/c/image", rectified: str = "auto") -> Frame:
    """The frame of a bag with these two messages."""
    with Writer(folder / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for name, message in (("/c/camera_info", camera_info), (topic, image)):
            connection = writer.add_connection(name, message.__msgtype__, typestore=messages.typestore())
            writer.write(connection, 1, messages.serialize(message))
    (frame,) = read_bag(folder / "bag", detections_required=False, rectified=rectified)
    return frame


@pytest.mark.parametrize(("rectified", "fx"), [("auto", 26.0), ("true", 13.0), ("false", 26.0)])
def test_whether_an_image_is_rectified_may_be_said(rectified: str, fx: float, tmp_path: Path) -> None:
    p = np.hstack([K / [[2], [2], [1]], np.zeros((3, 1))])
    message = info(p=p.ravel(), d=np.array([0.01, 0, 0, 0, 0]))
    frame = recorded(tmp_path, raw(RGB, "rgb8"), message, rectified=rectified)
    expected = camera_of(message, (H, W), rectified, "/c/image")
    assert frame.camera is not None
    np.testing.assert_array_equal(frame.camera, expected)
    focal = frame.camera[0, 0] if frame.camera.ndim == 2 else 1 / np.median(np.diff(frame.camera[H // 2, :, 0]))
    assert focal == pytest.approx(fx, rel=0.02)


@pytest.mark.parametrize(
    "image",
    [
        raw(RGB[..., ::-1], "8UC3"),
        raw(GREY.astype(np.uint16) * 257, "mono16"),
        raw(mosaic("gbrg"), "bayer_gbrg8"),
        messages.compressed_image(1, "bayer_rggb8; png compressed ", file_of("png", mosaic("rggb"))),
        messages.compressed_image(1, "rgb8; tiff compressed ", file_of("tiff", RGB)),
    ],
    ids=["8UC3", "mono16", "bayer", "bayer png", "rgb tiff"],
)
def test_recorded_images_are_those_of_live_messages(image: Any, tmp_path: Path) -> None:
    frame = recorded(tmp_path, image, info())
    np.testing.assert_array_equal(frame.image, image_of(image))
    assert len(np.unique(frame.image)) > 3


def test_the_words_of_a_format_are_read() -> None:
    message = messages.compressed_image(1, "bayer_rggb8; png compressed ", file_of("png", mosaic("rggb")))
    np.testing.assert_array_equal(image_of(message), cv2.cvtColor(mosaic("rggb"), cv2.COLOR_BayerRGGB2RGB))


@pytest.mark.parametrize(
    ("message", "topic", "fx"),
    [
        (info(), "/c/image", 26),
        (info(DOUBLE, (2 * H, 2 * W)), "/c/image", 26),
        (info(DOUBLE, (2 * H, 2 * W), binning_x=2, binning_y=2), "/c/image", 26),
        (info(d=np.array([-0.2, 0.05, 0, 0, 0])), "/c/image", None),
        (info(d=np.array([-0.2, 0.05, 0, 0, 0]), p=np.array([24.0, 0, 8, 0, 0, 24, 6, 0, 0, 0, 1, 0])), "/c/image_rect", 24),
    ],
    ids=["as calibrated", "twice the size", "binned", "distorted", "rectified"],
)
def test_recorded_intrinsics_are_those_of_live_messages(message: Any, topic: str, fx: float | None, tmp_path: Path) -> None:
    frame = recorded(tmp_path, raw(RGB, "rgb8"), message, topic)
    assert frame.camera is not None
    np.testing.assert_array_equal(frame.camera, camera_of(message, (H, W), topic=topic))
    assert frame.camera.shape == ((H, W, 2) if fx is None else (3, 3))
    assert fx is None or frame.camera[0, 0] == pytest.approx(fx)


@pytest.mark.parametrize(
    "message", [info(size=(H, H)), info(np.zeros((3, 3))), info(d=np.ones(2), distortion_model="fov")], ids=["size", "no K", "model"]
)
def test_a_bad_camera_info_costs_the_camera_alone_and_is_told(message: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert recorded(tmp_path, raw(RGB, "rgb8"), message).camera is None
    assert any("on /c/camera_info" in record.message and record.levelno == logging.WARNING for record in caplog.records)
