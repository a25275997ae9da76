"""Recorded requests of one topic and stamp, such as those of two detectors: made one before they are joined to their image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from wesam_ros.data.messages import merged_requests
from wesam_ros.data.recordings import messages
from wesam_ros.data.recordings.decoding import BagMessage
from wesam_ros.data.recordings.topics import REQUESTS, BagError

HELD_IMAGES = 8
"""Images for which a request is held, as another of its stamp may follow: a quarter of a second of a usual camera."""
REMEMBERED = 4096
"""Stamps of requests that were held, so that a later one of the stamp is counted."""

LeaveOut = Callable[[str, str, str], None]
"""Counts a message that is not used: its role, a reason, a sentence."""


def merged_by_stamp(rows: Iterable[BagMessage], roles: Mapping[str, str], leave_out: LeaveOut) -> Iterator[BagMessage]:
    """Yields a recording's messages, with requests of one topic and stamp as one; those come up to HELD_IMAGES images later.

    A request that has no stamp, or is alone with its stamp, is yielded as it was recorded. One that comes later than that beside another is
    left out, and counted as "doubled".

    Args:
        rows: messages in the order of recording.
        roles: role by topic.
        leave_out: called for a request that cannot be merged, because it cannot be read.
    """
    held: dict[tuple[str, int], tuple[int, list[BagMessage]]] = {}
    gone: dict[tuple[str, int], None] = {}
    images = 0
    for row in rows:
        role = roles[row.topic]
        stamp = _stamp(row) if role in REQUESTS else 0
        if (row.topic, stamp) in gone:
            sentence = f"message on {row.topic} with stamp {stamp} ns is not used: it comes {HELD_IMAGES} images after another of its stamp"
            leave_out(role, "doubled", sentence)
            continue
        if stamp:
            held.setdefault((row.topic, stamp), (images, []))[1].append(row)
            continue
        yield row
        if role == "image":
            images += 1
            for key in [each for each, (at, _) in held.items() if images - at >= HELD_IMAGES]:
                yield _merged(held.pop(key)[1], roles[key[0]], leave_out)
                gone[key] = None
            for key in list(gone)[:-REMEMBERED]:
                del gone[key]
    for (topic, _), (_, group) in held.items():
        yield _merged(group, roles[topic], leave_out)


def _stamp(row: BagMessage) -> int:
    """Nanoseconds; 0 where there is no header, which is told where the message is joined."""
    try:
        return row.stamp_ns
    except BagError:
        return 0


def _merged(group: list[BagMessage], role: str, leave_out: LeaveOut) -> BagMessage:
    first = group[0]
    if len(group) == 1:
        return first
    message = None
    for row in group:
        try:
            other = messages.deserialize(row.data, row.msgtype)
            message = other if message is None else merged_requests(message, other)
        except Exception as error:  # rosbags raises many kinds for damaged bytes
            sentence = f"message on {row.topic} with stamp {row.stamp_ns} ns cannot be merged with another of its stamp: {error}"
            leave_out(role, "undecodable", sentence)
    return first if message is None else first._replace(data=bytes(messages.serialize(message)))
