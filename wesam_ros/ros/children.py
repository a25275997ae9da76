"""Nodes in processes of their own, started and stopped by another program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

STOP_SECONDS = 20.0
"""A node that does not end within so many seconds of SIGINT is killed."""
LOG_LINES = 15

EARLIEST_DOMAIN, DOMAINS = 1, 100
"""Domain ids that are safe on every system (ROS 2 documentation, The ROS_DOMAIN_ID)."""


def enter_local_graph(domain: int | None = None) -> None:
    """A graph of its own on this machine, unless the environment or `domain` says otherwise; nodes that are started inherit it."""
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if domain is not None:
        os.environ["ROS_DOMAIN_ID"] = str(domain)
    os.environ.setdefault("ROS_DOMAIN_ID", str(EARLIEST_DOMAIN + os.getpid() % DOMAINS))


def set_up_by(profile: Path) -> dict[str, str]:
    """Environment of processes whose Fast DDS is set up by a profile, such as config/loopback.xml; Jazzy's variable is another."""
    variable = "FASTRTPS_DEFAULT_PROFILES_FILE" if os.environ.get("ROS_DISTRO") == "jazzy" else "FASTDDS_DEFAULT_PROFILES_FILE"
    return {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT", variable: str(profile)}


class ChildError(RuntimeError):
    """A node's process ended by itself; the message holds the end of its log."""


class NodeProcess:
    """One node of this package in its own process; what it prints goes to a log file.

    Args:
        name: of the module in wesam_ros.nodes.
        parameters: ROS parameters.
        log: file for what it prints; the process runs in its folder, never in the source tree, which would hide the installed package.
        environment: variables beside this process's own.
        remappings: of names: topics, and __ns for the namespace.
    """

    def __init__(
        self,
        name: str,
        parameters: Mapping[str, Any],
        log: Path,
        environment: Mapping[str, str],
        remappings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.name = name
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", f"wesam_ros.nodes.{name}", "--ros-args"]
        for key, value in parameters.items():
            command += ["-p", f"{key}:={_text(value)}"]
        for old, new in remappings.items():
            command += ["-r", f"{old}:={new}"]
        with log.open("wb") as file:
            # A session of its own: Ctrl-C in the terminal reaches only this process, which then stops the nodes in order.
            self.process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, cwd=log.parent, env={**os.environ, **environment}, start_new_session=True
            )

    def check(self) -> None:
        """Raises ChildError if the process has ended."""
        status = self.process.poll()
        if status is not None:
            raise ChildError(f"the {self.name} node ended with status {status}; the end of {self._log}:\n{self.log_end()}")

    def log_end(self) -> str:
        """The last lines that the node printed."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-LOG_LINES:])

    def stop(self) -> None:
        """Asks the node to end, and kills it if it does not."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def _text(value: Any) -> str:
    """A parameter's value in YAML, as `-p name:=value` takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        return "'" + str(value).replace("'", "''") + "'"
    return repr(value)
