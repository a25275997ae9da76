"""Cameras of the field at a running segmenter: webcam colours, a distorting lens, a camera_info of another size."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

from sensor_msgs.msg import CameraInfo, Image

from wesam_ros.data.intrinsics import camera_of_info
from wesam_ros.data.messages import image_of
from wesam_ros.scene.geometry import locate

pytestmark = pytest.mark.usefixtures("segmenter")
SIZE = (120, 160)
K = [260.0, 0.0, 170.0, 0.0, 260.0, 110.0, 0.0, 0.0, 1.0]


def webcam(graph: Any, header: Any) -> Image:
    """The frame's image as yuv422_yuy2 without colours."""
    grey = image_of(graph.frame(header)["image"])[..., 1]
    pixels = np.dstack([grey, np.full_like(grey, 128)])
    data = array("B", pixels.tobytes())
    return Image(header=header, height=SIZE[0], width=SIZE[1], encoding="yuv422_yuy2", step=2 * SIZE[1], data=data)


def test_a_webcam_with_a_wide_lens(graph: Any) -> None:
    header = graph.next_header()
    info = CameraInfo(
        header=header, height=2 * SIZE[0], width=2 * SIZE[1], k=K, d=[-0.3, 0.08, 0.0, 0.0, 0.0], distortion_model="plumb_bob"
    )
    graph.send(**{**graph.frame(header), "image": webcam(graph, header), "camera_info": info})
    objects = [each for each in graph.masks_of(header).objects if each.has_3d]
    assert objects
    camera = camera_of_info(info, SIZE)
    assert camera.distortion and camera.matrix[0, 2] == 85
    labels = graph.until(lambda: graph.labels.get(header.stamp.sec * 10**9 + header.stamp.nanosec), "a label image")
    instances = np.frombuffer(labels.data, np.uint16).reshape(SIZE)
    whole = (slice(0, SIZE[0]), slice(0, SIZE[1]))
    for each in objects:
        (place,) = locate((instances == each.label).astype(np.uint16), np.ones(SIZE, np.float32), camera.projection, (whole,))
        assert place is not None
        np.testing.assert_allclose([each.centroid.x, each.centroid.y, each.centroid.z], place.centroid, atol=1e-3)
