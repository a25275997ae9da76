"""Keeps what the nodes publish for each image of a recording."""

from __future__ import annotations

import time
from typing import Any

from rclpy.node import Node

from wesam_ros.data.messages import stamp_of
from wesam_ros.data.stamps import Runs
from wesam_ros.msg import AdaptationStatus, ObjectArray

QUEUE = 100


class Recorder:
    """The objects and statuses that were published, by run (see `Runs`) and stamp in nanoseconds: for an image with detections and prompts
    there are two."""

    def __init__(self, node: Node) -> None:
        """Subscribes with `node`."""
        self.objects: dict[tuple[int, int], list[ObjectArray]] = {}
        self.statuses: dict[tuple[int, int], list[AdaptationStatus]] = {}
        self.newest = 0.0
        """Monotonic seconds at which the last one came."""
        objects, statuses = Runs(), Runs()
        node.create_subscription(ObjectArray, "segmenter/objects", lambda message: self._keep(self.objects, objects, message), QUEUE)
        node.create_subscription(AdaptationStatus, "adapter/status", lambda message: self._keep(self.statuses, statuses, message), QUEUE)

    def _keep(self, kept: dict[tuple[int, int], list[Any]], runs: Runs, message: Any) -> None:
        stamp = stamp_of(message.header)
        kept.setdefault((runs.of(stamp), stamp), []).append(message)
        self.newest = time.monotonic()
