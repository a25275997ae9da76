"""The answers that a player in lock step waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from std_msgs.msg import UInt64

from wesam_ros.data.messages import stamp_of
from wesam_ros.msg import AdaptationStatus, ObjectArray
from wesam_ros.ros.subscriptions import LATCHED

TOPICS = ("segmenter/objects", "adapter/status", "segmenter/adapter_version")
QUEUE = 10
LOG = "see the log of that node and /diagnostics"
LOOK_SECONDS = 0.5
"""Seconds between two calls of `check` while waiting."""


class PlayerError(RuntimeError):
    """The graph did not do what the player waited for; the message says who did not answer what, and where to look."""


class Answers:
    """Takes the answers of segmenter and adapter node, while another thread spins.

    Args:
        node: the owner of the subscriptions.
        timeout: seconds to wait for each answer.

    Attributes:
        announcements: how many versions the segmenter has announced.
        check: called while waiting, twice a second; an exception of it ends the waiting.
    """

    def __init__(self, node: Node, timeout: float) -> None:
        self.announcements = 0
        self.check: Callable[[], None] = lambda: None
        self._node, self._timeout = node, timeout
        self._changed = threading.Condition()
        self._objects: set[int] = set()
        self._statuses: dict[int, tuple[bool, int]] = {}
        self._version = -1

    def subscribe(self) -> None:
        """Takes answers from now on."""
        objects, status, version = TOPICS
        self._node.create_subscription(ObjectArray, objects, self._on_objects, QUEUE)
        self._node.create_subscription(AdaptationStatus, status, self._on_status, QUEUE)
        self._node.create_subscription(UInt64, version, self._on_version, LATCHED)

    def wait_for_frame(self, stamp: int, announcements: int) -> None:
        """Waits for a frame's masks and status, and for the segmenter to take an adapter that the frame led to.

        A segmenter that has been told to use the frozen model says so, version 0, of each adapter that it gets: then one more
        announcement than `announcements`, the count before the frame, will do.

        Raises:
            PlayerError: an answer did not come in time.
        """

        def taken() -> bool:
            return self._version == version or (self._version == 0 and self.announcements > announcements)

        self.wait(lambda: stamp in self._objects, lambda: f"segmenter published no objects for the frame with stamp {stamp} ns")
        self.wait(lambda: stamp in self._statuses, lambda: f"adapter published no status for the frame with stamp {stamp} ns")
        published, version = self._statuses[stamp]
        if published:
            self.wait(taken, lambda: f"segmenter did not take adapter version {version} (it has {self._version})")
        with self._changed:
            self._objects.clear()
            self._statuses.clear()

    def wait(self, condition: Callable[[], bool], complaint: Callable[[], str], remedy: str = LOG, look: float = LOOK_SECONDS) -> None:
        """Waits until a condition holds that answers, or within `look` seconds anything else, may bring about.

        Raises:
            PlayerError: with the complaint and the remedy, where it does not in time.
            ExternalShutdownException: the process is asked to end.
        """
        end = time.monotonic() + self._timeout
        while True:
            with self._changed:
                if self._changed.wait_for(condition, look):
                    return
            if not rclpy.ok(context=self._node.context):
                raise ExternalShutdownException
            self.check()
            if time.monotonic() > end:
                raise PlayerError(f"{complaint()} within {self._timeout:g} s; {remedy}")

    def _on_objects(self, message: ObjectArray) -> None:
        with self._changed:
            self._objects.add(stamp_of(message.header))
            self._changed.notify_all()

    def _on_status(self, message: AdaptationStatus) -> None:
        with self._changed:
            self._statuses[stamp_of(message.header)] = (message.published, message.version)
            self._changed.notify_all()

    def _on_version(self, message: UInt64) -> None:
        with self._changed:
            self._version = message.data
            self.announcements += 1
            self._changed.notify_all()
