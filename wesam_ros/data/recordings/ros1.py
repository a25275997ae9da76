"""Recordings of ROS 1 (.bag, format 2.0): by their index, or from their start to where they end."""

from __future__ import annotations

import bz2
import io
import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from lz4.frame import LZ4FrameDecompressor
from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag1 import Reader

from wesam_ros.data.recordings.definitions import ROS1, Channel
from wesam_ros.data.recordings.parts import read_on

MAGIC, MAGIC_OLD = b"#ROSBAG V2.0\n", b"#ROSBAG V1"
MESSAGE, CHUNK, CONNECTION = 2, 5, 7
LARGEST_CHUNK = 2**30


class Ros1Bag:
    """A bag with an index.

    Attributes:
        channels: the bag's.
    """

    def __init__(self, path: Path, rest: Callable[[], Ros1Scan], note: Callable[[str], None]) -> None:
        """Raises rosbags' ReaderError and others for a bag without a whole index. What is behind a damaged part is read by `rest`."""
        self._reader, self._rest, self._note = Reader(path), rest, note
        self._reader.open()
        self.channels = [Channel(c.id, c.topic, c.msgtype, c.msgdef, ROS1, c.msgcount) for c in self._reader.connections]

    def close(self) -> None:
        """Closes the file."""
        self._reader.close()

    def messages(self, keys: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
        """Key of the channel, time in nanoseconds, and bytes (of ROS 1) of each message of some channels, in order of time."""
        wanted = [each for each in self._reader.connections if each.id in keys]
        rows = ((connection.id, time, data) for connection, time, data in self._reader.messages(wanted))
        return read_on(rows, lambda: self._rest().messages(keys), self._note) if wanted else iter(())


class Ros1Scan:
    """A bag as far as it is whole: rosbag writes the index only when it ends (.bag.active, a crash, a full disk).

    Attributes:
        channels: the bag's, with the number of messages on each.
        damaged: chunks and records that could not be read, and were passed over.
    """

    def __init__(self, path: Path) -> None:
        """Reads the file once through. Raises ValueError for a file that is no bag."""
        self._path = path
        self._found: dict[int, tuple[str, str, MessageDefinition]] = {}
        self.damaged = 0
        counts = Counter(key for key, _, _ in self._messages(None))
        self.channels = [Channel(key, *parts, ROS1, counts[key]) for key, parts in self._found.items()]

    def messages(self, keys: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
        """Messages like those of Ros1Bag, chunk by chunk, in order within each."""
        return self._messages(frozenset(keys))

    def _messages(self, keys: frozenset[int] | None) -> Iterator[tuple[int, int, bytes]]:
        self.damaged = 0
        with self._path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise ValueError("the file is no bag of format 2.0")
            for header, body in _records(file):
                if header.get("op") != bytes([CHUNK]):
                    yield from self._of_record(header, body, keys)
                    continue
                try:
                    inner = _unpacked(header.get("compression", b"none"), body, struct.unpack("<I", header["size"])[0])
                except Exception:  # the libraries raise many kinds
                    self.damaged += 1
                    continue
                found = [row for head, part in _records(io.BytesIO(inner)) for row in self._of_record(head, part, keys)]
                yield from sorted(found, key=lambda row: row[1])

    def _of_record(self, header: dict[str, bytes], body: bytes, keys: frozenset[int] | None) -> Iterator[tuple[int, int, bytes]]:
        try:
            kind = header["op"][0]
            if kind not in (CONNECTION, MESSAGE):
                return
            (key,) = struct.unpack("<I", header["conn"])
            if kind == CONNECTION:
                fields = _fields(body)
                package, _, name = fields["type"].decode().partition("/")
                definition = MessageDefinition(MessageDefinitionFormat.MSG, fields["message_definition"].decode())
                topic = header["topic"].decode()
                self._found.setdefault(key, (topic if topic.startswith("/") else f"/{topic}", f"{package}/msg/{name}", definition))
            elif keys is None or key in keys:
                seconds, nanoseconds = struct.unpack("<II", header["time"])
                yield key, seconds * 10**9 + nanoseconds, b"" if keys is None else body
        except (LookupError, struct.error, UnicodeDecodeError):
            self.damaged += 1


def _records(file: BinaryIO | io.BytesIO) -> Iterator[tuple[dict[str, bytes], bytes]]:
    """Header fields and data of each record up to the first that is not whole; of a chunk, what there is of it."""
    start = file.tell()
    size = file.seek(0, io.SEEK_END)
    file.seek(start)

    def block() -> tuple[bytes, bool]:
        head = file.read(4)
        if len(head) < 4:
            return b"", False
        (length,) = struct.unpack("<I", head)
        data = file.read(min(length, size - file.tell()))
        return data, len(data) == length

    while True:
        head, whole = block()
        if not whole:
            return
        header = _fields(head)
        body, whole = block()
        if not whole:
            if header.get("op") == bytes([CHUNK]):
                yield header, body
            return
        yield header, body


def _fields(data: bytes) -> dict[str, bytes]:
    fields, place = {}, 0
    while place + 4 <= len(data):
        (length,) = struct.unpack_from("<I", data, place)
        name, _, value = data[place + 4 : place + 4 + length].partition(b"=")
        fields[name.decode(errors="replace")] = value
        place += 4 + length
    return fields


def _unpacked(kind: bytes, data: bytes, size: int) -> bytes:
    limit = min(size, LARGEST_CHUNK)
    if kind == b"bz2":
        return bz2.BZ2Decompressor().decompress(data, limit)
    if kind == b"lz4":
        return bytes(LZ4FrameDecompressor().decompress(data, limit))
    if kind != b"none":
        raise ValueError(f"chunks packed with {kind!r} cannot be read")
    return data
