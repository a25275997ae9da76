"""Messages of one kind by their stamps: the exact one, the nearest one, and whether a nearer one may still come. Pure Python."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

JUMP_NS = 10**9
"""Stamps of one kind that go back by more than this mean that the clock did, as where a recording starts again."""
SLOP_SECONDS = 0.02
"""Default of sync_slop: two sensors of one camera stamp up to 16 ms apart, and the next frame of a 30 Hz camera is 33 ms away."""


def nanoseconds(seconds: float) -> int:
    """A duration in whole nanoseconds."""
    return round(seconds * 1e9)


def nearest(stamps: Iterable[int], stamp: int) -> int | None:
    """The nearest of some stamps, of two as near the earlier one; None of none."""
    return min(stamps, key=lambda each: (abs(each - stamp), each), default=None)


class Runs:
    """Counts the runs of a stream: a new one begins where its stamps go back, as where a simulation was started anew."""

    def __init__(self) -> None:
        self._run, self._last = 0, -(2**63)

    def of(self, stamp: int) -> int:
        """The run, from 0, of the next stamp of the stream."""
        self._run += stamp < self._last - JUMP_NS
        self._last = stamp
        return self._run


class StampRing:
    """The last messages of one kind, by stamp in nanoseconds.

    Args:
        slop: nanoseconds that a message may be off the stamp that it is asked for; 0 = none.

    Attributes:
        messages: by stamp, in the order in which they came.
        newest: the stamp that came last, or that is known to have passed; None before.
    """

    def __init__(self, slop: int = 0) -> None:
        self.messages: OrderedDict[int, Any] = OrderedDict()
        self.newest: int | None = None
        self._slop = slop

    def add(self, stamp: int, message: Any) -> None:
        """Takes a message."""
        self.messages[stamp] = message
        self.messages.move_to_end(stamp)
        self.newest = stamp

    def passed(self, stamp: int) -> None:
        """Notes that nothing with this stamp, or an earlier one, is still to come."""
        self.newest = stamp

    def goes_back(self, stamp: int) -> bool:
        """True for a stamp so much earlier than the last one that the clock went back."""
        return self.newest is not None and stamp < self.newest - JUMP_NS

    def forget_after(self, stamp: int) -> list[int]:
        """Forgets the messages later than `stamp`; returns their stamps."""
        later = [each for each in self.messages if each > stamp]
        for each in later:
            del self.messages[each]
        return later

    def match(self, stamp: int) -> int | None:
        """The stamp of the message for a stamp: its own, else the nearest within the slop, else None."""
        if stamp in self.messages:
            return stamp
        found = nearest(self.messages, stamp) if self._slop else None
        return found if found is not None and abs(found - stamp) <= self._slop else None

    def is_settled(self, stamp: int) -> bool:
        """True where the match of a stamp is final: it is exact, or stamps have got as far."""
        return stamp in self.messages or (self.newest is not None and self.newest >= stamp)

    def is_likely_settled(self, stamp: int) -> bool:
        """True also where the next message, in no shorter a time than between any two so far, will be no nearer than the match.

        Without it, a depth that is stamped before its image would have the frame wait for the depth of the next image.
        """
        if self.is_settled(stamp):
            return True
        found = self.match(stamp)
        shortest = min((b - a for a, b in pairwise(sorted(self.messages))), default=0)
        return found is not None and shortest >= 2 * (stamp - found)

    def prune(self, length: int, oldest: int | None) -> None:
        """Keeps `length` messages, and of more those that an image from the stamp `oldest` on may still want; None wants no more."""
        while len(self.messages) > length:
            first = next(iter(self.messages))
            if oldest is not None and first >= oldest - self._slop:
                return
            del self.messages[first]
