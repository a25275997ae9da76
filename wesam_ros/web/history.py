"""The course of learning while a page was open: a point for each frame, and the adapters that were published."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter, deque
from dataclasses import dataclass, field

POINTS = 2000
"""Points that are kept: more than a chart has pixels."""
REASONS, LONGEST_REASON, OTHERS = 20, 40, "others"
"""Reasons that are told apart, and characters of each: a failure's reason is a sentence, and may be another one each time."""
KEPT_VERSIONS = 10
"""Adapters that the adapter node keeps to go back to (wesam_ros.adaptation.history.KEPT)."""


@dataclass(frozen=True)
class Learnt:
    """The outcome of one frame in the adapter node.

    Attributes:
        stamp: of the image, nanoseconds.
        at: monotonic seconds at which it came.
        state: learning, paused or failed.
        accepted: the frame went into the replay buffer.
        reason: of a rejection; "" if there was none.
        version: of the adapter published last.
        seen, took, refused: frames since the node was activated: all, accepted and rejected.
        candidates_refused: candidates that the guard rejected.
        proposal: why the last candidate was published or rejected; "" if none was judged.
        candidate, published, frozen: validation scores in [0, 1]; NaN where none was judged.
        losses: of the last training step, by name; empty if there was none.
    """

    stamp: int
    at: float
    state: str
    accepted: bool
    reason: str
    version: int
    seen: int
    took: int
    refused: int
    candidates_refused: int
    proposal: str = ""
    candidate: float = math.nan
    published: float = math.nan
    frozen: float = math.nan
    losses: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Version:
    """A published adapter: its number, a digest of its weights, and monotonic seconds at which it came."""

    number: int
    digest: str
    at: float


class History:
    """The past as a page shows it. It begins with the first page that is opened, and has gaps where none was open.

    Attributes:
        learnt: outcomes of frames, oldest first.
        latencies: (monotonic seconds, milliseconds) of segmented frames, oldest first.
        reasons: how often each reason of a rejection came.
        versions: adapters that the node can go back to, as far as they were seen, oldest first; the last one is served.
    """

    def __init__(self) -> None:
        self.learnt: deque[Learnt] = deque(maxlen=POINTS)
        self.latencies: deque[tuple[float, float]] = deque(maxlen=POINTS)
        self.reasons: Counter[str] = Counter()
        self.versions: list[Version] = []

    def add(self, learnt: Learnt) -> None:
        """Adds the outcome of a frame."""
        if self.learnt and learnt.seen < self.learnt[-1].seen:  # the node was restarted: its adapters are others
            self.reasons.clear()
        self.learnt.append(learnt)
        if learnt.reason:
            reason = learnt.reason[:LONGEST_REASON]
            self.reasons[reason if reason in self.reasons or len(self.reasons) < REASONS else OTHERS] += 1

    def publish(self, number: int, data: bytes) -> None:
        """Takes note of a published adapter. Weights that were published before mean that the node went back to them.

        Versions count up by one. Where one was not seen, it is not known how far back the earlier ones are, and they are left out.
        """
        digest = digest_of(data)
        if self.versions and self.versions[-1].number == number:
            return  # a latched message that came again
        if self.versions and self.versions[-1].number + 1 != number:
            self.versions.clear()
        before = next((i for i, each in enumerate(self.versions) if each.digest == digest), None)
        if before is not None:
            del self.versions[before:]
        self.versions.append(Version(number, digest, time.monotonic()))
        del self.versions[:-KEPT_VERSIONS]

    def digest(self, number: int) -> str:
        """The digest of a version. KeyError: it was not seen."""
        return {each.number: each.digest for each in self.versions}[number]

    def steps_back(self, number: int) -> int:
        """The number of rollbacks from the served adapter to a version. KeyError: the node cannot go back to it."""
        numbers = [each.number for each in self.versions]
        if number not in numbers[:-1]:
            raise KeyError(number)
        return len(numbers) - 1 - numbers.index(number)


def digest_of(data: bytes) -> str:
    """Digest of the tensors in a safetensors file, without its metadata, in which the version differs."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode() + data[8 + length :]).hexdigest()
