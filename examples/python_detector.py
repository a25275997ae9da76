"""A detector in Python as a node: sensor_msgs/Image on image in, vision_msgs/Detection2DArray on detections out.

    python examples/python_detector.py --ros-args -r image:=/camera/color/image_raw

`colour_blobs` finds whatever is colourful, so that the example runs as it is. Put your own detector in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from wesam_ros.data.codecs import CodecError, decode_image

LEAST_SATURATION, LEAST_PIXELS = 100, 200


class Box(NamedTuple):
    """A detected object: corners in pixels, the class, and a score in [0, 1]."""

    x0: float
    y0: float
    x1: float
    y1: float
    name: str
    score: float


Detector = Callable[[npt.NDArray[np.uint8]], list[Box]]
"""From an (H, W, 3) uint8 RGB image to its objects."""


def colour_blobs(image: npt.NDArray[np.uint8]) -> list[Box]:
    """Boxes around connected pixels of a strong colour."""
    saturation = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[..., 1]
    _, _, stats, _ = cv2.connectedComponentsWithStats((saturation >= LEAST_SATURATION).astype(np.uint8))
    return [Box(x, y, x + width, y + height, "blob", 0.5) for x, y, width, height, pixels in stats[1:] if pixels >= LEAST_PIXELS]


class DetectorNode(Node):
    """Publishes what a detector finds in each image, with that image's stamp: by it, wesam_ros finds the image again."""

    def __init__(self, detect: Detector) -> None:
        super().__init__("python_detector")
        self._detect = detect
        self._publisher = self.create_publisher(Detection2DArray, "detections", 10)
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)  # while it is busy, it misses images
        self.create_subscription(Image, "image", self._on_image, newest)

    def _on_image(self, message: Image) -> None:
        try:
            image = decode_image(message)
        except CodecError as error:
            self.get_logger().warning(f"this image is left out: {error}", throttle_duration_sec=10)
            return
        found = Detection2DArray(header=message.header)
        found.detections = [_detection(message.header, box) for box in self._detect(image)]
        self._publisher.publish(found)


def _detection(header: object, box: Box) -> Detection2D:
    detection = Detection2D(header=header)
    detection.bbox.center.position.x, detection.bbox.center.position.y = float(box.x0 + box.x1) / 2, float(box.y0 + box.y1) / 2
    detection.bbox.size_x, detection.bbox.size_y = float(box.x1 - box.x0), float(box.y1 - box.y0)
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = box.name, float(box.score)
    detection.results = [hypothesis]
    return detection


def main() -> None:
    """Runs the node until it is interrupted."""
    rclpy.init()
    try:
        rclpy.spin(DetectorNode(colour_blobs))
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
