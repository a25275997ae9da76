"""Messages that come in, as values. Pixels are decoded by wesam_ros.data.codecs; a refusal is a CodecError with a reason to count by."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from wesam_ros.data import codecs
from wesam_ros.data.codecs import CodecError
from wesam_ros.data.recordings import messages
from wesam_ros.data.requests import Request, request_of_detections, request_of_prompts
from wesam_ros.msg import Prompts as PromptsMessage


def stamp_of(header: Header) -> int:
    """A header's stamp in nanoseconds."""
    return int(header.stamp.sec * 10**9 + header.stamp.nanosec)


def image_of(message: Image | CompressedImage) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a raw or compressed colour image. Raises CodecError as wesam_ros.data.codecs does."""
    if isinstance(message, CompressedImage):
        return codecs.decode_compressed_image(message.data)
    return codecs.decode_image(message)


def depth_of(message: Image | CompressedImage, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """(H, W) float32 metres, 0 = none, of a depth image that must have the colour image's size.

    Raises:
        CodecError: as wesam_ros.data.codecs; "wrong_size" where it is not registered to an image of `size` (H, W).
    """
    if isinstance(message, CompressedImage):
        depth = codecs.decode_compressed_depth(message.data, message.format)
    else:
        depth = codecs.decode_depth(message)
    if depth.shape != size:
        raise CodecError("wrong_size", f"depth must have the image's size {size}, but got {depth.shape}; register it to the colour camera")
    return depth


def camera_of(message: CameraInfo, size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """(3, 3) intrinsic matrix K in pixels of an image of `size` (H, W).

    Raises:
        CodecError: "uncalibrated" for a K of zeros (sensor_msgs: K[0] = 0), "not_finite", or "wrong_size".
    """
    camera = np.array(message.k, np.float64).reshape(3, 3)
    if not np.isfinite(camera).all():
        raise CodecError("not_finite", f"K of camera_info must be finite, but got {camera.ravel().tolist()}; calibrate the camera")
    if camera[0, 0] <= 0 or camera[1, 1] <= 0:
        raise CodecError(
            "uncalibrated", f"K of camera_info must have focal lengths above 0, but got {camera.ravel().tolist()}; calibrate the camera"
        )
    if message.height and message.width and (message.height, message.width) != size:
        raise CodecError("wrong_size", f"camera_info must be for the image's size {size}, but is for {(message.height, message.width)}")
    return camera


def request_of(message: Detection2DArray | PromptsMessage, size: tuple[int, int], limit: int) -> Request:
    """The valid objects of a detections or prompts message for an image of `size` (H, W), the best scored `limit` of them.

    Never raises for bad values: each bad object is rejected alone, with the reason.
    """
    if isinstance(message, PromptsMessage):
        return request_of_prompts(message, size).best(limit)
    return request_of_detections(messages.detections_of(message), size).best(limit)
