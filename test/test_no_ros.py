"""Everything outside nodes/ and ros/ works without ROS, and so do those parts of ros/ that only decide."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import wesam_ros

BLOCKED = "rclpy, std_msgs, sensor_msgs, vision_msgs, diagnostic_msgs, rcl_interfaces, rosidl_parser, wesam_ros.msg, wesam_ros.srv"
IMPORT_ALL = """
import importlib, pkgutil, sys

class NoRos:
    def find_spec(self, name, path=None, target=None):
        if any(name == each or name.startswith(each + ".") for each in sys.argv[1].split(", ")):
            raise ModuleNotFoundError(f"{name} is not here", name=name)

sys.meta_path.insert(0, NoRos())
import wesam_ros

# Compiled message support lies beside the modules of an installed package; the simulator and the page are extras.
skipped = ("wesam_ros.nodes", "wesam_ros.ros", "wesam_ros.msg", "wesam_ros.srv", "wesam_ros.wesam_ros_s__", "wesam_ros._wesam_ros_s")
skipped += ("wesam_ros.commands.replay",)  # it plays through the nodes
pure = ("adapter_source", "image_pairing", "input_health", "learning", "persisted_flag", "synchronizer", "transforms")
names = [each.name for each in pkgutil.walk_packages(wesam_ros.__path__, "wesam_ros.", onerror=lambda name: None)]
for name in names:
    if not name.startswith(skipped) or name in [f"wesam_ros.ros.{each}" for each in pure]:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name not in ("mujoco", "nicegui"):
                raise
        print(name)
assert "rclpy" not in sys.modules
assert "torchvision" not in sys.modules, "it takes two seconds to import; segment_anything's own modules do without it"
"""


def test_everything_outside_nodes_imports_without_ros(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, BLOCKED], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    for part in ("ros.learning", "data.synchronizer", "sam", "adaptation", "methods", "engines", "data", "evaluation", "cli", "options"):
        assert f"wesam_ros.{part}" in imported
    source = Path(wesam_ros.__file__).parent
    modules = {path for path in source.rglob("*.py") if path.relative_to(source).parts[0] not in ("nodes", "ros", "msg", "srv")}
    without_ros = {each for each in imported if not each.startswith("wesam_ros.ros.")}
    assert len(without_ros) + 2 >= len(modules)  # none was passed over; two are the package itself and commands/replay.py
