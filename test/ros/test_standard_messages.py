"""Segmented objects as messages of vision_msgs, and the fields of an object that a gripper needs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

from ament_index_python.packages import get_package_share_directory
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, Detection3DArray, LabelInfo

from wesam_ros.data.detections import Detections
from wesam_ros.data.messages import stamp_of
from wesam_ros.data.rotations import quaternion_of
from wesam_ros.ros.objects import object_messages
from wesam_ros.ros.standard_messages import BACKGROUND, detections_2d, detections_3d, label_info
from wesam_ros.sam.masks import Masks
from wesam_ros.scene.geometry import Located
from wesam_ros.scene.oriented_box import OrientedBox

NODE_PARAMETERS = {"target_frame": "/base"}  # as ROS 1 wrote it
SIZE = (30, 40)
HEADER = Header(frame_id="base")
FOUND = Detections(np.array([(10, 5, 20, 9), (0, 0, 3, 3)], np.float32), ("a", "b"), ("cup", ""), np.array([0.5, 0.25], np.float32))
HASHES = {
    "Detection2DArray": "RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
    "Detection3DArray": "RIHS01_793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018",
    "LabelInfo": "RIHS01_3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783",
}


def through_dds(message: Any) -> Any:
    """The message as a subscriber gets it."""
    return deserialize_message(serialize_message(message), type(message))


def turned(degrees: float, axis: int) -> np.ndarray:
    a, matrix = np.radians(degrees), np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[i, i] = matrix[j, j] = np.cos(a)
    matrix[i, j], matrix[j, i] = -np.sin(a), np.sin(a)
    return matrix


@pytest.fixture
def masks() -> Masks:
    """One of 4 x 10 pixels, and an empty one."""
    pixels = np.zeros((2, *SIZE), bool)
    pixels[0, 5:9, 10:20] = True
    return Masks(pixels, np.array([0.9, 0.1], np.float32), np.zeros((2, 1, 1), np.float32))


@pytest.fixture
def located() -> list[Located | None]:
    """The first, with a box turned by 90 degrees about z."""
    box = OrientedBox(np.array([0.1, 0.2, 0.9]), turned(90, 2), np.array([0.3, 0.2, 0.1]), 31, True)
    return [Located(np.array([0.1, 0.2, 0.95]), np.array([0.2, 0.3, 0.1]), 39, box), None]


def test_tight_boxes(masks: Masks) -> None:
    message = through_dds(detections_2d(HEADER, masks, FOUND))
    (only,) = message.detections  # an empty mask has no box
    center = only.bbox.center.position
    assert (center.x, center.y, only.bbox.size_x, only.bbox.size_y, only.bbox.center.theta) == (15, 7, 10, 4, 0)
    assert (only.id, only.results[0].hypothesis.class_id, only.results[0].hypothesis.score) == ("a", "cup", 0.5)
    assert message.header == only.header == HEADER


def test_boxes_in_space(located: list[Located | None]) -> None:
    message = through_dds(detections_3d(HEADER, located, FOUND))
    (only,) = message.detections
    pose = only.bbox.center
    assert (pose.position.x, pose.position.y, pose.position.z) == (0.1, 0.2, 0.9)
    assert (pose.orientation.w, pose.orientation.z) == pytest.approx((np.sqrt(0.5), np.sqrt(0.5)))
    assert (only.bbox.size.x, only.bbox.size.y, only.bbox.size.z) == (0.3, 0.2, 0.1)
    assert (only.id, only.results[0].hypothesis.class_id, only.results[0].hypothesis.score) == ("a", "cup", 0.5)
    assert only.results[0].pose.pose == pose
    assert not through_dds(detections_3d(HEADER, [], FOUND)).detections


def test_classes_of_labels() -> None:
    info = through_dds(label_info(HEADER, FOUND))
    assert [(each.class_id, each.class_name) for each in info.class_map] == [(0, BACKGROUND), (1, "cup"), (2, "b")]


def test_an_object_is_ready_for_a_gripper(masks: Masks, located: list[Located | None]) -> None:
    first, second = (through_dds(each) for each in object_messages(masks, FOUND, located, "base"))
    assert (first.box_pose.position.z, first.box_size.x, first.box_points, first.on_plane) == (0.9, 0.3, 31, True)
    assert first.grasp_width == pytest.approx(0.2)
    assert (first.approach_axis.x, first.approach_axis.y, first.approach_axis.z) == (0, 0, -1)
    assert first.depth_points == 39
    assert (second.has_3d, second.box_points, second.box_size.x) == (False, 0, 0)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("degrees", [0, 30, 90, 179.9, 180, 270])
def test_quaternions(axis: int, degrees: float) -> None:
    found, matrix = quaternion_of(turned(degrees, axis)), turned(degrees, axis)
    x, y, z, w = found
    assert w >= 0
    assert np.linalg.norm(found) == pytest.approx(1)
    vector = np.array([0.3, -0.4, 0.5])
    np.testing.assert_allclose(vector + 2 * np.cross(found[:3], np.cross(found[:3], vector) + w * vector), matrix @ vector, atol=1e-6)
    assert (x, y, z)[(axis + 1) % 3] == pytest.approx(0, abs=1e-6)


@pytest.mark.usefixtures("segmenter")
def test_they_come_while_someone_listens_and_in_the_target_frame(graph: Any, camera_in_base: Callable[[], None]) -> None:
    camera_in_base()
    kinds = {"detections_2d": Detection2DArray, "detections_3d": Detection3DArray, "label_info": LabelInfo}
    came: dict[str, dict[int, Any]] = {name: {} for name in kinds}
    subscriptions = [
        graph.node.create_subscription(kind, f"segmenter/{name}", lambda m, name=name: came[name].update({stamp_of(m.header): m}), 10)
        for name, kind in kinds.items()
    ]

    def complete() -> int | None:
        stamp = stamp_of(graph.answer().header)
        placed = came["detections_3d"].get(stamp)
        return stamp if all(stamp in each for each in came.values()) and placed.header.frame_id == "base" else None

    stamp = graph.until(complete, "a frame with all standard messages")
    objects = graph.objects[stamp].objects
    with_3d = [each for each in objects if each.has_3d]
    assert [each.id for each in came["detections_3d"][stamp].detections] == [each.id for each in with_3d]
    for each, detection in zip(with_3d, came["detections_3d"][stamp].detections, strict=True):
        assert detection.bbox.center == each.box_pose
        assert (each.frame_id, detection.bbox.size) == ("base", each.box_size)
        assert 5.9 < each.box_pose.position.z < 6.1
    boxes = {each.id: each.bbox for each in came["detections_2d"][stamp].detections}
    for each in objects:
        if each.mask.width:
            assert (boxes[each.id].size_x, boxes[each.id].size_y) == (each.mask.width, each.mask.height)
    assert [each.class_name for each in came["label_info"][stamp].class_map] == [BACKGROUND, "cup", "cup"]
    for subscription in subscriptions:
        graph.node.destroy_subscription(subscription)


@pytest.mark.parametrize("name", HASHES)
def test_types_are_those_of_vision_msgs(name: str) -> None:
    """The type hashes of vision_msgs 4.1.1, as its own build gives them."""
    described = json.loads((Path(get_package_share_directory("vision_msgs")) / "msg" / f"{name}.json").read_text())
    assert described["type_hashes"][0]["hash_string"] == HASHES[name]
