"""A frame to segment, as values: made of the messages of one moment, or of a request of ~/segment."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from std_msgs.msg import Header

from wesam_ros.data.codecs import CodecError
from wesam_ros.data.frames import Frame
from wesam_ros.data.messages import camera_of, depth_of, image_of, stamp_of
from wesam_ros.data.requests import Request, request_of
from wesam_ros.data.synchronizer import SynchronizedFrame
from wesam_ros.srv import Segment

SERVICE, PROMPTS = "segment", "prompts"
"""The source of requests of ~/segment, and the end of that of requests by points, coarse masks and boxes of a topic."""


@dataclass(frozen=True, eq=False)
class FrameRequest:
    """One image and the objects to segment in it.

    Attributes:
        header: of the image's message.
        frame: image, depth and camera.
        objects: the valid prompts, with ids, classes and scores, and the rejected ones.
        robot: the namespace that it came from; "" for the node's own.
        source: the input that asked for it, such as "detections" or "/robot1/prompts".
        arrived: monotonic seconds at which its last message was there.
        began: monotonic seconds at which its conversion began.
    """

    header: Header
    frame: Frame
    objects: Request
    robot: str
    source: str
    arrived: float
    began: float


Convert = Callable[[Any, tuple[int, int]], Any]
"""A message and the image's size (H, W) to a value."""


def from_messages(
    messages: SynchronizedFrame,
    prefix: str,
    to_request: Callable[[SynchronizedFrame, tuple[int, int]], Request],
    to_camera: Convert,
    problem: Callable[[str, str, int], None],
) -> FrameRequest:
    """The request of synchronised messages; a bad depth or camera_info costs the 3D output, a bad object itself, and not the frame.

    Args:
        messages: of one stamp.
        prefix: of its topics: a robot's namespace and a slash, or nothing for the node's own.
        to_request: reads the objects for an image of a size (H, W).
        to_camera: makes a frame's camera of a camera_info.
        problem: called with "rejected.<input>.<reason>", a sentence, and how many were rejected so; or with "foreign.<input>" for boxes
            that cannot be of this image.

    Raises:
        CodecError: the image cannot be used.
    """
    began = time.monotonic()
    image = image_of(messages.image)
    size = (image.shape[0], image.shape[1])

    def optional(kind: str, message: Any, convert: Convert) -> Any:
        if message is None:
            return None
        try:
            return convert(message, size)
        except CodecError as error:
            problem(f"rejected.{kind}.{error.reason}", str(error), 1)
            return None

    depth = optional("depth", messages.depth, depth_of)
    camera = optional("camera_info", messages.camera_info, to_camera)
    objects = to_request(messages, size)
    if objects.foreign[0]:
        problem(f"foreign.{messages.source}", objects.foreign[1], objects.foreign[0])
    for reason in dict.fromkeys(reason for reason, _ in objects.rejected):
        sentences = [sentence for other, sentence in objects.rejected if other == reason]
        problem(f"rejected.{messages.source}.{reason}", sentences[0], len(sentences))
    frame = Frame(image, depth, camera, objects.detections, stamp_ns=messages.stamp)
    robot, source = prefix.rstrip("/"), prefix + messages.source
    return FrameRequest(messages.image.header, frame, objects, robot, source, messages.arrived, began)


def from_service(request: Segment.Request, max_boxes: int, rectified: str) -> FrameRequest:
    """The request of ~/segment, for everything where it has no object; `arrived` is now, and `rectified` as of `camera_of_info`.

    Raises:
        CodecError: anything in it cannot be used.
    """
    began = time.monotonic()
    image = image_of(request.image)
    size = (image.shape[0], image.shape[1])
    depth = depth_of(request.depth, size) if len(request.depth.data) else None
    objects = request_of(request.prompts, size, max_boxes)
    if objects.rejected:
        raise CodecError("prompt", objects.rejected[0][1])
    camera = camera_of(request.camera_info, size, rectified) if depth is not None else None
    frame = Frame(image, depth, camera, objects.detections, stamp_ns=stamp_of(request.image.header))
    return FrameRequest(request.image.header, frame, objects, "", SERVICE, began, began)
