"""Synchronises the live messages of one moment by their stamps, from short ring buffers. Pure Python; one thread."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wesam_ros.data.stamps import StampRing

SENSORS = ("image", "depth", "camera_info")
REQUESTS = ("detections", "prompts")
"""The kinds of message that ask for the image of their stamp to be segmented."""

IMAGE_WAIT = 4.0
"""Seconds that a request waits for its image: Fast DDS sends a lost piece of a large image again only after 3 s (its heartbeat period)."""
REMEMBERED = 3000
"""Stamps of images that have left the ring: a request for one of them is late."""
IN_STEP = 2
"""So many images in a row with a camera_info of their own stamp promise that the next has one."""
DEPTH_SHARE = 4
"""So many times as many depth messages as images are kept at most: of a depth camera that is faster."""


@dataclass(frozen=True)
class SynchronizedFrame:
    """The messages of one moment, as they came.

    Attributes:
        stamp: nanoseconds, of the image and the request.
        source: "detections" or "prompts", the kind of `request`.
        request: the message with the prompts.
        image: the image message.
        depth: the depth message of this stamp, else the nearest one within the slop; None where there was none in time.
        camera_info: the camera_info of this stamp, else the newest one there was before (intrinsics seldom change), else None.
        arrived: monotonic seconds at which the frame was complete.
        depth_offset: nanoseconds from the image's stamp to the depth's; None without depth.
    """

    stamp: int
    source: str
    request: Any
    image: Any
    depth: Any
    camera_info: Any
    arrived: float
    depth_offset: int | None = None


class Synchronizer:
    """Puts each request together with the image of its stamp, the nearest depth within the slop, and a camera_info.

    A request may arrive before its image, or up to `length` images after it. A request is counted as "late.<kind>" when it arrives for an
    image that has been and gone, as "unstamped.<kind>" where its stamp is 0 and no image's, or the same for several images, and as
    "unmatched.<kind>" when no image of its stamp has come within IMAGE_WAIT. A frame whose depth is expected waits for it (see `expire`)
    until stamps of depth have got as far, and then goes without ("missing.depth"). A camera_info is waited for where none is held, or where
    each of the images before had its own; one whose stamp is frozen, or that comes once, is not.
    Images in a row that share a stamp cannot be told apart: none of them is used ("unstamped.image").
    Where the stamps of images go back ("jumped.image"), what is later belongs to the time before and is forgotten (requests as
    "jumped.<kind>").

    Args:
        length: images kept.
        complete: called with each frame that is complete, oldest first.
        count: called with the name of what is to be counted.
        slop: nanoseconds that a depth may be off its image; 0 = none.
    """

    def __init__(self, length: int, complete: Callable[[SynchronizedFrame], None], count: Callable[[str], None], slop: int = 0) -> None:
        self._length = length
        self._complete = complete
        self._count = count
        self._rings = {"image": StampRing(), "depth": StampRing(slop), "camera_info": StampRing()}
        self._images, self._depths, self._infos = self._rings.values()
        self._waiting: OrderedDict[tuple[str, int], tuple[Any, float]] = OrderedDict()
        self._used: set[int] = set()
        self._gone: OrderedDict[int, None] = OrderedDict()
        self._shared: int | None = None  # the stamp of the images that came last, where they share it

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
            self._ask(kind, stamp, message, now)
        else:
            if self._rings[kind].goes_back(stamp):
                self._went_back(kind, stamp)
            if kind == "image":
                self._take_image(stamp, message, now, expected)
            else:
                self._rings[kind].add(stamp, message)
            self._prune()
        self._hand_on_complete(now, expected)

    def nothing(self, kind: str, stamp: int, now: float, expected: frozenset[str]) -> None:
        """Notes that no depth or camera_info comes any more for an image of this stamp, as a player in lock step knows."""
        if self._rings[kind].goes_back(stamp):
            self._went_back(kind, stamp)
        self._rings[kind].passed(stamp)
        self._hand_on_complete(now, expected)

    def expire(self, now: float, wait: float, expected: frozenset[str]) -> None:
        """Hands on the frames that have waited for `wait` seconds, without their depth or camera_info, and gives up requests whose image
        does not come. Call it regularly."""
        for key, (_, since) in list(self._waiting.items()):
            if key[1] in self._images.messages:
                if now - since >= wait:
                    self._hand_on(key, now, expected)
            elif now - since >= max(wait, IMAGE_WAIT):
                del self._waiting[key]
                self._count(f"unmatched.{key[0]}")

    def _ask(self, kind: str, stamp: int, message: Any, now: float) -> None:
        held = stamp in self._images.messages
        if stamp in self._gone and not held:
            self._count(f"late.{kind}")
        elif stamp == self._shared or (stamp == 0 and not held and self._images.messages):
            self._count(f"unstamped.{kind}")
        else:
            self._waiting[kind, stamp] = (message, now)
            if len(self._waiting) > self._length:
                given_up, _ = self._waiting.popitem(last=False)[0]
                self._count(f"unmatched.{given_up}")

    def _take_image(self, stamp: int, message: Any, now: float, expected: frozenset[str]) -> None:
        images = self._images
        if stamp == self._shared or (stamp == images.newest and stamp in images.messages and images.messages[stamp] != message):
            self._count("unstamped.image")
            self._shared = stamp
            images.messages.pop(stamp, None)
            for key in [each for each in self._waiting if each[1] == stamp]:
                del self._waiting[key]
                self._count(f"unstamped.{key[0]}")
            return
        self._shared = None
        self._gone.pop(stamp, None)
        images.add(stamp, message)
        if len(images.messages) > self._length:
            oldest = next(iter(images.messages))
            for key in [each for each in self._waiting if each[1] == oldest]:  # it has waited for its depth for a whole ring
                self._hand_on(key, now, expected)
            del images.messages[oldest]
            self._forget(oldest)

    def _prune(self) -> None:
        self._infos.prune(self._length, None)
        self._depths.prune(self._length, next(iter(self._images.messages), None))
        self._depths.prune(DEPTH_SHARE * self._length, None)

    def _hand_on_complete(self, now: float, expected: frozenset[str]) -> None:
        for key in [each for each in self._waiting if self._is_complete(each[1], expected)]:
            self._hand_on(key, now, expected)

    def _is_complete(self, stamp: int, expected: frozenset[str]) -> bool:
        if stamp not in self._images.messages:
            return False
        if "camera_info" in expected and not self._infos.is_settled(stamp) and (not self._infos.messages or self._has_own_infos(stamp)):
            return False
        return "depth" not in expected or self._depths.is_likely_settled(stamp)

    def _has_own_infos(self, stamp: int) -> bool:
        """True where the two images before had a camera_info of their own stamp: then that of this one is on its way."""
        before = sorted(each for each in self._images.messages if each < stamp)[-IN_STEP:]
        return len(before) == IN_STEP and all(each in self._infos.messages for each in before)

    def _hand_on(self, key: tuple[str, int], now: float, expected: frozenset[str]) -> None:
        source, stamp = key
        request, _ = self._waiting.pop(key)
        self._used.add(stamp)
        infos = self._infos.messages
        info = infos.get(stamp) or (next(reversed(infos.values())) if infos else None)
        at = self._depths.match(stamp)
        depth = self._depths.messages[at] if at is not None else None
        for kind, message in (("depth", depth), ("camera_info", info)):
            if kind in expected and message is None:
                self._count(f"missing.{kind}")
        offset = at - stamp if at is not None else None
        self._complete(SynchronizedFrame(stamp, source, request, self._images.messages[stamp], depth, info, now, offset))

    def _went_back(self, kind: str, stamp: int) -> None:
        """Forgets the messages later than `stamp`: those that come with these stamps from now on are others."""
        later = self._rings[kind].forget_after(stamp)
        if kind == "image":
            for each in later:
                self._forget(each)
            self._gone.clear()
            self._count("jumped.image")
            for key in [each for each in self._waiting if each[1] > stamp]:
                del self._waiting[key]
                self._count(f"jumped.{key[0]}")

    def _forget(self, stamp: int) -> None:
        """Notes that an image has left the ring."""
        self._gone[stamp] = None
        if len(self._gone) > REMEMBERED:
            self._gone.popitem(last=False)
        if stamp in self._used:
            self._used.discard(stamp)
        else:
            self._count("unused.image")
