"""Keeps the tests' ROS graph apart from others, and makes sure that the ROS tests run where they are asked for.

A ROS test module skips itself where ROS is missing: `pytest.importorskip("wesam_ros.msg")`. `make test` sets
WESAM_REQUIRE_ROS=1, and then a missing module is an error, not a skip.
"""

from __future__ import annotations

import importlib
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

FIRST_PORT, PORTS_PER_DOMAIN, METATRAFFIC = 7400, 250, 10
"""Where DDS participants listen (RTPS specification, 9.6.1.1): the first one of a domain on a machine, for discovery."""
DOMAINS = 100
"""Ids from 1 to this are safe on every system."""


def free_domain() -> int:
    """A ROS_DOMAIN_ID that nobody on this machine uses. Test runs side by side start looking in different places."""
    for n in range(DOMAINS):
        domain = 1 + (os.getpid() + n) % DOMAINS
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", FIRST_PORT + PORTS_PER_DOMAIN * domain + METATRAFFIC))
            except OSError:
                continue
            return domain
    raise pytest.UsageError("every ROS domain from 1 to 100 is in use on this machine: end the ROS processes that are left")


# Read by the middleware when a test, or a node that it starts, joins the graph.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_DOMAIN_ID"] = str(free_domain())
# Whatever has been exported on this machine: in the tests, engines find only what a test exports.
os.environ["WESAM_CACHE"] = str(Path(tempfile.gettempdir()) / f"wesam-tests-{os.getpid()}")


def pytest_configure() -> None:
    if os.environ.get("WESAM_REQUIRE_ROS") != "1":
        return
    for name in ("rclpy", "vision_msgs.msg", "wesam_ros.msg"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise pytest.UsageError(f"the ROS tests cannot run ({error}): build with `make setup`, then `source scripts/env.sh`") from error


@pytest.fixture(scope="session")
def random_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of `tiny` with random weights, for what must hold for any weights."""
    from wesam_ros.sam.architectures import build_tiny

    torch.manual_seed(0)
    sam = build_tiny()
    for parameter in sam.parameters():  # the position tables start at zero, which would hide mistakes in their use
        torch.nn.init.normal_(parameter, std=0.05)
    path = tmp_path_factory.mktemp("weights") / "random_tiny.safetensors"
    save_file(sam.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def sam(random_tiny: Path) -> Any:
    """`tiny` with random weights, loaded as any checkpoint is. Tests leave it as they found it."""
    from wesam_ros.sam import load_sam

    return load_sam("tiny", random_tiny)
