"""The machine: its name, which figures carry, its cores, and processes that share work on it."""

from __future__ import annotations

import multiprocessing
import os
import platform
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait
from pathlib import Path


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def processor() -> str:
    """The processor's name and how many of its cores this process may use."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {cores()} cores"


def worker_pool(count: int) -> ProcessPoolExecutor:
    """A pool of fresh processes that end with this one, even if it is killed: else they would compute on for nobody."""
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _end_with_parent)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
