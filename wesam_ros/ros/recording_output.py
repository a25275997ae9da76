"""The way of a recording into the graph: its frames on the topics that the nodes listen to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
from wesam_ros.data.recordings.bags import BagMessage, FrameMessages, bag_info, find_topics, read_frame_messages, read_messages
from wesam_ros.data.recordings.reports import ReadingReport
from wesam_ros.data.recordings.topics import REQUESTS
from wesam_ros.data.recordings.transforms import transform_topics
from wesam_ros.data.stamps import SLOP_SECONDS
from wesam_ros.msg import Prompts
from wesam_ros.ros.transform_listener import QUEUE as TF_QUEUE
from wesam_ros.ros.transform_listener import STATIC as TF_STATIC

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
TF_AHEAD_NS = 2 * 10**8
"""Transforms are sent until they were recorded so much later than the image: those at its stamp lie between two of them."""


class RecordingOutput:
    """Publishes a recording on image, depth, camera_info, detections and prompts, as the bytes that were recorded.

    Compressed images are published on image/compressed and depth/compressedDepth, its transforms on /tf and /tf_static.

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
        self._transforms = self._transform_publishers(node)  # before the others: a node that hears those hears these
        self._moving: Iterator[BagMessage] = iter(())
        self._transforms_until = 0  # when the one that was sent last was recorded
        self.publishers: dict[str, Publisher[Any]] = {
            role: node.create_publisher(CLASSES[self.kinds[role]], role + SUFFIXES.get((role, self.kinds[role]), ""), QUEUE)
            for role in ROLES
            if role in self.kinds
        }

    def _transform_publishers(self, node: Node) -> dict[str, Publisher[Any]]:
        """Publishers by the recording's topics of transforms; none where it has none, or where tf2_msgs is not installed."""
        static, moving = transform_topics(bag_info(self.bag))
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError:
            return {}
        found: dict[str, Publisher[Any]] = {}
        for topics, name, qos in ((static, "/tf_static", TF_STATIC), (moving, "/tf", TF_QUEUE)):
            if topics:
                found |= dict.fromkeys(topics, node.create_publisher(TFMessage, name, qos))
        return found

    def begin_transforms(self) -> None:
        """Sends the static transforms, and begins again with the others."""
        static, moving = transform_topics(bag_info(self.bag))
        self._publish(read_messages(self.bag, static, ReadingReport()) if static and self._transforms else ())
        self._moving = read_messages(self.bag, moving, ReadingReport()) if moving and self._transforms else iter(())
        self._transforms_until = 0

    def send_transforms(self, parts: FrameMessages) -> None:
        """Sends the transforms up to a frame's image, and the next ones."""
        until = parts.by_role["image"].time_ns + TF_AHEAD_NS
        while self._transforms_until <= until and (message := next(self._moving, None)) is not None:
            self._publish([message])
            self._transforms_until = message.time_ns

    def _publish(self, rows: Iterable[BagMessage]) -> None:
        for row in rows:
            self._transforms[row.topic].publish(row.data)

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
