"""Recordings made for the tests: six small frames on four topics, as recorders leave them, and what happens to files."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from backports import zstd
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from wesam_ros.data import codecs
from wesam_ros.data.detections import Detections
from wesam_ros.data.recordings import messages
from wesam_ros.data.recordings.bags import read_bag
from wesam_ros.data.recordings.reports import ReadingReport
from wesam_ros.data.recordings.topics import BagTopics

START, STEP = 10**9, 10**8
SIZE = (24, 32)
CAMERA = np.array([[40.0, 0, 16], [0, 40, 12], [0, 0, 1]])
BOXES = Detections(np.array([[1, 2, 11, 12], [3, 4, 20, 23]], np.float32), ("7", "box"), ("cup", "bin"), np.array([0.75, 0.5], np.float32))
TOPICS = BagTopics(image="/rgb", depth="/depth", camera_info="/info", detections="/boxes", prompts="", labels="")
Row = tuple[str, Any, int]
ZSTD = CompressionFormat.ZSTD


def picture(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 255, (*SIZE, 3), dtype=np.uint8)


def raw(stamp: int, array: np.ndarray) -> Any:
    fields = codecs.encode_image(array)._asdict()
    data = np.frombuffer(fields.pop("data"), np.uint8)
    return messages.typestore().types[messages.IMAGE](header=messages.header(stamp), data=data, **fields)


def rows(first: int = 0, last: int = 6) -> Iterator[Row]:
    for index in range(first, last):
        stamp = START + index * STEP
        yield "/info", messages.camera_info(stamp, CAMERA, SIZE), stamp
        yield "/depth", raw(stamp, np.full(SIZE, 1000 + index, np.uint16)), stamp
        yield "/boxes", messages.detection_array(stamp, BOXES), stamp
        yield "/rgb", raw(stamp, picture(index)), stamp


def write(path: Path, plugin: StoragePlugin = StoragePlugin.MCAP, mode: CompressionMode | None = None, sent: Any = None) -> Path:
    """A folder as ros2 bag record leaves it, of six frames."""
    writer = Writer(path, version=9, storage_plugin=plugin)
    if mode is not None:
        writer.set_compression(mode, ZSTD)
    with writer:
        connections: dict[str, Any] = {}
        for topic, message, time in rows() if sent is None else sent:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=messages.typestore())
            writer.write(connections[topic], time, messages.serialize(message))
    return path


def file_of(folder: Path) -> Path:
    return next(each for each in folder.iterdir() if each.name != "metadata.yaml")


def read(path: Path, report: ReadingReport | None = None) -> list[int]:
    """Indices of the frames that are as they were sent."""
    found = []
    for frame in read_bag(path, topics=TOPICS, report=report or ReadingReport()):
        index = (frame.stamp_ns - START) // STEP
        np.testing.assert_array_equal(frame.image, picture(index))
        if frame.depth is not None:
            np.testing.assert_allclose(frame.depth, 1 + index / 1000, rtol=1e-6)
        if frame.detections is not None:
            np.testing.assert_allclose(frame.detections.boxes, BOXES.boxes)
            assert frame.detections.classes == BOXES.classes
        if frame.camera is not None:
            np.testing.assert_array_equal(frame.camera, CAMERA)
        found.append(index)
    return found


def bare(folder: Path) -> Path:
    (folder / "metadata.yaml").unlink()
    return folder


def moved(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)
    return target


def packed(path: Path) -> Path:
    target = path.with_name(f"{path.name}.zst")
    target.write_bytes(zstd.compress(path.read_bytes()))
    path.unlink()
    return target


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def gzipped(path: Path) -> Path:
    target = path.with_name(f"{path.name}.gz")
    target.write_bytes(gzip.compress(path.read_bytes()))
    return target
