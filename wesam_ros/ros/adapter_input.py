"""Adapters that come in: the subscription, whose adapters are taken, and the checks of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node

from wesam_ros.msg import Adapter as AdapterMessage
from wesam_ros.ros.adapter_source import AdapterSource
from wesam_ros.ros.diagnostics import Diagnostics
from wesam_ros.ros.subscriptions import LATCHED, explain_qos
from wesam_ros.sam.adapter import Adapter, AdapterError

if TYPE_CHECKING:
    from rclpy.subscription import MessageInfo
    from segment_anything.modeling import Sam

RECONSIDER_SECONDS = 1.0
"""Seconds between two looks at an adapter that waits for the end of another node."""


class AdapterInput:
    """Takes adapters that are whole, of this model, and of the node that is served.

    Args:
        node: the owner of the subscription.
        diagnostics: its counters.
        post: has a function run in the worker thread, between two frames, if the node is active.
        sam: gives the model that adapters have to be of.
        taken: called in the worker thread with each adapter that was taken.

    Attributes:
        adapter: the newest one that was taken, or that was set to begin with; None for the frozen model.
    """

    def __init__(
        self,
        node: Node,
        diagnostics: Diagnostics,
        post: Callable[[Callable[[], None]], None],
        sam: Callable[[], Sam],
        taken: Callable[[Adapter], None],
    ) -> None:
        self.adapter: Adapter | None = None
        self._node, self._diagnostics, self._post, self._sam, self._taken = node, diagnostics, post, sam, taken
        self._source = AdapterSource(self._publishers)
        self._waiting: tuple[AdapterMessage, bytes, str] | None = None
        """The newest adapter that was rejected for its publisher, that publisher, and the sentence."""
        self._subscription: Any = None
        node.create_timer(RECONSIDER_SECONDS, self._reconsider, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def version(self) -> int:
        """Of the adapter that was taken; 0 for the frozen model."""
        return self.adapter.version if self.adapter is not None else 0

    def subscribe(self) -> None:
        """Adapters come from now on."""
        events = SubscriptionEventCallbacks(incompatible_qos=explain_qos(self._node, self._diagnostics, "adapter", LATCHED, "publisher"))
        self._subscription = self._node.create_subscription(AdapterMessage, "adapter", self._receive, LATCHED, event_callbacks=events)

    def unsubscribe(self) -> None:
        """Ends the subscription."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def values(self, in_use: bool) -> dict[str, str]:
        """Values for /diagnostics; "warning" has a line for each problem. `in_use` is False where the frozen model serves."""
        waiting, warnings = self._waiting, []
        if waiting is not None and waiting[2]:
            warnings.append(waiting[2])
        if in_use and self._source.gone():
            warnings.append(
                f"the adapter of {self._source.name} is in use, but that node is gone, and nobody judges it any more: start the node "
                "again, or call ~/use_frozen"
            )
        return {
            "adapter_version": str(self.version),
            "adapter_from": self._source.name,
            "adapter_publishers": str(len(self._publishers())),
            "in_use": "adapter" if in_use else "frozen model",
            "warning": "\n".join(warnings),
        }

    def _publishers(self) -> dict[bytes, str]:
        infos = self._node.get_publishers_info_by_topic(self._node.resolve_topic_name("adapter"))
        return {bytes(each.endpoint_gid): f"{each.node_namespace.rstrip('/')}/{each.node_name}" for each in infos}

    def _receive(self, message: AdapterMessage, info: MessageInfo) -> None:
        self._diagnostics.count("received.adapter")
        publisher = info.get("publisher_gid")
        self._offer(message, publisher["data"] if publisher else b"")

    def _offer(self, message: AdapterMessage, publisher: bytes) -> None:
        self._post(lambda: self._take(message, publisher))

    def _reconsider(self) -> None:
        """Takes the adapter that waits, if its publisher is still there, when the one that was served has gone."""
        if self._waiting is not None:
            message, publisher, _ = self._waiting
            if publisher in self._publishers():
                self._offer(message, publisher)
            else:
                self._waiting = None

    def _take(self, message: AdapterMessage, publisher: bytes) -> None:
        """Checks an adapter and takes it, in the worker thread. `publisher` is empty where rclpy does not tell."""
        waiting = self._waiting
        known = waiting[2] if waiting is not None and waiting[0] is message else ""
        rejection = self._source.rejection(publisher) if publisher else None
        if rejection is not None:
            self._waiting = message, publisher, rejection
            if rejection and not known:  # it may be looked at several times
                self._diagnostics.count("rejected.adapter.other_publisher")
            return
        if waiting is not None and waiting[1] == publisher:
            self._waiting = None
        try:
            adapter = self._checked(message)
        except AdapterError as error:
            self._diagnostics.problem(f"rejected.adapter.{error.reason}", f"{error}; version {self.version} stays in use")
            return
        self._source.take(publisher)
        self.adapter = adapter
        self._taken(adapter)

    def _checked(self, message: AdapterMessage) -> Adapter:
        adapter = Adapter.from_bytes(message.data.tobytes(), for_sam=self._sam())
        if adapter.version != message.version:
            raise AdapterError(
                "version", f"the message says version {message.version}, but its data {adapter.version}; publish what Adapter.to_bytes gave"
            )
        return adapter
