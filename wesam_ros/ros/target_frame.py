"""The transform from TF to a frame that a parameter names, such as that of the 3D output."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from rclpy.node import Node
from std_msgs.msg import Header

from wesam_ros.data.messages import stamp_of
from wesam_ros.data.transforms import TransformBuffer, TransformError
from wesam_ros.ros.diagnostics import Diagnostics
from wesam_ros.ros.parameters import Declared
from wesam_ros.ros.transform_listener import listen_to_transforms
from wesam_ros.settings import SegmenterParameters


class TargetFrame:
    """Listens to TF where the parameter is set.

    Args:
        node: the owner of the subscriptions.
        declared: its parameters.
        diagnostics: counts "missing.transform".
        parameter: the one that names the frame.
        without: what happens without a transform, for the reader of the diagnostics.
    """

    def __init__(
        self,
        node: Node,
        declared: Declared[SegmenterParameters],
        diagnostics: Diagnostics,
        parameter: str = "target_frame",
        without: str = "3D output stays in the camera's frame",
    ) -> None:
        self._declared, self._diagnostics, self._parameter, self._without = declared, diagnostics, parameter, without
        self._transforms = self._listen(node) if self._name else None

    @property
    def _name(self) -> str:
        name: str = getattr(self._declared.value, self._parameter)
        return name.lstrip("/")  # TF knows no leading slash since ROS 2

    def of(self, header: Header) -> tuple[str, npt.NDArray[np.float64] | None]:
        """The frame for an image, and the (4, 4) transform to it in metres; None where that is the camera's own frame, also because TF does
        not have the one that is asked for."""
        target = self._name
        if not target or target == header.frame_id.lstrip("/") or self._transforms is None:
            return header.frame_id, None
        try:
            return target, self._transforms.lookup(target, header.frame_id, stamp_of(header), self._declared.value.tf_wait)
        except TransformError as error:
            self._diagnostics.problem("missing.transform", f"{self._without} ({header.frame_id}): {error}")
            return header.frame_id, None

    def _listen(self, node: Node) -> TransformBuffer | None:
        buffer = listen_to_transforms(node)
        if buffer is None:
            self._diagnostics.problem(
                "missing.transform", f"tf2_msgs is not installed, so {self._parameter} cannot be used; {self._without}"
            )
        return buffer
