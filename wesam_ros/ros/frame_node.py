"""What the segmenter and the adapter node share: life cycle, model, inputs, worker thread, and the values of a frame's messages."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent import futures
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile
from rclpy.task import Future

from wesam_ros.data.codecs import CodecError
from wesam_ros.data.frames import Frame
from wesam_ros.data.requests import Request
from wesam_ros.machine import resolve_device
from wesam_ros.ros.conversions import camera_of, depth_of, image_of, request_of
from wesam_ros.ros.diagnostics import Diagnostics
from wesam_ros.ros.parameters import declare
from wesam_ros.ros.subscriptions import Inputs, explain_qos
from wesam_ros.ros.synchronizer import SynchronizedFrame
from wesam_ros.sam.checkpoints import load_sam
from wesam_ros.settings import InputParameters
from wesam_ros.worker import Worker

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

P = TypeVar("P", bound=InputParameters)

PAUSED, USE_FROZEN = ".paused", ".use_frozen"
"""What the names of the marks of an operator's decisions end with, after that of the adapter file that they lie beside."""
STOP_SECONDS = 30.0
"""A worker that does not end within so many seconds of being told to is left behind: it ends with its frame, or with the process."""


@dataclass(frozen=True, eq=False)
class FrameRequest:
    """A joined frame as values: what to segment in which image, and where it came from."""

    joined: SynchronizedFrame
    frame: Frame
    request: Request


class Conversion:
    """The values of a joined frame, converted once, in the thread that asks first."""

    def __init__(self, joined: SynchronizedFrame, convert: Callable[[SynchronizedFrame], FrameRequest]) -> None:
        self.joined = joined
        self._convert, self._lock = convert, threading.Lock()
        self._done: futures.Future[FrameRequest] = futures.Future()
        self.began = 0.0

    def result(self) -> FrameRequest:
        """The values; raises what the conversion did."""
        with self._lock:
            if not self._done.done():
                self.began = time.monotonic()
                try:
                    self._done.set_result(self._convert(self.joined))
                except Exception as error:
                    self._done.set_exception(error)
        return self._done.result()


class FrameNode(LifecycleNode, Generic[P]):
    """A lifecycle node that takes frames. configure loads the model; activate subscribes and starts the worker thread.

    Subclasses override `prepare`, `process` and, as they need, `started`, `stopped`, `discard` and `state`.

    Attributes:
        worker: of the active node, and of an inactive one if its last frame is still at hand; else None.
        may_pass: whether what failed the last transition was no setting, so that it may work later: memory, a full disk, a file in use.
    """

    def __init__(self, name: str, parameters: type[P]) -> None:
        super().__init__(name)
        self._declared = declare(self, parameters)
        self.device = resolve_device(self.parameters.device)
        self.diagnostics = Diagnostics(self, self._values_to_report)
        self.worker: Worker | None = None
        self.may_pass = False
        self._lifecycle = "unconfigured"
        self._inputs: list[Inputs] = []

    @property
    def parameters(self) -> P:
        """The current values; take them once per frame."""
        return self._declared.value

    def output(self, kind: Any, topic: str, qos: QoSProfile) -> Any:
        """A publisher of the active node; whoever cannot hear it is told of in the log and counted."""
        events = PublisherEventCallbacks(incompatible_qos=explain_qos(self, self.diagnostics, topic, qos, "subscriber"))
        return self.create_lifecycle_publisher(kind, topic, qos, event_callbacks=events)

    def remembered(self, mark: Path | None) -> bool:
        """Whether an operator had decided so when the last process ended, however it did."""
        return mark is not None and os.access(mark, os.F_OK)

    def remember(self, mark: Path | None, decided: bool) -> None:
        """Has the next process know of an operator's decision, by an empty file that is there or not: it is never half written."""
        if mark is None:
            return
        try:
            if decided:
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.touch()
            else:
                mark.unlink(missing_ok=True)
        except OSError as error:
            done = "written" if decided else "removed"
            self.diagnostics.problem(
                "failed.save",
                f"{mark} cannot be {done} ({error.strerror or error}); a restarted node will not know of the decision",
                of=str(mark),
            )

    def prefixes(self) -> list[str]:
        """Of the topics of each robot whose frames are taken; the node's own namespace is ""."""
        return [""]

    def prepare(self, sam: Sam) -> None:
        """Makes what the node needs of the model. What it raises fails the configuration, after `discard`."""
        raise NotImplementedError

    def process(self, work: FrameRequest, began: float) -> None:
        """Works on a frame, in the worker thread; `began` is the monotonic time at which its messages began to be converted."""
        raise NotImplementedError

    def started(self) -> None:
        """Called when the node has become active."""

    def stopped(self, ended: bool) -> None:
        """Called when the worker has ended, or is left behind in the middle of a frame."""

    def discard(self) -> None:
        """Frees what `prepare` made."""

    def refused(self, joined: SynchronizedFrame, sentence: str) -> None:
        """Called in the worker thread for a frame whose image cannot be used, or whose processing failed, after it has been counted."""

    def state(self) -> dict[str, str]:
        """Further values for /diagnostics; "error" makes the status an error, "warning", a line for each, a warning."""
        return {}

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        parameters = self.parameters
        # Two nodes with as many threads each as there are cores were 8 times slower than with half of them: OpenMP's threads wait for
        # each other at every layer, and one that has no core holds up all.
        torch.set_num_threads(parameters.torch_threads or max(1, len(os.sched_getaffinity(0)) // 2))
        try:
            checkpoint = Path(parameters.checkpoint).expanduser() if parameters.checkpoint else None
            self.prepare(load_sam(parameters.model, checkpoint, self.device))
        except Exception as error:  # rclpy would take it for an error without a word
            # RuntimeError: memory that torch did not get, or a device that it does not have; that may be there later, too.
            self.may_pass = isinstance(error, (OSError, RuntimeError, MemoryError)) and not isinstance(error, FileNotFoundError)
            ours = isinstance(error, (ValueError, OSError, RuntimeError))
            self.get_logger().error(f"cannot configure: {error}" if ours else f"cannot configure: {type(error).__name__}: {error}")
            self.discard()
            return TransitionCallbackReturn.FAILURE
        self._lifecycle = "inactive"
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        if self.worker is not None and self.worker.alive:  # two threads must not compute with the same weights
            self.may_pass = True
            self.get_logger().error("cannot activate: the frame at hand when the node was deactivated is not done; try again when it is")
            return TransitionCallbackReturn.FAILURE
        result = super().on_activate(state)
        self.worker = Worker(self.get_name(), self._process, self._failed, self._dropped)
        try:
            self.started()
            for prefix in self.prefixes():
                self._inputs.append(Inputs(self, self._declared, self.diagnostics, partial(self._offer, prefix), prefix))
        except Exception as error:  # rclpy would take it for an error without a word, and leave behind what has been started
            self.may_pass = True
            self.get_logger().error(f"cannot activate: {type(error).__name__}: {error}")
            self._stop()
            super().on_deactivate(state)
            return TransitionCallbackReturn.FAILURE
        self._lifecycle = "active"
        topics = ", ".join(self.resolve_topic_name(f"{each}image") for each in self.prefixes())
        self.get_logger().info(f"active: {self.parameters.model} on {self.device}, frames from {topics}")
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop()
        self._lifecycle = "inactive"
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.discard()
        self._lifecycle = "unconfigured"
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop()
        self.discard()
        self._lifecycle = "finalized"
        return super().on_shutdown(state)

    def close(self) -> None:
        """Ends the worker and what is to be finished with it; for the end of the process, whatever state the node is in."""
        if self.worker is not None:
            ended = self.worker.stop(STOP_SECONDS)
            if not ended:
                self.get_logger().error(f"the frame at hand was not done within {STOP_SECONDS:.0f} s; its thread is left behind")
            else:
                self.worker = None
            self.stopped(ended)

    def in_worker(self, function: Callable[[], Any]) -> Future[Any]:
        """Runs `function` in the worker thread, between two frames or steps; the future is awaited in a callback.

        Raises:
            RuntimeError: from the future, if the node is not active.
        """
        future: Future[Any] = Future()
        if self.worker is None:
            future.set_exception(RuntimeError(f"{self.get_fully_qualified_name()} is not active; activate it first"))
            return future
        done = self.worker.call(function)

        def forward(_: Any) -> None:
            error = done.exception()
            if isinstance(error, Exception):
                future.set_exception(error)
            else:
                future.set_result(done.result() if error is None else None)
            if self.executor is not None:
                self.executor.wake()

        done.add_done_callback(forward)
        return future

    def _stop(self) -> None:
        for each in self._inputs:
            each.close()
        self._inputs.clear()
        self.close()

    def _values_to_report(self) -> dict[str, str]:
        values = self.state()
        if self.device.startswith("cuda") and torch.cuda.is_initialized():
            values["gpu_memory_mib"] = f"{torch.cuda.memory_reserved(self.device) / 2**20:.0f}"
        inactive = "" if self._lifecycle == "active" else f"the node is {self._lifecycle}, and takes no frames"
        values["warning"] = "\n".join(filter(None, (inactive, values.get("warning"), *(each.missing() for each in self._inputs))))
        return {"lifecycle": self._lifecycle, **values}

    def _offer(self, prefix: str, joined: SynchronizedFrame) -> None:
        if self.worker is None:
            return
        conversion = Conversion(joined, self._values)
        if self.worker.offer(prefix + joined.source, conversion):  # while it wakes up, this thread has nothing to do
            with suppress(Exception):  # the worker is told
                conversion.result()

    def _dropped(self, source: str) -> None:
        self.diagnostics.count(f"dropped.{source}")

    def _failed(self, error: Exception) -> None:
        if not self.context.ok():
            return  # the node is being ended, and its publishers with it
        self.diagnostics.problem("failed.frame", f"{type(error).__name__}: {error}")

    def _process(self, conversion: Conversion) -> None:
        joined = conversion.joined
        try:
            try:
                work = conversion.result()
            except CodecError as error:  # of the image: without it there is no frame
                self.diagnostics.problem(f"rejected.image.{error.reason}", str(error))
                self.refused(joined, f"image: {error}")
                return
            self.process(work, conversion.began)
        except Exception as error:
            self.refused(joined, f"{type(error).__name__}: {error}")
            raise

    def _values(self, joined: SynchronizedFrame) -> FrameRequest:
        image = image_of(joined.image)
        size = (image.shape[0], image.shape[1])
        depth = self._optional("depth", joined.depth, lambda: depth_of(joined.depth, size))
        camera = self._optional("camera_info", joined.camera_info, lambda: camera_of(joined.camera_info, size))
        request = request_of(joined.request, size, self.parameters.max_boxes)
        for reason in dict.fromkeys(reason for reason, _ in request.rejected):
            sentences = [sentence for other, sentence in request.rejected if other == reason]
            self.diagnostics.problem(f"rejected.{joined.source}.{reason}", sentences[0], len(sentences))
        frame = Frame(image, depth, camera, request.detections, stamp_ns=joined.stamp)
        return FrameRequest(joined, frame, request)

    def _optional(self, kind: str, message: Any, convert: Callable[[], Any]) -> Any:
        """What a bad depth or camera_info costs is the 3D output, not the frame."""
        if message is None:
            return None
        try:
            return convert()
        except CodecError as error:
            self.diagnostics.problem(f"rejected.{kind}.{error.reason}", str(error))
            return None
