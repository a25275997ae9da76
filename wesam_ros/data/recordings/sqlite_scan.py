"""Recordings in sqlite3 that the usual reader does not read: with a write-ahead log left behind, or with damaged pages."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import quote

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat

from wesam_ros.data.recordings.definitions import NO_DEFINITION, Channel, type_of

MAGIC = b"SQLite format 3\0"
FORMATS = {"ros2msg": MessageDefinitionFormat.MSG, "ros2idl": MessageDefinitionFormat.IDL}
FARTHEST_STEP = 2**20


def log_of(path: Path) -> Path:
    """The write-ahead log that sqlite keeps beside a database while it is written."""
    return path.with_name(f"{path.name}-wal")


class SqliteScan:
    """The channels and messages of a database, damaged rows passed over.

    Attributes:
        channels: the file's, with the number of messages on each.
        damaged: rows, or runs of rows, that could not be read; counted while messages are read.
    """

    def __init__(self, path: Path) -> None:
        """Raises sqlite3.Error for a database whose list of topics cannot be read."""
        self._connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
        self.damaged = 0
        try:
            self._connection.execute("PRAGMA writable_schema=ON")  # else sqlite refuses a file that is shorter than its header says
            self.channels = self._channels()
        except sqlite3.Error:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def _channels(self) -> list[Channel]:
        definitions: dict[str, MessageDefinition] = {}
        try:
            rows = self._connection.execute("SELECT topic_type, encoding, encoded_message_definition FROM message_definitions")
            found = [row for row in rows if row[1] in FORMATS and isinstance(row[2], str)]
            definitions = {name: MessageDefinition(FORMATS[kind], text) for name, kind, text in found}
        except sqlite3.Error:
            pass  # files of Humble and before have no such table
        rows = self._connection.execute("SELECT id, name, type, serialization_format FROM topics ORDER BY id")
        topics = [row for row in rows if isinstance(row[0], int) and all(isinstance(each, str) for each in row[1:])]
        try:
            counts = dict(self._connection.execute("SELECT topic_id, count(*) FROM messages GROUP BY topic_id"))
        except sqlite3.DatabaseError:
            keys = tuple(row[0] for row in topics)
            query = f"SELECT id, topic_id, timestamp, x'' FROM messages WHERE topic_id IN ({','.join('?' * len(keys))})"
            counts = Counter(row[1] for row in self._salvaged(query, keys))
        return [
            Channel(key, name, type_of(kind), definitions.get(kind, NO_DEFINITION), form, counts.get(key, 0))
            for key, name, kind, form in topics
        ]

    def messages(self, keys: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
        """Key of the channel, time in nanoseconds, and bytes of each message of some channels, in order of time; of a damaged file in
        order of writing."""
        self.damaged = 0
        marks = ",".join("?" * len(keys))
        rows = f"SELECT id, topic_id, timestamp, data FROM messages WHERE topic_id IN ({marks})"
        passed: set[int] = set()
        try:
            for number, key, time, data in self._connection.execute(f"{rows} ORDER BY timestamp", tuple(keys)):
                passed.add(number)
                if isinstance(data, bytes) and isinstance(time, int):
                    yield key, time, data
        except sqlite3.DatabaseError:
            yield from ((key, time, data) for number, key, time, data in self._salvaged(rows, tuple(keys)) if number not in passed)

    def _salvaged(self, rows: str, keys: tuple[int, ...]) -> Iterator[tuple[int, int, int, bytes]]:
        """Rows one by one in order of their numbers; where one cannot be read, ever larger steps over it."""
        number, step = 0, 1
        while step < FARTHEST_STEP:
            try:
                row = self._connection.execute(f"{rows} AND id > ? ORDER BY id LIMIT 1", (*keys, number)).fetchone()
            except sqlite3.DatabaseError:
                self.damaged += 1
                number, step = number + step, step * 2
                continue
            if row is None:
                return
            number, step = row[0], 1
            if isinstance(row[3], bytes) and isinstance(row[2], int):
                yield row
