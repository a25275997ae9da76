"""Synchronises the messages of one moment by their exact stamp, from short ring buffers. Pure Python; one thread."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SENSORS = ("image", "depth", "camera_info")
REQUESTS = ("detections", "prompts")
"""The kinds of message that ask for the image of their stamp to be segmented."""

IMAGE_WAIT = 4.0
"""Seconds that a request waits for its image: Fast DDS sends a lost piece of a large image again only after 3 s (its heartbeat period)."""
JUMP_NS = 10**9
"""Stamps of one kind that go back by more than this mean that the clock did, as where a recording starts again."""


@dataclass(frozen=True)
class SynchronizedFrame:
    """The messages of one stamp, as they came.

    Attributes:
        stamp: nanoseconds, of the image and of all that belongs to it.
        source: "detections" or "prompts", the kind of `request`.
        request: the message with the prompts.
        image: the image message.
        depth: the depth message; None where there was none in time.
        camera_info: the camera_info of this stamp, else the newest one there was before (intrinsics seldom change), else None.
        arrived: monotonic seconds at which the frame was complete.
    """

    stamp: int
    source: str
    request: Any
    image: Any
    depth: Any
    camera_info: Any
    arrived: float


class Synchronizer:
    """Puts each request together with the image of its stamp, and with that image's depth and camera_info where these are expected.

    A request may arrive before its image, or up to `length` images after it. Requests whose image does not come within IMAGE_WAIT are
    given up and counted: "late.<kind>" where the image has been and gone, else "unmatched.<kind>". A frame whose depth or
    camera_info is expected waits for them (see `expire`), unless a later one has already arrived, and then goes without ("missing.<kind>").
    Where the stamps of images go back ("jumped.image"), what is later belongs to the time before and is forgotten (requests as
    "jumped.<kind>").

    Args:
        length: messages kept of each kind.
        complete: called with each frame that is complete, oldest first.
        count: called with the name of what is to be counted.
    """

    def __init__(self, length: int, complete: Callable[[SynchronizedFrame], None], count: Callable[[str], None]) -> None:
        self._length = length
        self._complete = complete
        self._count = count
        self._rings: dict[str, OrderedDict[int, Any]] = {kind: OrderedDict() for kind in SENSORS}
        self._waiting: OrderedDict[tuple[str, int], tuple[Any, float]] = OrderedDict()
        self._last: dict[str, int] = {}
        self._used: set[int] = set()

    def add(self, kind: str, stamp: int, message: Any, now: float, expected: frozenset[str]) -> None:
        """Takes a message of a kind in SENSORS or REQUESTS, and hands on the frames that are complete with it.

        Args:
            kind: of the message.
            stamp: its header's stamp, nanoseconds.
            message: the message.
            now: monotonic seconds.
            expected: those of "depth" and "camera_info" that a frame waits for.
        """
        if kind in REQUESTS:
            self._waiting[kind, stamp] = (message, now)
            if len(self._waiting) > self._length:
                self._give_up(*self._waiting.popitem(last=False)[0])
        else:
            ring = self._rings[kind]
            if stamp < self._last.get(kind, stamp) - JUMP_NS:
                self._went_back(kind, stamp)
            ring[stamp] = message
            ring.move_to_end(stamp)
            self._last[kind] = stamp
            if len(ring) > self._length:
                evicted, _ = ring.popitem(last=False)
                if kind == "image":
                    self._forget(evicted)
        candidates = [key for key in self._waiting if key[1] <= stamp]  # an older one as well: this message may end its wait for a lost one
        for key in [each for each in candidates if self._is_complete(each[1], expected)]:
            self._hand_on(key, now, expected)

    def expire(self, now: float, wait: float, expected: frozenset[str]) -> None:
        """Hands on the frames that have waited for `wait` seconds, without their depth or camera_info, and gives up requests whose image
        does not come. Call it regularly."""
        for key, (_, since) in list(self._waiting.items()):
            if key[1] in self._rings["image"]:
                if now - since >= wait:
                    self._hand_on(key, now, expected)
            elif now - since >= max(wait, IMAGE_WAIT):
                del self._waiting[key]
                self._give_up(*key)

    def _is_complete(self, stamp: int, expected: frozenset[str]) -> bool:
        if stamp not in self._rings["image"]:
            return False
        return all(stamp in self._rings[kind] or self._last.get(kind, stamp) > stamp for kind in expected)

    def _hand_on(self, key: tuple[str, int], now: float, expected: frozenset[str]) -> None:
        source, stamp = key
        request, _ = self._waiting.pop(key)
        self._used.add(stamp)
        infos = self._rings["camera_info"]
        info = infos.get(stamp) or (next(reversed(infos.values())) if infos else None)
        depth = self._rings["depth"].get(stamp)
        for kind, message in (("depth", depth), ("camera_info", info)):
            if kind in expected and message is None:
                self._count(f"missing.{kind}")
        self._complete(SynchronizedFrame(stamp, source, request, self._rings["image"][stamp], depth, info, now))

    def _went_back(self, kind: str, stamp: int) -> None:
        """Forgets the messages later than `stamp`: those that come with these stamps from now on are others."""
        ring = self._rings[kind]
        for later in [each for each in ring if each > stamp]:
            del ring[later]
            if kind == "image":
                self._forget(later)
        if kind == "image":
            self._count("jumped.image")
            for key in [each for each in self._waiting if each[1] > stamp]:
                del self._waiting[key]
                self._count(f"jumped.{key[0]}")

    def _give_up(self, source: str, stamp: int) -> None:
        oldest = next(iter(self._rings["image"]), stamp)
        self._count(f"{'late' if stamp < oldest else 'unmatched'}.{source}")

    def _forget(self, stamp: int) -> None:
        if stamp in self._used:
            self._used.discard(stamp)
        else:
            self._count("unused.image")
