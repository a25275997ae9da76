"""A person's answers, as what the learner keeps of them: trusted labels, which outlive the model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from wesam_ros.adaptation.buffering import make_buffered_frame
from wesam_ros.adaptation.replay_buffer import BufferedFrame, ReplayBuffer
from wesam_ros.data.frames import Frame
from wesam_ros.sam.preprocessing import mask_to_low_res
from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene.constraints import gather_constraints

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

YES, NO, MENDED = "yes", "no", "mended"
CERTAIN = 100.0
"""Log-odds of an answer: above all that a model says."""


@dataclass(frozen=True, eq=False)
class Answered:
    """An object with a person's answer.

    Attributes:
        number: counts a robot's answers from 1; some of them judge adapters (replay_buffer.JUDGE_EVERY).
        kind: YES, NO or MENDED.
        image: (H, W, 3) uint8 RGB.
        box: (4,) float32 x0 y0 x1 y1 in pixels, the prompt.
        mask: (H, W) bool: the thing; with NO what it is not.
        stamp_ns: time of the image.
        robot: the namespace that it came from.
        class_id: the detector's.
    """

    number: int
    kind: str
    image: npt.NDArray[np.uint8]
    box: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]
    stamp_ns: int = 0
    robot: str = ""
    class_id: str = ""


def answered_frame(sam: Sam, answered: Answered, precision: str) -> BufferedFrame:
    """The frame of one object whose mask a person has given. Its evidence outweighs all else, and its object is always learnt from.

    Args:
        sam: the frozen model.
        answered: with the mask; with NO the frame is of what the thing is not.
        precision: as in AdaptationConfig.
    """
    side, low_res_side = sam.image_encoder.img_size, sam.prompt_encoder.mask_input_size[0]
    frame = Frame(answered.image, stamp_ns=answered.stamp_ns)
    prompts = Prompts.from_boxes(answered.box[None], frame.size)
    mask = mask_to_low_res(answered.mask, side, low_res_side, 1.0) > 0
    constraints = gather_constraints(prompts, None, side, low_res_side)
    constraints = replace(constraints, allowed=constraints.allowed | mask)
    kept = make_buffered_frame(sam, frame, prompts, constraints, precision, known=mask)
    certain = torch.where(mask.to(kept.anchor_logits.device), CERTAIN, -CERTAIN)
    return replace(kept, evidence=certain - kept.anchor_logits, answered=True)


def keep_answer(buffer: ReplayBuffer, sam: Sam, answered: Answered, precision: str) -> None:
    """Has a buffer's learner learn from a person's answer from now on, or be judged by it.

    What was made up about its object is forgotten. With NO there is nothing else to keep. Arguments as of `answered_frame`.
    """
    buffer.forget_object(answered.stamp_ns, answered.box)
    if answered.kind != NO:
        buffer.answer(answered.number, answered_frame(sam, answered, precision))
