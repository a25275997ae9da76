"""MCAP files read from their start to where they end, without the index at their end: cut short, or written without one.

Records are those of the MCAP specification (mcap.dev/spec).
"""

from __future__ import annotations

import io
import struct
from binascii import crc32
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from lz4.frame import LZ4FrameDecompressor
from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat

from wesam_ros.data.recordings.definitions import CDR, NO_DEFINITION, Channel, type_of
from wesam_ros.data.recordings.unpacking import zstd

MAGIC = b"\x89MCAP0\r\n"
SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END, FOOTER = 0x03, 0x04, 0x05, 0x06, 0x0F, 0x02
RECORD_HEAD, MESSAGE_HEAD, CHUNK_HEAD = struct.Struct("<BQ"), struct.Struct("<HIQQ"), struct.Struct("<QQQI")
LARGEST_CHUNK = 2**30
"""Bytes of an unpacked chunk; recorders close one after some megabytes. A damaged length may claim more."""
FORMATS = {"ros2msg": MessageDefinitionFormat.MSG, "ros1msg": MessageDefinitionFormat.MSG, "ros2idl": MessageDefinitionFormat.IDL}


class McapScan:
    """The channels and messages of an MCAP file, as far as it is whole.

    Attributes:
        channels: the file's, with the number of messages on each.
        whole: whether the data ends as it should; False where the file was cut short.
        damaged: chunks that could not be unpacked, and were passed over.
    """

    def __init__(self, path: Path) -> None:
        """Reads the file once through. Raises ValueError for a file that is no MCAP, OSError as files do."""
        self._path = path
        self._found: dict[int, tuple[str, str, MessageDefinition, str]] = {}
        self.whole, self.damaged = False, 0
        counts = Counter(key for key, _, _ in self._messages(None))
        self.channels = [Channel(key, *parts, counts[key]) for key, parts in self._found.items()]

    def messages(self, keys: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
        """Key of the channel, time in nanoseconds, and bytes of each message of some channels, chunk by chunk, in order within each."""
        return self._messages(frozenset(keys))

    def _messages(self, keys: frozenset[int] | None) -> Iterator[tuple[int, int, bytes]]:
        """Messages of the channels `keys`; with None those of all, without their bytes."""
        self.damaged = 0
        schemas: dict[int, tuple[str, str, bytes]] = {}
        with self._path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise ValueError("the file is no MCAP")
            for kind, body in _records(file):
                if kind == CHUNK:
                    yield from self._of_chunk(body, schemas, keys)
                elif kind in (DATA_END, FOOTER):
                    self.whole = True
                    return
                else:
                    yield from self._of_record(kind, body, schemas, keys)

    def _of_chunk(
        self, body: bytes, schemas: dict[int, tuple[str, str, bytes]], keys: frozenset[int] | None
    ) -> Iterator[tuple[int, int, bytes]]:
        try:
            inner = _unpacked(body)
        except Exception:  # the libraries raise many kinds
            self.damaged += 1
            return
        found = [row for kind, part in _records(io.BytesIO(inner)) for row in self._of_record(kind, part, schemas, keys)]
        yield from sorted(found, key=lambda row: row[1])

    def _of_record(
        self, kind: int, body: bytes, schemas: dict[int, tuple[str, str, bytes]], keys: frozenset[int] | None
    ) -> Iterator[tuple[int, int, bytes]]:
        try:
            if kind == SCHEMA:
                (number,) = struct.unpack_from("<H", body)
                name, place = _text(body, 2)
                encoding, place = _text(body, place)
                schemas[number] = (name, encoding, _bytes(body, place)[0])
            elif kind == CHANNEL:
                key, number = struct.unpack_from("<HH", body)
                topic, place = _text(body, 4)
                encoding, _ = _text(body, place)
                name, form, data = schemas.get(number, ("", "", b""))
                definition = MessageDefinition(FORMATS[form], data.decode()) if form in FORMATS else NO_DEFINITION
                self._found.setdefault(key, (topic, type_of(name), definition, encoding or CDR))
            elif kind == MESSAGE:
                key, _, time, _ = MESSAGE_HEAD.unpack_from(body)
                if keys is None:
                    yield key, time, b""
                elif key in keys:
                    yield key, time, body[MESSAGE_HEAD.size :]
        except (struct.error, UnicodeDecodeError):
            self.damaged += 1


def _records(file: BinaryIO | io.BytesIO) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each record up to the first that is not whole."""
    start = file.tell()
    size = file.seek(0, io.SEEK_END)
    file.seek(start)
    while len(head := file.read(RECORD_HEAD.size)) == RECORD_HEAD.size:
        kind, length = RECORD_HEAD.unpack(head)
        body = file.read(min(length, size - file.tell()))
        if len(body) < length:
            if kind == CHUNK and len(body) > CHUNK_HEAD.size:
                yield kind, body
            return
        yield kind, body


def _unpacked(body: bytes) -> bytes:
    """The records of a chunk; those at its start where its end is missing."""
    _, _, size, check = CHUNK_HEAD.unpack_from(body)
    name, place = _text(body, CHUNK_HEAD.size)
    data = body[place + 8 :]
    if name == "zstd":
        data = zstd.ZstdDecompressor().decompress(data, min(size, LARGEST_CHUNK))
    elif name == "lz4":
        data = bytes(LZ4FrameDecompressor().decompress(data, min(size, LARGEST_CHUNK)))
    elif name:
        raise ValueError(f"chunks packed with {name} cannot be read")
    if check and len(data) == size and crc32(data) != check:
        raise ValueError("the chunk is damaged")
    return data


def _bytes(body: bytes, place: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from("<I", body, place)
    return body[place + 4 : place + 4 + length], place + 4 + length


def _text(body: bytes, place: int) -> tuple[str, int]:
    data, place = _bytes(body, place)
    return data.decode(), place
