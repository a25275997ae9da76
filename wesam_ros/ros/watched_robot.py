"""One robot as a page watches it: subscriptions that are there only while somebody looks, and what came over them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.executors import Executor
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from wesam_ros.data.codecs import CodecError
from wesam_ros.data.messages import image_of, stamp_of
from wesam_ros.msg import AdaptationStatus, Adapter, ObjectArray, Prompts, Questions
from wesam_ros.ros.image_pairing import ImagePairing
from wesam_ros.ros.input_subscription import InputSubscription, Way
from wesam_ros.ros.objects import image_message
from wesam_ros.ros.prompt_messages import learnt_of, prompt_message, seen_object
from wesam_ros.ros.question_messages import answer_request, asking_of
from wesam_ros.ros.robot_services import UNCONNECTED, RobotServices, heard_by_all, outcome_of, request_of
from wesam_ros.ros.robot_topics import SEGMENTER, RobotTopics, adapter_node_of, joined, topics_of
from wesam_ros.ros.subscriptions import LATCHED
from wesam_ros.srv import Segment
from wesam_ros.web.history import History
from wesam_ros.web.values import Asked, Asking, Marks, NodeHealth, Outcome, RobotError, SeenFrame, SeenObject

LOOK_SECONDS = 1.0
QUEUE = 5


class NoCounts:
    """In place of diagnostics: the page counts nothing."""

    def count(self, name: str, n: int = 1) -> None:
        """Nothing."""

    def problem(self, name: str, sentence: str, n: int = 1, of: str = "") -> None:
        """Nothing."""

    def timing(self, name: str, milliseconds: float) -> None:
        """Nothing."""


class WatchedRobot:
    """A `wesam_ros.web.values.Robot` of the graph. Another thread spins the executor.

    Args:
        node: the owner of subscriptions and clients.
        executor: it spins the node; all of them are made and closed in its thread.
        namespace: of the robot, "/" for none.
        image: base name of its colour image; "" to ask the graph.
    """

    def __init__(self, node: Node, executor: Executor, namespace: str, image: str = "") -> None:
        self.name, self.history = namespace, History()
        self._node, self._executor, self._image_name = node, executor, image
        self._lock = threading.Lock()
        self._watchers: set[str] = set()
        self._topics = RobotTopics("", "", "", "the robot is looked for")
        self._services: RobotServices | None = None
        self._parts: list[Any] = []
        self._image: InputSubscription | None = None
        self._adapters: Any = None
        self._teacher: Any = None
        self._timer: Any = None
        self._segmenter, self._adapter = joined(namespace, SEGMENTER), ""
        self._pairing = ImagePairing()
        self._shown: tuple[Any, SeenFrame] | None = None
        self._unreadable = ""
        self._asking: Asking | None = None
        self._health: dict[str, tuple[float, Any]] = {}

    def watch(self, who: str) -> None:
        """Subscribes on behalf of a page, unless that is done."""
        with self._lock:
            first = not self._watchers
            self._watchers.add(who)
        if first:
            self._executor.create_task(self._open)

    def unwatch(self, who: str) -> None:
        """Ends the subscriptions with the last page."""
        with self._lock:
            last = self._watchers == {who}
            self._watchers.discard(who)
        if last:
            self._executor.create_task(self._close)

    def frame(self) -> SeenFrame | None:
        """The newest frame with objects; None before the first. Not for the thread that spins: it decodes the image."""
        newest, shown = self._pairing.newest(), self._shown
        if newest is None:
            return None
        image, found = newest
        if shown is not None and shown[0] is found:
            return shown[1]
        try:
            pixels = image_of(image)
        except CodecError as error:
            self._unreadable = f"image: {error}"
            return None
        objects = [seen_object(each) for each in found.objects]
        frame = SeenFrame(stamp_of(image.header), pixels, objects, found.adapter_version, found.model, found.latency_ms)
        self._shown, self._unreadable = (found, frame), ""
        return frame

    def nodes(self) -> list[str]:
        """Full names of segmenter and adapter node."""
        return [self._segmenter, *([self._adapter] if self._adapter else [])]

    def health(self) -> list[NodeHealth]:
        """The nodes' last reports."""
        now = time.monotonic()
        with self._lock:
            found = dict(self._health)
        return [
            NodeHealth(name, each.level[0], each.message, {value.key: value.value for value in each.values}, now - at)
            for name, (at, each) in sorted(found.items())
            if name in self.nodes()
        ]

    def problem(self) -> str:
        """A sentence on why no picture can come; "" where one can."""
        return self._topics.problem or self._unreadable

    def is_recent(self, stamp: int) -> bool:
        """True where prompts with this stamp still find their image in the nodes."""
        return self._pairing.is_recent(stamp)

    async def call(self, command: str, value: Any = None) -> Outcome:
        """Has a node do something; RobotError becomes an outcome."""
        return await outcome_of(self._services, command, request_of(command, value))

    async def segment(self, frame: SeenFrame, asked: Sequence[Marks], *, frozen: bool = False) -> list[SeenObject]:
        """The objects of marks in a frame's image, without depth."""
        header = _header(frame.stamp)
        prompts = Prompts(header=header, prompts=[prompt_message(each, str(i)) for i, each in enumerate(asked)])
        request = Segment.Request(image=image_message(header, frame.image), prompts=prompts, frozen=frozen)
        response = await self._running().call("segment", request)
        if not response.success:
            raise RobotError(response.message)
        return [seen_object(each) for each in response.objects.objects]

    async def teach(self, frame: SeenFrame, marks: Marks, name: str) -> None:
        """Publishes marks as a prompt for learning, with the frame's stamp."""
        if not self._topics.prompts:
            raise RobotError("the segmenter does not listen to prompts: is it active?")
        if self._teacher is None:  # not before: the nodes would take it for a source of requests
            self._teacher = self._node.create_publisher(Prompts, self._topics.prompts, QUEUE)
        await heard_by_all(self._node, self._teacher, self._topics.prompts)
        self._teacher.publish(Prompts(header=_header(frame.stamp), prompts=[prompt_message(marks, name)]))

    def asking(self) -> Asking | None:
        """The questions that wait; None where the learner has told nothing yet."""
        return self._asking

    async def answer(self, asked: Asked | None, kind: str, found: SeenObject | None = None) -> Outcome:
        """Answers a question; RobotError becomes an outcome."""
        return await outcome_of(self._services, "answer", answer_request(asked, kind, found))

    def _running(self) -> RobotServices:
        if self._services is None:
            raise RobotError(UNCONNECTED)
        return self._services

    def _open(self) -> None:
        if self._timer is None and self._watchers:
            self._begin(adapter_node_of(self._node.get_node_names_and_namespaces(), self.name))

    def _close(self) -> None:
        if self._timer is None or self._watchers:
            return
        self._end()
        self._pairing.clear()
        self._shown = self._asking = None
        with self._lock:
            self._health.clear()

    def _begin(self, adapter: str) -> None:
        node, self._adapter = self._node, adapter
        for kind, topic, take, qos in (
            (ObjectArray, f"{self._segmenter}/objects", self._take_objects, QUEUE),
            (AdaptationStatus, f"{self._adapter}/status", self._take_status, 10),
            (DiagnosticArray, "/diagnostics", self._take_diagnostics, 10),
            (Questions, f"{self._adapter}/questions", self._take_questions, LATCHED),
        ):
            self._parts.append(node.create_subscription(kind, topic, take, qos))
        self._services = RobotServices(node, self._segmenter, self._adapter)
        self._timer = node.create_timer(LOOK_SECONDS, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._look()

    def _end(self) -> None:
        self._node.destroy_timer(self._timer)
        for each in (*self._parts, *([self._adapters] if self._adapters is not None else [])):
            self._node.destroy_subscription(each)
        if self._image is not None:
            self._image.close()
        if self._services is not None:
            self._services.close()
        if self._teacher is not None:
            self._node.destroy_publisher(self._teacher)
        self._parts.clear()
        self._timer = self._adapters = self._image = self._services = self._teacher = None

    def _look(self) -> None:
        """Follows the graph: topics appear when the segmenter becomes active, and another adapter node may serve this robot."""
        adapter = adapter_node_of(self._node.get_node_names_and_namespaces(), self.name)
        if adapter != self._adapter:
            self._end()
            self._begin(adapter)
            return
        found = topics_of(self._node, self.name, self._image_name)
        if self._image is None and found.image:
            ways = [Way(Image, found.image), Way(CompressedImage, f"{found.image}/compressed")]
            self._image = InputSubscription(self._node, NoCounts(), ways, "image", self._pairing.add_image)
        if self._adapters is None and found.adapter:
            self._adapters = self._node.create_subscription(Adapter, found.adapter, self._take_adapter, LATCHED)
        if self._image is not None:
            self._image.follow()
        # A segmenter that is gone may come back on the same topics.
        self._topics = found if found.prompts else replace(self._topics, problem=found.problem)

    def _take_objects(self, message: ObjectArray) -> None:
        self.history.latencies.append((time.monotonic(), message.latency_ms))
        self._pairing.add_objects(message)

    def _take_status(self, message: AdaptationStatus) -> None:
        self.history.add(learnt_of(message, time.monotonic()))

    def _take_adapter(self, message: Adapter) -> None:
        self.history.publish(message.version, message.data.tobytes())

    def _take_questions(self, message: Questions) -> None:
        self._asking = asking_of(message)

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        with self._lock:
            for each in message.status:
                if each.name in (self._segmenter, self._adapter):
                    self._health[each.name] = time.monotonic(), each


def _header(stamp: int) -> Header:
    header = Header()
    header.stamp.sec, header.stamp.nanosec = divmod(stamp, 10**9)
    return header
