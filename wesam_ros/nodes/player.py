"""The player: a recording into the graph, for machines without rosbag2, and in lock step: each frame waits for the answers to the last."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter

from wesam_ros.data.recordings.bags import FrameMessages
from wesam_ros.data.recordings.topics import REQUESTS, BagError
from wesam_ros.ros.answers import TOPICS, Answers, PlayerError
from wesam_ros.ros.parameters import declare
from wesam_ros.ros.process import spinning
from wesam_ros.ros.recording_output import ROLES, RecordingOutput
from wesam_ros.settings import PlayerParameters


class Player(Node):
    """Plays a recording in its own time, at a rate, or in lock step. Something else must spin the node (see `play`).

    Attributes:
        recording: the recording and its publishers.
        answers: those that lock step waits for.
        bag: path of the recording.
        inputs: parameters of segmenter and adapter node that fit its messages.
        asked: detections and prompts messages that were sent.
    """

    def __init__(self, **overrides: Any) -> None:
        """`overrides` are parameters, for a player that is made in another program than its own."""
        values = [Parameter(name, value=value) for name, value in overrides.items()]
        super().__init__("player", parameter_overrides=values)
        self.parameters: PlayerParameters = declare(self, PlayerParameters).value
        if not self.parameters.bag:
            raise BagError("there is nothing to play; give the parameter bag")
        named = {role: getattr(self.parameters, f"{role}_topic") for role in ROLES}
        self.recording = RecordingOutput(self, Path(self.parameters.bag).expanduser(), named, self.parameters.sync_slop)
        self.bag, self.inputs = self.recording.bag, self.recording.inputs
        self.answers = Answers(self, self.parameters.timeout)
        if self.parameters.lock_step:
            self.answers.subscribe()
        self.asked = 0

    def play(self, progress: Callable[[int], None] = lambda sent: None) -> int:
        """Plays the recording, while another thread spins the node; returns how many frames were sent.

        Raises:
            PlayerError: nobody subscribed, or in lock step an answer did not come within `timeout` seconds.
            BagError: the recording is damaged.
        """
        self._wait_for_listeners()
        sent, due, last_stamp, period = 0, time.monotonic(), 0, 0.0
        while rclpy.ok(context=self.context):
            self.recording.begin_transforms()
            for parts in self.recording.frames():
                if not self.parameters.lock_step:
                    if self.parameters.rate:
                        period = 1 / self.parameters.rate
                    elif last_stamp:  # where it begins again, the time between the last two frames
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
        """Sends a frame; in lock step one with a request, and waits for the answers to its detections, then to its prompts."""
        lock_step = self.parameters.lock_step
        if lock_step and not any(role in REQUESTS for role in parts.by_role):
            return  # nothing would answer
        self.recording.send_transforms(parts)
        ended = not lock_step
        for role in self.recording.roles(parts):
            if role in REQUESTS and not ended:
                self.recording.send_end(parts)
                ended = True
            announcements = self.answers.announcements
            self.recording.send(role, parts)
            if role in REQUESTS:
                self.asked += 1
                if lock_step:
                    self.answers.wait_for_frame(parts.stamp_ns, announcements)

    def _sleep_until(self, due: float) -> None:
        time.sleep(max(0.0, due - time.monotonic()))

    def _wait_for_listeners(self) -> None:
        """Waits until both nodes hear the requests in lock step; else one listener to the images will do."""
        lock_step = self.parameters.lock_step
        role = next((each for each in reversed(REQUESTS) if each in self.recording.kinds), "") if lock_step else "image"
        if not role:
            raise PlayerError(f"bag {self.bag} has no detections or prompts, so there is nothing to answer in lock step; play it without")
        publisher, needed, topics = self.recording.publishers[role], 2 if lock_step else 1, TOPICS if lock_step else ()

        def silent() -> list[str]:
            return [self.resolve_topic_name(topic) for topic in topics if not self.count_publishers(topic)]

        def complaint() -> str:
            found = f"{publisher.get_subscription_count()} of {needed} nodes subscribed to {publisher.topic_name}"
            return f"{found}, nobody published {' and '.join(silent())}" if silent() else found

        remedy = "are the segmenter and the adapter active, and do image_transport and depth_transport fit the bag?"
        self.answers.wait(lambda: publisher.get_subscription_count() >= needed and not silent(), complaint, remedy, look=0.05)


def main(args: list[str] | None = None) -> int:
    """Plays the bag of the parameter `bag`; returns the exit status: 0, 1 where the graph did not answer, 2 where a parameter is wrong."""
    rclpy.init(args=args)
    executor = SingleThreadedExecutor()
    try:
        player = Player()
        executor.add_node(player)
        with spinning(executor):
            sent = player.play()
        lost = player.recording.reading.counted()
        player.get_logger().info(f"played {sent} frames of {player.bag}{'; left out: ' + lost if lost else ''}")
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
