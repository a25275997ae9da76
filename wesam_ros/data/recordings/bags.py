"""Recordings (MCAP, sqlite3, ROS 1), read and written without ROS.

A frame's messages are joined by the stamps in their headers (joining.py); the time at which the recorder got them only orders the stream.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg

from wesam_ros.data import codecs
from wesam_ros.data.frames import Frame
from wesam_ros.data.recordings import messages
from wesam_ros.data.recordings.decoding import BagMessage as BagMessage
from wesam_ros.data.recordings.decoding import Conversion, usable_frame
from wesam_ros.data.recordings.decoding import FrameMessages as FrameMessages
from wesam_ros.data.recordings.decoding import decode_frame as decode_frame
from wesam_ros.data.recordings.definitions import Channel
from wesam_ros.data.recordings.depth_candidates import depth_candidates, pictures_beside
from wesam_ros.data.recordings.joining import Joiner, in_runs
from wesam_ros.data.recordings.opening import fingerprint, opened
from wesam_ros.data.recordings.reports import ReadingReport
from wesam_ros.data.recordings.same_stamp import merged_by_stamp
from wesam_ros.data.recordings.topics import (
    DEFAULT_TOPICS,
    NO_TOPIC,
    REQUESTS,
    BagError,
    BagTopics,
    check_type,
    choose_topics,
    missing_topic,
)
from wesam_ros.data.recordings.transforms import RecordedTransforms
from wesam_ros.data.stamps import SLOP_SECONDS, nanoseconds

log = logging.getLogger(__name__)


def bag_info(path: Path) -> dict[str, tuple[str, int]]:
    """Type and number of messages of each topic.

    Raises:
        BagError: no such bag, or one of which nothing can be read.
    """
    return dict(_info(path, fingerprint(path)))


def bag_notes(path: Path) -> list[str]:
    """A sentence for each thing of a bag's files that is not as a recorder leaves it, such as a missing index. Raises BagError."""
    with opened(path) as recording:
        return list(recording.notes)


@lru_cache(maxsize=16)
def _info(path: Path, _: Any) -> dict[str, tuple[str, int]]:
    with opened(path) as recording:
        return recording.topics


def read_messages(path: Path, topics: Collection[str] | None = None, report: ReadingReport | None = None) -> Iterator[BagMessage]:
    """All messages of a bag in the order of recording, of the given topics or of all, without holding more than a chunk in memory.

    A message whose bytes are not of its type is left out, and counted in `report`.

    Raises:
        BagError: no such bag, or one of which nothing can be read, while iterating as well.
    """
    with opened(path) as recording:
        report = report or ReadingReport()
        told = len(recording.notes)
        for sentence in recording.notes:
            report.note(f"bag {path}: {sentence}")

        def refused(channel: Channel, time_ns: int, sentence: str) -> None:
            report.leave_out(channel.topic, "undecodable", f"message on {channel.topic} at {time_ns} ns: {sentence}")

        rows = recording.messages(topics, refused)
        while True:
            try:
                channel, time_ns, data = next(rows)
            except StopIteration:
                for sentence in recording.notes[told:]:  # of damage that was met on the way
                    log.warning("bag %s: %s", path, sentence)
                    report.note(f"bag {path}: {sentence}")
                return
            except Exception as error:  # rosbags raises many kinds for damaged files
                why = str(error) or type(error).__name__
                raise BagError(f"bag {path} cannot be read: {why}; `mcap recover` or `ros2 bag reindex` may mend it") from error
            yield BagMessage(channel.topic, channel.msgtype, time_ns, bytes(data))


def find_topics(path: Path, named: Mapping[str, str] | None = None, *, detections_required: bool = False) -> BagTopics:
    """The topics of a bag: those named, else the usual ones, else the only ones that may be meant by type and name; "" where there is none.

    Args:
        path: the bag.
        named: topic by role, NO_TOPIC where there is to be none.
        detections_required: whether a bag with neither detections nor prompts is an error.

    Raises:
        BagError: no bag, no such topic or of another type, no image, or several topics that may be meant; the message lists them and says
            how to name one.
    """
    named = named or {}
    there = bag_info(path)
    found = choose_topics(path, there, named, detections_required=detections_required)
    if not found.depth and named.get("depth") != NO_TOPIC:
        _tell_of_depth(path, there, found)
    return found


def _tell_of_depth(path: Path, there: Mapping[str, tuple[str, int]], found: BagTopics) -> None:
    """Logs the topics that may be depth by type and encoding, where none is by name."""
    pictures = pictures_beside(there, found)
    firsts = {topic: first for topic in pictures if (first := next(read_messages(path, [topic], ReadingReport()), None)) is not None}
    if sentence := depth_candidates(firsts):
        log.warning("bag %s: %s", path, sentence)


def _roles(path: Path, topics: BagTopics, required: Collection[str], wanted: Collection[str]) -> dict[str, str]:
    """Role of each topic that is in the bag; BagError where a required one is missing or one has another type."""
    there = bag_info(path)
    roles: dict[str, str] = {}
    for role in wanted:
        topic = getattr(topics, role)
        if topic not in there:
            if role in required:
                raise missing_topic(path, there, role, topic=topic)
            if topic:
                log.info("bag %s has no topic %s: frames come without %s", path, topic, role)
            continue
        check_type(path, there, role, topic)
        roles[topic] = role
    return roles


def read_frame_messages(
    path: Path,
    *,
    topics: BagTopics | None = None,
    labels: bool = False,
    detections_required: bool = True,
    report: ReadingReport | None = None,
    sync_slop: float = SLOP_SECONDS,
) -> Iterator[FrameMessages]:
    """The messages of each image, joined by their stamps, still serialised, in the order of the images.

    Depth is the nearest one within `sync_slop`. An image waits for its partners while newer images are read (see `Joiner`); then it comes
    without them. For an image without a camera info of its stamp the last one seen is taken, as it seldom changes. Without `labels` the
    topic of true labels is not read at all.

    Args:
        path: the bag.
        topics: where it has what; None = as `find_topics` finds them.
        labels: whether to read the true labels; then their topic is required.
        detections_required: whether a bag with neither detections nor prompts is an error.
        report: where messages that are no use are counted; None logs them at the end.
        sync_slop: seconds that the stamp of a depth may be off its image's; 0 = none.

    Raises:
        BagError: no such bag, damaged, no image topic, no topic of detections or prompts or of labels where required.
    """
    topics = find_topics(path) if topics is None else topics
    wanted = [f.name for f in fields(BagTopics) if labels or f.name != "labels"]
    roles = _roles(path, topics, {"image", "labels"}, wanted)
    if detections_required and not any(role in REQUESTS for role in roles.values()):
        raise missing_topic(path, bag_info(path), *REQUESTS)
    account = report or ReadingReport()
    joiner = Joiner({role: topic for topic, role in roles.items()}, account, nanoseconds(sync_slop))
    yield from _joined(in_runs(read_messages(path, roles, account), roles), roles, joiner, account)
    for sentence in joiner.unjoined():
        log.warning("bag %s: %s", path, sentence)
        account.note(sentence)
    if report is None:
        account.tell(path.name)


def _joined(
    rows: Iterable[tuple[int, BagMessage]], roles: Mapping[str, str], joiner: Joiner, account: ReadingReport
) -> Iterator[FrameMessages]:
    """Yields the joined messages of each image of the runs of a recording."""
    run = 0
    for run, group in groupby(rows, key=itemgetter(0)):
        if run:
            yield from joiner.start_again()
        for message in merged_by_stamp((row for _, row in group), roles, account.leave_out):
            try:
                joiner.add(roles[message.topic], message)
            except BagError as error:
                account.leave_out(roles[message.topic], "no_header", str(error))
                continue
            yield from joiner.finished()
    yield from joiner.rest()
    if run:
        account.note(f"stamps go back {run} times, as where a simulation starts again; each part is joined for itself")


def read_bag(
    path: Path,
    *,
    topics: BagTopics | None = None,
    labels: bool = False,
    detections_required: bool = True,
    report: ReadingReport | None = None,
    sync_slop: float = SLOP_SECONDS,
    rectified: str = "auto",
) -> Iterator[Frame]:
    """Frames of a bag in the order of its images, decoded one at a time; `sequence` is the bag's name.

    Arguments as of `read_frame_messages`, and `rectified` as of `camera_of_info`. What a bag or a stamp does not have (depth, camera info,
    detections, prompts) is None in the frame; labels are None unless asked for. A message that cannot be used costs itself only: a bad
    image its frame, any other itself. Each is counted in `report`; with None they are logged at the end.

    Raises:
        BagError: as `read_frame_messages`.
    """
    account = report or ReadingReport()
    rows = read_frame_messages(
        path, topics=topics, labels=labels, detections_required=detections_required, report=account, sync_slop=sync_slop
    )
    conversion = conversion_of(path, rectified)
    yield from (frame for parts in rows if (frame := usable_frame(parts, path.stem, account, conversion)) is not None)
    if report is None:
        account.tell(path.name)


def conversion_of(path: Path, rectified: str) -> Conversion:
    """Things that the messages of a bag do not say themselves: whether its images are `rectified`, and its transforms."""
    return Conversion(rectified, RecordedTransforms(bag_info(path), lambda topics: read_messages(path, topics, ReadingReport())))


@contextmanager
def _writing(path: Path) -> Iterator[Writer]:
    """A writer of one MCAP file that appears under its name only when it is complete, replacing what was there."""
    if path.suffix != ".mcap":
        raise BagError(f"bag to write must be named *.mcap, but got {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.stem}.", dir=path.parent) as folder:
        # The file's name is written into its metadata: inside the temporary folder it is the final one already.
        written = Path(folder, path.stem)
        writer = Writer(written, version=9, storage_plugin=StoragePlugin.MCAP)
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        with writer:
            yield writer
        (written / f"{path.stem}.mcap").replace(path)


def write_bag(
    path: Path,
    frames: Iterable[Frame],
    *,
    topics: BagTopics = DEFAULT_TOPICS,
    jpeg_quality: int = 85,
    labels: bool = True,
) -> int:
    """Write frames as an MCAP file: JPEG colour, compressedDepth (16UC1 PNG, mm), camera info, detections, prompts, labels (16-bit PNG).

    The same frames give the same bytes. The file appears when it is complete; an older one is replaced. What a frame does not have is
    left out, and with `labels=False` the labels are, too. `void` has no place in a recording: its pixels become background.

    Returns:
        How many frames were written.

    Raises:
        BagError: no frame at all, a stamp that is not later than the one before, or a name without .mcap.
    """
    count, last = 0, -1
    with _writing(path) as writer:
        connections: dict[str, Any] = {}
        for frame in frames:
            stamp = frame.stamp_ns
            if stamp <= last:
                raise BagError(f"stamps must grow from frame to frame, but frame {count} has {stamp} ns after {last} ns")
            for role, message in _messages_of(frame, jpeg_quality, labels):
                topic = getattr(topics, role)
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=messages.typestore())
                writer.write(connections[topic], stamp, messages.serialize(message))
            count, last = count + 1, stamp
        if not count:
            raise BagError(f"there is no frame to write to {path}")
    return count


def _messages_of(frame: Frame, jpeg_quality: int, labels: bool) -> Iterator[tuple[str, Any]]:
    """Role and message of everything that a frame has; the image last, so that its partners are there when it comes."""
    stamp = frame.stamp_ns
    if frame.camera is not None:
        if frame.camera.ndim != 2:
            raise BagError(f"frame at {stamp} ns must have an intrinsic matrix, but has rays; write a rectified image")
        yield "camera_info", messages.camera_info(stamp, frame.camera.astype(np.float64, copy=False), frame.size)
    if frame.depth is not None:
        yield "depth", messages.compressed_image(stamp, *codecs.encode_compressed_depth(frame.depth))
    if frame.detections is not None:
        yield "detections", messages.detection_array(stamp, frame.detections)
    if frame.prompted is not None:
        yield "prompts", messages.prompt_array(stamp, frame.prompted)
    if labels and frame.labels is not None:
        yield "labels", messages.compressed_image(stamp, "16UC1; png compressed ", codecs.encode_png(frame.labels))
    jpeg = codecs.encode_jpeg(frame.image, jpeg_quality)
    yield "image", messages.compressed_image(stamp, "rgb8; jpeg compressed bgr8", jpeg)


def without_topics(source: Path, target: Path, topics: Collection[str]) -> None:
    """Copy a bag to an MCAP file without some topics; the other messages stay as they are, byte for byte.

    Raises:
        BagError: `source` cannot be read, or does not have one of the topics.
    """
    with opened(source) as recording:
        there = recording.topics
        if missing := [topic for topic in topics if topic not in there]:
            raise BagError(f"bag {source} has no topic {', '.join(missing)}; its topics are {', '.join(there)}")
        with _writing(target) as writer:
            connections: dict[tuple[str, str], Connection] = {}
            for channel, time_ns, data in recording.messages([topic for topic in there if topic not in topics]):
                place = (channel.topic, channel.msgtype)
                if place not in connections:
                    connections[place] = _connect(writer, channel)
                writer.write(connections[place], time_ns, data)


def _connect(writer: Writer, like: Channel) -> Connection:
    """Topic of a new bag like that of another; message types that we do not know are taken over from the bag's own definitions."""
    store = messages.typestore()
    if like.msgtype not in store.types:
        if like.definition.format != MessageDefinitionFormat.MSG:
            raise BagError(f"topic {like.topic} has type {like.msgtype}, which the bag does not define; leave the topic out")
        store.register(get_types_from_msg(like.definition.data, like.msgtype))
    return writer.add_connection(like.topic, like.msgtype, typestore=store)
