"""The way of frames into a node: callbacks leave synchronised messages for the worker, which converts them and has them processed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from rclpy.exceptions import NameValidationException
from rclpy.node import Node
from rclpy.task import Future
from std_msgs.msg import Header

from wesam_ros.data.codecs import CodecError
from wesam_ros.data.intrinsics import Camera, camera_of_info
from wesam_ros.data.messages import assumption_of
from wesam_ros.data.synchronizer import SynchronizedFrame
from wesam_ros.ros.diagnostics import Diagnostics
from wesam_ros.ros.frame_request import FrameRequest, from_messages
from wesam_ros.ros.inputs import Inputs
from wesam_ros.ros.parameters import Declared
from wesam_ros.ros.request_reader import RequestReader
from wesam_ros.ros.same_stamp import merged_frames
from wesam_ros.worker import Worker, WorkerStoppedError

T = TypeVar("T")

STOP_SECONDS = 30.0
"""A worker that does not end within so many seconds of being told to is left behind: it ends with its frame, or with the process."""


class Intake:
    """The inputs of one or several robots, and the worker thread that takes their frames, each input's newest one.

    Args:
        node: the owner of the subscriptions.
        declared: its parameters.
        diagnostics: its counters.
        process: called with each frame, in the worker thread.
        rejected: called there with the header of a frame whose image cannot be used, or, `failed`, whose processing failed, and a sentence,
            after it has been counted.
        prefixes: of each robot's topics; "" for the node's own namespace.

    Attributes:
        worker: the running thread, or one that was left behind with its frame; else None.
    """

    def __init__(
        self,
        node: Node,
        declared: Declared[Any],
        diagnostics: Diagnostics,
        process: Callable[[FrameRequest], None],
        rejected: Callable[[Header, str, bool], None] = lambda header, sentence, failed: None,
        prefixes: Sequence[str] = ("",),
    ) -> None:
        self.worker: Worker | None = None
        self.prefixes = tuple(prefixes)
        self._node, self._declared, self._diagnostics = node, declared, diagnostics
        self._process, self._rejected = process, rejected
        self._requests = RequestReader(node, declared)
        self._inputs: list[Inputs] = []
        self._told: set[str] = set()

    @property
    def busy(self) -> bool:
        """True while a worker that was left behind has not ended: no other may compute with the same weights."""
        return self.worker is not None and self.worker.alive

    def start(self) -> None:
        """Starts the worker thread."""
        self.worker = Worker(self._node.get_name(), self._take, self._failed, self._dropped, self._merged)

    def subscribe(self) -> None:
        """Subscribes to the inputs of each robot; from now on frames come."""
        for prefix in self.prefixes:
            self._inputs.append(Inputs(self._node, self._declared, self._diagnostics, partial(self.offer, prefix), prefix))

    def offer(self, prefix: str, messages: SynchronizedFrame) -> None:
        """Leaves a frame for the worker, in place of one of the same input that still waits; called in the executor's thread."""
        if self.worker is not None:
            self._requests.prepare(messages)
            self.worker.offer(prefix + messages.source, (prefix, messages))

    def unsubscribe(self) -> None:
        """Ends the subscriptions."""
        for each in self._inputs:
            each.close()
        self._inputs.clear()

    def stop(self) -> bool:
        """Ends the worker with the frame at hand; False where that takes longer than STOP_SECONDS, and it is left behind."""
        if self.worker is None:
            return True
        if not self.worker.stop(STOP_SECONDS):
            self._node.get_logger().error(f"the frame at hand was not done within {STOP_SECONDS:.0f} s; its thread is left behind")
            return False
        self.worker = None
        return True

    def call(self, function: Callable[[], Any]) -> Future[Any]:
        """Runs `function` in the worker thread, between two frames or steps; the future is awaited in a callback.

        Raises:
            RuntimeError: from the future, if the node is not active.
        """
        future: Future[Any] = Future()
        if self.worker is None:
            future.set_exception(RuntimeError(f"{self._node.get_fully_qualified_name()} is not active; activate it first"))
            return future
        done = self.worker.call(function)

        def forward(_: Any) -> None:
            error = done.exception()
            if isinstance(error, Exception):
                future.set_exception(error)
            else:
                future.set_result(done.result() if error is None else None)
            if self._node.executor is not None:
                self._node.executor.wake()

        done.add_done_callback(forward)
        return future

    def post(self, function: Callable[[], Any]) -> None:
        """Runs `function` in the worker thread, between two frames or steps, if the node is active."""
        if self.worker is not None:
            self.worker.call(function)

    def between_frames(self, function: Callable[[], T]) -> T:
        """The result of `function`, which runs in the worker thread; for other threads than the executor's.

        Raises:
            WorkerStoppedError: the node is not active.
        """
        if self.worker is None:
            raise WorkerStoppedError("the node is not active; activate it first")
        result: T = self.worker.call(function).result()
        return result

    def interrupted(self) -> bool:
        """Runs what `call` and `post` left, for a long job between its steps; True where the job should end soon."""
        if self.worker is None:
            return False
        self.worker.run_calls()
        return self.worker.stopping

    def missing(self) -> list[str]:
        """The inputs that do not come, and why; some lines for each robot, "" where none is missed."""
        return [each.health.missing() for each in self._inputs]

    def quiet(self) -> dict[str, str]:
        """The requests that have a publisher and never came, by name, for /diagnostics."""
        return {name: text for each in self._inputs for name, text in each.health.quiet().items()}

    def _take(self, job: tuple[str, SynchronizedFrame]) -> None:
        """Converts and processes a frame, in the worker thread."""
        prefix, messages = job
        header = messages.image.header
        try:
            try:
                self._tell(assumption_of(messages.image))
                camera_of = partial(self._camera, prefix)
                to_request = partial(self._requests.read, camera_of=camera_of)
                request = from_messages(
                    messages, prefix, to_request, lambda info, size: camera_of(info, size).projection, self._diagnostics.problem
                )
            except CodecError as error:  # of the image: without it there is no frame
                self._diagnostics.problem(f"rejected.image.{error.reason}", str(error))
                self._rejected(header, f"image: {error}", False)
                return
            self._process(request)
        except Exception as error:
            self._rejected(header, f"{type(error).__name__}: {error}", True)
            raise

    def _camera(self, prefix: str, message: Any, size: tuple[int, int]) -> Camera:
        """A frame's camera of a camera_info; which of K and P it is, and why, is logged once."""
        topic = self._node.resolve_topic_name(f"{prefix}image")
        camera = camera_of_info(message, size, self._declared.value.rectified, topic)
        self._tell(camera.why)
        return camera

    def _tell(self, sentence: str | None) -> None:
        if sentence is not None and sentence not in self._told:
            self._told.add(sentence)
            self._node.get_logger().info(sentence)

    def _merged(self, waiting: tuple[str, SynchronizedFrame], job: tuple[str, SynchronizedFrame]) -> tuple[str, SynchronizedFrame] | None:
        """One job for two of one input and stamp, such as those of two detectors; None where the newer one replaces the other."""
        both = merged_frames(waiting[1], job[1])
        if both is None:
            return None
        self._diagnostics.count(f"merged.{job[0]}{job[1].source}")
        return job[0], both

    def _dropped(self, source: str) -> None:
        self._diagnostics.count(f"dropped.{source}")

    def _failed(self, error: Exception) -> None:
        if self._node.context.ok():  # else the node is being ended, and its publishers with it
            self._diagnostics.problem("failed.frame", f"{type(error).__name__}: {error}")


def topic_prefixes(node: Node, namespaces: str) -> list[str]:
    """The prefixes of the topics of robots, "" for the node's own namespace, of their namespaces separated by commas.

    Raises:
        ValueError: one of them is no ROS namespace.
    """
    names = [each.strip() for each in namespaces.split(",")]
    prefixes = [f"{each.rstrip('/')}/" if each else "" for each in names]
    try:
        for each in prefixes:
            node.resolve_topic_name(f"{each}image")
    except NameValidationException as error:
        raise ValueError(f"parameter namespaces must be ROS namespaces separated by commas: {error}") from error
    return prefixes
