"""Frames that the replay buffer keeps to learn from, and for validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from wesam_ros.adaptation.replay_buffer import ReplayBuffer


@dataclass(frozen=True)
class Mark:
    """In place of a frame."""

    number: int
    scorable: bool = True


def marks(count: int) -> list[Any]:
    return [Mark(number) for number in range(count)]


def numbers(frames: Any) -> list[int]:
    return [each.number for each in frames]


def make_buffer(capacity: int = 100, validation_every: int = 3, **settings: int) -> ReplayBuffer:
    return ReplayBuffer(capacity, validation_every, np.random.default_rng(0), **settings)


def test_keeps_a_sample_of_the_whole_stream_and_leaves_validation_frames_out() -> None:
    buffer = make_buffer(capacity=10, validation_every=5)
    learnt_from = [mark for mark in marks(1000) if buffer.add(mark)]
    assert len(learnt_from) == 800 and len(buffer) == 10
    kept = numbers(buffer.frames)
    assert not set(kept) & set(numbers(buffer.validation[""]))
    assert min(kept) < 500 < max(kept)
    newest: Any = buffer.draw(recent=1.0)
    assert newest.number == 998


def test_each_source_has_validation_frames_where_several_take_turns() -> None:
    buffer = make_buffer(validation_every=4, validation_frames=6)
    for mark in marks(12):
        for robot in ("a", "b"):
            buffer.add(mark, source=f"{robot}/detections", robot=robot)
    (mark,) = marks(1)
    for _ in range(40):  # "a" goes on alone: the validation frames of "b" stay
        buffer.add(mark, source="a/detections", robot="a")
    assert {robot: numbers(each) for robot, each in buffer.validation.items()} == {"a": [0] * 6, "b": [3, 7, 11]}


def test_a_frame_that_cannot_be_scored_leaves_its_turn_to_the_next() -> None:
    buffer = make_buffer()
    frames: list[Any] = [Mark(number, scorable=number not in (2, 3)) for number in range(9)]
    assert [each.number for each in frames if not buffer.add(each)] == [4, 7]
    assert numbers(buffer.validation[""]) == [4, 7]


def test_a_false_alarm_keeps_no_misplaced_frame_and_right_ones_end_it() -> None:
    buffer = make_buffer(capacity=10, validation_every=5, validation_frames=2)
    assert not any(buffer.note_placement("/a", each) for each in (True, True, False, True, False, False, True, True))
    (frame,) = marks(1)
    assert buffer.note_placement("/a", True)
    assert not any(buffer.add(frame, robot="/a", misplaced=True) for _ in range(3))
    assert list(buffer.misplaced["/a"]) == [frame] * 2
    assert [buffer.note_placement("/a", each) for each in (False, True, True, False)] == [False, False, True, False]
    assert not buffer.note_placement("/b", False)
    assert buffer.misplaced
    buffer.note_placement("/a", False)
    buffer.note_placement("/a", False)
    assert not buffer.misplaced and not buffer.note_placement("/a", True)


def test_misplaced_frames_age_where_depth_no_longer_tells() -> None:
    """Each validation frame since takes one away; of another robot, none."""
    buffer = make_buffer(capacity=10, validation_every=2, validation_frames=2)
    (frame,) = marks(1)
    for _ in range(3):
        buffer.note_placement("/a", True)
    for _ in range(2):
        buffer.add(frame, robot="/a", misplaced=True)
    left = []
    for robot in ("/b", "/b", "/a", "/a", "/a", "/a"):
        buffer.add(frame, robot, robot)
        left.append(len(buffer.misplaced.get("/a", ())))
    assert left == [2, 2, 2, 1, 1, 0]
    assert not buffer.note_placement("/a", True)


def test_no_more_validation_frames_are_kept_than_asked_for() -> None:
    buffer = make_buffer(validation_every=2, validation_frames=10)
    for mark in marks(40):
        buffer.add(mark)
    assert len(buffer.validation[""]) == 10
    buffer.validation_frames = 3
    for mark in marks(2):
        buffer.add(mark)
    assert len(buffer.validation[""]) == 3


def test_the_newest_validation_frames_of_each_robot_misplaced_ones_apart() -> None:
    buffer = make_buffer(validation_every=2, validation_frames=3)
    for mark in marks(6):
        buffer.add(mark, robot="")
    for mark in marks(3):
        buffer.add(mark, robot="/b", misplaced=True)
    found = {robot: numbers(each) for robot, each in buffer.validation_by_robot(2).items()}
    assert found == {"/": [3, 5], "/b with misplaced boxes": [1, 2]}
