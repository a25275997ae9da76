"""Live synchronising by stamp, without ROS."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wesam_ros.data.stamps import JUMP_NS
from wesam_ros.data.synchronizer import IMAGE_WAIT, REQUESTS, SynchronizedFrame, Synchronizer

ALL = frozenset({"depth", "camera_info"})
NONE: frozenset[str] = frozenset()


@pytest.fixture
def counted() -> list[str]:
    return []


class Collected:
    """A synchronizer, each of whose calls returns the frames that it handed on."""

    def __init__(self, length: int, counted: list[str], slop: int = 0) -> None:
        self._complete: list[SynchronizedFrame] = []
        self._synchronizer = Synchronizer(length, self._complete.append, counted.append, slop)

    def add(self, *message: Any) -> list[SynchronizedFrame]:
        self._synchronizer.add(*message)
        return self._taken()

    def nothing(self, *stamp: Any) -> list[SynchronizedFrame]:
        self._synchronizer.nothing(*stamp)
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
    assert synchronizer.add("detections", 1, "boxes", 0.0, NONE) == []
    assert counted[1:] == ["late.detections"]  # at once
    assert synchronizer.expire(IMAGE_WAIT, 0.0, NONE) == []
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


MS = 10**6


def stream(synchronizer: Collected, *, rate: float, count: int, depth: Any, info: Any, answer: float = 0.02) -> list[tuple[float, Any]]:
    """Frames of a camera and a detector that answers after some seconds, each with the seconds that it waited for its parts.

    Args:
        rate: of the camera, Hz.
        count: of images.
        depth: offset of a depth in ms by the number of the image; None for no depth.
        info: stamp of a camera_info by number and stamp of the image; None for none.
        answer: seconds of the detector.
    """
    events: list[tuple[float, str, int]] = []
    asked: dict[int, float] = {}
    for i in range(1, count + 1):
        t = i / rate
        stamp = round(t * 1e9)
        events += [(t, "image", stamp), (t + answer, "detections", stamp)]
        asked[stamp] = t + answer
        if (offset := depth(i)) is not None:
            events.append((t + max(offset, 0) / 1e3, "depth", stamp + round(offset * MS)))
        if (at := info(i, stamp)) is not None:
            events.append((t, "camera_info", at))
    events += [(k * 0.05, "expire", 0) for k in range(round((count / rate + 6) / 0.05))]
    waited = []
    for t, kind, stamp in sorted(events):
        frames = synchronizer.expire(t, 0.5, ALL) if kind == "expire" else synchronizer.add(kind, stamp, f"{kind} {stamp}", t, ALL)
        waited += [(t - asked[each.stamp], each) for each in frames]
    return waited


@pytest.mark.parametrize(
    ("offset", "slop", "with_depth", "longest"),
    [
        (0.0, 0, True, 0.0),
        (0.0, 20, True, 0.0),
        (1.0, 20, True, 0.0),
        (16.0, 20, True, 0.0),
        (12.0, 12, True, 0.0),
        (-1.0, 20, True, 0.034),  # before a second one has come, nobody knows when the next will
        (-16.0, 20, True, 0.034),
        (1.0, 0, False, 0.034),
        (-22.0, 10, False, 0.034),
    ],
)
def test_depth_is_the_nearest_within_the_slop(counted: list[str], offset: float, slop: int, with_depth: bool, longest: float) -> None:
    waited = stream(Collected(30, counted, slop * MS), rate=30, count=30, depth=lambda i: offset, info=lambda i, stamp: stamp)
    frames = [frame for _, frame in waited]
    assert len(frames) == 30
    assert all(frame.depth is not None for frame in frames) == with_depth
    if with_depth:
        assert [frame.depth for frame in frames] == [f"depth {frame.stamp + round(offset * MS)}" for frame in frames]
        assert {frame.depth_offset for frame in frames} == {round(offset * MS)}
        assert counted == []
    assert [frame.camera_info for frame in frames] == [f"camera_info {frame.stamp}" for frame in frames]
    assert sorted(wait for wait, _ in waited)[-2] <= longest + 1e-6


@pytest.mark.parametrize(
    "info",
    [
        lambda i, stamp: stamp,
        lambda i, stamp: 0,
        lambda i, stamp: 10**8,
        lambda i, stamp: stamp if i == 1 else None,
        lambda i, stamp: stamp + MS,
        lambda i, stamp: stamp - MS,
    ],
    ids=["exact", "zero", "frozen", "once", "later", "earlier"],
)
def test_a_camera_info_that_is_held_is_never_waited_for(counted: list[str], info: Any) -> None:
    waited = stream(Collected(30, counted), rate=10, count=30, depth=lambda i: 0.0, info=info)
    assert len(waited) == 30
    assert all(frame.camera_info is not None for _, frame in waited)
    assert max(wait for wait, _ in waited) < 1e-6


def test_a_camera_info_that_has_come_with_each_image_is_waited_for(synchronizer: Collected) -> None:
    for stamp in (1, 2):
        synchronizer.add("camera_info", stamp, f"info {stamp}", 0.0, ALL)
        synchronizer.add("image", stamp, f"image {stamp}", 0.0, ALL)
    expected = frozenset({"camera_info"})
    synchronizer.add("image", 3, "image 3", 0.0, expected)
    assert synchronizer.add("detections", 3, "boxes", 0.0, expected) == []  # messages of different topics overtake each other
    assert synchronizer.add("camera_info", 3, "info 3", 0.0, expected)[0].camera_info == "info 3"


def test_a_first_camera_info_is_waited_for_in_vain_for_the_wait_only(counted: list[str]) -> None:
    waited = stream(Collected(30, counted), rate=10, count=3, depth=lambda i: 0.0, info=lambda i, stamp: None)
    assert [round(wait, 1) for wait, _ in waited] == [0.5] * 3
    assert counted == ["missing.camera_info"] * 3


def test_depth_of_half_the_rate_serves_the_images_that_it_is_near(counted: list[str]) -> None:
    waited = stream(Collected(30, counted, 20 * MS), rate=10, count=20, depth=lambda i: 3.0 if i % 2 else None, info=lambda i, s: s)
    assert [frame.depth is not None for _, frame in waited] == [True, False] * 10


def test_in_lock_step_a_frame_waits_only_for_what_was_sent(counted: list[str]) -> None:
    """A player says by an empty message that nothing more comes."""
    synchronizer = Collected(30, counted, 20 * MS)
    for i in range(1, 5):
        stamp = i * 10**8
        synchronizer.add("image", stamp, f"image {i}", 0.0, ALL)
        if i % 2:
            synchronizer.add("depth", stamp - MS, f"depth {i}", 0.0, ALL)
        assert synchronizer.add("detections", stamp, "boxes", 0.0, ALL) == []
        frames = [*synchronizer.nothing("camera_info", stamp, 0.0, ALL), *synchronizer.nothing("depth", stamp, 0.0, ALL)]
        assert [(each.image, each.depth) for each in frames] == [(f"image {i}", f"depth {i}" if i % 2 else None)]


@pytest.mark.parametrize(
    ("images", "requests", "expected"),
    [
        ([5], [(5, 0.1)], {}),
        ([5], [(7, 0.1)], {"unmatched.detections": 1}),
        ([1, 2, 3, 4], [(1, 0.1)], {"late.detections": 1}),
        ([1, 2, 3, 4], [(7, 0.1), (8, 0.1)], {"unmatched.detections": 2}),  # its own clock
        ([10, 20, 30, 40, 50], [(11, 0.1)], {"unmatched.detections": 1}),  # its own clock, and slow: not late
        ([1, 2], [(0, 0.1)], {"unstamped.detections": 1}),
        ([0, 0, 0], [(0, 0.1), (0, 0.2)], {"unstamped.image": 2, "unstamped.detections": 2}),
        ([7, 7, 8], [(7, 0.1), (8, 0.1)], {"unstamped.image": 1, "unmatched.detections": 1}),
        ([0, 1, 2, 3], [(0, 0.1)], {"late.detections": 1}),
    ],
)
def test_a_request_without_an_image_is_counted_by_its_reason(
    counted: list[str], images: list[int], requests: list[tuple[int, float]], expected: dict[str, int]
) -> None:
    synchronizer = Collected(3, counted)
    for i, stamp in enumerate(images):
        synchronizer.add("image", stamp, f"image number {i}", 0.0, NONE)
    for stamp, now in requests:
        synchronizer.add("detections", stamp, "boxes", now, NONE)
    at_once = {each for each in counted if each.endswith("detections")}
    synchronizer.expire(IMAGE_WAIT + 1, 0.0, NONE)
    found = {each: counted.count(each) for each in counted if each != "unused.image"}
    assert found == expected
    assert at_once == {each for each in expected if each.endswith("detections") and not each.startswith("unmatched")}


def test_the_same_image_twice_is_one(synchronizer: Collected, counted: list[str]) -> None:
    for _ in range(2):
        synchronizer.add("image", 5, "image", 0.0, NONE)
    assert synchronizer.add("detections", 5, "boxes", 0.0, NONE)[0].image == "image"
    assert counted == []


def test_a_request_that_waits_for_its_depth_is_not_lost_with_its_image(synchronizer: Collected, counted: list[str]) -> None:
    expected = frozenset({"depth"})
    synchronizer.add("image", 1, "image 1", 0.0, expected)
    assert synchronizer.add("detections", 1, "boxes", 0.0, expected) == []
    handed_on = [synchronizer.add("image", stamp, f"image {stamp}", 0.0, expected) for stamp in (2, 3, 4)]
    assert [[frame.image for frame in frames] for frames in handed_on] == [[], [], ["image 1"]]
    assert counted == ["missing.depth"]


@pytest.mark.parametrize("seed", range(20))
def test_every_request_is_handed_on_once_or_counted(seed: int) -> None:
    """Whatever comes in whatever order: depth off its image, images lost, of one stamp and out of order, clocks that go back."""
    draw = np.random.default_rng(seed)
    counted: list[str] = []
    frames: list[SynchronizedFrame] = []
    synchronizer = Synchronizer(int(draw.integers(1, 10)), frames.append, counted.append, int(draw.integers(0, 20)) * MS)
    asked: set[tuple[str, int]] = set()
    clock = 10**12
    for step in range(2000):
        clock += int(draw.integers(0, 60)) * MS
        if draw.random() < 0.01:
            clock -= int(draw.integers(0, 5)) * JUMP_NS
        stamp = 0 if draw.random() < 0.05 else clock + int(draw.integers(-3, 3)) * 30 * MS
        kind = str(draw.choice(["image", "depth", "camera_info", "detections", "prompts"]))
        if kind in REQUESTS:
            if (kind, stamp) in asked:
                continue
            asked.add((kind, stamp))
        expected = ALL if draw.random() < 0.5 else NONE
        if draw.random() < 0.1:
            synchronizer.nothing("depth", stamp, step / 30, expected)
        synchronizer.add(kind, stamp, f"{kind} number {step}", step / 30, expected)
        synchronizer.expire(step / 30, 0.5, expected)
    synchronizer.expire(1e6, 0.5, ALL)
    lost = [each for each in counted if each.rpartition(".")[2] in REQUESTS]
    assert len(frames) + len(lost) == len(asked)
    assert len({(each.source, each.stamp) for each in frames}) == len(frames)
    assert all(each.depth_offset is None or abs(each.depth_offset) <= 20 * MS for each in frames)
