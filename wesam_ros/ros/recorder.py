"""Keeps what the nodes publish for each image of a recording."""

from __future__ import annotations

import time
from typing import Any

from rclpy.node import Node

from wesam_ros.data.messages import stamp_of
from wesam_ros.msg import AdaptationStatus, ObjectArray

QUEUE = 100


class Recorder:
    """The objects and statuses that were published, by stamp in nanoseconds: for an image with detections and prompts there are two."""

    def __init__(self, node: Node) -> None:
        """Subscribes with `node`."""
        self.objects: dict[int, list[ObjectArray]] = {}
        self.statuses: dict[int, list[AdaptationStatus]] = {}
        self.newest = 0.0
        """Monotonic seconds at which the last one came."""
        node.create_subscription(ObjectArray, "segmenter/objects", lambda message: self._keep(self.objects, message), QUEUE)
        node.create_subscription(AdaptationStatus, "adapter/status", lambda message: self._keep(self.statuses, message), QUEUE)

    def _keep(self, kept: dict[int, list[Any]], message: Any) -> None:
        kept.setdefault(stamp_of(message.header), []).append(message)
        self.newest = time.monotonic()
