"""Plays a recording into the graph, for machines without rosbag2, and in lock step: each frame waits for the answers to the last one."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import UInt64
from vision_msgs.msg import Detection2DArray

from wesam_ros.data.recordings import messages
from wesam_ros.data.recordings.bags import FrameMessages, bag_info, find_topics, read_frame_messages
from wesam_ros.data.recordings.topics import REQUESTS, BagError
from wesam_ros.msg import AdaptationStatus, ObjectArray, Prompts
from wesam_ros.ros.conversions import stamp_of
from wesam_ros.ros.parameters import declare
from wesam_ros.ros.subscriptions import LATCHED
from wesam_ros.settings import PlayerParameters

ROLES = ("camera_info", "depth", "image", *REQUESTS)
"""In the order of sending. What says what to segment comes last, and so do its publishers: who hears them hears the others."""
CLASSES: dict[str, Any] = {
    messages.COMPRESSED_IMAGE: CompressedImage,
    messages.IMAGE: Image,
    messages.CAMERA_INFO: CameraInfo,
    messages.DETECTIONS: Detection2DArray,
    messages.PROMPTS: Prompts,
}
SUFFIXES = {("image", messages.COMPRESSED_IMAGE): "/compressed", ("depth", messages.COMPRESSED_IMAGE): "/compressedDepth"}
QUEUE = 10
PATIENCE = 5.0
"""Seconds that the end of a process waits for the middleware."""


class PlayerError(RuntimeError):
    """The graph did not do what the player waited for; the message says who did not answer what, and where to look."""


class Player(Node):
    """Publishes the frames of a recording on image, depth, camera_info, detections and prompts, and waits for answers in lock step.

    Compressed images are published on image/compressed and depth/compressedDepth. Messages go out as the bytes that were recorded.
    Something else must spin the node (see `play`).
    """

    def __init__(self, **overrides: Any) -> None:
        """`overrides` are parameters, for a player that is made in another program than its own."""
        values = [rclpy.parameter.Parameter(name, value=value) for name, value in overrides.items()]
        super().__init__("player", parameter_overrides=values)
        self.parameters: PlayerParameters = declare(self, PlayerParameters).value
        if not self.parameters.bag:
            raise BagError("there is nothing to play; give the parameter bag")
        self.bag = Path(self.parameters.bag).expanduser()
        named = {role: getattr(self.parameters, f"{role}_topic") for role in ROLES}
        self.topics = find_topics(self.bag, named)
        kinds = {topic: kind for topic, (kind, _) in bag_info(self.bag).items()}
        self.kinds = {role: kinds[topic] for role, topic in asdict(self.topics).items() if topic in kinds}
        self._publishers_of: dict[str, Publisher[Any]] = {
            role: self.create_publisher(CLASSES[self.kinds[role]], role + SUFFIXES.get((role, self.kinds[role]), ""), QUEUE)
            for role in ROLES
            if role in self.kinds
        }
        self.asked = 0
        """Detections and prompts messages that were sent."""
        self._changed = threading.Condition()
        self._objects: set[int] = set()
        self._statuses: dict[int, tuple[bool, int]] = {}
        self._version, self._announcements = -1, 0
        self.check: Callable[[], None] = lambda: None
        """Called while waiting, twice a second; what it raises ends the waiting."""
        if self.parameters.lock_step:
            self.create_subscription(ObjectArray, "segmenter/objects", self._on_objects, QUEUE)
            self.create_subscription(AdaptationStatus, "adapter/status", self._on_status, QUEUE)
            self.create_subscription(UInt64, "segmenter/adapter_version", self._on_version, LATCHED)

    @property
    def inputs(self) -> dict[str, Any]:
        """The parameters of segmenter and adapter node that say what the recording has, and how it is transported."""
        return {
            "use_depth": "depth" in self.kinds,
            "image_transport": "compressed" if self.kinds["image"] == messages.COMPRESSED_IMAGE else "raw",
            "depth_transport": "compressedDepth" if self.kinds.get("depth") == messages.COMPRESSED_IMAGE else "raw",
        }

    def frames(self) -> Iterator[FrameMessages]:
        """The recording's frames, without its true labels."""
        return read_frame_messages(self.bag, topics=self.topics, detections_required=False)

    def play(self, progress: Callable[[int], None] = lambda sent: None) -> int:
        """Plays the recording, while another thread spins the node; returns how many frames were sent.

        Raises:
            PlayerError: nobody subscribed, or in lock step an answer did not come within `timeout` seconds.
            BagError: the recording is damaged.
        """
        self._wait_for_listeners()
        sent, due, last_stamp, period = 0, time.monotonic(), 0, 0.0
        while rclpy.ok(context=self.context):
            for parts in self.frames():
                if not self.parameters.lock_step:
                    if self.parameters.rate:
                        period = 1 / self.parameters.rate
                    elif last_stamp:  # where it begins again, what was between the last two frames
                        period = max((parts.stamp_ns - last_stamp) / 1e9, 0.0)
                    due += period if sent else 0.0
                    self._sleep_until(due)
                self._send(parts)
                sent, last_stamp = sent + 1, parts.stamp_ns
                progress(sent)
            if not self.parameters.loop:
                break
            last_stamp = 0
        return sent

    def _send(self, parts: FrameMessages) -> None:
        """Sends a frame; in lock step one that asks for something, and waits for the answers to its detections, then to its prompts."""
        there = [role for role in ROLES if role in parts.by_role]
        if self.parameters.lock_step and not any(role in REQUESTS for role in there):
            return  # nothing would answer
        for role in there:
            announcements = self._announcements
            self._publishers_of[role].publish(parts.by_role[role].data)
            if role in REQUESTS:
                self.asked += 1
                if self.parameters.lock_step:
                    self._wait_for_answers(parts.stamp_ns, announcements)

    def _sleep_until(self, due: float) -> None:
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)

    def _wait_for_listeners(self) -> None:
        """Both nodes must hear what asks for something in lock step; else one listener to the images will do."""
        role = next((each for each in reversed(REQUESTS) if each in self.kinds), "") if self.parameters.lock_step else "image"
        if not role:
            raise PlayerError(f"bag {self.bag} has no detections or prompts, so there is nothing to answer in lock step; play it without")
        publisher = self._publishers_of[role]
        needed = 2 if self.parameters.lock_step else 1
        answers = ("segmenter/objects", "adapter/status", "segmenter/adapter_version") if self.parameters.lock_step else ()
        end = time.monotonic() + self.parameters.timeout
        while publisher.get_subscription_count() < needed or not all(self.count_publishers(topic) for topic in answers):
            if time.monotonic() > end:
                missing = [self.resolve_topic_name(topic) for topic in answers if not self.count_publishers(topic)]
                raise PlayerError(
                    f"{publisher.get_subscription_count()} of {needed} nodes subscribed to {publisher.topic_name} within "
                    f"{self.parameters.timeout:g} s{', nobody publishes ' + ' and '.join(missing) if missing else ''}; "
                    "are the segmenter and the adapter active, and do image_transport and depth_transport fit the bag?"
                )
            self.check()
            with self._changed:
                self._changed.wait(0.05)
            if not rclpy.ok(context=self.context):
                raise ExternalShutdownException

    def _wait_for_answers(self, stamp: int, announcements: int) -> None:
        """Waits for the frame's masks and status, and for the segmenter to take an adapter that the frame led to.

        A segmenter that has been told to use the frozen model says so, version 0, of each adapter that it gets: then one more
        announcement than there were before the frame will do.
        """

        def taken() -> bool:
            return self._version == version or (self._version == 0 and self._announcements > announcements)

        self._wait(lambda: stamp in self._objects, f"segmenter published no objects for the frame with stamp {stamp} ns")
        self._wait(lambda: stamp in self._statuses, f"adapter published no status for the frame with stamp {stamp} ns")
        published, version = self._statuses[stamp]
        if published:
            self._wait(taken, f"segmenter did not take adapter version {version} (it has {self._version})")
        with self._changed:
            self._objects.clear()
            self._statuses.clear()

    def _wait(self, condition: Callable[[], bool], complaint: str) -> None:
        end = time.monotonic() + self.parameters.timeout
        while True:
            with self._changed:
                if self._changed.wait_for(condition, 0.5):
                    return
            if not rclpy.ok(context=self.context):
                raise ExternalShutdownException
            self.check()
            if time.monotonic() > end:
                raise PlayerError(f"{complaint} within {self.parameters.timeout:g} s; see the log of that node and /diagnostics")

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
            self._announcements += 1
            self._changed.notify_all()


@contextmanager
def spinning(executor: SingleThreadedExecutor) -> Iterator[None]:
    """Spins in a thread that has ended when this ends: a process that exits while a thread still waits in the middleware may crash."""

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            return

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        yield
    finally:
        executor.shutdown(0)
        thread.join(PATIENCE)


def main(args: list[str] | None = None) -> int:
    """Plays the bag of the parameter `bag`; returns the exit status: 0, 1 where the graph did not answer, 2 where a parameter is wrong."""
    rclpy.init(args=args)
    executor = SingleThreadedExecutor()
    try:
        player = Player()
        executor.add_node(player)
        with spinning(executor):
            sent = player.play()
        player.get_logger().info(f"played {sent} frames of {player.bag}")
    except ValueError as error:  # BagError is one
        print(f"error: {error}", file=sys.stderr)
        return 2
    except PlayerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    except Exception:
        if rclpy.ok():
            raise
        return 0  # the context was shut down in the middle of a publication
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
