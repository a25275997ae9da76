"""Boxes of yolo_ros for wesam_ros: yolo_msgs/DetectionArray on yolo/detections in, vision_msgs/Detection2DArray on detections out.

    python examples/yolo_msgs_bridge.py
    python examples/yolo_msgs_bridge.py --ros-args -r yolo/detections:=/yolo/tracking

The second one has the tracker's ids. yolo_ros (https://github.com/mgonzs13/yolo_ros) copies the header of the image, so the stamp is the
image's, as wesam_ros needs it.
"""

from __future__ import annotations

import math
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

QUEUE = 10


def convert(message: Any) -> Detection2DArray:
    """The boxes of a yolo_msgs/DetectionArray, with its header; a rotated box becomes the upright one around it."""
    return Detection2DArray(header=message.header, detections=[_convert_box(message.header, each) for each in message.detections])


def _convert_box(header: Any, detection: Any) -> Detection2D:
    box = detection.bbox
    cos, sin = abs(math.cos(box.center.theta)), abs(math.sin(box.center.theta))
    found = Detection2D(header=header, id=detection.id)
    found.bbox.center.position.x, found.bbox.center.position.y = box.center.position.x, box.center.position.y
    found.bbox.size_x = cos * box.size.x + sin * box.size.y
    found.bbox.size_y = sin * box.size.x + cos * box.size.y
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id = detection.class_name or str(detection.class_id)
    hypothesis.hypothesis.score = detection.score
    found.results = [hypothesis]
    return found


class Bridge(Node):
    """Publishes each message again in the other type."""

    def __init__(self) -> None:
        from yolo_msgs.msg import DetectionArray  # here, so that `convert` can be used without it

        super().__init__("yolo_msgs_bridge")
        self._publisher = self.create_publisher(Detection2DArray, "detections", QUEUE)
        self.create_subscription(DetectionArray, "yolo/detections", lambda message: self._publisher.publish(convert(message)), QUEUE)


def main() -> None:
    """Runs the bridge until it is interrupted."""
    rclpy.init()
    try:
        rclpy.spin(Bridge())
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error.name} is missing: build yolo_ros in the workspace, and source its install/setup.bash") from error
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
