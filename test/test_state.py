"""The saved state of a learner: training goes on from it as if it had not ended, or from a newer adapter with its frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_stream import CONFIG, stream

from wesam_ros.adaptation.learner import Learner
from wesam_ros.adaptation.state import resume, save

STREAM = stream(12)


def _learn(learner: Learner, stamps: range) -> None:
    for stamp in stamps:
        learner.observe(*STREAM[stamp])
        learner.step()
        learner.propose()


@pytest.fixture
def saved(sam: Any, tmp_path: Path) -> tuple[Learner, Path]:
    """A learner that has published, and its saved state."""
    learner = Learner(sam, CONFIG, 0)
    _learn(learner, range(4))
    assert learner.adapter.version
    save(learner, tmp_path / "state")
    return learner, tmp_path / "state"


def test_goes_on_as_if_it_had_not_ended(sam: Any, saved: tuple[Learner, Path]) -> None:
    learner, path = saved
    again = Learner(sam, CONFIG, 0, learner.adapter)
    resume(again, path)
    for each in (learner, again):
        _learn(each, range(4, 8))
    assert again.adapter.to_bytes() == learner.adapter.to_bytes()
    assert again.counters == learner.counters


def test_misplaced_frames_are_in_the_state(sam: Any, saved: tuple[Learner, Path]) -> None:
    learner, path = saved
    frame = replace(learner.replay_buffer.frames[0], stamp_ns=77)
    assert [learner.replay_buffer.note_placement("/a", True) for _ in range(3)] == [False, False, True]
    learner.replay_buffer.add(frame, robot="/a", misplaced=True)
    save(learner, path)
    again = Learner(sam, CONFIG, 0, learner.adapter)
    resume(again, path)
    assert [each.stamp_ns for each in again.replay_buffer.misplaced["/a"]] == [77]
    assert [again.replay_buffer.note_placement("/a", True) for _ in range(2)] == [False, True]
    again.replay_buffer.keep_only({""})
    assert not again.replay_buffer.misplaced and not again.replay_buffer.alarms and again.replay_buffer.validation


def test_a_newer_adapter_is_gone_on_from_with_the_frames_of_the_state(sam: Any, saved: tuple[Learner, Path]) -> None:
    learner, path = saved
    newer = replace(learner.adapter, b=learner.adapter.b + 0.01, version=9)
    again = Learner(sam, CONFIG, 0, newer)
    resume(again, path)
    assert again.adapter is newer
    torch.testing.assert_close(again.candidate[1], newer.b)
    assert len(again.replay_buffer) == len(learner.replay_buffer)
    _learn(again, range(4, 6))
    assert again.adapter.version == 10


def test_its_own_adapter_is_gone_on_from_where_that_is_asked_for(sam: Any, saved: tuple[Learner, Path]) -> None:
    learner, path = saved
    again = Learner(sam, CONFIG, 0)
    resume(again, path, own_adapter=True)
    assert again.adapter.to_bytes() == learner.adapter.to_bytes()


def test_a_smaller_buffer_takes_some_of_the_frames(sam: Any, saved: tuple[Learner, Path]) -> None:
    learner, path = saved
    assert len(learner.replay_buffer) == 3
    again = Learner(sam, replace(CONFIG, replay_frames=2), 0, learner.adapter)
    resume(again, path)
    stamps = [each.stamp_ns for each in again.replay_buffer.frames]
    assert len(stamps) == 2 and set(stamps) < {each.stamp_ns for each in learner.replay_buffer.frames}
    _learn(again, range(4, 12))
    assert len(again.replay_buffer) == 2


@pytest.mark.parametrize("damage", ["cut short", "of another seed", "of something else"])
def test_a_state_that_cannot_be_used_is_refused_with_a_sentence(sam: Any, saved: tuple[Learner, Path], damage: str) -> None:
    _, path = saved
    if damage == "cut short":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "of something else":
        torch.save({"format": 1}, path)
    with pytest.raises(ValueError, match="cannot be resumed"):
        resume(Learner(sam, CONFIG, 1 if damage == "of another seed" else 0), path)
