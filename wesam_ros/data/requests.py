"""Requests: the objects that a detector or a person asks for in one image, as far as they can be used, and reasons against the others.

Nodes and offline commands both take requests from here. So a recording asks for the same as the live topics did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from wesam_ros.data.detection_grid import DetectionGrid, other_grid
from wesam_ros.data.detections import Detections
from wesam_ros.data.messages import detections_of, misread_turns
from wesam_ros.sam.prompts import Prompt, PromptError, Prompts


@dataclass(frozen=True, eq=False)
class Request:
    """The objects to segment in one image: the valid ones of a message, and why the others are not.

    Attributes:
        prompts: of n objects.
        detections: the n objects' ids, classes and scores; their boxes as far as they have one, else the image's.
        rejected: (reason, sentence) for each object left out: "nan", "inverted", "outside", "empty", "wrong_unit" (a theta in degrees),
            "prompt" (points or a coarse mask that cannot be used) or "over_limit".
        foreign: number of boxes that cannot be of this image, used as far as they lie in it, and a sentence that guesses at their grid.
    """

    prompts: Prompts
    detections: Detections
    rejected: tuple[tuple[str, str], ...] = ()
    foreign: tuple[int, str] = (0, "")

    def best(self, limit: int) -> Request:
        """At most `limit` of the objects, the best scored, in their old order; the others are rejected."""
        count = len(self.prompts)
        if count <= limit:
            return self
        ranked = np.argsort(-np.nan_to_num(self.detections.scores), kind="stable")
        sentence = f"{count} objects in one image, but max_boxes is {limit}: only the best scored are segmented; raise max_boxes"
        over = (("over_limit", sentence),) * (count - limit)
        kept = np.sort(ranked[:limit])
        return replace(self.select(kept), rejected=(*self.rejected, *over))

    def select(self, rows: npt.NDArray[np.int64]) -> Request:
        """Some of the objects, in the order of `rows`."""
        return Request(self.prompts.select(rows), _select(self.detections, rows), self.rejected, self.foreign)

    def extended(self, boxes: npt.NDArray[np.float32], classes: Sequence[str], scores: npt.NDArray[np.float32]) -> Request:
        """The objects, and after them those of (m, 4) valid boxes that no message asks for, with m classes and (m,) scores."""
        asked, start = self.detections, len(self.prompts)
        ids = (f"#{start + row}" for row in range(len(boxes)))
        detections = Detections(
            np.concatenate([asked.boxes, boxes]),
            (*asked.ids, *ids),
            (*asked.classes, *classes),
            np.concatenate([asked.scores, scores]),
        )
        more = Prompts.from_boxes(boxes, self.prompts.size)
        return Request(Prompts(self.prompts.size, (*self.prompts.objects, *more.objects)), detections, self.rejected, self.foreign)


def request_of(message: Any, size: tuple[int, int], limit: int | None = None, grid: DetectionGrid | None = None) -> Request:
    """The valid objects of a vision_msgs/Detection2DArray or wesam_ros/Prompts message, live or recorded.

    Bad values raise nothing: each bad object is rejected alone, with the reason.

    Args:
        message: the message.
        size: (H, W) of its image.
        limit: the most objects, the best scored ones; None takes all.
        grid: of the detections' boxes; None is the image's.
    """
    if hasattr(message, "prompts"):
        request = request_of_prompts(message, size)
    else:
        request = request_of_detections(detections_of(message), size, grid)
        request = replace(request, rejected=(*misread_turns(message), *request.rejected))
    return request if limit is None else request.best(limit)


def request_of_detections(found: Detections, size: tuple[int, int], grid: DetectionGrid | None = None) -> Request:
    """The valid boxes of a detector for an image of `size` (H, W), given in pixels of the image or of `grid`.

    Never raises for bad values: each bad box is rejected alone.
    """
    if grid is not None:
        found = grid.detections_in(found, size)
    keep, reasons = Prompts.checked_boxes(found.boxes, size)
    rejected = [
        (reason, f"box {found.ids[i]} is refused ({reason}): {found.boxes[i].tolist()} in an image of {size[1]} x {size[0]} pixels")
        for i, reason in enumerate(reasons)
        if reason is not None
    ]
    chosen = found if keep.all() else _select(found, np.flatnonzero(keep))
    return Request(Prompts.from_boxes(chosen.boxes, size), chosen, tuple(rejected), other_grid(found.boxes, size))


def request_of_prompts(message: Any, size: tuple[int, int]) -> Request:
    """The valid objects of a wesam_ros/Prompts message, be it of rclpy or of the rosbags library, for an image of `size` (H, W).

    Never raises for bad values: each bad object is rejected alone.
    """
    prompts: list[Prompt] = []
    rows: list[int] = []
    rejected: list[tuple[str, str]] = []
    for row, each in enumerate(message.prompts):
        box = np.array(each.box, np.float32) if each.has_box else None
        if box is not None:
            (reason,) = Prompts.checked_boxes(box[None], size)[1]
            if reason is not None:
                rejected.append((reason, f"box of prompt {row} is refused ({reason}): {box.tolist()}"))
                continue
        try:
            prompt = Prompt(box, _points(each.points), np.array(each.point_labels, np.int64), mask_of_crop(each.mask, size))
            prompts.append(Prompts(size, (prompt,)).objects[0])
            rows.append(row)
        except PromptError as error:
            rejected.append(("prompt", f"prompt {row} is refused: {error}"))
    whole = (0, 0, size[1], size[0])
    found = Detections(
        np.array([whole if each.box is None else each.box for each in prompts], np.float32),
        tuple(message.prompts[row].id or f"#{row}" for row in rows),
        tuple(message.prompts[row].class_id for row in rows),
        np.array([message.prompts[row].score for row in rows], np.float32),
    )
    return Request(Prompts(size, tuple(prompts)), found, tuple(rejected))


def _points(flat: Sequence[float]) -> npt.NDArray[np.float32]:
    if len(flat) % 2:
        raise PromptError(f"points must be x y pairs, but got {len(flat)} numbers")
    return np.array(flat, np.float32).reshape(-1, 2)


def mask_of_crop(crop: Any, size: tuple[int, int]) -> npt.NDArray[np.bool_] | None:
    """A mask message's crop as an (H, W) mask of the whole image of `size`; None where it has no pixels.

    Raises:
        PromptError: the crop reaches over the image, or has too few or too many bytes.
    """
    if crop.width == 0 or crop.height == 0:
        return None
    if crop.x + crop.width > size[1] or crop.y + crop.height > size[0]:
        raise PromptError(f"the mask's crop {crop.x, crop.y, crop.width, crop.height} (x, y, width, height) reaches over the image {size}")
    if len(crop.data) != crop.width * crop.height:
        raise PromptError(f"the mask's data must have {crop.width} x {crop.height} bytes, but got {len(crop.data)}")
    mask = np.zeros(size, bool)
    mask[crop.y : crop.y + crop.height, crop.x : crop.x + crop.width] = (
        np.frombuffer(crop.data, np.uint8).reshape(crop.height, crop.width) > 0
    )
    return mask


def _select(found: Detections, rows: npt.NDArray[Any]) -> Detections:
    return Detections(found.boxes[rows], tuple(found.ids[i] for i in rows), tuple(found.classes[i] for i in rows), found.scores[rows])
