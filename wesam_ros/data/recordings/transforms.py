"""TF of a recording: its transforms, read along with its frames."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from wesam_ros.data.recordings import messages
from wesam_ros.data.recordings.decoding import BagMessage
from wesam_ros.data.transforms import TransformBuffer

KIND = "tf2_msgs/msg/TFMessage"
STATIC = "tf_static"
"""End of the names of topics whose transforms hold for ever."""
AHEAD_NS = 10**9
"""Transforms are read until they are so much later than what is looked up: each frame is published at its own rate."""


def transform_topics(there: Mapping[str, tuple[str, int]]) -> tuple[list[str], list[str]]:
    """The topics of a recording with static transforms, and those with others, of all its topics' types and numbers of messages."""
    found = [topic for topic, (kind, count) in there.items() if kind == KIND and count]
    return [each for each in found if each.endswith(STATIC)], [each for each in found if not each.endswith(STATIC)]


class RecordedTransforms:
    """The transforms of a recording, for stamps that grow; nothing is read before the first is asked for.

    Args:
        there: types and numbers of messages of its topics.
        read: yields the messages of some topics, in the order of recording.
    """

    def __init__(self, there: Mapping[str, tuple[str, int]], read: Callable[[Collection[str]], Iterator[BagMessage]]) -> None:
        self._static, self._moving = transform_topics(there)
        self._read = read
        self._buffer: TransformBuffer | None = None
        self._rows: Iterator[BagMessage] = iter(())
        self._newest = -(2**63)

    def lookup(self, target: str, source: str, stamp: int) -> npt.NDArray[np.float64]:
        """(4, 4) that takes points from `source` to `target` at `stamp` (nanoseconds).

        Raises:
            TransformError: as TransformBuffer.lookup.
        """
        if self._buffer is None:
            self._buffer = TransformBuffer()
            for row in self._read(self._static) if self._static else ():
                self._take(self._buffer, row, static=True)
            self._rows = self._read(self._moving) if self._moving else iter(())
        while self._newest < stamp + AHEAD_NS and (move := next(self._rows, None)) is not None:
            self._take(self._buffer, move, static=False)
        return self._buffer.lookup(target, source, stamp)

    def _take(self, buffer: TransformBuffer, row: BagMessage, *, static: bool) -> None:
        try:
            message = messages.deserialize(row.data, row.msgtype)
        except Exception:  # damaged: rosbags raises many kinds, and what is missed is told where it is looked up
            return
        buffer.add(message.transforms, static=static)
        if not static:
            stamps = [each.header.stamp.sec * 10**9 + each.header.stamp.nanosec for each in message.transforms]
            self._newest = max(self._newest, *stamps, -(2**63))
