"""Keeps the tests' ROS graph apart from others, and makes sure that the ROS tests run where they are asked for.

A ROS test module skips itself where ROS is missing: `pytest.importorskip("wesam_ros.msg")`. `make test` sets
WESAM_REQUIRE_ROS=1, and then a missing module is an error, not a skip.
"""

from __future__ import annotations

import importlib
import os

import pytest

# Read by the middleware when a test, or a node that it starts, joins the graph. Test runs side by side on one machine
# must not meet: the process id gives each one a domain among those that are free on every system.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)


def pytest_configure() -> None:
    if os.environ.get("WESAM_REQUIRE_ROS") != "1":
        return
    for name in ("rclpy", "vision_msgs.msg", "wesam_ros.msg"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise pytest.UsageError(f"the ROS tests cannot run ({error}): build with `make setup`, then `source scripts/env.sh`") from error
