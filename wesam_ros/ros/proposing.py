"""Proposals in the segmenter: things that no detector asked for become objects of the frame's request, without a class."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from std_msgs.msg import Header
from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray, ObjectHypothesis, ObjectHypothesisWithPose, Point2D, Pose2D

from wesam_ros.ros.diagnostics import Diagnostics
from wesam_ros.ros.frame_request import SERVICE, FrameRequest
from wesam_ros.ros.parameters import Declared
from wesam_ros.ros.subscriptions import create_output
from wesam_ros.scene.proposals import GRID, Proposer
from wesam_ros.scene.proposals_limits import Limits, region_of
from wesam_ros.scene.proposals_model import Decode
from wesam_ros.settings import SegmenterParameters

Float = npt.NDArray[np.float32]


class Proposing:
    """Adds proposals to the requests that are to have some, and publishes them as a detector would, for the adapter to learn from.

    One thread at a time, the worker's.

    Args:
        node: the owner of the publisher.
        declared: its parameters.
        diagnostics: takes times and counts.
    """

    def __init__(self, node: LifecycleNode, declared: Declared[SegmenterParameters], diagnostics: Diagnostics) -> None:
        self._declared, self._diagnostics = declared, diagnostics
        self._of_robot: dict[str, Proposer] = {}
        self._last: dict[str, float] = {}
        self._output = create_output(node, diagnostics, Detection2DArray, "~/proposals", QoSProfile(depth=10))

    def complete(self, request: FrameRequest, decode: Decode) -> FrameRequest:
        """The request with the things that it does not ask for yet, where it is to have them.

        A request of ~/segment without an object asks for everything. Frames of a stream have proposals as the parameter `propose` says, and
        with "missing" no oftener than `propose_rate`.

        Args:
            request: the frame, and the objects that were asked for.
            decode: the model's masks of prompts in its image.
        """
        if not self._is_due(request):
            return request
        parameters = self._declared.value
        limits = Limits(
            parameters.propose_least_pixels,
            region_of(parameters.propose_region),
            (parameters.propose_lowest, parameters.propose_highest),
            parameters.max_boxes,
        )
        stream = request.source != SERVICE
        proposer = self._of_robot.setdefault(request.robot, Proposer()) if stream else Proposer()
        proposer.limits = limits
        began = time.monotonic()
        found = proposer.propose(request.frame, decode)
        self._diagnostics.timing("proposals_ms", 1e3 * (time.monotonic() - began))
        if found.way == GRID:
            self._diagnostics.count("proposed.without_depth")
        found = found.missing_from(request.objects.detections.boxes)
        self._diagnostics.count("proposed.objects", len(found.boxes))
        if stream:
            self._output.publish(as_detections(request.header, found.boxes, found.scores))
        if not len(found.boxes):
            return request
        objects = request.objects.extended(found.boxes, ("",) * len(found.boxes), found.scores)
        return replace(request, objects=objects.best(parameters.max_boxes))

    def _is_due(self, request: FrameRequest) -> bool:
        parameters = self._declared.value
        if request.source == SERVICE:
            return not len(request.objects.prompts)
        if parameters.propose != "missing":
            return parameters.propose == "all"  # images are asked for at the rate, in ros/inputs.py
        now = time.monotonic()
        if parameters.propose_rate and now - self._last.get(request.robot, -np.inf) < 1 / parameters.propose_rate:
            return False
        self._last[request.robot] = now
        return True


def as_detections(header: Header, boxes: Float, scores: Float) -> Detection2DArray:
    """Boxes (n, 4) in pixels as a detector's message, without classes; scores (n,) from 0 to 1."""
    found = []
    for row, ((x0, y0, x1, y1), score) in enumerate(zip(boxes.tolist(), scores.tolist(), strict=True)):
        middle = Pose2D(position=Point2D(x=(x0 + x1) / 2, y=(y0 + y1) / 2))
        hypothesis = ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id="", score=score))
        box = BoundingBox2D(center=middle, size_x=x1 - x0, size_y=y1 - y0)
        found.append(Detection2D(header=header, results=[hypothesis], bbox=box, id=f"#{row}"))
    return Detection2DArray(header=header, detections=found)
