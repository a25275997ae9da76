"""The way of a recording into the graph: its frames on the topics that the nodes listen to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, Detection3DArray

from wesam_ros.data.recordings import messages
from wesam_ros.data.recordings.bags import BagMessage, FrameMessages, bag_info, find_topics, read_frame_messages
from wesam_ros.data.recordings.reports import ReadingReport
from wesam_ros.data.recordings.topics import REQUESTS
from wesam_ros.data.stamps import SLOP_SECONDS
from wesam_ros.msg import Prompts

ROLES = ("camera_info", "depth", "image", *REQUESTS)
"""In the order of sending. Requests come last, and so do their publishers: a node that hears them hears the others."""
CLASSES: dict[str, Any] = {
    messages.COMPRESSED_IMAGE: CompressedImage,
    messages.IMAGE: Image,
    messages.CAMERA_INFO: CameraInfo,
    messages.DETECTIONS: Detection2DArray,
    messages.DETECTIONS_3D: Detection3DArray,
    messages.PROMPTS: Prompts,
}
SUFFIXES = {("image", messages.COMPRESSED_IMAGE): "/compressed", ("depth", messages.COMPRESSED_IMAGE): "/compressedDepth"}
QUEUE = 10


class RecordingOutput:
    """Publishes a recording on image, depth, camera_info, detections and prompts, as the bytes that were recorded.

    Compressed images are published on image/compressed and depth/compressedDepth.

    Args:
        node: the owner of the publishers.
        bag: the recording.
        named: its topics by role, "" where there is one that is meant.
        sync_slop: seconds that the stamp of a depth may be off its image's.

    Attributes:
        reading: account of what the recording could not give.
        topics: of the recording.
        kinds: message type of each role that the recording has.

    Raises:
        BagError: the recording cannot be read, or it is not clear which topic is meant.
    """

    def __init__(self, node: Node, bag: Path, named: Mapping[str, str], sync_slop: float = SLOP_SECONDS) -> None:
        self.bag, self.reading, self._sync_slop = bag, ReadingReport(), sync_slop
        self.topics = find_topics(bag, named)
        kinds = {topic: kind for topic, (kind, _) in bag_info(bag).items()}
        self.kinds = {role: kinds[topic] for role, topic in asdict(self.topics).items() if topic in kinds}
        self.publishers: dict[str, Publisher[Any]] = {
            role: node.create_publisher(CLASSES[self.kinds[role]], role + SUFFIXES.get((role, self.kinds[role]), ""), QUEUE)
            for role in ROLES
            if role in self.kinds
        }

    @property
    def inputs(self) -> dict[str, Any]:
        """The parameters of segmenter and adapter node that fit the recording's messages."""
        return {
            "use_depth": "depth" in self.kinds,
            "image_transport": "compressed" if self.kinds["image"] == messages.COMPRESSED_IMAGE else "raw",
            "depth_transport": "compressedDepth" if self.kinds.get("depth") == messages.COMPRESSED_IMAGE else "raw",
        }

    def frames(self) -> Iterator[FrameMessages]:
        """The recording's frames, without its true labels, and without messages whose bytes are not of their type: no node could read them,
        and in lock step nothing would answer."""
        rows = read_frame_messages(self.bag, topics=self.topics, detections_required=False, report=self.reading, sync_slop=self._sync_slop)
        for parts in rows:
            readable = {role: message for role, message in parts.by_role.items() if self._is_readable(role, message)}
            if "image" in readable:
                yield FrameMessages(parts.stamp_ns, readable)

    def _is_readable(self, role: str, message: BagMessage) -> bool:
        try:
            messages.deserialize(message.data, message.msgtype)
        except Exception as error:  # rosbags raises many kinds for damaged bytes
            self.reading.leave_out(role, "undecodable", f"message on {message.topic} at {message.time_ns} ns is not sent: {error}")
            return False
        return True

    def roles(self, parts: FrameMessages) -> list[str]:
        """The roles that a frame has messages of, in the order of sending."""
        return [role for role in ROLES if role in parts.by_role]

    def send(self, role: str, parts: FrameMessages) -> None:
        """Sends one message of a frame."""
        self.publishers[role].publish(parts.by_role[role].data)

    def send_end(self, parts: FrameMessages) -> None:
        """Tells nodes in lock step, by empty messages of the image's stamp, whether depth or camera_info comes no more for it."""
        stamp = Time(sec=parts.stamp_ns // 10**9, nanosec=parts.stamp_ns % 10**9)
        for role in ("depth", "camera_info"):
            sent = parts.by_role.get(role)
            if role in self.publishers and (sent is None or sent.stamp_ns < parts.stamp_ns):
                self.publishers[role].publish(CLASSES[self.kinds[role]](header=Header(stamp=stamp)))
