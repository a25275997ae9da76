"""Subscriptions and publishers: QoS that follows the other side, and an explanation where it does not fit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind

from wesam_ros.counts import Counts
from wesam_ros.ros.wire import from_wire, is_read_here

QOS_PERIOD = 1.0
"""Seconds between two looks at an input that is best effort: it may be reliable again."""
QUEUE = 5
"""Messages kept per topic: a late image is of no use. In lock step the player never has more than one frame on its way."""
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def explain_qos(node: Node, diagnostics: Counts, topic: str, qos: QoSProfile, other: str) -> Callable[[Any], None]:
    """An event callback that names the topic and the policy by which this node, at `qos`, and a publisher or subscriber (`other`) exchange
    nothing."""

    def report(event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        diagnostics.problem(
            "incompatible_qos",
            f"a {other} on {node.resolve_topic_name(topic)} and this node exchange nothing: its {policy} does not fit; "
            f"here it is {qos.reliability.name.lower()}, {qos.durability.name.lower()}",
            of=f"{other} {topic}",
        )

    return report


def create_output(node: LifecycleNode, diagnostics: Counts, kind: Any, topic: str, qos: QoSProfile) -> Any:
    """A publisher of the active node; a subscriber that cannot hear it is told of in the log and counted."""
    events = PublisherEventCallbacks(incompatible_qos=explain_qos(node, diagnostics, topic, qos, "subscriber"))
    return node.create_lifecycle_publisher(kind, topic, qos, event_callbacks=events)


class AdaptiveSubscription:
    """A subscription to one topic that is reliable as long as all its publishers are.

    Raw images are larger than a socket's buffer, and best effort loses every one of them on many machines. Where a publisher turns out to
    be best effort, as camera drivers may be, the topic is subscribed to anew as best effort, which hears both kinds, until all such
    publishers have gone. Call `follow` regularly.

    Args:
        node: the owner of the subscription.
        diagnostics: counts "received.<name>" and "incompatible_qos".
        kind: the message's type.
        topic: its full name.
        name: of the input, for the counters.
        receive: called with each message, in the executor's thread; images are values with the message's fields (ros/wire.py).

    Attributes:
        topic: its full name.
        kind: the message's type.
        heard: monotonic seconds at which the last message came; None before the first.
    """

    def __init__(self, node: Node, diagnostics: Counts, kind: Any, topic: str, name: str, receive: Callable[[Any], None]) -> None:
        self.topic, self.kind = topic, kind
        self.heard: float | None = None
        self._node, self._diagnostics, self._name, self._receive = node, diagnostics, name, receive
        self._unheard = False
        self._looked: float | None = None  # when the publishers of a best effort one were last looked at; None where it is reliable
        self._subscription: Any = None
        self._subscribe(ReliabilityPolicy.RELIABLE)

    def publishers(self) -> int:
        """The number of publishers on the topic now."""
        return self._node.count_publishers(self.topic)

    def follow(self) -> None:
        """Subscribes as best effort where a publisher has turned out to be, and as reliable again where none is any more."""
        now = time.monotonic()
        if self._unheard:  # not in the event's own callback: that belongs to the subscription
            self._unheard = False
            self._looked = now
            self._node.get_logger().info(f"a publisher on {self.topic} is best effort: subscribing as best effort")
            self._subscribe(ReliabilityPolicy.BEST_EFFORT)
        elif self._looked is not None and now - self._looked >= QOS_PERIOD:
            self._looked = now
            publishers = self._node.get_publishers_info_by_topic(self.topic)
            if not any(each.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT for each in publishers):
                self._looked = None
                self._node.get_logger().info(f"no publisher on {self.topic} is best effort any more: subscribing as reliable")
                self._subscribe(ReliabilityPolicy.RELIABLE)

    def close(self) -> None:
        """Ends the subscription."""
        self._node.destroy_subscription(self._subscription)

    def _subscribe(self, reliability: ReliabilityPolicy) -> None:
        if self._subscription is not None:
            self.close()
        qos = QoSProfile(depth=QUEUE, reliability=reliability)
        explain = explain_qos(self._node, self._diagnostics, self.topic, qos, "publisher")

        def incompatible(event: Any) -> None:
            if event.last_policy_kind == QoSPolicyKind.RELIABILITY and reliability == ReliabilityPolicy.RELIABLE:
                self._unheard = True
            else:
                explain(event)

        events = SubscriptionEventCallbacks(incompatible_qos=incompatible)
        raw = is_read_here(self.kind)
        take = self._take_bytes if raw else self._take
        self._subscription = self._node.create_subscription(self.kind, self.topic, take, qos, event_callbacks=events, raw=raw)

    def _take(self, message: Any) -> None:
        self.heard = time.monotonic()
        self._diagnostics.count(f"received.{self._name}")
        self._receive(message)

    def _take_bytes(self, data: bytes) -> None:
        try:
            message = from_wire(data, self.kind)
        except ValueError as error:
            self._diagnostics.problem(f"rejected.{self._name}.truncated", f"{self.topic}: {error}")
            return
        self._take(message)
