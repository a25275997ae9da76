"""Opened recordings: files as parts, and the whole of them as one stream of messages of our definitions."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from wesam_ros.data.recordings.definitions import CDR, Channel, translation, type_of
from wesam_ros.data.recordings.unpacking import unpacked_message

Row = tuple[int, int, bytes]
"""Key of a channel, time in nanoseconds, and bytes of a message."""
ZSTD = b"\x28\xb5\x2f\xfd"


def why_of(error: BaseException) -> str:
    """The text of an error, or its kind where it has none."""
    return str(error) or type(error).__name__


class Part(Protocol):
    """A file of a recording, or a whole one that the library reads."""

    @property
    def channels(self) -> Sequence[Channel]:
        """The file's, with the number of messages on each."""
        ...

    def messages(self, keys: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
        """Key of the channel, time in nanoseconds and bytes of each message of some channels."""
        ...


@dataclass
class Recording:
    """An opened recording.

    Attributes:
        path: as it was given.
        parts: its files, in the order in which they are read.
        notes: a sentence for each thing that was not as a recorder leaves it.
    """

    path: Path
    parts: list[Part] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def channels(self) -> list[Channel]:
        """Those of all parts."""
        return [channel for part in self.parts for channel in part.channels]

    @property
    def topics(self) -> dict[str, tuple[str, int]]:
        """Type and number of messages of each topic, by its name; "several types" where they differ."""
        found: dict[str, tuple[str, int]] = {}
        for channel in sorted(self.channels, key=lambda each: each.topic):
            kind, count = found.get(channel.topic, (channel.msgtype, 0))
            found[channel.topic] = (kind if kind == channel.msgtype else "several types", count + channel.count)
        return found

    def messages(
        self, topics: Collection[str] | None, refused: Callable[[Channel, int, str], None] | None = None
    ) -> Iterator[tuple[Channel, int, bytes]]:
        """Channel, time in nanoseconds and CDR bytes of our definition, of each message of some topics or of all, in order of time.

        `refused(channel, time, sentence)` is called for each message whose bytes are not of its type; such a message is passed over.
        """
        streams = [self._of_part(part, topics, refused) for part in self.parts]
        yield from streams[0] if len(streams) == 1 else heapq.merge(*streams, key=lambda row: row[1])

    def _of_part(
        self, part: Part, topics: Collection[str] | None, refused: Callable[[Channel, int, str], None] | None
    ) -> Iterator[tuple[Channel, int, bytes]]:
        chosen = {each.key: (each, translation(each)) for each in part.channels if topics is None or each.topic in topics}
        if not chosen:
            return
        for key, time, data in part.messages(list(chosen)):
            channel, translated = chosen[key]
            try:
                whole = _whole(data, time)
                data = whole if translated is None else translated(whole)
            except ValueError as error:
                if refused is not None:
                    refused(channel, time, str(error))
                continue
            yield channel, time, data


def _whole(data: Any, time: Any) -> bytes:
    """The bytes of a message, unpacked where it was packed by itself; ValueError where they cannot be."""
    if not isinstance(time, int) or not isinstance(data, bytes | memoryview):
        raise ValueError("a row of the file's table is damaged")
    data = bytes(data)
    return unpacked_message(data) if data.startswith(ZSTD) else data


def read_on(rows: Iterator[Row], rest: Callable[[], Iterator[Row]] | None, note: Callable[[str], None]) -> Iterator[Row]:
    """The rows of a file in order of time; where reading fails on the way, those behind that come from `rest`, which begins anew."""
    last, passed = -(2**63), Counter[int]()
    try:
        for row in rows:
            if row[1] != last:
                last, passed = row[1], Counter()
            passed[row[0]] += 1
            yield row
        return
    except Exception as error:  # rosbags raises many kinds for damaged files
        if rest is None:
            raise
        note(f"it is damaged behind {last} ns ({why_of(error)}); what can be read behind that is")
    for row in rest():
        if row[1] == last and passed[row[0]]:
            passed[row[0]] -= 1
        elif row[1] >= last:
            yield row


class LibraryPart:
    """A recording that the rosbags library reads; where it fails on the way, the rest is read by `rest`, from the start of the file."""

    def __init__(self, reader: Any, rest: Callable[[], Part] | None, note: Callable[[str], None]) -> None:
        self._reader, self._rest, self._note = reader, rest, note
        self.storage, self.connections = reader.storage, list(reader.connections)
        self.packed_by_message = getattr(reader, "compression_mode", "") == "message"
        self._connections = dict(enumerate(reader.connections))
        if not all(isinstance(c.topic, str) and isinstance(c.msgtype, str) for c in reader.connections):
            raise ValueError("its table of topics is damaged")
        self.channels = [
            Channel(key, c.topic, type_of(c.msgtype), c.msgdef, getattr(c.ext, "serialization_format", "") or CDR, c.msgcount)
            for key, c in self._connections.items()
        ]

    def messages(self, keys: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
        """Messages like those of `Part`."""
        wanted = [self._connections[key] for key in keys]
        places = {(c.topic, c.msgtype, c.id): key for key, c in self._connections.items()}
        rows = ((places[c.topic, c.msgtype, c.id], time, data) for c, time, data in self._reader.messages(wanted))
        return read_on(rows, None if self._rest is None else lambda: self._behind(keys), self._note)

    def _behind(self, keys: Collection[int]) -> Iterator[Row]:
        """All messages of some channels, as `rest` reads them."""
        assert self._rest is not None
        part = self._rest()
        mine = {(self.channels[key].topic, self.channels[key].msgtype): key for key in keys}
        theirs = {each.key: mine[each.topic, each.msgtype] for each in part.channels if (each.topic, each.msgtype) in mine}
        return ((theirs[key], time, data) for key, time, data in part.messages(list(theirs)))


class Parts:
    """Several files as one part."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._places = [(part, channel.key) for part in parts for channel in part.channels]
        found = [channel for part in parts for channel in part.channels]
        self.channels = [replace(channel, key=key) for key, channel in enumerate(found)]

    def messages(self, keys: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
        """Messages like those of `Part`, in order of time."""
        return heapq.merge(*(self._of(part, keys) for part in dict.fromkeys(part for part, _ in self._places)), key=lambda row: row[1])

    def _of(self, part: Part, keys: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
        mine = {inner: key for key, (each, inner) in enumerate(self._places) if each is part and key in keys}
        return ((mine[inner], time, data) for inner, time, data in part.messages(list(mine))) if mine else iter(())
