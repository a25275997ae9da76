"""The name of the machine that figures were measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def processor() -> str:
    """The processor's name and how many of its cores this process may use."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {cores()} cores"
