"""An operator's decision that outlives the process."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("wesam_ros.msg", reason="wesam_ros.ros needs ROS 2")

from wesam_ros.ros.persisted_flag import PAUSED, PersistedFlag


class Problems(list[tuple[str, str]]):
    """In place of diagnostics."""

    def problem(self, name: str, sentence: str, *, of: str) -> None:
        self.append((name, of))


def test_the_next_process_knows_of_it(tmp_path: Path) -> None:
    adapter, problems = tmp_path / "new" / "adapter.safetensors", Problems()
    flag = PersistedFlag(adapter, PAUSED, problems)
    assert not flag.is_set
    for decided in (True, True, False, False):
        flag.keep(decided)
        assert PersistedFlag(adapter, PAUSED, problems).is_set == decided
    assert not problems


def test_without_a_file_nothing_is_kept() -> None:
    flag = PersistedFlag(None, PAUSED, Problems())
    flag.keep(True)
    assert not flag.is_set


def test_a_decision_that_cannot_be_kept_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    problems = Problems()
    flag = PersistedFlag(tmp_path / "file" / "adapter.safetensors", PAUSED, problems)
    flag.keep(True)
    flag.keep(False)
    assert not flag.is_set
    assert problems == [("failed.save", str(flag.path))] * 2
