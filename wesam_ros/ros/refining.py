"""Refined masks of the segmenter's frames: each robot's stream has its own support surface and tracks."""

from __future__ import annotations

from dataclasses import replace

from rclpy.lifecycle import LifecycleNode

from wesam_ros.ros.diagnostics import Diagnostics
from wesam_ros.ros.frame_request import PROMPTS, SERVICE, FrameRequest
from wesam_ros.ros.parameters import Declared
from wesam_ros.ros.target_frame import TargetFrame
from wesam_ros.sam.masks import Masks
from wesam_ros.scene.carrying import Carrying
from wesam_ros.scene.proposals_model import Decode
from wesam_ros.scene.refiner import Refiner
from wesam_ros.settings import SegmenterParameters


class Refining:
    """The objects of all robots. One thread at a time, the worker's.

    Args:
        node: the owner of the subscriptions to TF.
        declared: its parameters.
        diagnostics: counts "missing.transform".
    """

    def __init__(self, node: LifecycleNode, declared: Declared[SegmenterParameters], diagnostics: Diagnostics) -> None:
        self._declared = declared
        self._fixed = TargetFrame(node, declared, diagnostics, "fixed_frame", "things are followed by image motion in the camera's frame")
        self._of_robot: dict[str, Carrying] = {}
        self._frozen = False

    def serve(self, request: FrameRequest, decode: Decode, *, frozen: bool) -> tuple[FrameRequest, Masks]:
        """A request with the objects that are carried, and the masks to serve; a picture of ~/segment belongs to no stream.

        Args:
            request: with the frame and the objects. An answer to prompts has no more than these ask for.
            decode: the model's masks of prompts in the frame.
            frozen: the masks are the frozen model's. When that changes in a stream, no mask of the other model has a say any more.
        """
        parameters = self._declared.value
        choice = parameters.refine
        if request.source == SERVICE:
            found = request.objects
            masks = Refiner(stream=False).refine(request.frame, found.prompts, decode(found.prompts), choice, found.detections.classes)
            return request, masks
        if frozen != self._frozen:
            for each in self._of_robot.values():
                each.refiner.forget_masks()
            self._frozen = frozen
        carrying = self._of_robot.setdefault(request.robot, Carrying())
        frames = 0 if request.source.endswith(PROMPTS) else parameters.carry_frames
        frame = replace(request.frame, pose=self._fixed.of(request.header)[1])
        objects, masks = carrying.serve(frame, request.objects, decode, choice, frames, parameters.max_boxes)
        return replace(request, objects=objects), masks
