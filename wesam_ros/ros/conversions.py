"""Messages that come in, as values: names of wesam_ros.data.messages, in one place for the nodes."""

from wesam_ros.data.messages import checked_camera_of as camera_of
from wesam_ros.data.messages import depth_of, image_of, stamp_of
from wesam_ros.data.requests import request_of

__all__ = ["camera_of", "depth_of", "image_of", "request_of", "stamp_of"]
