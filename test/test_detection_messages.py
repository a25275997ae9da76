"""Detection2DArray as values: rotated boxes, and several messages of one stamp."""

from __future__ import annotations

from math import inf, nan, pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import raw, write

from wesam_ros.data.detections import Detections
from wesam_ros.data.messages import detections_of, merged_requests
from wesam_ros.data.recordings import messages
from wesam_ros.data.recordings.bags import read_bag
from wesam_ros.data.recordings.reports import ReadingReport
from wesam_ros.data.recordings.requests import requests_of
from wesam_ros.data.requests import request_of

SIZE = (120, 160)
BAR = (60, 55, 100, 65)
"""40 x 10 around (80, 60)."""


def array(*boxes: tuple[float, ...], theta: float = 0.0, ids: tuple[str, ...] = (), classes: tuple[str, ...] = ()) -> Any:
    message = messages.detection_array(7, Detections(np.array(boxes, np.float32).reshape(-1, 4), ids, classes))
    for each in message.detections:
        each.bbox.center.theta = theta
    return message


@pytest.mark.parametrize(
    ("theta", "expected"),
    [
        (0.0, BAR),
        (pi, BAR),
        (-pi, BAR),
        (2 * pi, BAR),
        (pi / 2, (75, 40, 85, 80)),
        (-pi / 2, (75, 40, 85, 80)),
        (pi / 4, (62.322, 42.322, 97.678, 77.678)),
        (-pi / 4, (62.322, 42.322, 97.678, 77.678)),
        (pi / 6, (60.179, 45.670, 99.821, 74.330)),
    ],
)
def test_a_rotated_box_gives_the_upright_one_around_it(theta: float, expected: tuple[float, ...]) -> None:
    np.testing.assert_allclose(detections_of(array(BAR, theta=theta)).boxes[0], expected, atol=1e-3)


@pytest.mark.parametrize(
    ("theta", "box", "reason"),
    [
        (nan, BAR, "nan"),
        (inf, BAR, "nan"),
        (pi / 2, (100, 55, 60, 65), "inverted"),
        (45.0, BAR, "wrong_unit"),  # degrees: by so many radians it would be another box
        (-90.0, BAR, "wrong_unit"),
    ],
)
def test_a_rotated_box_that_is_none_is_rejected(theta: float, box: tuple[float, ...], reason: str) -> None:
    request = request_of(array(box, theta=theta), SIZE)
    assert [each for each, _ in request.rejected] == [reason]
    assert not len(request.prompts)


def test_a_box_turned_by_degrees_costs_itself_only_also_in_a_recording(tmp_path: Path) -> None:
    message = array(BAR, (1, 2, 11, 12), ids=("a", "b"), classes=("bar", "cup"))
    message.detections[0].bbox.center.theta = 30.0
    live = request_of(message, SIZE)
    rows = [("/rgb", raw(7, np.zeros((*SIZE, 3), np.uint8)), 7), ("/boxes", message, 8)]
    report = ReadingReport()
    (frame,) = read_bag(write(tmp_path / "bag", sent=rows), report=report)
    ((_, offline),) = requests_of(frame)
    assert live.detections.ids == offline.detections.ids == ("b",)
    assert live.detections.classes == offline.detections.classes == ("cup",)
    assert report.counted() == "1 detections.wrong_unit"


def test_two_messages_of_one_stamp_are_one_with_the_objects_of_both() -> None:
    first, second = array(BAR, ids=("1",), classes=("cup",)), array((1, 2, 30, 40), (5, 5, 9, 9), ids=("1", "2"), classes=("box", "can"))
    found = detections_of(merged_requests(first, second))
    assert found.classes == ("cup", "box", "can")
    assert found.ids == ("1", "1#1", "2")
    assert len(first.detections) == 1  # it is not changed
    assert detections_of(messages.deserialize(messages.serialize(merged_requests(first, second)), messages.DETECTIONS)).ids == found.ids
