"""Refined masks of the segmenter's frames: each robot's stream has its own support surface and tracks."""

from __future__ import annotations

from dataclasses import replace

from wesam_ros.ros.frame_request import PROMPTS, SERVICE, FrameRequest
from wesam_ros.sam.masks import Masks
from wesam_ros.scene.carrying import Carrying
from wesam_ros.scene.proposals_model import Decode
from wesam_ros.scene.refiner import Refiner
from wesam_ros.settings import SegmenterParameters


class Refining:
    """The objects of all robots. One thread at a time, the worker's."""

    def __init__(self) -> None:
        self._of_robot: dict[str, Carrying] = {}
        self._frozen = False

    def serve(self, request: FrameRequest, decode: Decode, parameters: SegmenterParameters, *, frozen: bool) -> tuple[FrameRequest, Masks]:
        """A request with the objects that are carried, and the masks to serve; a picture of ~/segment belongs to no stream.

        Args:
            request: with the frame and the objects.
            decode: the model's masks of prompts in the frame.
            parameters: the witnesses to take, and for how long objects are carried. An answer to prompts has no more than these ask for.
            frozen: the masks are the frozen model's. When that changes in a stream, no mask of the other model has a say any more.
        """
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
        objects, masks = carrying.serve(request.frame, request.objects, decode, choice, frames, parameters.max_boxes)
        return replace(request, objects=objects), masks
