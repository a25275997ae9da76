"""Objects of a stream as they are served: those that were asked for, and those that the detector missed, asked for by their masks.

A detector overlooks a thing now and then, and proposals are made of some frames only. An object that was served before is then a prompt by
itself: the box of its mask, carried to the frame by image motion (tracks.py). It is marked by "track" in its source, and ends after some
frames. Where its pixels have changed it is not carried, so that nothing is left of a thing that was taken away.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wesam_ros.data.frames import Frame
from wesam_ros.data.requests import Request
from wesam_ros.sam.masks import Masks
from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene import CARRY_FRAMES
from wesam_ros.scene.refiner import Refiner


class Carrying:
    """Serves one stream, and keeps its objects between the frames. One thread at a time."""

    def __init__(self) -> None:
        self.refiner = Refiner()
        self._scores: dict[int, float] = {}

    def serve(
        self,
        frame: Frame,
        objects: Request,
        decode: Callable[[Prompts], Masks],
        choice: str = "all",
        frames: int = CARRY_FRAMES,
        limit: int | None = None,
    ) -> tuple[Request, Masks]:
        """The objects of a frame, those asked for, then those carried, and the refined masks of all.

        Args:
            frame: image, depth and camera. Its labels are not read.
            objects: that were asked for.
            decode: the model's masks of prompts in the image.
            choice: the witnesses of the masks, of REFINE_CHOICES.
            frames: in succession for which an object is carried at most; 0 carries none.
            limit: the most objects in all; what is carried gives way.
        """
        count = len(objects.prompts)
        lost = self.refiner.lost(frame, objects.detections.boxes, frames)
        lost = lost if limit is None else lost[: max(0, limit - count)]
        if lost:
            scores = np.array([self._scores[each.id] for each in lost], np.float32)
            objects = objects.extended(np.stack([each.box for each in lost]), [each.class_id for each in lost], scores)
        found = objects.detections
        carried = [each.id for each in lost]
        masks = self.refiner.refine(frame, objects.prompts, decode(objects.prompts), choice, found.classes, carried)
        served = [*range(count), *(row for row, number in enumerate(carried, count) if number in masks.track_ids[count:])]
        objects = objects if len(served) == len(objects.prompts) else objects.select(np.array(served, np.int64))
        known = self._scores | dict(zip(masks.track_ids, objects.detections.scores.tolist(), strict=True))
        self._scores = {number: score for number, score in known.items() if number in self.refiner.ids}
        return objects, masks
