"""The way of a segmented frame out: 3D, objects, standard messages, label image, overlay and cloud."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header, UInt64
from vision_msgs.msg import Detection2DArray, Detection3DArray, LabelInfo

from wesam_ros.drawing.overlay import draw_labels
from wesam_ros.msg import ObjectArray
from wesam_ros.ros.diagnostics import Diagnostics
from wesam_ros.ros.frame_request import SERVICE, FrameRequest
from wesam_ros.ros.objects import cloud_message, image_message, object_messages
from wesam_ros.ros.parameters import Declared
from wesam_ros.ros.standard_messages import detections_2d, detections_3d, label_info
from wesam_ros.ros.subscriptions import LATCHED, create_output
from wesam_ros.ros.target_frame import TargetFrame
from wesam_ros.ros.wire import image_on_wire
from wesam_ros.sam.masks import Masks
from wesam_ros.scene.geometry import Located, cloud, locate
from wesam_ros.settings import SegmenterParameters
from wesam_ros.srv import Segment


@dataclass(frozen=True, eq=False)
class SegmentedFrame:
    """A frame and its objects.

    Attributes:
        request: the frame.
        masks: of its n objects.
        labels: (H, W), 0 = background, else the object's row + 1.
        located: the objects in 3D, n or none at all, as where nobody listens; None for one with too little depth.
        frame_id: the frame of `located`.
        transform: (4, 4) from the camera to it, metres; None where it is the camera's own.
        adapter_version: of the adapter used; 0 for the frozen model.
        model_seconds: time in the model, and in refining its masks.
    """

    request: FrameRequest
    masks: Masks
    labels: npt.NDArray[np.uint16]
    located: list[Located | None]
    frame_id: str
    transform: npt.NDArray[np.float64] | None
    adapter_version: int
    model_seconds: float


class ObjectOutput:
    """Publishes segmented frames; all but the objects only if someone listens.

    Args:
        node: the owner of the publishers.
        declared: its parameters.
        diagnostics: takes latencies and the rate of frames.
    """

    def __init__(self, node: LifecycleNode, declared: Declared[SegmenterParameters], diagnostics: Diagnostics) -> None:
        self._declared, self._diagnostics = declared, diagnostics
        self._target = TargetFrame(node, declared, diagnostics)
        self._objects = create_output(node, diagnostics, ObjectArray, "~/objects", QoSProfile(depth=10))
        self._detections_2d = create_output(node, diagnostics, Detection2DArray, "~/detections_2d", QoSProfile(depth=10))
        self._detections_3d = create_output(node, diagnostics, Detection3DArray, "~/detections_3d", QoSProfile(depth=10))
        self._labels = create_output(node, diagnostics, Image, "~/labels", QoSProfile(depth=2))
        self._label_info = create_output(node, diagnostics, LabelInfo, "~/label_info", QoSProfile(depth=2))
        self._overlay = create_output(node, diagnostics, Image, "~/overlay", QoSProfile(depth=2))
        self._points = create_output(node, diagnostics, PointCloud2, "~/points", QoSProfile(depth=2))
        self._version = create_output(node, diagnostics, UInt64, "~/adapter_version", LATCHED)

    def locate(self, request: FrameRequest, masks: Masks, adapter_version: int, model_seconds: float) -> SegmentedFrame:
        """The objects of a frame with their places, where it has depth and a camera, and someone wants them."""
        frame, labels = request.frame, masks.label_image()
        if frame.depth is None or frame.camera is None or not (request.source == SERVICE or self._are_places_wanted()):
            return SegmentedFrame(request, masks, labels, [], request.header.frame_id, None, adapter_version, model_seconds)
        frame_id, transform = self._target.of(request.header)
        boxes = self._declared.value.oriented_boxes or self._detections_3d.get_subscription_count() > 0
        located = locate(labels, frame.depth, frame.camera, masks.crops, transform, boxes)
        return SegmentedFrame(request, masks, labels, located, frame_id, transform, adapter_version, model_seconds)

    def _are_places_wanted(self) -> bool:
        return any(each.get_subscription_count() for each in (self._objects, self._detections_3d, self._points))

    def publish(self, segmented: SegmentedFrame) -> None:
        """Publishes a frame's objects, and before them its pixels and its standard messages."""
        message = self._message(segmented)
        self._publish_pixels(segmented)
        self._publish_detections(segmented)
        self._objects.publish(_timed(message, segmented))
        done, request, model = time.monotonic(), segmented.request, segmented.model_seconds
        self._diagnostics.timing("latency_ms", (done - request.arrived) * 1e3)
        self._diagnostics.timing("model_ms", model * 1e3)
        self._diagnostics.timing("ros_ms", (done - request.began - model) * 1e3)
        self._diagnostics.frame_done()

    def answer_nothing(self, header: Header) -> None:
        """Publishes that a frame has no objects."""
        self._objects.publish(ObjectArray(header=header, model=self._declared.value.model))

    def fill(self, response: Segment.Response, segmented: SegmentedFrame) -> None:
        """Fills the response of ~/segment."""
        message = self._message(segmented)
        response.labels = image_message(segmented.request.header, segmented.labels)
        response.objects = _timed(message, segmented)
        response.success = True

    def announce(self, adapter_version: int) -> None:
        """Publishes the version of the adapter in use; 0 for the frozen model."""
        self._version.publish(UInt64(data=adapter_version))

    def _message(self, segmented: SegmentedFrame) -> ObjectArray:
        objects = object_messages(segmented.masks, segmented.request.objects.detections, segmented.located, segmented.frame_id)
        model = self._declared.value.model
        return ObjectArray(header=segmented.request.header, objects=objects, adapter_version=segmented.adapter_version, model=model)

    def _publish_detections(self, segmented: SegmentedFrame) -> None:
        header, masks, found = segmented.request.header, segmented.masks, segmented.request.objects.detections
        if self._detections_2d.get_subscription_count():
            self._detections_2d.publish(detections_2d(header, masks, found))
        if self._detections_3d.get_subscription_count():
            placed = Header(stamp=header.stamp, frame_id=segmented.frame_id)
            self._detections_3d.publish(detections_3d(placed, segmented.located, found))

    def _publish_pixels(self, segmented: SegmentedFrame) -> None:
        request, labels = segmented.request, segmented.labels
        header, frame = request.header, request.frame
        if self._labels.get_subscription_count():
            self._labels.publish(image_on_wire(header, labels))
        if self._label_info.get_subscription_count():
            self._label_info.publish(label_info(header, request.objects.detections))
        if self._overlay.get_subscription_count():
            drawn = draw_labels(frame.image, labels, request.objects.detections.ids)
            self._overlay.publish(image_on_wire(header, drawn))
        if self._points.get_subscription_count() and frame.depth is not None and frame.camera is not None:
            points, instances = cloud(labels, frame.depth, frame.camera, segmented.transform)
            self._points.publish(cloud_message(Header(stamp=header.stamp, frame_id=segmented.frame_id), points, instances))


def _timed(message: ObjectArray, segmented: SegmentedFrame) -> ObjectArray:
    """The message with the frame's latencies up to now."""
    now, request, model = time.monotonic(), segmented.request, segmented.model_seconds
    message.latency_ms, message.model_ms = (now - request.arrived) * 1e3, model * 1e3
    message.ros_ms = (now - request.began - model) * 1e3
    return message
