"""Recordings as they come off robots: every kind of file, packed, split, cut short, damaged, of other distributions; bad messages."""

from __future__ import annotations

import lzma
import shutil
import sqlite3
import struct
from binascii import crc32
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from backports import zstd
from recorded import TOPICS, bare, cut, file_of, gzipped, moved, packed, read, rows, write, written
from recorded_before import noetic
from rosbags.rosbag2 import CompressionMode, Reader, StoragePlugin

from wesam_ros.data.recordings import messages, unpacking
from wesam_ros.data.recordings.bags import bag_info, read_bag
from wesam_ros.data.recordings.parts import read_on
from wesam_ros.data.recordings.reports import ReadingReport
from wesam_ros.data.recordings.topics import BagError


def split(folder: Path, plugin: StoragePlugin) -> Path:
    """Six files without metadata, whose names do not sort as letters do."""
    folder.mkdir()
    for number in range(6):
        part = write(folder / "part", plugin, sent=rows(number, number + 1))
        file = file_of(part)
        moved(file, folder / f"bag_{number + 7}{file.suffix}")
        shutil.rmtree(part)
    return folder


def with_log(folder: Path) -> Path:
    """A database whose last messages are in the write-ahead log still."""
    file = file_of(folder)
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    (largest,) = connection.execute("SELECT max(timestamp) FROM messages").fetchone()
    late = connection.execute("SELECT topic_id, timestamp, data FROM messages WHERE timestamp = ?", (largest,)).fetchall()
    connection.execute("DELETE FROM messages WHERE timestamp = ?", (largest,))
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.executemany("INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)", late)
    connection.commit()
    kept = {each.name: each.read_bytes() for each in folder.iterdir()}  # closing would write the log into the database
    connection.close()
    for name, data in kept.items():
        (folder / name).write_bytes(data)
    assert (folder / f"{file.name}-wal").stat().st_size
    return folder


def records(data: bytes, place: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Kind, start and end of the records of an MCAP file."""
    while place < end:
        kind, length = struct.unpack_from("<BQ", data, place)
        yield kind, place, place + 9 + length
        place += 9 + length


def without_message_indexes(folder: Path) -> Path:
    """The file with chunk indexes that name no message index, as some writers leave them."""
    file = file_of(folder)
    data = bytearray(file.read_bytes())
    for kind, start, _ in records(bytes(data), 8, len(data) - 8):
        if kind == 0x08:
            # start and end time, offset and length of the chunk; then the map of offsets, which is renamed to channels that are not there
            (length,) = struct.unpack_from("<I", data, start + 9 + 32)
            rest = bytes(data[start + 9 + 36 + length : start + 9 + struct.unpack_from("<Q", data, start + 1)[0]])
            body = bytes(data[start + 9 : start + 9 + 32]) + struct.pack("<I", 0) + rest
            record = struct.pack("<BQ", 0x08, len(body)) + body
            gap = length - 9
            data[start : start + 9 + 36 + length + len(rest)] = record + struct.pack("<BQ", 0x7F, gap) + bytes(gap)
            break
    file.write_bytes(bytes(data))
    bare(folder)
    return folder


def changed(path: Path, command: str, *values: Any) -> Path:
    """A database after a command."""
    connection = sqlite3.connect(path)
    connection.execute(command, values)
    connection.commit()
    connection.close()
    return path


READ: dict[str, Callable[[Path], Path]] = {
    "mcap": lambda out: write(out / "bag"),
    "sqlite3": lambda out: write(out / "bag", StoragePlugin.SQLITE3),
    "zstd by file": lambda out: write(out / "bag", mode=CompressionMode.FILE),
    "zstd by message": lambda out: write(out / "bag", mode=CompressionMode.MESSAGE),
    "mcap file": lambda out: file_of(write(out / "bag")),
    "sqlite3 file": lambda out: file_of(write(out / "bag", StoragePlugin.SQLITE3)),
    "metadata.yaml given": lambda out: write(out / "bag") / "metadata.yaml",
    "no metadata": lambda out: bare(write(out / "bag")),
    "no metadata, sqlite3": lambda out: bare(write(out / "bag", StoragePlugin.SQLITE3)),
    "no metadata, zstd by message": lambda out: bare(write(out / "bag", mode=CompressionMode.MESSAGE)),
    "no metadata, zstd by message, sqlite3": lambda out: bare(write(out / "bag", StoragePlugin.SQLITE3, CompressionMode.MESSAGE)),
    "no metadata, zstd by file": lambda out: bare(write(out / "bag", mode=CompressionMode.FILE)),
    "a .zstd file": lambda out: file_of(write(out / "bag", mode=CompressionMode.FILE)),
    "a .zst file, sqlite3": lambda out: packed(file_of(write(out / "bag", StoragePlugin.SQLITE3))),
    "no metadata, split": lambda out: split(out / "bag", StoragePlugin.MCAP),
    "no metadata, split, sqlite3": lambda out: split(out / "bag", StoragePlugin.SQLITE3),
    "another ending": lambda out: moved(file_of(write(out / "bag")), out / "recording.mcap.1"),
    "odd letters": lambda out: moved(file_of(write(out / "bag", StoragePlugin.SQLITE3)), out / "run #3 100% übung?" / "a?b#c.db3"),
    "write-ahead log": lambda out: with_log(write(out / "bag", StoragePlugin.SQLITE3)),
    "write-ahead log, no metadata": lambda out: with_log(bare(write(out / "bag", StoragePlugin.SQLITE3))),
    "types as the first ROS 2 named them": lambda out: changed(
        file_of(write(out / "bag", StoragePlugin.SQLITE3)), "UPDATE topics SET type = replace(type, '/msg/', '/')"
    ),
    "an .xz file": lambda out: written(out / "a.mcap.xz", lzma.compress(file_of(write(out / "bag")).read_bytes())),
    "no message indexes": lambda out: without_message_indexes(write(out / "bag")),
}


@pytest.mark.parametrize("kind", READ)
def test_every_kind_of_file_is_read(kind: str, tmp_path: Path) -> None:
    path = READ[kind](tmp_path)
    assert bag_info(path) == {
        "/boxes": (messages.DETECTIONS, 6),
        "/depth": (messages.IMAGE, 6),
        "/info": (messages.CAMERA_INFO, 6),
        "/rgb": (messages.IMAGE, 6),
    }
    assert read(path) == [0, 1, 2, 3, 4, 5]


def metadata_edited(folder: Path, old: str, new: str) -> Path:
    file = folder / "metadata.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return folder


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("message_count: 6", "message_count: 0"),  # killed before it was written anew
        ("name: /rgb", "name: /other"),
        ("version: 9", "version: 99"),
        ("rosbag2_bagfile_information:", "{"),
        (".mcap", "_moved.mcap"),
    ],
)
def test_metadata_that_does_not_fit_is_not_used(old: str, new: str, tmp_path: Path) -> None:
    report = ReadingReport()
    assert read(metadata_edited(write(tmp_path / "bag"), old, new), report) == [0, 1, 2, 3, 4, 5]
    assert any("ros2 bag reindex" in note for note in report.notes)


def small_chunks(path: Path) -> Path:
    """An MCAP file with a chunk for each frame."""

    def chunk(body: bytes) -> bytes:
        packed = zstd.compress(body)
        head = struct.pack("<QQQI", 0, 0, len(body), crc32(body)) + struct.pack("<I", 4) + b"zstd" + struct.pack("<Q", len(packed))
        return struct.pack("<BQ", 0x06, len(head) + len(packed)) + head + packed

    def text(value: str) -> bytes:
        return struct.pack("<I", len(value.encode())) + value.encode()

    def record(kind: int, body: bytes) -> bytes:
        return struct.pack("<BQ", kind, len(body)) + body

    store, keys, data = messages.typestore(), dict[str, int](), b"\x89MCAP0\r\n" + record(0x01, text("ros2") + text("test"))
    for index in range(6):
        body = b""
        for topic, message, time in rows(index, index + 1):
            if topic not in keys:
                key = keys[topic] = len(keys) + 1
                definition = store.generate_msgdef(message.__msgtype__, ros_version=2)[0]
                body += record(0x03, struct.pack("<H", key) + text(message.__msgtype__) + text("ros2msg") + text(definition))
                body += record(0x04, struct.pack("<HH", key, key) + text(topic) + text("cdr") + struct.pack("<I", 0))
            body += record(0x05, struct.pack("<HIQQ", keys[topic], 0, time, time) + messages.serialize(message))
        data += chunk(body)
    path.write_bytes(data + record(0x0F, bytes(4)) + record(0x02, bytes(20)) + b"\x89MCAP0\r\n")
    return path


def spoilt(path: Path, share: float, count: int = 60) -> Path:
    """The file with some bytes in it overwritten."""
    data = bytearray(path.read_bytes())
    place = int(len(data) * share)
    data[place : place + count] = b"\xa5" * count
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize(
    ("make", "least", "words"),
    [
        (lambda out: cut(small_chunks(out / "a.mcap"), 0.7), 3, "cut short"),
        (lambda out: cut(small_chunks(out / "a.mcap"), 0.999), 6, "from its start"),
        (lambda out: spoilt(small_chunks(out / "a.mcap"), 0.5), 5, "1 damaged parts"),
        (lambda out: cut(file_of(write(out / "bag")), 0.5), 1, "cut short"),
        (lambda out: cut(file_of(write(out / "bag", StoragePlugin.SQLITE3)), 0.8), 1, "row by row"),
        (lambda out: spoilt(file_of(write(out / "bag", StoragePlugin.SQLITE3)), 0.5, 5000), 2, ""),
        (lambda out: cut(gzipped(small_chunks(out / "a.mcap")), 0.7), 2, "unpacked"),
        (lambda out: cut(file_of(write(out / "bag")), 0.5).parent, 1, "ros2 bag reindex"),
    ],
)
def test_what_is_whole_in_a_damaged_file_is_read(make: Callable[[Path], Path], least: int, words: str, tmp_path: Path) -> None:
    report = ReadingReport()
    found = read(make(tmp_path), report)
    assert len(found) >= least
    assert not words or any(words in note for note in report.notes)


DAMAGED: dict[str, Callable[[bytes], Any]] = {
    "cut short": lambda data: data[: len(data) // 2],
    "overwritten": lambda data: data[:20] + b"\xa5" * 20 + data[40:],
    "larger than any message": lambda _: zstd.compress(bytes(2**16 + 1)),
    "a number": lambda _: 7,
}


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_message_that_was_packed_by_itself_costs_itself_only(
    kind: str, metadata: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "LARGEST_MESSAGE", 2**16)
    folder = write(tmp_path / "bag", StoragePlugin.SQLITE3, CompressionMode.MESSAGE)
    file = file_of(folder)
    connection = sqlite3.connect(file)
    (data,) = connection.execute("SELECT data FROM messages WHERE id = 10").fetchone()  # the depth of the third frame
    connection.close()
    changed(file, "UPDATE messages SET data = ? WHERE id = 10", DAMAGED[kind](data))
    report = ReadingReport()
    frames = list(read_bag(folder if metadata else bare(folder), topics=TOPICS, report=report))
    assert [frame.depth is not None for frame in frames] == [True, True, False, True, True, True]
    assert report.counted() == "1 /depth.undecodable"


def test_reading_on_behind_damage_doubles_and_loses_nothing() -> None:
    whole = [(0, 1, b"a"), (1, 1, b"b"), (0, 2, b"c"), (1, 2, b"d"), (0, 2, b"e"), (1, 3, b"f")]

    def failing() -> Iterator[tuple[int, int, bytes]]:
        yield from whole[:3]
        raise ValueError("damaged")

    told: list[str] = []
    assert list(read_on(failing(), lambda: iter(whole), told.append)) == whole
    assert ["damaged behind 2 ns" in each for each in told] == [True]


def test_damage_that_is_met_on_the_way_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "bag")
    whole = Reader.messages

    def failing(self: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        yield from islice(whole(self, *args, **kwargs), 9)
        raise ValueError("a chunk is damaged")

    monkeypatch.setattr(Reader, "messages", failing)
    report = ReadingReport()
    frames = list(read_bag(path, topics=TOPICS, report=report))
    assert len(frames) >= 2
    assert any("a chunk is damaged" in note for note in report.notes)


def zipped(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), "zip", folder))


def tarred(folder: Path, kind: str) -> Path:
    return Path(shutil.make_archive(str(folder), f"{kind}tar", folder))


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nothing": (lambda out: out / "none.mcap", "does not exist"),
    "empty file": (lambda out: written(out / "a.mcap", b""), "it is empty"),
    "lfs": (lambda out: written(out / "a.mcap", b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "another file": (lambda out: written(out / "a.mcap", b"not a bag"), "neither MCAP, sqlite3 nor a ROS 1 bag"),
    "head of an mcap": (lambda out: cut(file_of(write(out / "bag")), 0.001), "mcap recover"),
    "head of a database": (lambda out: cut(file_of(write(out / "bag", StoragePlugin.SQLITE3)), 0.01), "sqlite3 .*recover"),
    "ROS 1, format 1": (lambda out: written(out / "a.bag", b"#ROSBAG V1.2\n"), "rosbag fix"),
    "head of a ROS 1 bag": (lambda out: cut(noetic(out / "a.bag"), 0.01), "no message in it is whole"),
    "a zip": (lambda out: zipped(write(out / "bag")), "it is a zip archive; unpack it"),
    "a tar": (lambda out: tarred(write(out / "bag"), ""), "it is a tar archive; unpack it"),
    "a packed tar": (lambda out: tarred(write(out / "bag"), "gz"), r"bag.tar.gz cannot be read: it is a tar archive; unpack it"),
    "damaged zstd": (
        lambda out: cut(packed(file_of(write(out / "bag"))), 0.1),
        r"zst cannot be read: it is packed, but cut short or damaged",
    ),
    "empty folder": (lambda out: out, "is no recording: it has no file named"),
    "folder of folders": (lambda out: write(out / "one").parent, "give one of the folders in it: one"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_named_with_what_helps(kind: str, tmp_path: Path) -> None:
    make, words = REFUSED[kind]
    with pytest.raises(BagError, match=words):
        bag_info(make(tmp_path))
