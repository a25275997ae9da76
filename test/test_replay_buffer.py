"""Which frames the memory keeps, and which it holds back to judge by."""

from __future__ import annotations

from typing import Any

import numpy as np

from wesam_ros.adaptation.replay_buffer import ReplayBuffer


def test_memory_keeps_a_sample_of_the_whole_stream_and_holds_frames_back() -> None:
    memory = ReplayBuffer(capacity=10, validation_every=5, rng=np.random.default_rng(0))
    marks: list[Any] = list(range(1000))
    learnt_from = [mark for mark in marks if memory.add(mark)]
    assert len(learnt_from) == 800 and len(memory) == 10
    kept: list[Any] = list(memory.frames)
    assert not set(kept) & set(memory.validation[""])
    assert min(kept) < 500 < max(kept)
    assert memory.draw(recent=1.0) == 998


def test_frames_of_each_source_are_held_back_where_they_take_turns() -> None:
    memory = ReplayBuffer(capacity=100, validation_every=4, rng=np.random.default_rng(0), validation_frames=6)
    marks: list[Any] = [(turn, robot) for turn in range(12) for robot in ("a", "b")]
    for mark in marks:
        memory.add(mark, source=f"{mark[1]}/detections", robot=mark[1])
    for _ in range(40):  # "a" goes on alone: what was held back of "b" stays
        memory.add(marks[0], source="a/detections", robot="a")
    held: dict[str, list[Any]] = {robot: list(each) for robot, each in memory.validation.items()}
    assert held == {"a": [marks[0]] * 6, "b": [(turn, "b") for turn in (3, 7, 11)]}


def test_a_frame_with_nothing_to_judge_by_leaves_its_turn_to_the_next() -> None:
    memory = ReplayBuffer(capacity=100, validation_every=3, rng=np.random.default_rng(0))
    places: list[Any] = list(range(9))
    learnt = [memory.add(each, may_judge=each not in (2, 3)) for each in places]
    assert [each for each, learnable in zip(places, learnt, strict=True) if not learnable] == [4, 7]
    assert list(memory.validation[""]) == [4, 7]


def test_a_false_alarm_holds_no_frame_back_and_right_ones_end_it() -> None:
    memory = ReplayBuffer(capacity=10, validation_every=5, rng=np.random.default_rng(0), validation_frames=2)
    assert not any(memory.note_placement("/a", each) for each in (True, True, False, True, False, False, True, True))
    frame: Any = object()
    assert memory.note_placement("/a", True)
    for _ in range(3):
        memory.hold_misplaced(frame, "/a")
    assert list(memory.misplaced["/a"]) == [frame] * 2
    assert [memory.note_placement("/a", each) for each in (False, True, True, False)] == [False, False, True, False]
    assert not memory.note_placement("/b", False)
    assert memory.misplaced
    memory.note_placement("/a", False)
    memory.note_placement("/a", False)
    assert not memory.misplaced and not memory.note_placement("/a", True)


def test_misplaced_frames_age_where_depth_no_longer_tells() -> None:
    """Each frame that is held back since takes one away; of another robot, none."""
    memory = ReplayBuffer(capacity=10, validation_every=2, rng=np.random.default_rng(0), validation_frames=2)
    frame: Any = object()
    for _ in range(3):
        memory.note_placement("/a", True)
    for _ in range(2):
        memory.hold_misplaced(frame, "/a")
    left = []
    for robot in ("/b", "/b", "/a", "/a", "/a", "/a"):
        memory.add(frame, robot, robot)
        left.append(len(memory.misplaced.get("/a", ())))
    assert left == [2, 2, 2, 1, 1, 0]
    assert not memory.note_placement("/a", True)


def test_no_more_frames_are_held_back_than_judge() -> None:
    memory = ReplayBuffer(capacity=100, validation_every=2, rng=np.random.default_rng(0), validation_frames=10)
    marks: list[Any] = list(range(40))
    for mark in marks:
        memory.add(mark)
    assert len(memory.validation[""]) == 10
    memory.validation_frames = 3
    for mark in marks[:2]:
        memory.add(mark)
    assert len(memory.validation[""]) == 3
