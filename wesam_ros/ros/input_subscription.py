"""The subscription of one input, which may be published in several ways: raw or compressed, or by another message type."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from rclpy.node import Node

from wesam_ros.counts import Counts
from wesam_ros.ros.publishers import instead, type_name, unreadable
from wesam_ros.ros.subscriptions import AdaptiveSubscription

LOOK_PERIOD = 1.0
"""Seconds between two looks at the publishers: their types, and the ways in which an input is published."""


class Way(NamedTuple):
    """A way in which an input may come: the message's type and the full name of the topic."""

    kind: Any
    topic: str


class InputSubscription:
    """Subscribes to an input in the first of several ways in which it is published.

    Ways on topics of their own are all subscribed to until a publisher is seen, so that nothing is missed, and then as long as no better
    one has a publisher. Meanwhile the one that is heard first counts, so that no picture comes twice. Of ways on one topic, DDS takes one
    at a time. Call `follow` regularly.

    Args:
        node: the owner of the subscriptions.
        diagnostics: its counters.
        ways: the best one first.
        name: of the input, for the counters.
        receive: called with each message, in the executor's thread.
    """

    def __init__(self, node: Node, diagnostics: Counts, ways: Sequence[Way], name: str, receive: Callable[[Any], None]) -> None:
        self._node, self._diagnostics, self._ways, self._name, self._receive = node, diagnostics, tuple(ways), name, receive
        self._open: dict[Way, AdaptiveSubscription] = {}
        self._taken: Way | None = None
        self._speaks: Way | None = None
        self._heard: float | None = None
        self._looked = time.monotonic()
        self._foreign: list[str] = []
        self._foreign_count = 0
        self._choose(None)

    @property
    def topic(self) -> str:
        """The full name of the topic that is published, or else of the best way."""
        return (self._taken or self._ways[0]).topic

    @property
    def heard(self) -> float | None:
        """Monotonic seconds at which the last message came; None before the first."""
        times = [each.heard for each in self._open.values() if each.heard is not None]
        return max([*times, *([] if self._heard is None else [self._heard])], default=None)

    def publishers(self) -> int:
        """The number of publishers now that the input can be heard from."""
        topics = {each.topic for each in self._open.values()}
        return max(sum(self._node.count_publishers(topic) for topic in topics) - self._foreign_count, 0)

    def foreign(self) -> list[str]:
        """A sentence for each kind of publisher that cannot be heard, because it publishes another type, as of the last look."""
        return self._foreign

    def instead(self) -> str:
        """The end of a sentence with the topics that may be meant, for an input that nobody publishes; "" if there are none."""
        names = self._node.get_topic_names_and_types()
        published = {name: types for name, types in names if self._node.count_publishers(name)}
        return instead(self._ways[0].topic, [type_name(each.kind) for each in self._ways], published)

    def follow(self) -> None:
        """Follows the publishers: their QoS, and the ways in which they publish."""
        for each in self._open.values():
            each.follow()
        now = time.monotonic()
        if now - self._looked >= LOOK_PERIOD:
            self._looked = now
            self._look()

    def close(self) -> None:
        """Ends the subscriptions."""
        for each in self._open.values():
            each.close()
        self._open.clear()

    def _look(self) -> None:
        topics = dict.fromkeys(each.topic for each in self._ways)
        publishers = {topic: self._node.get_publishers_info_by_topic(topic) for topic in topics}
        there = [each for each in self._ways if any(p.topic_type == type_name(each.kind) for p in publishers[each.topic])]
        self._choose(there[0] if there else None)
        self._foreign, self._foreign_count = [], 0
        for topic, found in publishers.items():
            types = [type_name(each.kind) for each in self._ways if each.topic == topic]
            types.sort(key=lambda name: not any(each.topic == topic and type_name(each.kind) == name for each in self._open))
            self._foreign += unreadable(topic, types, found, self._own_hash(topic) if found else None)
            if any(each.topic == topic for each in self._open):
                self._foreign_count += sum(each.topic_type not in types for each in found)

    def _own_hash(self, topic: str) -> Any:
        mine = self._node.get_name(), self._node.get_namespace()
        found = self._node.get_subscriptions_info_by_topic(topic)
        return next((getattr(each, "topic_type_hash", None) for each in found if (each.node_name, each.node_namespace) == mine), None)

    def _choose(self, taken: Way | None) -> None:
        """Opens and closes subscriptions for the way that is taken, None where nobody publishes the input."""
        self._speaks = self._speaks if taken == self._taken else None
        self._taken = taken
        if taken is None and self._open:
            return  # what was there last may come back
        number = self._ways.index(taken) if taken is not None else len(self._ways) - 1
        by_topic = {each.topic: each for each in reversed(self._ways[: number + 1])}  # of one topic the first, unless another is taken
        if taken is not None:
            by_topic[taken.topic] = taken
        wanted = [each for each in self._ways if by_topic.get(each.topic) == each]
        for way in [each for each in self._open if each not in wanted]:
            closed = self._open.pop(way)
            self._heard = closed.heard if closed.heard is not None else self._heard
            closed.close()
        for way in [each for each in wanted if each not in self._open]:
            take = partial(self._take, way)
            self._open[way] = AdaptiveSubscription(self._node, self._diagnostics, way.kind, way.topic, self._name, take)

    def _take(self, way: Way, message: Any) -> None:
        self._speaks = self._speaks or way
        if way == self._speaks:
            self._receive(message)
