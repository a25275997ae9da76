"""Counters as the parts of a node need them, without ROS; wesam_ros.ros.diagnostics has them on /diagnostics."""

from __future__ import annotations

from typing import Protocol


class Counts(Protocol):
    """Takes counts, problems and durations, from any thread."""

    def count(self, name: str, n: int = 1) -> None:
        """Counts something that is no problem."""

    def problem(self, name: str, sentence: str, n: int = 1, of: str = "") -> None:
        """Counts something that went wrong, with a sentence for the log; `of` tells apart the things that it may go wrong with."""

    def timing(self, name: str, milliseconds: float) -> None:
        """Adds a duration."""
