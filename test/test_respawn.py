"""The nodes that adapt.launch.py starts again. Skipped where launch_ros is missing: it has no wheels."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

launch = pytest.importorskip("launch", reason="the package launch is missing: it comes with a ROS 2 install, not with the wheels")
pytest.importorskip("launch_ros", reason="the package launch_ros is missing: it comes with a ROS 2 install, not with the wheels")

from launch.actions import ExecuteProcess, Shutdown, TimerAction  # noqa: E402


@pytest.mark.parametrize(("status", "often"), [(2, False), (1, True)])
def test_a_node_that_cannot_be_configured_is_not_started_again(tmp_path: Path, status: int, often: bool) -> None:
    spec = importlib.util.spec_from_file_location("adapt_launch", Path(__file__).parent.parent / "launch" / "adapt.launch.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    starts = tmp_path / "starts"
    command = ["sh", "-c", f"echo x >> {starts}; exit {status}"]
    node = ExecuteProcess(cmd=command, respawn=True, respawn_delay=module.RESPAWN_DELAY, on_exit=module.stay_down)
    other = ExecuteProcess(cmd=["sleep", "100"])
    service = launch.LaunchService(noninteractive=True)
    service.include_launch_description(launch.LaunchDescription([node, other, TimerAction(period=4.0, actions=[Shutdown()])]))
    service.run()
    assert (len(starts.read_text().splitlines()) > 1) == often
