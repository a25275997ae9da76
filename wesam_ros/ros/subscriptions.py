"""The subscriptions of a node that takes frames: QoS, transports, joining."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from wesam_ros.msg import Prompts
from wesam_ros.ros.conversions import stamp_of
from wesam_ros.ros.diagnostics import Diagnostics
from wesam_ros.ros.parameters import Declared
from wesam_ros.ros.synchronizer import REQUESTS, SynchronizedFrame, Synchronizer
from wesam_ros.settings import InputParameters

LOCK_STEP_WAIT = 10.0
"""In lock step a frame waits so long for its parts, in seconds: the player sends all of them."""
EXPIRE_PERIOD = 0.05
QOS_PERIOD = 1.0
"""So often, in seconds, it is checked whether an input that is best effort may be reliable again."""
SILENT_SECONDS = 10.0
"""An input from which nothing has come for so long is named in /diagnostics."""

QUEUE = 5
"""Messages kept per topic: a late image is of no use. In lock step the player never has more than one frame on its way."""
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def explain_qos(node: Node, diagnostics: Diagnostics, topic: str, qos: QoSProfile, other: str) -> Callable[[Any], None]:
    """An event callback that says which topic has a publisher or subscriber (`other`) with which this node, at `qos`, exchanges nothing,
    and which policy is the reason."""

    def report(event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        diagnostics.problem(
            "incompatible_qos",
            f"a {other} on {node.resolve_topic_name(topic)} and this node exchange nothing: its {policy} does not fit; "
            f"here it is {qos.reliability.name.lower()}, {qos.durability.name.lower()}",
            of=f"{other} {topic}",
        )

    return report


class Inputs:
    """Subscribes to image, depth, camera_info, detections and prompts, and hands on each frame that is complete.

    Subscriptions are reliable at first: raw images are larger than a socket's buffer, and best effort loses every one of them on many
    machines. Where a publisher turns out to be best effort, as camera drivers may be, that topic is subscribed to anew as best effort,
    which hears both kinds, until all such publishers have gone.

    Args:
        node: whose subscriptions they are.
        declared: its parameters.
        diagnostics: its counters.
        complete: called with each joined frame, in the executor's thread.
        prefix: of the topics' names: a robot's namespace and a slash, or nothing for the node's own.
    """

    def __init__(
        self, node: Node, declared: Declared[Any], diagnostics: Diagnostics, complete: Callable[[SynchronizedFrame], None], prefix: str = ""
    ) -> None:
        self._node = node
        self._declared = declared
        self._diagnostics = diagnostics
        self._complete = complete
        self._prefix = prefix
        parameters: InputParameters = declared.value
        self._joiner = Synchronizer(parameters.ring_length, self._give_up)
        self._topics: dict[str, str] = {}
        self._subscriptions: dict[str, Subscription[Any]] = {}
        self._unheard: list[str] = []
        self._best_effort: dict[str, float] = {}  # kinds that are subscribed to as such, and when that was last looked at
        self._heard: dict[str, float] = {"image": time.monotonic()}
        self._types: dict[str, Any] = {}
        # The requests come last: a publisher that sees them matched knows that the others are there.
        for kind, message_type, suffix in self._kinds(parameters):
            self._topics[kind] = node.resolve_topic_name(prefix + kind) + suffix
            self._types[kind] = message_type
            self._subscribe(kind, ReliabilityPolicy.RELIABLE)
        # Waits are in real time, also where ROS time stands still or goes back.
        self._timer = node.create_timer(EXPIRE_PERIOD, self._expire, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @staticmethod
    def _kinds(parameters: InputParameters) -> list[tuple[str, Any, str]]:
        compressed = parameters.image_transport == "compressed"
        kinds: list[tuple[str, Any, str]] = [("image", CompressedImage, "/compressed") if compressed else ("image", Image, "")]
        if parameters.use_depth:
            compressed = parameters.depth_transport == "compressedDepth"
            kinds.append(("depth", CompressedImage, "/compressedDepth") if compressed else ("depth", Image, ""))
            kinds.append(("camera_info", CameraInfo, ""))
        return [*kinds, ("detections", Detection2DArray, ""), ("prompts", Prompts, "")]

    def missing(self) -> str:
        """Which inputs do not come, and why as far as that can be seen, a line for each; "" if none is missed."""
        sentences = []
        if self._silent("image"):
            topic = self._topics["image"]
            why = "it has a publisher, which is silent or cannot be heard" if self._node.count_publishers(topic) else "nobody publishes it"
            sentences.append(f"nothing comes on {topic}: {why}")
        elif self._silent("depth"):  # an old camera_info serves
            sentences.append(f"nothing comes on {self._topics['depth']} any more: no 3D output")
        requests = [self._topics[kind] for kind in REQUESTS]
        heard = [kind for kind in REQUESTS if kind in self._heard]
        if not any(self._node.count_publishers(topic) for topic in requests):
            sentences.append(f"nobody publishes {' or '.join(requests)}")
        elif not sentences and heard and all(map(self._silent, heard)):  # one that was never heard may have nothing to say yet
            sentences.append(f"nothing comes on {' or '.join(self._topics[kind] for kind in heard)} any more: nothing is segmented")
        return "\n".join(sentences)

    def _silent(self, kind: str) -> bool:
        """Whether an input has been heard, but not for SILENT_SECONDS."""
        return time.monotonic() - self._heard.get(kind, math.inf) > SILENT_SECONDS

    def close(self) -> None:
        """Ends the subscriptions."""
        self._node.destroy_timer(self._timer)
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)

    def _subscribe(self, kind: str, reliability: ReliabilityPolicy) -> None:
        qos = QoSProfile(depth=QUEUE, reliability=reliability)
        explain = explain_qos(self._node, self._diagnostics, self._topics[kind], qos, "publisher")

        def incompatible(event: Any) -> None:
            if event.last_policy_kind == QoSPolicyKind.RELIABILITY and reliability == ReliabilityPolicy.RELIABLE:
                self._unheard.append(kind)
            else:
                explain(event)

        events = SubscriptionEventCallbacks(incompatible_qos=incompatible)
        self._subscriptions[kind] = self._node.create_subscription(
            self._types[kind], self._topics[kind], partial(self._receive, kind), qos, event_callbacks=events
        )

    def _receive(self, kind: str, message: Any) -> None:
        self._heard[kind] = time.monotonic()
        self._diagnostics.count(f"received.{self._prefix}{kind}")
        for joined in self._joiner.add(kind, stamp_of(message.header), message, time.monotonic(), self._expected()):
            self._complete(joined)

    def _expected(self) -> frozenset[str]:
        """What a frame waits for: depth and camera_info, where someone publishes them."""
        return frozenset(
            kind for kind in ("depth", "camera_info") if kind in self._topics and self._node.count_publishers(self._topics[kind])
        )

    def _expire(self) -> None:
        while self._unheard:  # not in the event's own callback: that belongs to the subscription
            kind = self._unheard.pop()
            self._node.get_logger().info(f"a publisher on {self._topics[kind]} is best effort: subscribing as best effort")
            self._best_effort[kind] = time.monotonic()
            self._resubscribe(kind, ReliabilityPolicy.BEST_EFFORT)
        self._restore_reliability()
        parameters: InputParameters = self._declared.value
        wait = LOCK_STEP_WAIT if parameters.lock_step else parameters.join_wait
        for joined in self._joiner.expire(time.monotonic(), wait, self._expected()):
            self._complete(joined)

    def _restore_reliability(self) -> None:
        """Subscribes as reliable again where no publisher is best effort any more."""
        for kind, looked in list(self._best_effort.items()):
            if time.monotonic() - looked < QOS_PERIOD:
                continue
            self._best_effort[kind] = time.monotonic()
            publishers = self._node.get_publishers_info_by_topic(self._topics[kind])
            if not any(each.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT for each in publishers):
                self._node.get_logger().info(f"no publisher on {self._topics[kind]} is best effort any more: subscribing as reliable")
                del self._best_effort[kind]
                self._resubscribe(kind, ReliabilityPolicy.RELIABLE)

    def _resubscribe(self, kind: str, reliability: ReliabilityPolicy) -> None:
        self._node.destroy_subscription(self._subscriptions[kind])
        self._subscribe(kind, reliability)

    def _give_up(self, name: str) -> None:
        if name.startswith("unused."):
            self._diagnostics.count(f"unused.{self._prefix}image")
            return
        remedies = {
            "unmatched": "no image with its stamp came; the detector must copy the stamp of the image that it saw",
            "late": "its image has left the ring; raise ring_length, or make the detector faster",
            "missing": "the frame goes on without; check that its stamp equals the image's",
            "jumped": "stamps went back, as where a recording starts again; what waited from before is forgotten",
        }
        what, _, kind = name.partition(".")
        self._diagnostics.problem(f"{what}.{self._prefix}{kind}", remedies[what])
