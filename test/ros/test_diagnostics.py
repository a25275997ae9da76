"""Warnings that begin and end, and the values of several parts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("wesam_ros.msg", reason="wesam_ros.nodes needs ROS 2")

from wesam_ros.ros.diagnostics import Diagnostics, combined


def test_each_warning_is_logged_when_it_begins_and_when_it_ends() -> None:
    logged: list[str] = []
    log = SimpleNamespace(warning=logged.append, info=logged.append)
    diagnostics: Any = SimpleNamespace(_warnings=[], _node=SimpleNamespace(get_logger=lambda: log))
    for warnings in ([], ["no image"], ["no image", "no adapter node"], ["no adapter node"], ["no adapter node"], []):
        Diagnostics._log_changes(diagnostics, warnings)
    assert logged == ["no image", "no adapter node", "no more: no image", "no more: no adapter node"]


def test_the_warnings_of_all_parts_are_kept() -> None:
    parts = [{"warning": "no image\n", "state": "active"}, {"warning": ""}, {"warning": "no adapter node", "model": "tiny"}]
    assert combined(parts) == {"state": "active", "model": "tiny", "warning": "no image\nno adapter node"}
