"""The inputs of one robot: its subscriptions, their synchronizer and their health, wired together."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2DArray, Detection3DArray

from wesam_ros.data.messages import stamp_of
from wesam_ros.data.stamps import nanoseconds
from wesam_ros.data.synchronizer import REQUESTS, SynchronizedFrame, Synchronizer
from wesam_ros.msg import Prompts
from wesam_ros.ros.diagnostics import Diagnostics
from wesam_ros.ros.input_health import InputHealth
from wesam_ros.ros.input_subscription import InputSubscription, Way
from wesam_ros.ros.parameters import Declared
from wesam_ros.ros.same_stamp import SameStamp
from wesam_ros.settings import InputParameters

LOCK_STEP_WAIT = 10.0
"""Seconds that a frame waits for its parts in lock step: the player sends all of them."""
EXPIRE_PERIOD = 0.05
"""Seconds between two looks for frames that have waited long enough."""


class Inputs:
    """Subscribes to image, depth, camera_info, detections and prompts, and hands on each frame that is complete.

    Args:
        node: the owner of the subscriptions.
        declared: its parameters.
        diagnostics: its counters.
        complete: called with each synchronised frame, in the executor's thread.
        prefix: of the topics' names: a robot's namespace and a slash, or nothing for the node's own.
    """

    def __init__(
        self, node: Node, declared: Declared[Any], diagnostics: Diagnostics, complete: Callable[[SynchronizedFrame], None], prefix: str = ""
    ) -> None:
        self._node, self._declared, self._diagnostics = node, declared, diagnostics
        parameters: InputParameters = declared.value
        self.subscriptions: dict[str, InputSubscription] = {}
        self._asked = -np.inf
        self.health = InputHealth(diagnostics, prefix, self.subscriptions, requested=not asks_for_all(parameters))
        self._same_stamp = SameStamp(self.health.counted)
        self._complete = complete
        self._depth_offset = f"{prefix}depth_offset_ms"
        slop = nanoseconds(parameters.sync_slop)
        self._synchronizer = Synchronizer(parameters.ring_length, self._hand_on, self.health.unsynchronized, slop)
        # The requests come last: a publisher that sees them matched knows that the others are there.
        for kind, types in input_types(parameters):
            topic = node.resolve_topic_name(prefix + kind)
            ways = [Way(message_type, topic + suffix) for message_type, suffix in types]
            self.subscriptions[kind] = InputSubscription(node, diagnostics, ways, prefix + kind, partial(self._synchronize, kind))
        # Waits are in real time, also where ROS time stands still or goes back.
        self._timer = node.create_timer(EXPIRE_PERIOD, self._follow, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def close(self) -> None:
        """Ends the subscriptions."""
        self._node.destroy_timer(self._timer)
        for each in self.subscriptions.values():
            each.close()

    def _synchronize(self, kind: str, message: Any) -> None:
        parameters: InputParameters = self._declared.value
        stamp, now = stamp_of(message.header), time.monotonic()
        if parameters.lock_step and says_nothing(kind, message):
            self._synchronizer.nothing(kind, stamp, now, self._expected())
            return
        if kind in REQUESTS:
            message = self._same_stamp.wrapped(kind, stamp, message)
        if message is not None:
            self._synchronizer.add(kind, stamp, message, now, self._expected())
            if kind == "image" and asks_for_all(parameters) and self._is_due(parameters, now):
                request = self._same_stamp.wrapped("detections", stamp, Detection2DArray(header=message.header))
                if request is not None:  # its proposals are found in the worker thread
                    self._synchronizer.add("detections", stamp, request, now, self._expected())

    def _is_due(self, parameters: Any, now: float) -> bool:
        """True where the image that has come now is to be segmented whole."""
        if not parameters.lock_step and parameters.propose_rate and now - self._asked < 1 / parameters.propose_rate:
            return False
        self._asked = now
        return True

    def _hand_on(self, frame: SynchronizedFrame) -> None:
        if frame.depth_offset is not None:
            self._diagnostics.timing(self._depth_offset, abs(frame.depth_offset) / 1e6)
        self._complete(self._same_stamp.complete(frame))

    def _expected(self) -> frozenset[str]:
        """The kinds that a frame waits for: depth and camera_info, where someone publishes them."""
        return frozenset(kind for kind in ("depth", "camera_info") if kind in self.subscriptions and self.subscriptions[kind].publishers())

    def _follow(self) -> None:
        for each in self.subscriptions.values():
            each.follow()
        parameters: InputParameters = self._declared.value
        wait = LOCK_STEP_WAIT if parameters.lock_step else parameters.join_wait
        self._synchronizer.expire(time.monotonic(), wait, self._expected())


def says_nothing(kind: str, message: Any) -> bool:
    """True for an empty depth or camera_info. With it, a player in lock step says that it has none for the image of this stamp."""
    return (kind == "depth" and not len(message.data)) or (kind == "camera_info" and not message.width and not any(message.k))


def asks_for_all(parameters: Any) -> bool:
    """True for a node that segments whole images, without a detector."""
    return getattr(parameters, "propose", "off") == "all"


def input_types(parameters: InputParameters) -> list[tuple[str, list[tuple[Any, str]]]]:
    """Each input with the ways in which it may come, the best first: message type and suffix of the topic. Requests are last."""
    inputs = [("image", _transports(parameters.image_transport, "compressed"))]
    if parameters.use_depth:
        inputs.append(("depth", _transports(parameters.depth_transport, "compressedDepth")))
        inputs.append(("camera_info", [(CameraInfo, "")]))
    if not asks_for_all(parameters):
        inputs.append(("detections", [(Detection2DArray, ""), (Detection3DArray, "")]))
    return [*inputs, ("prompts", [(Prompts, "")])]


def _transports(chosen: str, compressed: str) -> list[tuple[Any, str]]:
    ways: dict[str, tuple[Any, str]] = {"raw": (Image, ""), compressed: (CompressedImage, f"/{compressed}")}
    return list(ways.values()) if chosen == "auto" else [ways[chosen]]
