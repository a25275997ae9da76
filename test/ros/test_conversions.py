"""Messages to values and back, without a graph."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray
from wesam_ros.msg import Mask, Prompt, Prompts

from wesam_ros.data import codecs
from wesam_ros.data.codecs import CodecError
from wesam_ros.data.detections import Detections
from wesam_ros.data.messages import checked_camera_of, depth_of, image_of
from wesam_ros.data.recordings import messages
from wesam_ros.data.requests import request_of, request_of_detections
from wesam_ros.ros.objects import CLOUD_TYPE, cloud_message, image_message, mask_message, mask_of, object_messages
from wesam_ros.sam.masks import Masks
from wesam_ros.scene.geometry import Located

SIZE = (30, 40)
NAN = float("nan")


def through_dds(message: Any) -> Any:
    """The message as a subscriber gets it."""
    return deserialize_message(serialize_message(message), type(message))


def test_images_come_back_as_they_were() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    np.testing.assert_array_equal(image_of(through_dds(image_message(Header(), pixels))), pixels)
    png = CompressedImage(format="png", data=array("B", codecs.encode_png(pixels)))
    np.testing.assert_array_equal(image_of(through_dds(png)), pixels)
    labels = pixels[..., 0].astype(np.uint16) * 200
    np.testing.assert_array_equal(codecs.decode_labels(through_dds(image_message(Header(), labels))), labels)


def test_depth_must_have_the_images_size() -> None:
    depth = np.full(SIZE, 1500, np.uint16)
    message = image_message(Header(), depth)
    assert depth_of(message, SIZE)[0, 0] == pytest.approx(1.5)
    format_, data = codecs.encode_compressed_depth(depth.astype(np.float32) / np.float32(1000))
    assert depth_of(CompressedImage(format=format_, data=array("B", data)), SIZE)[0, 0] == pytest.approx(1.5)
    with pytest.raises(CodecError, match="must have the image's size") as error:
        depth_of(message, (60, 80))
    assert error.value.reason == "wrong_size"


@pytest.mark.parametrize(
    ("k", "size", "reason"),
    [
        ([500.0, 0, 20, 0, 500, 15, 0, 0, 1], SIZE, None),
        ([0.0] * 9, SIZE, "uncalibrated"),
        ([NAN, 0, 20, 0, 500, 15, 0, 0, 1], SIZE, "not_finite"),
        ([500.0, 0, 20, 0, 500, 15, 0, 0, 1], (60, 80), "wrong_size"),
        ([500.0, 0, 20, 0, 500, 15, 0, 0, 1], (0, 0), None),  # a driver that leaves the size out
    ],
)
def test_camera_info(k: list[float], size: tuple[int, int], reason: str | None) -> None:
    message = CameraInfo(k=k, height=size[0], width=size[1])
    if reason is None:
        assert checked_camera_of(message, SIZE)[0, 2] == 20
    else:
        with pytest.raises(CodecError) as error:
            checked_camera_of(message, SIZE)
        assert error.value.reason == reason


def detections(boxes: Sequence[Sequence[float]]) -> Detection2DArray:
    message = Detection2DArray()
    for x0, y0, x1, y1 in boxes:
        each = Detection2D()
        each.bbox.center.position.x, each.bbox.center.position.y = (x0 + x1) / 2, (y0 + y1) / 2
        each.bbox.size_x, each.bbox.size_y = x1 - x0, y1 - y0
        message.detections.append(each)
    return message


@pytest.mark.parametrize(
    ("boxes", "kept", "reasons"),
    [
        ([], 0, []),
        ([(5.0, 5.0, 15.0, 25.0)], 1, []),
        ([(5.0, 5.0, 15.0, 25.0), (NAN, 5.0, 15.0, 25.0)], 1, ["nan"]),
        ([(15.0, 25.0, 5.0, 5.0)], 0, ["inverted"]),
        ([(50.0, 5.0, 60.0, 25.0)], 0, ["outside"]),
        ([(5.0, 5.0, 5.0, 5.0)], 0, ["empty"]),
        ([(-5.0, -5.0, 100.0, 100.0)], 1, []),
    ],
)
def test_each_bad_box_is_rejected_alone(boxes: Sequence[Sequence[float]], kept: int, reasons: list[str]) -> None:
    request = request_of(detections(boxes), SIZE, limit=100)
    assert len(request.prompts) == len(request.detections) == kept
    assert [reason for reason, _ in request.rejected] == reasons
    if kept:
        box = request.prompts.objects[0].box
        assert box is not None
        np.testing.assert_allclose(box, np.clip(boxes[0], 0, (40, 30, 40, 30)))


def test_of_too_many_boxes_the_best_scored_are_taken_in_their_order() -> None:
    found = Detections(
        np.array([(i, 0, i + 5, 5) for i in range(6)], np.float32), scores=np.array([0.1, 0.9, 0.3, 0.8, NAN, 0.7], np.float32)
    )
    request = request_of_detections(found, SIZE).best(3)
    assert request.detections.ids == ("1", "3", "5")
    assert [reason for reason, _ in request.rejected] == ["over_limit"] * 3


MASK = Mask(x=4, y=2, width=3, height=2, data=array("B", [255, 0, 255, 255, 255, 0]))


def test_prompts_of_every_form() -> None:
    box = np.array([1, 1, 9, 9], np.float32)
    message = Prompts(
        prompts=[
            Prompt(id="all", has_box=True, box=box, points=[3.0, 4.0], point_labels=[1], mask=MASK),
            Prompt(points=[3.0, 4.0], point_labels=[0]),
        ]
    )
    request = request_of(through_dds(message), SIZE, limit=100)
    first, second = request.prompts.objects
    assert first.mask is not None
    assert (first.mask.sum(), first.mask[2, 4], first.mask[2, 5]) == (4, True, False)
    assert second.box is None
    assert second.point_labels.tolist() == [0]
    assert request.detections.ids == ("all", "#1")
    assert request.detections.boxes[1].tolist() == [0, 0, 40, 30]
    recorded = deserialize_message(messages.serialize(messages.prompt_array(5, request)), Prompts)
    again = request_of(recorded, SIZE, limit=100)
    assert (recorded.header.stamp.nanosec, again.detections.ids) == (5, request.detections.ids)
    for one, other in zip(again.prompts.objects, request.prompts.objects, strict=True):
        for name in ("box", "points", "point_labels", "mask"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(),
        Prompt(points=[1.0], point_labels=[1]),
        Prompt(points=[1.0, 2.0], point_labels=[]),
        Prompt(points=[1.0, 2.0], point_labels=[3]),
        Prompt(points=[100.0, 2.0], point_labels=[1]),
        Prompt(points=[NAN, 2.0], point_labels=[1]),
        Prompt(mask=Mask(x=39, y=2, width=3, height=2, data=array("B", bytes(6)))),
        Prompt(mask=Mask(x=4, y=2, width=3, height=2, data=array("B", bytes(5)))),
        Prompt(mask=Mask(x=4, y=2, width=3, height=2, data=array("B", bytes(6)))),
    ],
)
def test_prompts_that_cannot_be_used(prompt: Prompt) -> None:
    whole = Prompt(points=[1.0, 2.0], point_labels=[1])
    request = request_of(Prompts(prompts=[prompt, whole]), SIZE, limit=100)
    assert [reason for reason, _ in request.rejected] == ["prompt"]
    assert request.detections.ids == ("#1",)


def test_objects_carry_their_masks_and_places() -> None:
    masks = np.zeros((2, *SIZE), bool)
    masks[0, 5:9, 10:20] = True
    masks[0, 6, 12] = False
    values = Masks(masks, np.array([0.9, 0.1], np.float32), np.zeros((2, 1, 1), np.float32))
    found = Detections(np.array([(10, 5, 20, 9), (0, 0, 3, 3)], np.float32), ("a", "b"), ("cup", ""), np.array([0.5, 0.25], np.float32))
    place = Located(np.array([0.1, 0.2, 0.9]), np.array([0.01, 0.02, 0.03]), 39)
    first, second = (through_dds(each) for each in object_messages(values, found, [place, None], "base"))
    assert (first.mask.x, first.mask.y, first.mask.width, first.mask.height) == (10, 5, 10, 4)
    np.testing.assert_array_equal(mask_of(first.mask, SIZE), masks[0])
    assert (first.id, first.class_id, first.label, first.detection_score) == ("a", "cup", 1, 0.5)
    assert (first.has_3d, first.frame_id, first.centroid.z, first.extent.x, first.depth_points) == (True, "base", 0.9, 0.01, 39)
    assert (second.mask.width, second.has_3d) == (0, False)
    assert not mask_of(second.mask, SIZE).any()
    assert object_messages(Masks(masks[:0], values.scores[:0], values.low_res[:0]), Detections(np.zeros((0, 4), np.float32)), [], "") == []


def test_a_mask_at_the_images_corner() -> None:
    mask = np.zeros(SIZE, bool)
    mask[-1, -1] = True
    message = mask_message(mask, Masks(mask[None], np.zeros(1, np.float32), np.zeros((1, 1, 1), np.float32)).crops[0])
    assert (message.x, message.y, message.width, message.height) == (39, 29, 1, 1)


def test_cloud_fields() -> None:
    points = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    message: PointCloud2 = through_dds(cloud_message(Header(frame_id="base"), points, np.array([1, 2], np.uint16)))
    assert [each.name for each in message.fields] == ["x", "y", "z", "instance"]
    assert (message.width, message.row_step, message.header.frame_id) == (2, 32, "base")
    packed = np.frombuffer(message.data, CLOUD_TYPE)
    assert packed["y"].tolist() == [2.0, 5.0]
    assert packed["instance"].tolist() == [1, 2]


def test_unknown_encoding_is_named() -> None:
    with pytest.raises(CodecError, match="yuv422"):
        image_of(Image(encoding="yuv422", height=2, width=2, step=4, data=array("B", bytes(8))))
