"""Joins the messages of a recording to its images, by the rules of the live synchronizer (data/synchronizer.py)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

import numpy as np

from wesam_ros.data.recordings import messages
from wesam_ros.data.recordings.decoding import BagMessage, FrameMessages
from wesam_ros.data.recordings.reports import ReadingReport
from wesam_ros.data.stamps import JUMP_NS, SLOP_SECONDS, StampRing, nanoseconds, nearest
from wesam_ros.data.synchronizer import DEPTH_SHARE, IN_STEP, REQUESTS, SENSORS

JOIN_WINDOW = 64
"""An image waits for what comes late until so many newer images have come,"""
JOIN_BYTES = 128 * 2**20
"""and as long as the images that wait, and their depth, have no more bytes than this: a detector may be seconds late."""


def in_runs(rows: Iterable[BagMessage], roles: Mapping[str, str]) -> Iterator[tuple[int, BagMessage]]:
    """Yields a recording's messages, each with the number of its run: a new one begins where the stamps of a sensor go back, as where a
    simulation was started anew. Those of the other sensors follow.

    Args:
        rows: messages in the order of recording.
        roles: role by topic.
    """
    run, newest = 0, dict[str, int]()
    for row in rows:
        if (role := roles[row.topic]) in SENSORS and len(row.data) >= messages.STAMP_BYTES:
            if row.stamp_ns < newest.get(role, row.stamp_ns) - JUMP_NS:
                run += 1
                newest.clear()
            newest[role] = row.stamp_ns
        yield run, row


class Joiner:
    """Joins messages to images: depth to the nearest within the slop, a camera_info to all that follow, anything else by exact stamp.

    Args:
        topics: topic of each role that the recording has.
        report: counts the messages that are lost: "late" ones, whose image has waited for too long, "unmatched" ones, whose image never
            came, and "unstamped" images, which share their stamp with the next.
        slop: nanoseconds that a depth may be off its image.

    Attributes:
        joined: roles of which a message has found its image.
        offsets: nanoseconds from image to depth, of each image that has one.
    """

    def __init__(self, topics: Mapping[str, str], report: ReadingReport, slop: int = nanoseconds(SLOP_SECONDS)) -> None:
        self.joined: set[str] = set()
        self.offsets: list[int] = []
        self._topics, self._report, self._slop = topics, report, slop
        self._exact: Set[str] = topics.keys() - {"image", "depth", "camera_info"}
        self._early: dict[int, dict[str, BagMessage]] = {}  # partners that came before their image
        self._waiting: dict[int, dict[str, BagMessage]] = {}  # images in order, with the partners so far
        self._depths = StampRing(slop)
        self._infos: dict[int, BagMessage] = {}
        self._info: BagMessage | None = None  # the newest
        self._in_step = 0  # images in a row that had a camera_info of their own stamp
        self._done: set[int] = set()
        self._bytes = 0  # of the images that wait
        self._newest: tuple[int, bytes] | None = None  # stamp and data of the image that came last
        self._shared: int | None = None  # its stamp, where the one before had it, too
        self._seen: set[str] = set()  # roles that had a message
        self._nearest: int | None = None  # the smallest offset of a depth, also beyond the slop

    def add(self, role: str, message: BagMessage) -> None:
        """Takes the next message of the recording. Raises BagError where it has no header."""
        stamp = message.stamp_ns
        self._seen.add(role)
        if role == "image":
            self._add_image(stamp, message)
        elif role == "depth":
            if self._depths.goes_back(stamp) and not any(each > stamp for each in self._waiting):
                self._depths.forget_after(stamp)
            self._depths.add(stamp, message)
            self._prune(next(iter(self._waiting), None))
        elif role == "camera_info":
            self._info = message
            self._infos[stamp] = message
            if len(self._infos) > 2 * JOIN_WINDOW and len(self._infos) > 2 * len(self._waiting):
                del self._infos[next(iter(self._infos))]
        elif stamp in self._waiting:
            self._keep(self._waiting[stamp], role, stamp, message)
        elif stamp == self._shared:
            self._lose(role, "unstamped", stamp, "several images have this stamp")
        elif stamp in self._done:
            self._lose(role, "late", stamp, f"its image waited until {JOIN_WINDOW} newer ones and {JOIN_BYTES >> 20} MiB had been read")
        else:
            self._keep(self._early.setdefault(stamp, {}), role, stamp, message)
            if len(self._early) > JOIN_WINDOW:
                self._lose_early(next(iter(self._early)))

    def start_again(self) -> Iterator[FrameMessages]:
        """Yields the images that wait, and forgets what would take the same stamps, which come again, for those of the time before."""
        yield from self.rest()
        self._done.clear()
        self._infos.clear()
        self._depths = StampRing(self._slop)
        self._newest = self._shared = None
        self._in_step = 0

    def finished(self) -> Iterator[FrameMessages]:
        """Yields the images that need not wait any longer."""
        while self._waiting and self._is_finished():
            yield self._take_first()

    def rest(self) -> Iterator[FrameMessages]:
        """Yields the images that still wait, and counts what has found none."""
        while self._waiting:
            yield self._take_first()
        for stamp in list(self._early):
            self._lose_early(stamp)

    def unjoined(self) -> Iterator[str]:
        """Yields a sentence for each role of which no message has found an image, and one for a depth that is off its images."""
        for role, topic in self._topics.items():
            if role in self._seen - self.joined - {"image"}:
                yield f"no message on {topic} {self._why_unjoined(role)}"
        if any(self.offsets):
            median, most = (float(np.percentile(np.abs(self.offsets), q)) / 1e6 for q in (50, 99))
            topic = self._topics["depth"]
            yield f"{topic} is stamped {median:.1f} ms (median; 99 %: {most:.1f} ms) off the images that it is joined to"

    def _why_unjoined(self, role: str) -> str:
        if role != "depth":
            return f"has the stamp of an image; is the {role} synchronised with the camera?"
        near = f"; the nearest is {self._nearest / 1e6:.1f} ms off" if self._nearest is not None else ""
        return (
            f"is within sync_slop ({self._slop / 1e6:g} ms) of an image{near}; switch the camera's synchronisation on, or raise "
            "--sync-slop (of the player: sync_slop)"
        )

    def _add_image(self, stamp: int, message: BagMessage) -> None:
        again = self._newest is not None and self._newest[0] == stamp and self._newest[1] != message.data
        if stamp == self._shared or again:
            if self._shared != stamp:  # the first of them cannot be told from the second
                before = self._waiting.pop(stamp, None)
                self._bytes -= len(before["image"].data) if before is not None else 0
                for role in REQUESTS:
                    if before is not None and role in before:
                        self._lose(role, "unstamped", stamp, "several images have this stamp")
                if before is not None:
                    self._lose("image", "unstamped", stamp, "the next image has it, too; the camera's driver must stamp its images")
            self._lose("image", "unstamped", stamp, "the image before has it, too; the camera's driver must stamp its images")
            self._shared = stamp
            return
        self._newest, self._shared = (stamp, message.data), None
        if (before := self._waiting.get(stamp)) is not None:
            self._bytes -= len(before["image"].data)
        self._waiting[stamp] = {**(before or {}), **self._early.pop(stamp, {}), "image": message}
        self._bytes += len(message.data)

    def _is_finished(self) -> bool:
        if len(self._waiting) > JOIN_WINDOW:
            depth = sum(len(each.data) for each in self._depths.messages.values())
            if self._bytes + depth > JOIN_BYTES:
                return True
        stamp, parts = next(iter(self._waiting.items()))
        if not self._exact <= parts.keys() or ("camera_info" in self._topics and self._awaits_info(stamp)):
            return False
        return "depth" not in self._topics or self._depths.is_settled(stamp)

    def _awaits_info(self, stamp: int) -> bool:
        """True while there is no camera_info at all, or where each of the images before had its own, and this one's may still come."""
        return self._info is None or (self._in_step >= IN_STEP and stamp not in self._infos and self._info.stamp_ns < stamp)

    def _take_first(self) -> FrameMessages:
        stamp = next(iter(self._waiting))
        parts = self._waiting.pop(stamp)
        self._bytes -= len(parts["image"].data)
        self._done.add(stamp)
        self._in_step = self._in_step + 1 if stamp in self._infos else 0
        info = self._infos.get(stamp, self._info)
        if info is not None:
            parts["camera_info"] = info
        if (at := self._depths.match(stamp)) is not None:
            parts["depth"] = self._depths.messages[at]
            self.offsets.append(at - stamp)
        elif (other := nearest(self._depths.messages, stamp)) is not None:
            self._nearest = min(abs(other - stamp), self._nearest if self._nearest is not None else abs(other - stamp))
        self.joined.update(parts)
        self._prune(next(iter(self._waiting), stamp))
        return FrameMessages(stamp, parts)

    def _prune(self, oldest: int | None) -> None:
        """Forgets the depth that no image from the stamp `oldest` on wants any more."""
        self._depths.prune(JOIN_WINDOW, oldest)
        self._depths.prune(DEPTH_SHARE * max(JOIN_WINDOW, len(self._waiting)), None)

    def _keep(self, parts: dict[str, BagMessage], role: str, stamp: int, message: BagMessage) -> None:
        """Puts a partner to its image's others; the one before of its role, if there is one, is lost."""
        if role in parts:
            self._lose(
                role, "doubled" if stamp else "unstamped", stamp, "another one has it, too; its publisher must stamp it as its image"
            )
        parts[role] = message

    def _lose_early(self, stamp: int) -> None:
        remedy: dict[str, Any] = dict.fromkeys(REQUESTS, "the detector must copy the stamp of the image that it saw")
        for role in self._early.pop(stamp):
            why = f"no image has it; {remedy.get(role, 'was the image lost?')}"
            self._lose(role, "unmatched" if stamp else "unstamped", stamp, why)

    def _lose(self, role: str, reason: str, stamp: int, why: str) -> None:
        self._report.leave_out(role, reason, f"message on {self._topics.get(role, role)} with stamp {stamp} ns is not used: {why}")
