"""A bad message of a recording costs itself only, and is counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import BOXES, SIZE, START, STEP, TOPICS, Row, picture, raw, rows, write
from rosbags.rosbag2 import StoragePlugin, Writer

from wesam_ros.data import codecs
from wesam_ros.data.recordings import messages
from wesam_ros.data.recordings.bags import read_bag
from wesam_ros.data.recordings.reports import ReadingReport
from wesam_ros.data.recordings.topics import BagTopics


def changed(index: int, topic: str, message: Any) -> Iterator[Row]:
    """The six frames, with another message on one topic of one frame."""
    for number, row in enumerate(rows()):
        yield (topic, message, row[2]) if number // 4 == index and row[0] == topic else row


def an_image(**fields: Any) -> Any:
    message = raw(START + 3 * STEP, picture(3))
    for name, value in fields.items():
        setattr(message, name, value)
    return message


JPEG = codecs.encode_jpeg(picture(3))
STAMP = START + 3 * STEP


@pytest.mark.parametrize(
    ("topic", "message", "role", "reason"),
    [
        ("/rgb", an_image(encoding="odd"), "image", "unknown_encoding"),
        ("/rgb", an_image(height=0), "image", "empty"),
        ("/rgb", an_image(data=np.zeros(10, np.uint8)), "image", "truncated"),
        ("/depth", raw(STAMP, np.full((12, 16), 1000, np.uint16)), "depth", "wrong_size"),
        ("/depth", raw(STAMP, np.full(SIZE, 900.0, np.float32)), "depth", "wrong_unit"),
    ],
)
def test_a_bad_message_costs_itself_only(topic: str, message: Any, role: str, reason: str, tmp_path: Path) -> None:
    report = ReadingReport()
    path = write(tmp_path / "bag", sent=changed(3, topic, message))
    frames = {(f.stamp_ns - START) // STEP: f for f in read_bag(path, topics=TOPICS, report=report)}
    assert report.left_out == {(role, reason): 1}
    assert f"on {topic} with stamp {STAMP}" in report.sentences()[0]
    assert report.frames == len(frames) == (5 if role == "image" else 6)
    assert (3 in frames) == (role != "image")
    assert [index for index, frame in frames.items() if frame.depth is None] == ([3] if role == "depth" else [])


def test_a_message_without_a_header_costs_itself_only(tmp_path: Path) -> None:
    path = tmp_path / "bag"
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        image = writer.add_connection("/rgb", messages.IMAGE, typestore=messages.typestore())
        boxes = writer.add_connection("/boxes", messages.DETECTIONS, typestore=messages.typestore())
        writer.write(boxes, START, b"\0\1\0\0")
        writer.write(image, START, messages.serialize(raw(START, picture(0))))
        writer.write(boxes, START, messages.serialize(messages.detection_array(START, BOXES))[:-30])
    report = ReadingReport()
    (frame,) = read_bag(path, topics=BagTopics(image="/rgb", detections="/boxes"), report=report)
    assert frame.detections is None
    assert report.left_out == {("detections", "no_header"): 1, ("detections", "undecodable"): 1}


def test_without_a_report_what_is_left_out_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "bag", sent=changed(3, "/rgb", an_image(encoding="odd")))
    assert len(list(read_bag(path, topics=TOPICS))) == 5
    assert "messages left out: 1 image.unknown_encoding" in caplog.text
