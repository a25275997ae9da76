"""The way of a recording into the graph: its frames on the topics that the nodes listen to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2DArray, Detection3DArray

from wesam_ros.data.recordings import messages
from wesam_ros.data.recordings.bags import FrameMessages, bag_info, find_topics, read_frame_messages
from wesam_ros.data.recordings.topics import REQUESTS
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

    Attributes:
        topics: of the recording.
        kinds: message type of each role that the recording has.

    Raises:
        BagError: the recording cannot be read, or it is not clear which topic is meant.
    """

    def __init__(self, node: Node, bag: Path, named: Mapping[str, str]) -> None:
        self.bag = bag
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
        """The recording's frames, without its true labels."""
        return read_frame_messages(self.bag, topics=self.topics, detections_required=False)

    def roles(self, parts: FrameMessages) -> list[str]:
        """The roles that a frame has messages of, in the order of sending."""
        return [role for role in ROLES if role in parts.by_role]

    def send(self, role: str, parts: FrameMessages) -> None:
        """Sends one message of a frame."""
        self.publishers[role].publish(parts.by_role[role].data)
