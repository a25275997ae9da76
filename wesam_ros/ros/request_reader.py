"""The objects that a synchronised frame asks for: boxes in the image, in another grid or in space, points and coarse masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from rclpy.node import Node

from wesam_ros.data.codecs import CodecError
from wesam_ros.data.detection_grid import grid_of
from wesam_ros.data.detections import Detections
from wesam_ros.data.detections_3d import detections_of_3d, frame_of_boxes
from wesam_ros.data.intrinsics import Camera
from wesam_ros.data.messages import are_in_space
from wesam_ros.data.requests import Request, request_of, request_of_detections
from wesam_ros.data.synchronizer import SynchronizedFrame
from wesam_ros.data.transforms import TransformBuffer, TransformError
from wesam_ros.ros.parameters import Declared
from wesam_ros.ros.transform_listener import listen_to_transforms
from wesam_ros.settings import InputParameters

TF_WAIT = 0.1
"""Seconds to wait for the transform of boxes in space."""
NO_BOXES = Detections(np.zeros((0, 4), np.float32))

CameraOf = Callable[[Any, tuple[int, int]], Camera]
"""A camera_info message and the image's size (H, W) to its camera."""


class RequestReader:
    """Reads the requests of frames. It listens to TF from the first boxes on that are given in another frame than the image's.

    Args:
        node: the owner of the subscriptions.
        declared: its parameters.
    """

    def __init__(self, node: Node, declared: Declared[Any]) -> None:
        self._node, self._declared = node, declared
        self._transforms: TransformBuffer | None = None
        self._listens = False

    def prepare(self, messages: SynchronizedFrame) -> None:
        """Listens to TF where a frame needs it; called in the executor's thread, before `read`."""
        if not self._listens and are_in_space(messages.request) and _source(messages) != messages.image.header.frame_id.lstrip("/"):
            self._listens = True
            self._transforms = listen_to_transforms(self._node)

    def read(self, messages: SynchronizedFrame, size: tuple[int, int], camera_of: CameraOf) -> Request:
        """The valid objects of a frame's request for its image of `size` (H, W); in the worker thread."""
        parameters: InputParameters = self._declared.value
        if not are_in_space(messages.request):
            return request_of(messages.request, size, parameters.max_boxes, grid_of(parameters.detections_size))
        try:
            if messages.camera_info is None:
                raise CodecError("no_camera", "boxes in space need camera_info; publish it, and set use_depth, which subscribes to it")
            found, rejected = detections_of_3d(messages.request, camera_of(messages.camera_info, size), self._transform(messages))
        except CodecError as error:
            found, rejected = NO_BOXES, ((error.reason, f"boxes in space: {error}"),) * len(messages.request.detections)
        request = request_of_detections(found, size)
        return replace(request, rejected=(*rejected, *request.rejected)).best(parameters.max_boxes)

    def _transform(self, messages: SynchronizedFrame) -> npt.NDArray[np.float64] | None:
        """(4, 4) from the boxes' frame to the camera's; None where they are the same."""
        target, source = messages.image.header.frame_id.lstrip("/"), _source(messages)
        if source == target:
            return None
        if self._transforms is None:
            raise CodecError("no_transform", f"they are in frame {source}, and tf2_msgs is not installed; give them in frame {target}")
        try:
            return self._transforms.lookup(target, source, messages.stamp, TF_WAIT)
        except TransformError as error:
            raise CodecError("no_transform", f"they are in frame {source}, the image in {target}: {error}") from error


def _source(messages: SynchronizedFrame) -> str:
    """The frame of a request's boxes; that of the image where the message names none."""
    return frame_of_boxes(messages.request) or str(messages.image.header.frame_id).lstrip("/")
