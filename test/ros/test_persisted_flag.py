"""An operator's decision that outlives the process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("wesam_ros.msg", reason="wesam_ros.ros needs ROS 2")

from wesam_ros.ros.persisted_flag import PAUSED, PersistedFlag


def test_the_next_process_knows_of_it(tmp_path: Path, counts: Any) -> None:
    adapter = tmp_path / "new" / "adapter.safetensors"
    flag = PersistedFlag(adapter, PAUSED, counts)
    assert not flag.is_set
    for decided in (True, True, False, False):
        flag.keep(decided)
        assert PersistedFlag(adapter, PAUSED, counts).is_set == decided
    assert not counts


def test_without_a_file_nothing_is_kept(counts: Any) -> None:
    flag = PersistedFlag(None, PAUSED, counts)
    flag.keep(True)
    assert not flag.is_set


def test_a_decision_that_cannot_be_kept_is_told(tmp_path: Path, counts: Any) -> None:
    (tmp_path / "file").touch()
    flag = PersistedFlag(tmp_path / "file" / "adapter.safetensors", PAUSED, counts)
    flag.keep(True)
    flag.keep(False)
    assert not flag.is_set
    assert counts["failed.save"] == 2
