"""Recordings of other ROS distributions are read as ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from recorded import BOXES, CAMERA, TOPICS, file_of, gzipped, picture, write
from recorded_before import foxy, noetic, unindexed
from rosbags.rosbag2 import StoragePlugin

from wesam_ros.data.recordings import messages
from wesam_ros.data.recordings.bags import read_bag, read_messages, without_topics
from wesam_ros.data.recordings.reports import ReadingReport


@pytest.mark.parametrize(
    ("make", "classes"),
    [
        (lambda out: noetic(out / "a.bag"), ("41", "42")),
        (lambda out: unindexed(noetic(out / "a.bag.active")), ("41", "42")),
        (lambda out: gzipped(noetic(out / "a.bag")), ("41", "42")),
        (lambda out: foxy(out / "bag", StoragePlugin.MCAP, True), BOXES.classes),
        (lambda out: foxy(out / "bag", StoragePlugin.SQLITE3, True), BOXES.classes),
    ],
)
def test_recordings_of_other_distributions_are_read(make: Callable[[Path], Path], classes: tuple[str, ...], tmp_path: Path) -> None:
    path = make(tmp_path)
    report = ReadingReport()
    frames = list(read_bag(path, topics=TOPICS, report=report))
    assert not report.left_out
    assert len(frames) == 6
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.image, picture(index))
        np.testing.assert_allclose(frame.depth, 1 + index / 1000, rtol=1e-6)
        np.testing.assert_array_equal(frame.camera, CAMERA)
        np.testing.assert_allclose(frame.detections.boxes, BOXES.boxes)
        assert frame.detections.classes == classes
    for message in read_messages(path, ["/boxes"]):  # what the player publishes
        messages.deserialize(message.data, message.msgtype)


def test_detections_without_a_definition_are_told_by_their_bytes(tmp_path: Path) -> None:
    for name, path in {"foxy": foxy(tmp_path / "old", StoragePlugin.SQLITE3, False), "ours": tmp_path / "new"}.items():
        if name == "ours":
            write(path, StoragePlugin.SQLITE3)
            with sqlite3.connect(file_of(path)) as connection:
                connection.execute("DROP TABLE message_definitions")
                connection.execute("UPDATE schema SET schema_version = 3")
        assert all(frame.detections.classes == BOXES.classes for frame in read_bag(path, topics=TOPICS))


def test_a_copy_of_a_noetic_bag_is_one_of_ros_2(tmp_path: Path) -> None:
    without_topics(noetic(tmp_path / "a.bag"), tmp_path / "b.mcap", ["/depth"])
    frames = list(read_bag(tmp_path / "b.mcap", topics=TOPICS))
    assert [frame.depth is None and len(frame.detections) == 2 for frame in frames] == [True] * 6
