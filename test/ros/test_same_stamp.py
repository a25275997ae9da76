"""Several requests of one stamp: merged while their frame waits, in the synchronizer as in the worker's slot, or counted."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("wesam_ros.msg", reason="wesam_ros.ros needs ROS 2")

from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray, Detection3DArray
from wesam_ros.msg import Prompt, Prompts

from wesam_ros.data.synchronizer import SynchronizedFrame, Synchronizer
from wesam_ros.ros.same_stamp import MOST, SameStamp, merged_frames


def boxes(*ids: str) -> Detection2DArray:
    return Detection2DArray(header=Header(frame_id="camera"), detections=[Detection2D(id=each) for each in ids])


def ids(request: Any) -> list[str]:
    return [each.id for each in (request.prompts if isinstance(request, Prompts) else request.detections)]


class Stream:
    """A synchronizer whose requests go through SameStamp, as in Inputs."""

    def __init__(self) -> None:
        self.frames: list[SynchronizedFrame] = []
        self.counts: list[str] = []
        self.same_stamp = SameStamp(self.counts.append)
        self.synchronizer = Synchronizer(5, lambda frame: self.frames.append(self.same_stamp.complete(frame)), self.counts.append)

    def request(self, stamp: int, message: Any, kind: str = "detections", now: float = 0.0) -> None:
        if (wrapped := self.same_stamp.wrapped(kind, stamp, message)) is not None:
            self.synchronizer.add(kind, stamp, wrapped, now, frozenset())

    def image(self, stamp: int) -> None:
        self.synchronizer.add("image", stamp, "image", 0.0, frozenset())


@pytest.fixture
def stream() -> Stream:
    return Stream()


def test_requests_that_wait_for_one_image_are_one(stream: Stream) -> None:
    stream.request(7, boxes("a"))
    stream.request(8, boxes("x"))
    stream.request(7, boxes("b", "c"))
    stream.request(7, Prompts(prompts=[Prompt(id="p")]), "prompts")
    stream.image(7)
    assert [(frame.source, ids(frame.request)) for frame in stream.frames] == [("detections", ["a", "b", "c"]), ("prompts", ["p"])]
    assert stream.counts == ["merged.detections"]


def test_a_later_request_for_an_image_is_a_frame_of_its_own(stream: Stream) -> None:
    stream.image(7)
    stream.request(7, boxes("a"))
    stream.request(7, boxes("b"))
    assert [ids(frame.request) for frame in stream.frames] == [["a"], ["b"]]
    assert not stream.counts


def test_a_request_that_was_given_up_takes_no_other_with_it(stream: Stream) -> None:
    stream.request(7, boxes("a"))
    stream.synchronizer.expire(60.0, 0.5, frozenset())
    assert stream.counts == ["unmatched.detections"]
    stream.request(7, boxes("b"), now=60.0)
    stream.image(7)
    assert [ids(frame.request) for frame in stream.frames] == [["b"]]


@pytest.mark.parametrize(
    ("stamp", "sent", "counted"),
    [(0, 2, ["dropped.detections"]), (7, MOST + 1, [*["merged.detections"] * (MOST - 1), "dropped.detections"])],
)
def test_what_cannot_be_merged_is_counted(stream: Stream, stamp: int, sent: int, counted: list[str]) -> None:
    for each in range(sent):
        stream.request(stamp, boxes(str(each)))
    assert stream.counts == counted
    stream.image(stamp)
    assert [ids(frame.request) for frame in stream.frames] == [[str(sent - 1)]]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((7, boxes("a")), (7, boxes("b")), ["a", "b"]),
        ((7, boxes("a")), (8, boxes("b")), None),
        ((0, boxes("a")), (0, boxes("b")), None),
        ((7, boxes("a")), (7, Detection3DArray()), None),
    ],
)
def test_frames_of_one_moment_are_merged(first: Any, second: Any, expected: list[str] | None) -> None:
    frames = [SynchronizedFrame(stamp, "detections", request, "image", None, None, 0.0) for stamp, request in (first, second)]
    both = merged_frames(*frames)
    assert (None if both is None else ids(both.request)) == expected
