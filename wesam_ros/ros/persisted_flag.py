"""An operator's decision that outlives the process."""

from __future__ import annotations

import os
from pathlib import Path

from wesam_ros.counts import Counts

PAUSED, USE_FROZEN = ".paused", ".use_frozen"
"""Endings of the flags' names, after that of the adapter file that they lie beside."""


class PersistedFlag:
    """An empty file that is there or not, so that it is never half written.

    Args:
        beside: the adapter file; None keeps nothing.
        ending: of the flag's name, PAUSED or USE_FROZEN.
        diagnostics: counts "failed.save" where the file cannot be written or removed; the decision is obeyed all the same.
    """

    def __init__(self, beside: Path | None, ending: str, diagnostics: Counts) -> None:
        self.path = beside.with_name(beside.name + ending) if beside is not None else None
        self._diagnostics = diagnostics

    @property
    def is_set(self) -> bool:
        """True where it was set when the last process ended, however it did."""
        return self.path is not None and os.access(self.path, os.F_OK)

    def keep(self, decided: bool) -> None:
        """Has the next process know of a decision."""
        if self.path is None:
            return
        try:
            if decided:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.touch()
            else:
                self.path.unlink(missing_ok=True)
        except OSError as error:
            done = "written" if decided else "removed"
            self._diagnostics.problem(
                "failed.save",
                f"{self.path} cannot be {done} ({error.strerror or error}); a restarted node will not know of the decision",
                of=str(self.path),
            )
