"""Recordings as they come off robots: every kind of file, packed, split, cut short, damaged, of other distributions; bad messages."""

from __future__ import annotations

import gzip
import shutil
import sqlite3
import struct
from binascii import crc32
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backports import zstd
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from wesam_ros.data import codecs
from wesam_ros.data.detections import Detections
from wesam_ros.data.recordings import messages
from wesam_ros.data.recordings.bags import bag_info, read_bag, read_messages, without_topics
from wesam_ros.data.recordings.definitions import FOXY
from wesam_ros.data.recordings.reports import ReadingReport
from wesam_ros.data.recordings.topics import BagError, BagTopics

START, STEP = 10**9, 10**8
SIZE = (24, 32)
CAMERA = np.array([[40.0, 0, 16], [0, 40, 12], [0, 0, 1]])
BOXES = Detections(np.array([[1, 2, 11, 12], [3, 4, 20, 23]], np.float32), ("7", "box"), ("cup", "bin"), np.array([0.75, 0.5], np.float32))
TOPICS = BagTopics(image="/rgb", depth="/depth", camera_info="/info", detections="/boxes", prompts="", labels="")
Row = tuple[str, Any, int]
ZSTD = CompressionFormat.ZSTD


def picture(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 255, (*SIZE, 3), dtype=np.uint8)


def raw(stamp: int, array: np.ndarray) -> Any:
    fields = codecs.encode_image(array)._asdict()
    data = np.frombuffer(fields.pop("data"), np.uint8)
    return messages.typestore().types[messages.IMAGE](header=messages.header(stamp), data=data, **fields)


def rows(first: int = 0, last: int = 6) -> Iterator[Row]:
    for index in range(first, last):
        stamp = START + index * STEP
        yield "/info", messages.camera_info(stamp, CAMERA, SIZE), stamp
        yield "/depth", raw(stamp, np.full(SIZE, 1000 + index, np.uint16)), stamp
        yield "/boxes", messages.detection_array(stamp, BOXES), stamp
        yield "/rgb", raw(stamp, picture(index)), stamp


def write(path: Path, plugin: StoragePlugin = StoragePlugin.MCAP, mode: CompressionMode | None = None, sent: Any = None) -> Path:
    """A folder as ros2 bag record leaves it, of six frames."""
    writer = Writer(path, version=9, storage_plugin=plugin)
    if mode is not None:
        writer.set_compression(mode, ZSTD)
    with writer:
        connections: dict[str, Any] = {}
        for topic, message, time in rows() if sent is None else sent:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=messages.typestore())
            writer.write(connections[topic], time, messages.serialize(message))
    return path


def file_of(folder: Path) -> Path:
    return next(each for each in folder.iterdir() if each.name != "metadata.yaml")


def read(path: Path, report: ReadingReport | None = None) -> list[int]:
    """Indices of the frames that are as they were sent."""
    found = []
    for frame in read_bag(path, topics=TOPICS, report=report or ReadingReport()):
        index = (frame.stamp_ns - START) // STEP
        np.testing.assert_array_equal(frame.image, picture(index))
        if frame.depth is not None:
            np.testing.assert_allclose(frame.depth, 1 + index / 1000, rtol=1e-6)
        if frame.detections is not None:
            np.testing.assert_allclose(frame.detections.boxes, BOXES.boxes)
            assert frame.detections.classes == BOXES.classes
        if frame.camera is not None:
            np.testing.assert_array_equal(frame.camera, CAMERA)
        found.append(index)
    return found


def bare(folder: Path) -> Path:
    (folder / "metadata.yaml").unlink()
    return folder


def moved(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)
    return target


def packed(path: Path) -> Path:
    target = path.with_name(f"{path.name}.zst")
    target.write_bytes(zstd.compress(path.read_bytes()))
    path.unlink()
    return target


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
    return bare(folder)


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


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
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


def old_rows(store: Typestore, number: bool) -> Iterator[tuple[str, Any, int]]:
    """The frames with the types of another distribution: BoundingBox2D's centre is geometry_msgs/Pose2D, results have an id and a score."""
    make = store.types
    pose = make["geometry_msgs/msg/PoseWithCovariance"](
        pose=make["geometry_msgs/msg/Pose"](
            position=make["geometry_msgs/msg/Point"](x=0.0, y=0.0, z=0.0),
            orientation=make["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=0.0, w=1.0),
        ),
        covariance=np.zeros(36),
    )

    def header(stamp: int) -> Any:
        time = make["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
        return make["std_msgs/msg/Header"](**({"seq": 5} if number else {}), stamp=time, frame_id="camera")

    def image(stamp: int, array: np.ndarray) -> Any:
        fields = codecs.encode_image(array)._asdict()
        data = np.frombuffer(fields.pop("data"), np.uint8)
        return make["sensor_msgs/msg/Image"](header=header(stamp), data=data, **fields)

    def box(stamp: int, row: int) -> Any:
        x0, y0, x1, y1 = BOXES.boxes[row].astype(float)
        centre = make["geometry_msgs/msg/Pose2D"](x=(x0 + x1) / 2, y=(y0 + y1) / 2, theta=0.0)
        result = make["vision_msgs/msg/ObjectHypothesisWithPose"](id=41 + row if number else BOXES.classes[row], score=0.5, pose=pose)
        nothing = image(0, np.zeros((1, 1), np.uint8))
        return make["vision_msgs/msg/Detection2D"](
            header=header(stamp),
            results=[result],
            bbox=make["vision_msgs/msg/BoundingBox2D"](center=centre, size_x=x1 - x0, size_y=y1 - y0),
            source_img=nothing,
            **({} if number else {"is_tracking": True, "tracking_id": f"t{row}"}),
        )

    region = make["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    for index in range(6):
        stamp = START + index * STEP
        matrices = {"d": np.zeros(5), "k": CAMERA.ravel(), "r": np.eye(3).ravel(), "p": np.zeros(12)}
        yield (
            "/info",
            make["sensor_msgs/msg/CameraInfo"](
                header=header(stamp),
                height=SIZE[0],
                width=SIZE[1],
                distortion_model="plumb_bob",
                binning_x=0,
                binning_y=0,
                roi=region,
                **{name.upper() if number else name: value for name, value in matrices.items()},
            ),
            stamp,
        )
        yield "/depth", image(stamp, np.full(SIZE, 1000 + index, np.uint16)), stamp
        yield "/boxes", make["vision_msgs/msg/Detection2DArray"](header=header(stamp), detections=[box(stamp, 0), box(stamp, 1)]), stamp
        yield "/rgb", image(stamp, picture(index)), stamp


NOETIC = {
    "vision_msgs/msg/ObjectHypothesisWithPose": "int64 id\nfloat64 score\ngeometry_msgs/PoseWithCovariance pose",
    "vision_msgs/msg/BoundingBox2D": "geometry_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "vision_msgs/msg/Detection2D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\nvision_msgs/BoundingBox2D bbox\n"
        "sensor_msgs/Image source_img"
    ),
    "vision_msgs/msg/Detection2DArray": "std_msgs/Header header\nvision_msgs/Detection2D[] detections",
}


def store_of(base: Stores, texts: dict[str, str]) -> Typestore:
    known = get_typestore(base)
    store = get_typestore(Stores.EMPTY)
    store.register({name: fields for name, fields in known.fielddefs.items() if not name.startswith("vision_msgs/")})
    for name, text in texts.items():
        store.register(get_types_from_msg(text, name))
    return store


def noetic(path: Path) -> Path:
    store = store_of(Stores.ROS1_NOETIC, NOETIC)
    with Writer1(path) as writer:
        connections: dict[str, Any] = {}
        for topic, message, time in old_rows(store, number=True):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=store)
            writer.write(connections[topic], time, store.serialize_ros1(message, message.__msgtype__))
    return path


def foxy(path: Path, plugin: StoragePlugin, definitions: bool) -> Path:
    store = store_of(Stores.ROS2_FOXY, FOXY)
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        connections: dict[str, Any] = {}
        for topic, message, time in old_rows(store, number=False):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=store)
            writer.write(connections[topic], time, store.serialize_cdr(message, message.__msgtype__))
    if not definitions:
        with sqlite3.connect(file_of(path)) as connection:
            connection.execute("DROP TABLE message_definitions")
            connection.execute("UPDATE schema SET schema_version = 3")
    return path


def unindexed(path: Path) -> Path:
    """A bag whose writer was killed: no index, and no word of where it is."""
    data = bytearray(path.read_bytes())
    place = data.index(b"index_pos=") + 10
    (end,) = struct.unpack_from("<Q", data, place)
    data[place : place + 8] = bytes(8)
    path.write_bytes(bytes(data[:end]))
    return path


@pytest.mark.parametrize(
    ("make", "classes"),
    [
        (lambda out: noetic(out / "a.bag"), ("41", "42")),
        (lambda out: unindexed(noetic(out / "a.bag.active")), ("41", "42")),
        (lambda out: gzipped(noetic(out / "a.bag")), ("41", "42")),
        (lambda out: foxy(out / "bag", StoragePlugin.MCAP, True), BOXES.classes),
        (lambda out: foxy(out / "bag", StoragePlugin.SQLITE3, True), BOXES.classes),
    ],
)
def test_recordings_of_other_distributions_are_read(make: Callable[[Path], Path], classes: tuple[str, ...], tmp_path: Path) -> None:
    path = make(tmp_path)
    report = ReadingReport()
    frames = list(read_bag(path, topics=TOPICS, report=report))
    assert not report.left_out
    assert len(frames) == 6
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.image, picture(index))
        np.testing.assert_allclose(frame.depth, 1 + index / 1000, rtol=1e-6)
        np.testing.assert_array_equal(frame.camera, CAMERA)
        np.testing.assert_allclose(frame.detections.boxes, BOXES.boxes)
        assert frame.detections.classes == classes
    for message in read_messages(path, ["/boxes"]):  # what the player publishes
        messages.deserialize(message.data, message.msgtype)


def gzipped(path: Path) -> Path:
    target = path.with_name(f"{path.name}.gz")
    target.write_bytes(gzip.compress(path.read_bytes()))
    return target


def test_detections_without_a_definition_are_told_by_their_bytes(tmp_path: Path) -> None:
    for name, path in {"foxy": foxy(tmp_path / "old", StoragePlugin.SQLITE3, False), "ours": tmp_path / "new"}.items():
        if name == "ours":
            write(path, StoragePlugin.SQLITE3)
            with sqlite3.connect(file_of(path)) as connection:
                connection.execute("DROP TABLE message_definitions")
                connection.execute("UPDATE schema SET schema_version = 3")
        assert all(frame.detections.classes == BOXES.classes for frame in read_bag(path, topics=TOPICS))


def test_a_copy_of_a_noetic_bag_is_one_of_ros_2(tmp_path: Path) -> None:
    without_topics(noetic(tmp_path / "a.bag"), tmp_path / "b.mcap", ["/depth"])
    frames = list(read_bag(tmp_path / "b.mcap", topics=TOPICS))
    assert [frame.depth is None and len(frame.detections) == 2 for frame in frames] == [True] * 6


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nothing": (lambda out: out / "none.mcap", "does not exist"),
    "empty file": (lambda out: written(out / "a.mcap", b""), "it is empty"),
    "lfs": (lambda out: written(out / "a.mcap", b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "another file": (lambda out: written(out / "a.mcap", b"not a bag"), "neither MCAP, sqlite3 nor a ROS 1 bag"),
    "head of an mcap": (lambda out: cut(file_of(write(out / "bag")), 0.001), "mcap recover"),
    "head of a database": (lambda out: cut(file_of(write(out / "bag", StoragePlugin.SQLITE3)), 0.01), "sqlite3 .*recover"),
    "ROS 1, format 1": (lambda out: written(out / "a.bag", b"#ROSBAG V1.2\n"), "rosbag fix"),
    "head of a ROS 1 bag": (lambda out: cut(noetic(out / "a.bag"), 0.01), "no message in it is whole"),
    "empty folder": (lambda out: out, "is no recording: it has no file named"),
    "folder of folders": (lambda out: write(out / "one").parent, "give one of the folders in it: one"),
}


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_named_with_what_helps(kind: str, tmp_path: Path) -> None:
    make, words = REFUSED[kind]
    with pytest.raises(BagError, match=words):
        bag_info(make(tmp_path))


def changed(index: int, topic: str, message: Any) -> Iterator[Row]:
    """The six frames, with another message on one topic of one frame."""
    for number, row in enumerate(rows()):
        yield (topic, message, row[2]) if number // 4 == index and row[0] == topic else row


def an_image(**fields: Any) -> Any:
    message = raw(START + 3 * STEP, picture(3))
    for name, value in fields.items():
        setattr(message, name, value)
    return message


JPEG = codecs.encode_jpeg(picture(3))
STAMP = START + 3 * STEP


@pytest.mark.parametrize(
    ("topic", "message", "role", "reason"),
    [
        ("/rgb", an_image(encoding="odd"), "image", "unknown_encoding"),
        ("/rgb", an_image(height=0), "image", "empty"),
        ("/rgb", an_image(data=np.zeros(10, np.uint8)), "image", "truncated"),
        ("/depth", raw(STAMP, np.full((12, 16), 1000, np.uint16)), "depth", "wrong_size"),
        ("/depth", raw(STAMP, np.full(SIZE, 900.0, np.float32)), "depth", "wrong_unit"),
    ],
)
def test_a_bad_message_costs_itself_only(topic: str, message: Any, role: str, reason: str, tmp_path: Path) -> None:
    report = ReadingReport()
    path = write(tmp_path / "bag", sent=changed(3, topic, message))
    frames = {(f.stamp_ns - START) // STEP: f for f in read_bag(path, topics=TOPICS, report=report)}
    assert report.left_out == {(role, reason): 1}
    assert f"on {topic} with stamp {STAMP}" in report.sentences()[0]
    assert report.frames == len(frames) == (5 if role == "image" else 6)
    assert (3 in frames) == (role != "image")
    assert [index for index, frame in frames.items() if frame.depth is None] == ([3] if role == "depth" else [])


def test_a_message_without_a_header_costs_itself_only(tmp_path: Path) -> None:
    path = tmp_path / "bag"
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        image = writer.add_connection("/rgb", messages.IMAGE, typestore=messages.typestore())
        boxes = writer.add_connection("/boxes", messages.DETECTIONS, typestore=messages.typestore())
        writer.write(boxes, START, b"\0\1\0\0")
        writer.write(image, START, messages.serialize(raw(START, picture(0))))
        writer.write(boxes, START, messages.serialize(messages.detection_array(START, BOXES))[:-30])
    report = ReadingReport()
    (frame,) = read_bag(path, topics=BagTopics(image="/rgb", detections="/boxes"), report=report)
    assert frame.detections is None
    assert report.left_out == {("detections", "no_header"): 1, ("detections", "undecodable"): 1}


def test_without_a_report_what_is_left_out_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "bag", sent=changed(3, "/rgb", an_image(encoding="odd")))
    assert len(list(read_bag(path, topics=TOPICS))) == 5
    assert "1 of image left out (unknown_encoding)" in caplog.text
