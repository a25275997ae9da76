"""Requests of synchronised frames: boxes in space with TF of the graph, boxes of another grid."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2D, Detection2DArray, Detection3D, Detection3DArray

from wesam_ros.data.intrinsics import camera_of_info
from wesam_ros.data.requests import Request
from wesam_ros.data.synchronizer import SynchronizedFrame
from wesam_ros.ros.request_reader import RequestReader
from wesam_ros.ros.subscriptions import LATCHED
from wesam_ros.settings import InputParameters

SIZE = (120, 160)
INFO = CameraInfo(height=120, width=160, k=[130.0, 0.0, 80.0, 0.0, 130.0, 60.0, 0.0, 0.0, 1.0])
FRAMED = (73.5, 53.5, 86.5, 66.5)
"""The box of `in_space` for a camera at the origin of its frame."""


def in_space(frame: str, distance: float = 1.0) -> Detection3DArray:
    """A square of 10 cm before the camera."""
    box = Detection3D(id="a")
    box.bbox.center.position.z = distance
    box.bbox.size.x = box.bbox.size.y = 0.1
    return Detection3DArray(header=Header(frame_id=frame), detections=[box])


@pytest.fixture
def read(graph: Any) -> Any:
    """Reads a request with parameters, as Intake does."""

    def call(request: Any, info: Any = INFO, reader: RequestReader | None = None, **parameters: Any) -> Request:
        declared: Any = SimpleNamespace(value=InputParameters(**parameters))
        reader = reader or RequestReader(graph.node, declared)
        messages = SynchronizedFrame(10**9, "detections", request, Image(header=Header(frame_id="camera")), None, info, 0.0)
        reader.prepare(messages)
        return reader.read(messages, SIZE, camera_of_info)

    return call


@pytest.mark.parametrize("frame", ["camera", "/camera", ""])
def test_boxes_in_the_cameras_frame_need_no_transform(read: Any, frame: str) -> None:
    request = read(in_space(frame))
    np.testing.assert_allclose(request.detections.boxes, [FRAMED], atol=1e-4)
    assert not request.rejected


@pytest.mark.parametrize(
    ("request_", "info", "reason"),
    [
        (in_space("camera"), None, "no_camera"),
        (in_space("camera"), CameraInfo(height=120, width=160), "uncalibrated"),
        (in_space("nowhere"), INFO, "no_transform"),
        (in_space("camera", -1.0), INFO, "outside"),
    ],
)
def test_boxes_in_space_that_cannot_be_used_are_rejected_by_reason(read: Any, request_: Any, info: Any, reason: str) -> None:
    request = read(request_, info)
    assert [each for each, _ in request.rejected] == [reason]
    assert not len(request.prompts)


def test_boxes_in_another_frame_come_through_tf(graph: Any, read: Any) -> None:
    """The frame `table` is 0.1 m to the right of the camera's, and 1 m ahead."""
    transform = TransformStamped(header=Header(frame_id="camera"), child_frame_id="table")
    transform.transform.translation.x, transform.transform.translation.z = 0.1, 1.0
    transform.transform.rotation.w = 1.0
    publisher = graph.node.create_publisher(TFMessage, "/tf_static", LATCHED)
    publisher.publish(TFMessage(transforms=[transform]))
    declared: Any = SimpleNamespace(value=InputParameters())
    reader = RequestReader(graph.node, declared)
    graph.until(lambda: len(read(in_space("table", 0.0), reader=reader).prompts), "the transform")
    request = read(in_space("table", 0.0), reader=reader)
    np.testing.assert_allclose(request.detections.boxes, [np.add(FRAMED, (13, 0, 13, 0))], atol=1e-4)
    graph.node.destroy_publisher(publisher)


def test_boxes_of_another_grid(read: Any) -> None:
    box = Detection2D()
    box.bbox.center.position.x, box.bbox.center.position.y, box.bbox.size_x, box.bbox.size_y = 320.0, 320.0, 160.0, 160.0
    message = Detection2DArray(detections=[box])
    assert read(message).foreign[0] == 1
    request = read(message, detections_size="640x640 letterbox")
    assert request.foreign[0] == 0
    np.testing.assert_allclose(request.detections.boxes, [(60, 40, 100, 80)], atol=1e-4)
