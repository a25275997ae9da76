"""Synchronising by stamp, without ROS."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("wesam_ros.msg", reason="wesam_ros.nodes needs ROS 2")

from wesam_ros.ros.synchronizer import IMAGE_WAIT, JUMP_NS, SynchronizedFrame, Synchronizer

ALL = frozenset({"depth", "camera_info"})
NONE: frozenset[str] = frozenset()


@pytest.fixture
def counted() -> list[str]:
    return []


class Collected:
    """A synchronizer, each of whose calls returns the frames that it handed on."""

    def __init__(self, length: int, counted: list[str]) -> None:
        self._complete: list[SynchronizedFrame] = []
        self._synchronizer = Synchronizer(length, self._complete.append, counted.append)

    def add(self, *message: Any) -> list[SynchronizedFrame]:
        self._synchronizer.add(*message)
        return self._taken()

    def expire(self, *now: Any) -> list[SynchronizedFrame]:
        self._synchronizer.expire(*now)
        return self._taken()

    def _taken(self) -> list[SynchronizedFrame]:
        frames, self._complete[:] = self._complete[:], []
        return frames


@pytest.fixture
def synchronizer(counted: list[str]) -> Collected:
    return Collected(3, counted)


@pytest.mark.parametrize(
    "order",
    [
        ["image", "detections"],
        ["detections", "image"],
        ["image", "depth", "camera_info", "detections"],
        ["detections", "camera_info", "depth", "image"],
    ],
)
def test_the_order_of_arrival_does_not_matter(synchronizer: Collected, order: list[str]) -> None:
    expected = ALL & set(order)
    ready = [synchronizer.add(kind, 5, f"{kind} 5", 0.0, expected) for kind in order]
    assert ready[:-1] == [[]] * (len(order) - 1)
    (frame,) = ready[-1]
    assert (frame.stamp, frame.source, frame.request, frame.image) == (5, "detections", "detections 5", "image 5")
    assert frame.depth == ("depth 5" if "depth" in order else None)


def test_another_stamp_is_left_alone(synchronizer: Collected, counted: list[str]) -> None:
    synchronizer.add("image", 5, "image", 0.0, NONE)
    assert synchronizer.add("detections", 6, "boxes", 0.0, NONE) == []
    assert synchronizer.expire(IMAGE_WAIT - 0.1, 0.0, NONE) == []
    assert counted == []
    synchronizer.expire(IMAGE_WAIT, 0.0, NONE)
    assert counted == ["unmatched.detections"]


def test_a_late_detection_finds_its_image_in_the_ring(synchronizer: Collected, counted: list[str]) -> None:
    for stamp in (1, 2, 3, 4):
        synchronizer.add("image", stamp, f"image {stamp}", 0.0, NONE)
    assert counted == ["unused.image"]  # 1 has left the ring of three
    assert synchronizer.add("detections", 2, "boxes", 0.0, NONE)[0].image == "image 2"
    synchronizer.add("detections", 1, "boxes", 0.0, NONE)
    synchronizer.expire(IMAGE_WAIT, 0.0, NONE)
    assert counted[1:] == ["late.detections"]


def test_a_frame_waits_for_its_depth_and_goes_without(synchronizer: Collected, counted: list[str]) -> None:
    synchronizer.add("image", 1, "image", 0.0, ALL)
    synchronizer.add("camera_info", 1, "info", 0.0, ALL)
    assert synchronizer.add("detections", 1, "boxes", 0.0, ALL) == []
    assert synchronizer.expire(0.4, 0.5, ALL) == []
    (frame,) = synchronizer.expire(0.5, 0.5, ALL)
    assert frame.depth is None
    assert counted == ["missing.depth"]


def test_a_later_depth_ends_the_wait(synchronizer: Collected) -> None:
    expected = frozenset({"depth"})
    synchronizer.add("image", 1, "image", 0.0, expected)
    synchronizer.add("detections", 1, "boxes", 0.0, expected)
    (frame,) = synchronizer.add("depth", 2, "depth", 0.1, expected)
    assert frame.depth is None


def test_an_earlier_camera_info_serves(synchronizer: Collected, counted: list[str]) -> None:
    synchronizer.add("camera_info", 1, "info 1", 0.0, NONE)
    synchronizer.add("image", 2, "image", 0.0, NONE)
    assert synchronizer.add("detections", 2, "boxes", 0.0, NONE)[0].camera_info == "info 1"
    assert counted == []


def test_both_kinds_of_request_get_the_same_image(synchronizer: Collected) -> None:
    synchronizer.add("image", 1, "image", 0.0, NONE)
    sources = [synchronizer.add(kind, 1, "request", 0.0, NONE)[0].source for kind in ("detections", "prompts")]
    assert sources == ["detections", "prompts"]


def test_after_the_clock_went_back_nothing_later_is_used(counted: list[str]) -> None:
    synchronizer, second = Collected(10, counted), JUMP_NS
    for stamp in (100 * second, 101 * second):
        synchronizer.add("depth", stamp, "old depth", 0.0, ALL)
        synchronizer.add("image", stamp, "old image", 0.0, NONE)
    synchronizer.add("detections", 103 * second, "old boxes", 0.0, NONE)
    synchronizer.add("depth", 5 * second, "new depth", 0.0, ALL)
    synchronizer.add("image", 5 * second, "new image", 0.0, NONE)
    assert counted == ["unused.image", "unused.image", "jumped.image", "jumped.detections"]
    (frame,) = synchronizer.add("detections", 5 * second, "new boxes", 0.0, frozenset({"depth"}))
    assert (frame.image, frame.depth) == ("new image", "new depth")
    assert synchronizer.add("detections", 100 * second, "new boxes", 0.0, NONE) == []  # its image is still to come
    (frame,) = synchronizer.add("image", 100 * second, "new image", 0.0, NONE)
    assert frame.image == "new image"


def test_images_that_change_places_are_no_jump(synchronizer: Collected, counted: list[str]) -> None:
    synchronizer.add("image", 10 * JUMP_NS, "second", 0.0, NONE)
    synchronizer.add("image", 10 * JUMP_NS - JUMP_NS // 2, "first", 0.0, NONE)
    assert synchronizer.add("detections", 10 * JUMP_NS, "boxes", 0.0, NONE)[0].image == "second"
    assert counted == []
