"""Counts and measurements of a node, on /diagnostics once a second and in the log once a minute; no more is said if all is well."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.utilities import get_rmw_implementation_identifier

import wesam_ros

WINDOW = 500
"""Latencies are over so many newest values."""
RATE_SECONDS = 10.0
"""Rates are over so many seconds, and so long a problem keeps the status at WARN."""
LOG_SECONDS = 60.0
REPEAT_SECONDS = 10.0
"""Seconds between two lines of the log on the same problem; it is counted each time."""


class Diagnostics:
    """Counts, rates and latencies of one node. Safe to use from any thread.

    Counter names say what happened and where: received.<input>, rejected.<input>.<reason>, unmatched.<input>, late.<input>,
    missing.<input>, unused.<input>, jumped.<input>, merged.<input>, foreign.<input>, dropped.<input>, failed.<what>, restored.<why>,
    incompatible_qos.

    Args:
        node: the owner of the publisher.
        values: called once a second for the values of the node's parts (name to text), such as the adapter's version; an "error" among
            them makes the status an error, and a "warning" a warning, of whose lines each is logged when it begins, once a minute, and when
            it ends.
    """

    def __init__(self, node: Node, values: Callable[[], Sequence[Mapping[str, str]]]) -> None:
        self._node = node
        self._values = values
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._timings: dict[str, deque[float]] = {}
        self._history: deque[tuple[float, Counter[str]]] = deque([(time.monotonic(), Counter())], maxlen=int(RATE_SECONDS) + 1)
        self._warnings: dict[str, float] = {}
        self._last_problem = -RATE_SECONDS
        self._problem = ""
        self._logged: dict[tuple[str, str], tuple[float, int]] = {}
        self._last_log = time.monotonic()
        self._versions = _versions()
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # In real time, so that it also reports where nobody publishes the /clock that use_sim_time waits for.
        self._timer = node.create_timer(1.0, self._publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def count(self, name: str, n: int = 1) -> None:
        """Counts something that is no problem."""
        with self._lock:
            self._counts[name] += n

    def problem(self, name: str, sentence: str, n: int = 1, of: str = "") -> None:
        """Counts something that went wrong `n` times, logs `sentence` (what, which value, what to do), and sets WARN for a while.

        The same is logged at most every REPEAT_SECONDS, but once for each thing that it may be `of`, such as a topic or a file.
        """
        now = time.monotonic()
        with self._lock:
            self._counts[name] += n
            self._last_problem, self._problem = now, f"{name}: {sentence}"
            logged, unlogged = self._logged.get((name, of), (-REPEAT_SECONDS, 0))
            if now - logged < REPEAT_SECONDS:
                self._logged[name, of] = (logged, unlogged + n)
                return
            self._logged[name, of] = (now, 0)
        again = f" (and {unlogged} more since the last such message)" if unlogged else ""
        self._node.get_logger().warning(f"{name}: {sentence}{again}")

    def timing(self, name: str, milliseconds: float) -> None:
        """Adds a duration to the window of `name`."""
        with self._lock:
            self._timings.setdefault(name, deque(maxlen=WINDOW)).append(milliseconds)

    def frame_done(self) -> None:
        """Counts a frame that went all the way, for the rate."""
        with self._lock:
            self._counts["frames"] += 1

    def counters(self) -> dict[str, int]:
        """All counts so far."""
        with self._lock:
            return dict(self._counts)

    def _publish(self) -> None:
        now = time.monotonic()
        state = combined(self._values())
        error, warnings = state.pop("error", ""), state.pop("warning").splitlines()
        self._log_changes(warnings)
        with self._lock:
            counts = dict(sorted(self._counts.items()))
            windows = {name: np.array(window) for name, window in self._timings.items()}
            rates = self._rates(now)
            recent = now - self._last_problem < RATE_SECONDS
            problem = self._problem
        values = {**state, **rates, **_process_values()}
        for name, window in windows.items():
            values[f"{name}_p50"], values[f"{name}_p99"] = (f"{np.percentile(window, q):.2f}" for q in (50, 99))
        status = DiagnosticStatus(
            name=self._node.get_fully_qualified_name(), hardware_id="wesam_ros", level=DiagnosticStatus.OK, message="ok"
        )
        if error:
            status.level, status.message = DiagnosticStatus.ERROR, error
        elif recent or warnings:
            status.level, status.message = DiagnosticStatus.WARN, problem if recent else "; ".join(warnings)
        texts = {**values, **{name: str(n) for name, n in counts.items()}, **self._versions}
        status.values = [KeyValue(key=key, value=text) for key, text in texts.items()]
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)
        if counts.get("frames") and now - self._last_log >= LOG_SECONDS:
            self._last_log = now
            self._node.get_logger().info(", ".join(f"{key} {text}" for key, text in {**values, "frames": counts["frames"]}.items()))

    def _rates(self, now: float) -> dict[str, str]:
        """Per second, over the last RATE_SECONDS: frames that went all the way, and messages received."""
        before, old = self._history[0]
        self._history.append((now, self._counts.copy()))
        per_second = {name: (self._counts[name] - old[name]) / (now - before) for name in self._counts}
        received = {f"rate_hz.{name[9:]}": f"{rate:.1f}" for name, rate in sorted(per_second.items()) if name.startswith("received.")}
        return {"rate_hz": f"{per_second.get('frames', 0.0):.1f}", **received}

    def _log_changes(self, warnings: list[str]) -> None:
        now, before = time.monotonic(), self._warnings
        self._warnings = {each: before.get(each, -LOG_SECONDS) for each in warnings}
        for each, logged in self._warnings.items():
            if now - logged >= LOG_SECONDS:
                self._warnings[each] = now
                self._node.get_logger().warning(each if each not in before else f"still: {each}")
        for each in before:
            if each not in self._warnings:
                self._node.get_logger().info(f"no more: {each}")


def combined(parts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The values of several parts together; "warning" has the lines of all."""
    warnings = [each["warning"].rstrip("\n") for each in parts if each.get("warning")]
    return {**{name: text for each in parts for name, text in each.items()}, "warning": "\n".join(warnings)}


def _process_values() -> dict[str, str]:
    """This process's memory in RAM in MiB, threads and open files, as far as the system tells (Linux)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        threads, files = (sum(1 for _ in Path("/proc/self", each).iterdir()) for each in ("task", "fd"))
    except OSError:
        return {}
    return {"memory_mib": f"{pages * os.sysconf('SC_PAGE_SIZE') / 2**20:.0f}", "threads": str(threads), "open_files": str(files)}


def _versions() -> dict[str, str]:
    """Versions of what the results depend on."""
    versions = {"version.wesam_ros": wesam_ros.__version__, "version.rmw": get_rmw_implementation_identifier()}
    if "ROS_DISTRO" in os.environ:
        versions["version.ros"] = os.environ["ROS_DISTRO"]
    for package in ("torch", "numpy", "segment-anything", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt"):
        try:
            versions[f"version.{package}"] = version(package)
        except PackageNotFoundError:
            continue
    return versions
