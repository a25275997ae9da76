"""Admission of frames: a frame is learnt from if it has objects large enough, and boxes that belong to its depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.data.frames import Frame
from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene.constraints import Constraints, gather_constraints, rough_boxes
from wesam_ros.scene.placement import misplacement
from wesam_ros.scene.support import Support, find_support

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

NO_PROMPTS, SMALL_OBJECTS, MISPLACED_BOXES = "no_prompts", "small_objects", "misplaced_boxes"
"""Reasons to reject a frame: nothing is asked for in it, all objects are too small, its boxes do not belong to its depth."""


@dataclass(frozen=True)
class Admission:
    """Acceptance or rejection of a frame.

    Attributes:
        accepted: True if the frame was taken into the replay buffer.
        reason: of a rejection, one of the constants above; "" if it was accepted.
        offset: where misplaced boxes would lie better, x y in pixels of the image.
    """

    accepted: bool
    reason: str = ""
    offset: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Observation:
    """Measurements of those objects of a frame that are large enough to learn from.

    Attributes:
        prompts: of these objects, in pixels of the image.
        constraints: on their masks, of prompts and depth.
        has_depth: a support surface was looked for.
        support: the support surface; None without depth, or without a plane in it.
    """

    prompts: Prompts
    constraints: Constraints
    has_depth: bool
    support: Support | None


def admit(
    sam: Sam, frame: Frame, prompts: Prompts, config: AdaptationConfig, rng: np.random.Generator
) -> tuple[Admission, Observation | None]:
    """Accepts or rejects a frame, without asking the model.

    Args:
        sam: the model, for the sides of its input and of its decoder's grid.
        frame: its image, depth and camera are used, its labels never are.
        prompts: of its objects, in pixels of the image.
        config: the limits.
        rng: draws the candidates of the support plane.

    Returns:
        the admission, and what was measured; None where no object is large enough.
    """
    if not len(prompts):
        return Admission(False, NO_PROMPTS), None
    prompts = large_prompts(prompts, config.least_side)
    if not len(prompts):
        return Admission(False, SMALL_OBJECTS), None
    side, grid_side = sam.image_encoder.img_size, sam.prompt_encoder.mask_input_size[0]
    support = None
    if has_depth := frame.depth is not None and frame.camera is not None and config.depth > 0:
        support = find_support(frame.image, frame.depth, frame.camera, rough_boxes(prompts), grid_side, rng)
    constraints = gather_constraints(prompts, support, side, grid_side)
    observation = Observation(prompts, constraints, has_depth, support)
    share, (x, y) = misplacement(constraints, support)
    if share > config.misplaced:
        scale = max(prompts.size) / grid_side
        return Admission(False, MISPLACED_BOXES, (x * scale, y * scale)), observation
    return Admission(True), observation


def large_prompts(prompts: Prompts, least_side: float) -> Prompts:
    """The prompts of the objects that are large enough."""
    return prompts.select(np.flatnonzero(large_enough(prompts, least_side)))


def large_enough(prompts: Prompts, least_side: float) -> npt.NDArray[np.bool_]:
    """(n,) bool: objects whose box or coarse mask has sides of at least `least_side` pixels; points alone tell no size and count."""
    if not len(prompts):
        return np.zeros(0, bool)
    boxes = rough_boxes(prompts)
    points_alone = np.array([each.box is None and each.mask is None for each in prompts.objects])
    return np.asarray(points_alone | ((boxes[:, 2:] - boxes[:, :2]).min(1) >= least_side))
