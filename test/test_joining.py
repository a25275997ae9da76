"""Joining a recording's messages to its images: depth by the nearest stamp, requests by exact ones, and what is lost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from wesam_ros.data.recordings import joining, messages
from wesam_ros.data.recordings.decoding import BagMessage, FrameMessages
from wesam_ros.data.recordings.joining import Joiner
from wesam_ros.data.recordings.reports import ReadingReport
from wesam_ros.data.stamps import nanoseconds
from wesam_ros.data.synchronizer import SynchronizedFrame, Synchronizer

MS = 10**6
PERIOD = 33 * MS
TYPES = {"image": messages.IMAGE, "depth": messages.IMAGE, "camera_info": messages.CAMERA_INFO, "detections": messages.DETECTIONS}


def recorded(role: str, stamp: int, time: int, more: bytes = b"") -> tuple[str, BagMessage]:
    """A message of which only the header's stamp counts."""
    second, nanosecond = divmod(stamp, 10**9)
    data = b"\0\1\0\0" + second.to_bytes(4, "little") + nanosecond.to_bytes(4, "little") + more
    return role, BagMessage(f"/{role}", TYPES[role], time, data)


def camera(
    count: int, depth: Any = lambda i: 0, info: Any = lambda i, stamp: stamp, late: int = MS, every: int = 1
) -> list[tuple[str, BagMessage]]:
    """A recording in the order of its times: depth is `depth(i)` ns off image i, None for none; detections come `late`."""
    rows = []
    for i in range(1, count + 1):
        stamp = i * PERIOD
        rows.append(recorded("image", stamp, stamp, bytes([i % 256])))
        if (offset := depth(i)) is not None:
            rows.append(recorded("depth", stamp + offset, stamp + offset))
        if (at := info(i, stamp)) is not None:
            rows.append(recorded("camera_info", at, stamp))
        if i % every == 0:
            rows.append(recorded("detections", stamp, stamp + late))
    return sorted(rows, key=lambda row: row[1].time_ns)


def joined(
    rows: Iterable[tuple[str, BagMessage]], slop: int = nanoseconds(0.02), topics: Iterable[str] = TYPES
) -> tuple[list[FrameMessages], ReadingReport, Joiner]:
    report = ReadingReport()
    joiner = Joiner({role: f"/{role}" for role in topics}, report, slop)
    frames: list[FrameMessages] = []
    for role, message in rows:
        joiner.add(role, message)
        frames += joiner.finished()
    return [*frames, *joiner.rest()], report, joiner


def offset_of(parts: FrameMessages) -> int | None:
    depth = parts.by_role.get("depth")
    return depth.stamp_ns - parts.stamp_ns if depth is not None else None


@pytest.mark.parametrize(
    ("depth", "slop", "expected"),
    [
        (lambda i: 0, 20 * MS, [0] * 9),
        (lambda i: 0, 0, [0] * 9),
        (lambda i: MS, 20 * MS, [MS] * 9),
        (lambda i: -MS, 20 * MS, [-MS] * 9),
        (lambda i: MS, 0, [None] * 9),
        (lambda i: 16 * MS, 20 * MS, [16 * MS] * 9),
        (lambda i: -10 * MS, 8 * MS, [None] * 9),
        (lambda i: MS if i % 2 else None, 20 * MS, [MS, None] * 4 + [MS]),
        (lambda i: None, 20 * MS, [None] * 9),
    ],
)
def test_depth_is_the_nearest_within_the_slop(depth: Any, slop: int, expected: list[int | None]) -> None:
    frames, report, joiner = joined(camera(9, depth), slop)
    assert [parts.stamp_ns for parts in frames] == [i * PERIOD for i in range(1, 10)]
    assert [offset_of(parts) for parts in frames] == expected
    assert joiner.offsets == [each for each in expected if each is not None]
    assert not report.left_out


@pytest.mark.parametrize("offset", [0, MS, -MS, 12 * MS, -12 * MS, 30 * MS])
def test_live_and_offline_join_the_same_depth(offset: int) -> None:
    rows = camera(20, lambda i: offset + (i % 3) * MS // 3)
    live: list[SynchronizedFrame] = []
    synchronizer = Synchronizer(30, live.append, lambda _: None, nanoseconds(0.02))
    for role, message in rows:
        synchronizer.add(role, message.stamp_ns, message, message.time_ns / 1e9, frozenset({"depth", "camera_info"}))
    synchronizer.expire(1e3, 0.5, frozenset({"depth", "camera_info"}))
    frames, _, _ = joined(rows)
    assert [(each.stamp, each.depth_offset) for each in live] == [(parts.stamp_ns, offset_of(parts)) for parts in frames]


@pytest.mark.parametrize(
    "info",
    [lambda i, s: s, lambda i, s: 0, lambda i, s: 10**8, lambda i, s: s if i == 1 else None, lambda i, s: s if i == 4 else None],
    ids=["exact", "zero", "frozen", "once", "later"],
)
def test_every_image_has_a_camera_info(info: Any) -> None:
    frames, report, _ = joined(camera(9, info=info))
    assert all("camera_info" in parts.by_role for parts in frames)
    assert not report.left_out


@pytest.mark.parametrize("late", [-PERIOD // 2, 0, 10**9, 5 * 10**9, 20 * 10**9])
def test_detections_that_come_many_images_late_are_joined(late: int) -> None:
    frames, report, _ = joined(camera(300, late=late, every=75))
    assert [parts.stamp_ns // PERIOD for parts in frames if "detections" in parts.by_role] == [75, 150, 225, 300]
    assert len(frames) == 300
    assert not report.left_out


IMAGES_OF_STAMP_0 = [recorded("image", 0, i, bytes([i])) for i in range(3)]


@pytest.mark.parametrize(
    ("rows", "frames", "lost"),
    [
        ([recorded("detections", 5, 1), recorded("image", 5, 2)], 1, {}),
        ([recorded("image", 5, 1), recorded("detections", 6, 2)], 1, {"detections.unmatched": 1}),
        ([*(recorded("image", i, i) for i in (5, 9, 12)), recorded("detections", 5, 13)], 3, {"detections.late": 1}),
        ([*IMAGES_OF_STAMP_0, recorded("detections", 0, 9)], 0, {"image.unstamped": 3, "detections.unstamped": 1}),
        ([IMAGES_OF_STAMP_0[0], recorded("detections", 0, 1), *IMAGES_OF_STAMP_0[1:]], 1, {"image.unstamped": 2}),  # they came in between
        (
            [IMAGES_OF_STAMP_0[0], recorded("detections", 0, 1), *IMAGES_OF_STAMP_0[1:], recorded("detections", 0, 9)],
            1,
            {"image.unstamped": 2, "detections.unstamped": 1},
        ),
        ([recorded("image", 5, 1), *(recorded("detections", 0, i) for i in (2, 3, 4))], 1, {"detections.unstamped": 3}),
        ([*(recorded("detections", 5, i) for i in (1, 2)), recorded("image", 5, 3)], 1, {"detections.doubled": 1}),
        ([recorded("image", 5, 1), recorded("image", 5, 2), recorded("detections", 5, 3)], 1, {}),  # the same image twice
    ],
)
def test_what_is_lost_is_counted(
    rows: list[tuple[str, BagMessage]], frames: int, lost: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "JOIN_WINDOW", 1)
    monkeypatch.setattr(joining, "JOIN_BYTES", 0)
    found, report, _ = joined(rows, topics=("image", "detections"))
    assert len(found) == frames
    assert {f"{role}.{reason}": count for (role, reason), count in report.left_out.items()} == lost


@pytest.mark.parametrize(
    ("offset", "slop", "words"),
    [
        (0, 20 * MS, []),
        (MS, 20 * MS, ["1.0 ms (median; 99 %: 1.0 ms)"]),
        (25 * MS, 5 * MS, ["/depth is within sync_slop (5 ms)", "8.0 ms off"]),
    ],
)
def test_a_depth_that_is_off_its_images_is_told(offset: int, slop: int, words: list[str]) -> None:
    _, _, joiner = joined(camera(9, lambda i: offset), slop)
    told = list(joiner.unjoined())
    assert len(told) == bool(words)
    for each in words:
        assert each in told[0]


def test_a_clock_that_goes_back_leaves_each_image_its_own_depth() -> None:
    rows = camera(5)
    before = [recorded(role, each.stamp_ns + 100 * 10**9, each.time_ns, each.data[12:]) for role, each in rows]
    frames, report, _ = joined([*before, *rows])
    assert [offset_of(parts) for parts in frames] == [0] * 10
    assert not report.left_out
