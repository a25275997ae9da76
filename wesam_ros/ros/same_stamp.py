"""Requests of one kind and stamp, such as those of two detectors on one topic: merged, and never lost without being counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakValueDictionary

from wesam_ros.data.messages import merged_requests
from wesam_ros.data.synchronizer import SynchronizedFrame

MOST = 32
"""Requests of one stamp that are merged: more are no detectors, but one that does not set its stamps."""


@dataclass(eq=False)
class _Waiting:
    """A request that waits for its frame; it is gone when nobody waits with it any more."""

    message: Any
    count: int = 1


class SameStamp:
    """Merges requests of one kind and stamp until their frame is complete.

    A synchronizer keeps one request of a kind and stamp. What `wrapped` gives stands for it there, and `complete` takes it out again.

    Args:
        count: called with "merged.<kind>" or "dropped.<kind>" for each request that was merged, or that took the place of another.
    """

    def __init__(self, count: Callable[[str], None]) -> None:
        self._count = count
        self._waiting: WeakValueDictionary[tuple[str, int], _Waiting] = WeakValueDictionary()

    def wrapped(self, kind: str, stamp: int, message: Any) -> Any:
        """A stand-in for a request, to be synchronised; None where it was merged into one that waits. Stamps of 0 tell nothing, so requests
        with them replace each other."""
        waiting = self._waiting.get((kind, stamp))
        if waiting is not None and stamp and waiting.count < MOST:
            waiting.message = merged_requests(waiting.message, message)
            waiting.count += 1
            self._count(f"merged.{kind}")
            return None
        if waiting is not None:
            self._count(f"dropped.{kind}")
        waiting = self._waiting[kind, stamp] = _Waiting(message)
        return waiting

    def complete(self, frame: SynchronizedFrame) -> SynchronizedFrame:
        """The frame with its request as a message; later ones of its stamp are requests of their own."""
        waiting: _Waiting = frame.request
        if self._waiting.get((frame.source, frame.stamp)) is waiting:
            del self._waiting[frame.source, frame.stamp]
        return replace(frame, request=waiting.message)


def merged_frames(waiting: SynchronizedFrame, frame: SynchronizedFrame) -> SynchronizedFrame | None:
    """One frame with the requests of two; None where they are of different moments."""
    if waiting.stamp != frame.stamp or not frame.stamp or type(waiting.request) is not type(frame.request):
        return None
    return replace(frame, request=merged_requests(waiting.request, frame.request))
