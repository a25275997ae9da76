"""Requests of recordings: several of one stamp, boxes in space, another grid; and depth that is not named so."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import CAMERA, SIZE, START, STEP, TOPICS, Row, picture, raw, rows, write

from wesam_ros.data.detections import Detections
from wesam_ros.data.detections_3d import frame_of_boxes
from wesam_ros.data.messages import detections_of
from wesam_ros.data.recordings import messages
from wesam_ros.data.recordings.bags import find_topics, read_bag
from wesam_ros.data.recordings.decoding import BagMessage
from wesam_ros.data.recordings.reports import ReadingReport
from wesam_ros.data.recordings.requests import requests_of
from wesam_ros.data.recordings.same_stamp import HELD_IMAGES, merged_by_stamp
from wesam_ros.data.recordings.topics import choose_topics

FRAMES = 6
MORE = Detections(np.array([[2, 2, 9, 9]], np.float32), ("7",), ("can",))


def second_detector(later: int) -> list[Row]:
    """The rows of a recording, and boxes of another detector on the same topic, so many images later."""
    sent: list[Row] = list(rows())
    for index in range(FRAMES - 1, -1, -1):
        place = min((index + later + 1) * 4, len(sent))
        stamp = START + index * STEP
        sent.insert(place, ("/boxes", messages.detection_array(stamp, MORE), stamp + later * STEP + 1))
    return sent


@pytest.mark.parametrize("later", [0, 1, 4])
def test_two_detectors_on_one_topic_are_merged(tmp_path: Path, later: int) -> None:
    report = ReadingReport()
    frames = list(read_bag(write(tmp_path / "bag", sent=second_detector(later)), topics=TOPICS, report=report))
    assert [(each.stamp_ns - START) // STEP for each in frames] == list(range(FRAMES))
    for each in frames:
        assert each.detections is not None
        assert each.detections.classes == ("cup", "bin", "can")
        assert each.detections.ids == ("7", "box", "7#2")
    assert not report.left_out


def message(topic: str, stamp: int, data: bytes | None = None) -> BagMessage:
    found = messages.serialize(messages.detection_array(stamp, MORE)) if data is None else data
    return BagMessage(topic, messages.DETECTIONS, stamp, bytes(found))


def image(stamp: int) -> BagMessage:
    return BagMessage("/rgb", messages.IMAGE, stamp, bytes(messages.serialize(raw(stamp, picture(0)))))


def merged(sent: list[BagMessage]) -> tuple[list[BagMessage], list[tuple[str, str]]]:
    left_out: list[tuple[str, str]] = []
    roles = {"/rgb": "image", "/boxes": "detections", "/prompts": "prompts"}
    return list(merged_by_stamp(sent, roles, lambda role, reason, sentence: left_out.append((role, reason)))), left_out


def test_a_request_alone_with_its_stamp_comes_as_it_was_recorded_and_not_much_later() -> None:
    alone, unstamped, headless = message("/boxes", 5), message("/boxes", 0), message("/boxes", 7, b"short")
    images = [image(stamp) for stamp in range(10, 10 + HELD_IMAGES + 1)]
    found, left_out = merged([alone, unstamped, headless, *images])
    assert found == [unstamped, headless, *images[:HELD_IMAGES], alone, *images[HELD_IMAGES:]]
    assert not left_out


def test_a_request_that_comes_long_after_another_of_its_stamp_is_counted() -> None:
    first, second = message("/boxes", 5), message("/boxes", 5)
    images = [image(stamp) for stamp in range(10, 10 + HELD_IMAGES)]
    found, left_out = merged([first, *images, second])
    assert found == [*images, first]
    assert left_out == [("detections", "doubled")]


@pytest.mark.parametrize("latched", [False, True])
def test_a_recording_whose_clock_starts_again_keeps_its_detections(latched: bool, tmp_path: Path) -> None:
    """A simulation was started anew: the same stamps come again, with other images."""
    later = 100 * STEP
    again = [(topic, sent, time + later) for topic, sent, time in rows(0, 12)]
    sent = [each for each in [*rows(0, 12), *again] if not latched or each[0] != "/info" or each[2] == START]
    report = ReadingReport()
    frames = list(read_bag(write(tmp_path / "bag", sent=sent), topics=TOPICS, report=report))
    assert [frame.stamp_ns for frame in frames] == [START + k * STEP for k in range(12)] * 2
    assert all(frame.detections is not None and frame.depth is not None and frame.camera is not None for frame in frames)
    assert not report.left_out
    assert ["stamps go back 1 times" in note for note in report.notes] == [True]


def test_a_request_that_cannot_be_read_is_counted_and_leaves_the_other() -> None:
    whole = message("/boxes", 5)
    damaged = message("/boxes", 5, whole.data[:40] + b"\xff" * 20)
    for pair in ([whole, damaged], [damaged, whole]):
        ((found,), left_out) = merged(pair)
        assert detections_of(messages.deserialize(found.data, found.msgtype)).classes == ("can",)
        assert left_out == [("detections", "undecodable")]


def in_space(stamp: int, frame: str, size: float = 0.1) -> Any:
    """A Detection3DArray with one box 1 m before the camera."""
    types = messages.typestore().types
    flat = messages.detection_array(stamp, MORE)
    pose = flat.detections[0].results[0].pose.pose
    centre = type(pose)(position=type(pose.position)(x=0.0, y=0.0, z=1.0), orientation=pose.orientation)
    side = types["geometry_msgs/msg/Vector3"](x=size, y=size, z=0.0)
    box = types["vision_msgs/msg/BoundingBox3D"](center=centre, size=side)
    one = types["vision_msgs/msg/Detection3D"](header=flat.header, results=flat.detections[0].results, bbox=box, id="a")
    return types[messages.DETECTIONS_3D](header=messages.header(stamp, frame), detections=[one])


def space_rows(frame: str = messages.CAMERA_FRAME, size: float = 0.1) -> Iterator[Row]:
    for topic, sent, time in rows():
        yield topic, in_space(time, frame, size) if topic == "/boxes" else sent, time


def test_boxes_in_space_are_boxes_in_the_image(tmp_path: Path) -> None:
    path = write(tmp_path / "bag", sent=space_rows())
    named = {"image": "/rgb", "depth": "/depth"}
    assert find_topics(path, named).detections == "/boxes"
    (first, *_) = read_bag(path, topics=TOPICS)
    assert first.detections is not None
    half = 0.05 * CAMERA[0, 0]
    np.testing.assert_allclose(first.detections.boxes, [(16 - half, 12 - half, 16 + half, 12 + half)], atol=1e-4)
    assert first.detections.classes == ("can",)


def transform(topic: str, parent: str, child: str, stamp: int, x: float) -> Row:
    """A message of TF, one transform along x, recorded at its stamp."""
    types = messages.typestore().types
    move = types["geometry_msgs/msg/Vector3"](x=x, y=0.0, z=0.0)
    turn = types["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=0.0, w=1.0)
    each = types["geometry_msgs/msg/TransformStamped"](
        header=messages.header(stamp, parent),
        child_frame_id=child,
        transform=types["geometry_msgs/msg/Transform"](translation=move, rotation=turn),
    )
    return topic, types["tf2_msgs/msg/TFMessage"](transforms=[each]), stamp


def test_boxes_in_another_frame_are_moved_by_the_transforms_of_the_recording(tmp_path: Path) -> None:
    """The camera lies on an arm that moves by 0.1 m from frame to frame; the arm's base, with a slash as ROS 1 wrote it, stands still."""
    moves = [transform("/tf", "base", "arm", START + (2 * k - 1) * STEP // 2, 0.1 * k - 0.05) for k in range(8)]
    fixed = transform("/tf_static", "arm", messages.CAMERA_FRAME, 0, 0.0)
    path = write(tmp_path / "bag", sent=[fixed, *sorted([*space_rows("/base"), *moves], key=lambda row: row[2])])
    report = ReadingReport()
    boxes = [each.detections.boxes[0] for each in read_bag(path, topics=TOPICS, report=report) if each.detections is not None]
    assert not report.left_out
    middles = [(x0 + x1) / 2 for x0, _, x1, _ in boxes[:3]]
    np.testing.assert_allclose(middles, [16 - 40 * 0.1 * k for k in range(3)], atol=1e-3)  # 40 pixels for a metre at 1 m


def test_a_transform_that_the_recording_lacks_is_named(tmp_path: Path) -> None:
    report = ReadingReport()
    sent = [transform("/tf_static", "base", "arm", 0, 0.0), *space_rows("base")]
    assert all(each.detections is None for each in read_bag(write(tmp_path / "bag", sent=sent), topics=TOPICS, report=report))
    assert messages.CAMERA_FRAME in report.first["detections", "no_transform"]


@pytest.mark.parametrize(("changes", "reason"), [({"frame": "base"}, "no_transform"), ({"size": 90.0}, "wrong_unit")])
def test_boxes_in_space_that_cannot_be_used_are_counted(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    report = ReadingReport()
    assert len(list(read_bag(write(tmp_path / "bag", sent=space_rows(**changes)), topics=TOPICS, report=report))) == FRAMES
    assert list(report.left_out) == [("detections", reason)]


def test_boxes_in_the_image_go_before_boxes_in_space(tmp_path: Path) -> None:
    there = {"/rgb": (messages.IMAGE, 6), "/a": (messages.DETECTIONS_3D, 6), "/b": (messages.DETECTIONS, 6)}
    assert choose_topics(tmp_path, there, {}, detections_required=True).detections == "/b"


def test_boxes_of_another_grid_are_scaled(tmp_path: Path) -> None:
    (first, *_) = read_bag(write(tmp_path / "bag"), topics=TOPICS)
    ((_, request),) = requests_of(first, "64x48 stretch")
    assert first.detections is not None
    np.testing.assert_allclose(request.detections.boxes, first.detections.boxes / 2)


@pytest.mark.parametrize(
    ("array", "named", "told"),
    [
        (np.full(SIZE, 1000, np.uint16), {}, True),
        (np.full(SIZE, 1, np.float32), {}, True),
        (np.full(SIZE, 1000, np.uint16), {"depth": "none"}, False),
        (np.full(SIZE, 1000, np.uint16), {"depth": "/range"}, False),
        (np.zeros((*SIZE, 3), np.uint8), {}, False),
    ],
)
def test_depth_that_is_not_named_so_is_listed_with_its_encoding(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, array: np.ndarray, named: dict[str, str], told: bool
) -> None:
    sent = [("/range", raw(time, array), time) if topic == "/depth" else (topic, each, time) for topic, each, time in rows()]
    path = write(tmp_path / "bag", sent=sent)
    with caplog.at_level(logging.WARNING):
        found = find_topics(path, {"image": "/rgb", **named})
    assert found.depth == named.get("depth", "").replace("none", "")
    lines = [each.getMessage() for each in caplog.records if "/range" in each.getMessage()]
    assert bool(lines) == told
    assert all("--depth-topic" in line and messages.IMAGE in line and ("16UC1" in line or "32FC1" in line) for line in lines)


@pytest.mark.parametrize(
    ("of_array", "of_box", "expected"), [("/base", "arm", "base"), ("", "arm", "arm"), ("", "/arm", "arm"), ("", "", "")]
)
def test_boxes_in_space_have_the_frame_of_their_message_or_their_own(of_array: str, of_box: str, expected: str) -> None:
    message = in_space(START, of_array)
    message.detections[0].header = messages.header(START, of_box)
    assert frame_of_boxes(message) == expected
