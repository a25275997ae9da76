"""Topics of a recording that may be depth, though none is named so: by type and encoding."""

from __future__ import annotations

from collections.abc import Mapping

from wesam_ros.data.recordings import messages
from wesam_ros.data.recordings.decoding import BagMessage
from wesam_ros.data.recordings.topics import NO_TOPIC, TYPES_OF_ROLE, BagTopics, option_of

ENCODINGS = ("16UC1", "mono16", "16SC1", "32FC1", "64FC1")
"""Encodings of depth; a compressed image's format begins with one, or has compressedDepth in it."""
FARTHEST = 16
"""Topics that are looked at."""


def pictures_beside(there: Mapping[str, tuple[str, int]], found: BagTopics) -> list[str]:
    """The topics of pictures with messages that have no role yet."""
    pictures = [topic for topic, (kind, count) in there.items() if kind in TYPES_OF_ROLE["depth"] and count]
    return [each for each in pictures if each not in (found.image, found.labels)][:FARTHEST]


def depth_candidates(firsts: Mapping[str, BagMessage]) -> str:
    """A sentence with the topics whose first message may be depth, and the option that names one; "" if there are none."""
    fits = []
    for topic, first in firsts.items():
        try:
            message = messages.deserialize(first.data, first.msgtype)
        except Exception:  # damaged, so it is no candidate; rosbags raises many kinds
            continue
        encoding = str(message.encoding if hasattr(message, "encoding") else message.format).strip()
        if encoding.partition(";")[0].strip() in ENCODINGS or "compressedDepth" in encoding:
            fits.append(f"{topic} ({first.msgtype}, {encoding})")
    if not fits:
        return ""
    return f"no topic is named as depth; {', '.join(fits)} may be: name one with {option_of('depth')}, or {NO_TOPIC} to leave it out"
