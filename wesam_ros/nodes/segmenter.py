"""The segmenter node: image and boxes (or points, or coarse masks) in, masks and 3D objects out, with the newest adapter.

Lifecycle: configure loads the model, activate serves. A new adapter takes effect with the next frame; results carry its version.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header, UInt64
from std_srvs.srv import SetBool

from wesam_ros.data.codecs import CodecError
from wesam_ros.data.detections import Detections
from wesam_ros.drawing.overlay import draw_labels
from wesam_ros.engines.engine import Engine, give_up
from wesam_ros.engines.parity_monitor import ParityMonitor
from wesam_ros.engines.segmentation import segment
from wesam_ros.engines.selection import create_engine
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.machine import keep_freed_memory
from wesam_ros.msg import Adapter as AdapterMessage
from wesam_ros.msg import ObjectArray
from wesam_ros.ros.adapter_source import AdapterSource
from wesam_ros.ros.conversions import camera_of, depth_of, image_of, request_of, stamp_of
from wesam_ros.ros.frame_node import STOP_SECONDS, USE_FROZEN, FrameNode, FrameRequest
from wesam_ros.ros.objects import cloud_message, image_message, object_messages
from wesam_ros.ros.process import run_node
from wesam_ros.ros.subscriptions import LATCHED, explain_qos
from wesam_ros.ros.transforms import TransformBuffer, TransformError
from wesam_ros.sam.adapter import Adapter, AdapterError
from wesam_ros.sam.masks import Masks
from wesam_ros.sam.prompts import PromptError
from wesam_ros.scene.geometry import Located, cloud, locate
from wesam_ros.settings import SegmenterParameters
from wesam_ros.srv import Segment

if TYPE_CHECKING:
    from rclpy.subscription import MessageInfo
    from segment_anything.modeling import Sam

Float = npt.NDArray[np.float64]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Found:
    """What the model and the depth image say of one frame; `transform` and `frame_id` are those of the 3D output."""

    masks: Masks
    labels: npt.NDArray[np.uint16]
    located: list[Located | None]
    frame_id: str
    transform: Float | None


class Segmenter(FrameNode[SegmenterParameters]):
    """See the module. Topics, services and parameters are listed in docs/."""

    def __init__(self) -> None:
        super().__init__("segmenter", SegmenterParameters)
        self._engine: Engine | None = None
        self._refused: tuple[str, ...] = ()
        self._gate: ParityMonitor | None = None
        self._adapter: Adapter | None = None
        self._objects = self.output(ObjectArray, "~/objects", QoSProfile(depth=10))
        self._labels = self.output(Image, "~/labels", QoSProfile(depth=2))
        self._overlay = self.output(Image, "~/overlay", QoSProfile(depth=2))
        self._points = self.output(PointCloud2, "~/points", QoSProfile(depth=2))
        self._version = self.output(UInt64, "~/adapter_version", LATCHED)
        services = ReentrantCallbackGroup()  # they wait for the worker; nothing else may wait for them
        self.create_service(Segment, "~/segment", self._on_segment, callback_group=services)
        self.create_service(SetBool, "~/use_frozen", self._on_use_frozen, callback_group=services)
        self._adapters: Any = None
        self._source = AdapterSource(self._adapter_publishers)
        self._refused_adapter: tuple[AdapterMessage, bytes, str] | None = None
        self.create_timer(1.0, self._reconsider, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._transforms = self._listen_to_tf() if self.parameters.target_frame else None
        beside = self.parameters.keep_beside
        self._frozen_mark = Path(beside + USE_FROZEN).expanduser() if beside else None
        if self.remembered(self._frozen_mark):
            self.set_parameters([Parameter("use_frozen", value=True)])
            self.get_logger().warning(
                "the frozen model serves, as was chosen before this node ended; call ~/use_frozen with false for the adapter"
            )
        self.add_post_set_parameters_callback(self._keep_choice)

    def prepare(self, sam: Sam) -> None:
        if self.parameters.adapter:
            path = Path(self.parameters.adapter).expanduser()
            self._adapter = Adapter.load(path, for_sam=sam)
            self.get_logger().info(f"starts with adapter version {self._adapter.version} from {path}")
        selection = create_engine(sam, self.parameters.engine, self.get_logger().info, adapter=self._adapter)
        self._engine, self._refused = selection.engine, selection.refused
        self._compute(lambda engine: engine.warm_up())

    def discard(self) -> None:
        if self._engine is not None:
            give_up(self._engine)
        self._engine = self._adapter = None

    def started(self) -> None:
        engine = self._running()
        if self.worker is not None and not isinstance(engine, TorchEngine):
            worker = self.worker
            checked = partial(self._on_checked, engine)
            self._gate = ParityMonitor(engine, lambda call: worker.call(call).result(), checked, self._gate_failed)
            if self._adapter is not None:
                self._gate.offer(self._adapter)
        explain = explain_qos(self, self.diagnostics, "adapter", LATCHED, "publisher")
        events = SubscriptionEventCallbacks(incompatible_qos=explain)
        self._adapters = self.create_subscription(AdapterMessage, "adapter", self._on_adapter, LATCHED, event_callbacks=events)
        self._announce()

    def stopped(self, ended: bool) -> None:
        if self._adapters is not None:
            self.destroy_subscription(self._adapters)
            self._adapters = None
        if self._gate is not None:
            self._gate.stop(STOP_SECONDS)
            self._gate = None

    def state(self) -> dict[str, str]:
        adapter, engine, refused = self._adapter, self._engine, self._refused_adapter
        in_use = adapter is not None and not self.parameters.use_frozen
        warnings = [refused[2]] if refused is not None and refused[2] else []
        if in_use and self._source.gone():
            warnings.append(
                f"the adapter of {self._source.name} is in use, but that node is gone, and nobody judges it any more: start the node "
                "again, or call ~/use_frozen"
            )
        return {
            "adapter_version": str(adapter.version if adapter is not None else 0),
            "warning": "\n".join(warnings),
            "adapter_from": self._source.name,
            "adapter_publishers": str(len(self._adapter_publishers())),
            "in_use": "adapter" if in_use else "frozen model",
            "model": self.parameters.model,
            "engine": str(engine.capabilities) if engine is not None else self.parameters.engine,
            **({"engine.refused": "; ".join(self._refused)} if self._refused else {}),
            "device": self.device,
        }

    def process(self, work: FrameRequest, began: float) -> None:
        adapter = self._in_use()
        header = work.joined.image.header
        frame, prompts = work.frame, work.request.prompts
        before = time.monotonic()
        masks = self._compute(lambda engine: segment(engine, frame.image, prompts, adapter))
        model = time.monotonic() - before
        found = self._locate(masks, frame.depth, frame.camera, header)
        message = self._array(header, found, work.request.detections, adapter)
        self._publish_pixels(work, found)
        now = time.monotonic()
        message.latency_ms, message.model_ms = (now - work.joined.arrived) * 1e3, model * 1e3
        message.ros_ms = (now - began - model) * 1e3
        self._objects.publish(message)
        done = time.monotonic()
        self.diagnostics.timing("latency_ms", (done - work.joined.arrived) * 1e3)
        self.diagnostics.timing("model_ms", model * 1e3)
        self.diagnostics.timing("ros_ms", (done - began - model) * 1e3)
        self.diagnostics.frame_done()

    def _running(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("the segmenter is not configured; configure it first")
        return self._engine

    def _compute(self, function: Callable[[Engine], T]) -> T:
        """What a function computes with the engine; where another than torch fails, it is refused, and torch computes the same again."""
        engine = self._running()
        try:
            return function(engine)
        except (AdapterError, PromptError):  # no fault of the engine
            raise
        except Exception as error:
            if isinstance(engine, TorchEngine):
                raise
            refusal = f"{engine.capabilities} fails: {type(error).__name__}: {error}"
        self._refuse(engine, refusal)
        return function(self._running())

    def _in_use(self) -> Adapter | None:
        return None if self.parameters.use_frozen else self._adapter

    def _array(self, header: Header, found: Found, detections: Detections, adapter: Adapter | None) -> ObjectArray:
        objects = object_messages(found.masks, detections, found.located, found.frame_id)
        version = adapter.version if adapter is not None else 0
        return ObjectArray(header=header, objects=objects, adapter_version=version, model=self.parameters.model)

    def _locate(self, masks: Masks, depth: npt.NDArray[np.float32] | None, camera: Float | None, header: Header) -> Found:
        labels = masks.label_image()
        if depth is None or camera is None:
            return Found(masks, labels, [], header.frame_id, None)
        frame_id, transform = self._target(header)
        return Found(masks, labels, locate(labels, depth, camera, masks.crops, transform), frame_id, transform)

    def _target(self, header: Header) -> tuple[str, Float | None]:
        """The frame of the 3D output and the transform to it; the camera's own frame where TF does not have the one that is asked for."""
        target = self.parameters.target_frame
        if not target or target == header.frame_id or self._transforms is None:
            return header.frame_id, None
        try:
            return target, self._transforms.lookup(target, header.frame_id, stamp_of(header), self.parameters.tf_wait)
        except TransformError as error:
            self.diagnostics.problem("missing.transform", f"3D output stays in {header.frame_id}: {error}")
            return header.frame_id, None

    def _publish_pixels(self, work: FrameRequest, found: Found) -> None:
        """Label image, overlay and cloud, each only if someone listens."""
        header, frame = work.joined.image.header, work.frame
        if self._labels.get_subscription_count():
            self._labels.publish(image_message(header, found.labels))
        if self._overlay.get_subscription_count():
            drawn = draw_labels(frame.image, found.labels, work.request.detections.ids)
            self._overlay.publish(image_message(header, drawn))
        if self._points.get_subscription_count() and frame.depth is not None and frame.camera is not None:
            points, instances = cloud(found.labels, frame.depth, frame.camera, found.transform)
            self._points.publish(cloud_message(Header(stamp=header.stamp, frame_id=found.frame_id), points, instances))

    def _announce(self) -> None:
        adapter = self._in_use()
        self._version.publish(UInt64(data=adapter.version if adapter is not None else 0))

    def _adapter_publishers(self) -> dict[bytes, str]:
        found = self.get_publishers_info_by_topic(self.resolve_topic_name("adapter"))
        return {bytes(each.endpoint_gid): f"{each.node_namespace.rstrip('/')}/{each.node_name}" for each in found}

    def _on_adapter(self, message: AdapterMessage, info: MessageInfo) -> None:
        self.diagnostics.count("received.adapter")
        publisher = info.get("publisher_gid")
        self._offer_adapter(message, publisher["data"] if publisher else b"")

    def _offer_adapter(self, message: AdapterMessage, publisher: bytes) -> None:
        if self.worker is not None:
            self.worker.call(lambda: self._take_adapter(message, publisher))

    def _reconsider(self) -> None:
        """Takes the newest adapter that was refused for its publisher, if that is still there, when the one that was served has gone."""
        if self._refused_adapter is not None:
            message, publisher, _ = self._refused_adapter
            if publisher in self._adapter_publishers():
                self._offer_adapter(message, publisher)
            else:
                self._refused_adapter = None

    def _take_adapter(self, message: AdapterMessage, publisher: bytes) -> None:
        """Checks an adapter, in the worker thread, between two frames, and takes it if it is whole, of this model, and of the publisher
        that is served. `publisher` is empty where rclpy does not tell."""
        refused = self._refused_adapter
        known = refused[2] if refused is not None and refused[0] is message else ""
        objection = self._source.objection(publisher) if publisher else None
        if objection is not None:
            self._refused_adapter = message, publisher, objection
            if objection and not known:  # it may be looked at several times
                self.diagnostics.count("rejected.adapter.other_publisher")
            return
        if refused is not None and refused[1] == publisher:
            self._refused_adapter = None
        try:
            adapter = Adapter.from_bytes(message.data.tobytes(), for_sam=self._running().sam)
            if adapter.version != message.version:
                raise AdapterError(
                    "version",
                    f"the message says version {message.version}, but its data {adapter.version}; publish what Adapter.to_bytes gave",
                )
        except AdapterError as error:
            self.diagnostics.problem(f"rejected.adapter.{error.reason}", f"{error}; version {self._current()} stays in use")
            return
        self._source.take(publisher)
        self._adapter = adapter
        self._announce()
        if self._gate is not None:
            self._gate.offer(adapter)

    def _on_checked(self, engine: Engine, adapter: Adapter, refusal: str | None) -> None:
        """What the gate says of an engine, in its own thread."""
        self.diagnostics.count("checked.adapter")
        if refusal is not None and self.worker is not None:
            self.worker.call(lambda: self._refuse(engine, refusal)).result()

    def _refuse(self, engine: Engine, refusal: str) -> None:
        """Has torch serve, in the worker thread: it agrees with itself, and another engine would have to be loaded and checked first."""
        if engine is not self._engine:
            return  # refused already, for another reason
        if self._gate is not None:
            self._gate.end()  # it would compute with the model in torch at the same time
        self._engine, self._refused = TorchEngine(engine.sam), (*self._refused, f"{engine.capabilities.name}: {refusal}")
        give_up(engine)
        self.diagnostics.problem("refused.engine", f"{refusal}; torch serves from now on")

    def _gate_failed(self, error: Exception) -> None:
        if self.worker is None or self.worker.stopping:
            return  # a check that the stop has cut short; the next start begins with it
        self.diagnostics.problem("failed.gate", f"an adapter could not be checked: {type(error).__name__}: {error}")

    def _current(self) -> int:
        return self._adapter.version if self._adapter is not None else 0

    def _on_use_frozen(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        result = self.set_parameters_atomically([Parameter("use_frozen", value=request.data)])
        response.success = result.successful
        response.message = "the frozen model" if request.data else f"adapter version {self._current()}"
        self._announce()
        return response

    def _keep_choice(self, parameters: list[Parameter[Any]]) -> None:
        """Has the next process know what was chosen while this one ran."""
        for each in parameters:
            if each.name == "use_frozen":
                self.remember(self._frozen_mark, each.value)

    async def _on_segment(self, request: Segment.Request, response: Segment.Response) -> Segment.Response:
        try:
            await self.in_worker(lambda: self._answer(request, response))
        except Exception as error:
            response.success, response.message = False, str(error)
        return response

    def _answer(self, request: Segment.Request, response: Segment.Response) -> None:
        """Fills the response of ~/segment, in the worker thread; ValueError says what is wrong with the request."""
        began = time.monotonic()
        header = request.image.header
        image = image_of(request.image)
        size = (image.shape[0], image.shape[1])
        depth = depth_of(request.depth, size) if len(request.depth.data) else None
        asked = request_of(request.prompts, size, self.parameters.max_boxes)
        if asked.rejected or not len(asked.prompts):
            raise CodecError("prompt", asked.rejected[0][1] if asked.rejected else "prompts must have at least one object, but have none")
        camera = camera_of(request.camera_info, size) if depth is not None else None
        adapter = self._in_use()
        before = time.monotonic()
        masks = self._compute(lambda engine: segment(engine, image, asked.prompts, adapter))
        model = time.monotonic() - before
        found = self._locate(masks, depth, camera, header)
        response.objects = self._array(header, found, asked.detections, adapter)
        response.labels = image_message(header, found.labels)
        now = time.monotonic()
        response.objects.latency_ms, response.objects.model_ms = (now - began) * 1e3, model * 1e3
        response.objects.ros_ms = (now - began - model) * 1e3
        response.success = True

    def _listen_to_tf(self) -> TransformBuffer | None:
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError:
            self.diagnostics.problem(
                "missing.transform", "tf2_msgs is not installed, so target_frame cannot be used; 3D output stays in the camera's frame"
            )
            return None
        buffer = TransformBuffer()
        static = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(TFMessage, "/tf", lambda message: buffer.add(message.transforms, static=False), 100)
        self.create_subscription(TFMessage, "/tf_static", lambda message: buffer.add(message.transforms, static=True), static)
        return buffer


def main(args: list[str] | None = None) -> int:
    """Runs the node until it is interrupted; returns the exit status."""
    keep_freed_memory()
    return run_node(Segmenter, args)


if __name__ == "__main__":
    raise SystemExit(main())
