"""Refined masks of the segmenter's frames: each robot's stream has its own support surface and tracks."""

from __future__ import annotations

from wesam_ros.ros.frame_request import SERVICE, FrameRequest
from wesam_ros.sam.masks import Masks
from wesam_ros.scene.refiner import Refiner


class Refining:
    """The refiners of all robots. One thread at a time, the worker's."""

    def __init__(self) -> None:
        self._of_robot: dict[str, Refiner] = {}
        self._frozen = False

    def refine(self, request: FrameRequest, masks: Masks, choice: str, *, frozen: bool) -> Masks:
        """The masks to serve for a request, from the model's; a picture of ~/segment belongs to no stream.

        Args:
            request: with the frame and the objects.
            masks: the model's, of these objects.
            choice: the witnesses to take, of REFINE_CHOICES.
            frozen: the masks are the frozen model's. When that changes in a stream, no mask of the other model has a say any more.
        """
        stream = request.source != SERVICE
        if stream and frozen != self._frozen:
            for each in self._of_robot.values():
                each.forget_masks()
            self._frozen = frozen
        refiner = self._of_robot.setdefault(request.robot, Refiner()) if stream else Refiner(stream=False)
        return refiner.refine(request.frame, request.objects.prompts, masks, choice, request.objects.detections.classes)
