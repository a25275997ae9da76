"""The ROS messages of a recording, made without ROS through the rosbags library: type store, messages, serialised bytes.

Values of messages are read by wesam_ros.data.messages.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from wesam_ros.data.boxes import box_of_mask
from wesam_ros.data.detections import Detections

if TYPE_CHECKING:
    from wesam_ros.data.requests import Request

COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
IMAGE = "sensor_msgs/msg/Image"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
DETECTIONS = "vision_msgs/msg/Detection2DArray"
DETECTIONS_3D = "vision_msgs/msg/Detection3DArray"
PROMPTS = "wesam_ros/msg/Prompts"

CAMERA_FRAME = "camera_color_optical_frame"
STAMP_BYTES = 12  # CDR encapsulation, seconds, nanoseconds

# vision_msgs 4 (ROS 2 Humble and newer); field names and order make the type hash, so they must stay as they are there
VISION_MSGS = {
    "vision_msgs/msg/Point2D": "float64 x\nfloat64 y",
    "vision_msgs/msg/Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "vision_msgs/msg/BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score",
    "vision_msgs/msg/ObjectHypothesisWithPose": "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose",
    "vision_msgs/msg/Detection2D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\nvision_msgs/BoundingBox2D bbox\nstring id"
    ),
    "vision_msgs/msg/Detection2DArray": "std_msgs/Header header\nvision_msgs/Detection2D[] detections",
    "vision_msgs/msg/BoundingBox3D": "geometry_msgs/Pose center\ngeometry_msgs/Vector3 size",
    "vision_msgs/msg/Detection3D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\nvision_msgs/BoundingBox3D bbox\nstring id"
    ),
    "vision_msgs/msg/Detection3DArray": "std_msgs/Header header\nvision_msgs/Detection3D[] detections",
}

# As in msg/, which only the ROS package has; a test holds them together
WESAM_MSGS = {
    "wesam_ros/msg/Mask": "uint32 x\nuint32 y\nuint32 width\nuint32 height\nuint8[] data",
    "wesam_ros/msg/Prompt": (
        "string id\nstring class_id\nfloat32 score\nbool has_box\nfloat32[4] box\n"
        "float32[] points\nuint8[] point_labels\nwesam_ros/Mask mask"
    ),
    "wesam_ros/msg/Prompts": "std_msgs/Header header\nwesam_ros/Prompt[] prompts",
}


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """The messages of ROS 2 Jazzy, those of vision_msgs that detections need, and our own prompts."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for name, text in {**VISION_MSGS, **WESAM_MSGS}.items():
        store.register(get_types_from_msg(text, name))
    return store


def _make(name: str, **fields: Any) -> Any:
    return typestore().types[name](**fields)


def header(stamp_ns: int, frame_id: str = CAMERA_FRAME) -> Any:
    """std_msgs/Header with a stamp in nanoseconds."""
    stamp = _make("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return _make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)


def compressed_image(stamp_ns: int, message_format: str, data: bytes) -> Any:
    """sensor_msgs/CompressedImage."""
    return _make(COMPRESSED_IMAGE, header=header(stamp_ns), format=message_format, data=np.frombuffer(data, np.uint8))


def camera_info(stamp_ns: int, camera: npt.NDArray[np.float64], size: tuple[int, int]) -> Any:
    """sensor_msgs/CameraInfo of a camera without distortion; `camera` (3, 3) in pixels, `size` (H, W)."""
    projection = np.hstack([camera, np.zeros((3, 1))])
    region = _make("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return _make(
        CAMERA_INFO,
        header=header(stamp_ns),
        height=size[0],
        width=size[1],
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=np.asarray(camera, np.float64).ravel(),
        r=np.eye(3).ravel(),
        p=projection.ravel(),
        binning_x=0,
        binning_y=0,
        roi=region,
    )


def detection_array(stamp_ns: int, detections: Detections) -> Any:
    """vision_msgs/Detection2DArray: box centres and sizes in pixels, one hypothesis per box."""
    nowhere = _make(
        "geometry_msgs/msg/PoseWithCovariance",
        pose=_make(
            "geometry_msgs/msg/Pose",
            position=_make("geometry_msgs/msg/Point", x=0.0, y=0.0, z=0.0),
            orientation=_make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
        ),
        covariance=np.zeros(36),
    )
    boxes = []
    for row, (x0, y0, x1, y1) in enumerate(detections.boxes.astype(np.float64).tolist()):
        centre = _make("vision_msgs/msg/Point2D", x=(x0 + x1) / 2, y=(y0 + y1) / 2)
        box = _make(
            "vision_msgs/msg/BoundingBox2D",
            center=_make("vision_msgs/msg/Pose2D", position=centre, theta=0.0),
            size_x=x1 - x0,
            size_y=y1 - y0,
        )
        score = float(detections.scores[row])
        hypothesis = _make("vision_msgs/msg/ObjectHypothesis", class_id=detections.classes[row], score=score)
        results = [_make("vision_msgs/msg/ObjectHypothesisWithPose", hypothesis=hypothesis, pose=nowhere)]
        boxes.append(_make("vision_msgs/msg/Detection2D", header=header(stamp_ns), results=results, bbox=box, id=detections.ids[row]))
    return _make(DETECTIONS, header=header(stamp_ns), detections=boxes)


def prompt_array(stamp_ns: int, request: Request) -> Any:
    """wesam_ros/Prompts of what a request asks for."""
    found = request.detections
    prompts = [
        _make(
            "wesam_ros/msg/Prompt",
            id=found.ids[row],
            class_id=found.classes[row],
            score=float(found.scores[row]),
            has_box=each.box is not None,
            box=each.box if each.box is not None else np.zeros(4, np.float32),
            points=each.points.ravel(),
            point_labels=each.point_labels.astype(np.uint8),
            mask=_mask(each.mask),
        )
        for row, each in enumerate(request.prompts.objects)
    ]
    return _make(PROMPTS, header=header(stamp_ns), prompts=prompts)


def _mask(mask: npt.NDArray[np.bool_] | None) -> Any:
    """wesam_ros/Mask of an (H, W) mask with at least one pixel, cut out to the rectangle that holds it; width 0 for None."""
    if mask is None:
        return _make("wesam_ros/msg/Mask", x=0, y=0, width=0, height=0, data=np.zeros(0, np.uint8))
    x0, y0, x1, y1 = box_of_mask(mask).tolist()
    crop = mask[y0:y1, x0:x1]
    data = np.where(crop, np.uint8(255), np.uint8(0)).ravel()
    return _make("wesam_ros/msg/Mask", x=x0, y=y0, width=crop.shape[1], height=crop.shape[0], data=data)


def serialize(message: Any) -> bytes:
    """CDR bytes of a message, as rclpy publishes them."""
    return bytes(typestore().serialize_cdr(message, message.__msgtype__))


def deserialize(data: bytes, msgtype: str) -> Any:
    """Message of CDR bytes.

    Raises:
        KeyError: the type is not in `typestore`.
        rosbags.serde.SerdeError, struct.error, ...: the bytes are not of this type.
    """
    return typestore().deserialize_cdr(data, msgtype)


def stamp_of_bytes(data: bytes) -> int:
    """Header stamp in nanoseconds of a serialised message whose first field is a std_msgs/Header, without deserialising it."""
    order = "little" if data[1] & 1 else "big"  # byte 1 of the CDR encapsulation: 1 = little-endian
    second = int.from_bytes(data[4:8], order, signed=True)  # type: ignore[arg-type]
    return second * 10**9 + int.from_bytes(data[8:12], order)  # type: ignore[arg-type]
