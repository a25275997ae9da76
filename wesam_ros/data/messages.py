"""ROS messages that come in, as values: one set of functions for live messages (rclpy) and recorded ones (the rosbags library).

Fields are read by name, so nothing of ROS is imported. Pixels are decoded by wesam_ros.data.codecs. A message that cannot be used raises
CodecError, with a reason to count by.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wesam_ros.data import codecs
from wesam_ros.data.codecs import CodecError
from wesam_ros.data.detections import Detections


def stamp_of(header: Any) -> int:
    """Stamp of a std_msgs/Header in nanoseconds."""
    return int(header.stamp.sec * 10**9 + header.stamp.nanosec)


def _is_raw(message: Any) -> bool:
    """True for sensor_msgs/Image, False for CompressedImage, which has a format and no encoding."""
    return hasattr(message, "encoding")


def image_of(message: Any) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of an Image or CompressedImage message. Raises CodecError as wesam_ros.data.codecs does."""
    return codecs.decode_image(message) if _is_raw(message) else codecs.decode_compressed_image(message.data)


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
        raise CodecError("wrong_size", f"depth must have the image's size {size}, but got {depth.shape}; register it to the colour camera")
    return depth


def labels_of(message: Any) -> npt.NDArray[np.uint16]:
    """(H, W) uint16 instance ids of an Image or CompressedImage message. Raises CodecError as wesam_ros.data.codecs does."""
    return codecs.decode_labels(message) if _is_raw(message) else codecs.decode_compressed_labels(message.data)


def camera_of(message: Any) -> npt.NDArray[np.float64] | None:
    """(3, 3) intrinsic matrix K of a CameraInfo message, as it was recorded; None where it is uncalibrated (K[0] is 0: sensor_msgs)."""
    return _matrix(message) if message.k[0] else None


def checked_camera_of(message: Any, size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """(3, 3) intrinsic matrix K in pixels of an image of `size` (H, W).

    Raises:
        CodecError: "uncalibrated" for a K of zeros (sensor_msgs: K[0] = 0), "not_finite", or "wrong_size".
    """
    camera = _matrix(message)
    if not np.isfinite(camera).all():
        raise CodecError("not_finite", f"K of camera_info must be finite, but got {camera.ravel().tolist()}; calibrate the camera")
    if camera[0, 0] <= 0 or camera[1, 1] <= 0:
        raise CodecError(
            "uncalibrated", f"K of camera_info must have focal lengths above 0, but got {camera.ravel().tolist()}; calibrate the camera"
        )
    if message.height and message.width and (message.height, message.width) != size:
        raise CodecError("wrong_size", f"camera_info must be for the image's size {size}, but is for {(message.height, message.width)}")
    return camera


def _matrix(message: Any) -> npt.NDArray[np.float64]:
    return np.array(message.k, np.float64).reshape(3, 3)


def detections_of(message: Any) -> Detections:
    """Boxes, ids, classes and scores of a Detection2DArray; the best hypothesis counts, a box without one has class "" and score 1.

    Ids that are empty or repeated are made unique by their position in the message, since they must tell objects apart.
    """
    boxes, ids, classes, scores = [], [], [], []
    for row, detection in enumerate(message.detections):
        box = detection.bbox
        x, y = box.center.position.x, box.center.position.y
        boxes.append((x - box.size_x / 2, y - box.size_y / 2, x + box.size_x / 2, y + box.size_y / 2))
        best = max((result.hypothesis for result in detection.results), key=lambda hypothesis: hypothesis.score, default=None)
        classes.append(best.class_id if best else "")
        scores.append(best.score if best else 1.0)
        ids.append(detection.id if detection.id and detection.id not in ids else f"{detection.id}#{row}")
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), tuple(ids), tuple(classes), np.array(scores, np.float32))
