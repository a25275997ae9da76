"""ROS messages that come in, as values: one set of functions for live messages (rclpy) and recorded ones (the rosbags library).

Fields are read by name, so nothing of ROS is imported. Pixels are decoded by wesam_ros.data.codecs. A message that cannot be used raises
CodecError, with a reason to count by.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from wesam_ros.data import codecs
from wesam_ros.data.codecs import CodecError
from wesam_ros.data.detections import Detections
from wesam_ros.data.intrinsics import camera_of_info

REGISTER = (
    "register it to the colour camera (the driver's align_depth or depth_registration, or depth_image_proc's RegisterNode), or leave it "
    "out (--depth-topic none; of a node: use_depth:=false)"
)
"""The remedy for a depth that is not of the colour image's pixels."""


LARGEST_TURN = 2 * math.pi
"""Radians of a rotated box. Detectors give less than half of it; more is in degrees."""


def stamp_of(header: Any) -> int:
    """Stamp of a std_msgs/Header in nanoseconds."""
    return int(header.stamp.sec * 10**9 + header.stamp.nanosec)


def _is_raw(message: Any) -> bool:
    """True for sensor_msgs/Image, False for CompressedImage, which has a format and no encoding."""
    return hasattr(message, "encoding")


def image_of(message: Any) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of an Image or CompressedImage message. Raises CodecError as wesam_ros.data.codecs does."""
    return codecs.decode_image(message) if _is_raw(message) else codecs.decode_compressed_image(message.data, message.format)


def assumption_of(message: Any) -> str | None:
    """A sentence to log once where a raw image's encoding leaves the colours open; None for all others."""
    return codecs.assumption_of(message.encoding) if _is_raw(message) else None


def depth_of(message: Any, size: tuple[int, int] | None = None) -> npt.NDArray[np.float32]:
    """(H, W) float32 metres, 0 = none, of an Image or CompressedImage message.

    Args:
        message: the message.
        size: (H, W) of the colour image that the depth has to be registered to; None takes any size.

    Raises:
        CodecError: as wesam_ros.data.codecs; "wrong_size" where it is not registered to an image of `size`.
    """
    depth = codecs.decode_depth(message) if _is_raw(message) else codecs.decode_compressed_depth(message.data, message.format)
    if size is not None and depth.shape != size:
        raise CodecError("wrong_size", f"depth must have the image's size {size}, but got {depth.shape}; {REGISTER}")
    return depth


def labels_of(message: Any) -> npt.NDArray[np.uint16]:
    """(H, W) uint16 instance ids of an Image or CompressedImage message. Raises CodecError as wesam_ros.data.codecs does."""
    return codecs.decode_labels(message) if _is_raw(message) else codecs.decode_compressed_labels(message.data, message.format)


def camera_of(
    message: Any, size: tuple[int, int], rectified: str = "auto", topic: str = ""
) -> npt.NDArray[np.float64] | npt.NDArray[np.float32]:
    """(3, 3) intrinsic matrix in pixels of an image of `size` (H, W), or (H, W, 2) rays of a distorted one, of a CameraInfo message.

    Arguments and errors are those of `camera_of_info`.
    """
    return camera_of_info(message, size, rectified, topic).projection


def detections_of(message: Any) -> Detections:
    """Boxes, ids, classes and scores of a Detection2DArray; the best hypothesis counts, a box without one has class "" and score 1.

    A rotated box (theta) gives the upright one around it; boxes of `misread_turns` are left out. Ids that are empty or repeated are made
    unique by their position in the message, since they must tell objects apart.
    """
    boxes, ids, kept = [], [], []
    for row, detection in enumerate(message.detections):
        if not _is_misread(detection):
            boxes.append(_upright(detection.bbox))
            ids.append(detection.id if detection.id and detection.id not in ids else f"{detection.id}#{row}")
            kept.append(detection)
    classes, scores = best_hypotheses(kept)
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), tuple(ids), classes, scores)


def misread_turns(message: Any) -> tuple[tuple[str, str], ...]:
    """(reason, sentence) for each box of a Detection2DArray whose theta cannot be in radians: by a wrong turn, it would be another box."""
    return tuple(
        (
            "wrong_unit",
            f"box {each.id or row} must have its theta in radians, but has {each.bbox.center.theta:g}; convert degrees in the detector",
        )
        for row, each in enumerate(message.detections)
        if _is_misread(each)
    )


def _is_misread(detection: Any) -> bool:
    theta = detection.bbox.center.theta
    return math.isfinite(theta) and abs(theta) > LARGEST_TURN


def best_hypotheses(detections: Any) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
    """Class and score (n,) of the best hypothesis of each of n Detection2D or Detection3D; "" and 1 where there is none."""
    best = [max((r.hypothesis for r in each.results), key=lambda hypothesis: hypothesis.score, default=None) for each in detections]
    classes = tuple(each.class_id if each else "" for each in best)
    return classes, np.array([each.score if each else 1.0 for each in best], np.float32)


def _upright(box: Any) -> tuple[float, float, float, float]:
    """x0 y0 x1 y1 of the upright box around a BoundingBox2D, which is turned by theta radians about its centre."""
    x, y, theta = box.center.position.x, box.center.position.y, box.center.theta
    width, height = box.size_x, box.size_y
    if theta:
        if not math.isfinite(theta):
            return (math.nan,) * 4
        cosine, sine = abs(math.cos(theta)), abs(math.sin(theta))
        if width >= 0 and height >= 0:  # else it is inverted, and left to be rejected
            width, height = cosine * width + sine * height, sine * width + cosine * height
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def are_in_space(message: Any) -> bool:
    """True for a vision_msgs/Detection3DArray, of rclpy or of the rosbags library."""
    return type(message).__name__.endswith("Detection3DArray")


def merged_requests(first: Any, second: Any) -> Any:
    """One message with the objects of two of one type and stamp (Detection2DArray, Detection3DArray or Prompts), those of `first` first."""
    field = "prompts" if hasattr(first, "prompts") else "detections"
    return type(first)(**{"header": first.header, field: [*getattr(first, field), *getattr(second, field)]})
