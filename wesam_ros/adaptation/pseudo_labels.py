"""What there is to learn of a frame's objects: the refined masks of teacher and anchor, where they agree."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.losses import hard_iou
from wesam_ros.adaptation.replay_buffer import BufferedFrame
from wesam_ros.scene.refine import known_pixels, prompt_fit, refine


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """What there is to learn of m objects: teacher's and anchor's masks (m, h, w) in {0, 1}, as the measurements allow; `agreed` (m,) bool,
    whose masks teach something, and `measured` (m,) bool, for which the measurements do."""

    pseudo: Tensor
    anchor: Tensor
    agreed: Tensor
    measured: Tensor


def make_pseudo_labels(teacher: Tensor, frame: BufferedFrame, chosen: Tensor, config: AdaptationConfig) -> PseudoLabels:
    """Which of a frame's objects can be trusted.

    Args:
        teacher: logits (n, h, w) of all of the frame's objects.
        frame: with the anchor's outputs of all of them.
        chosen: (m,) which of the objects it is about.
        config: the limits.
    """
    constraints = frame.constraints[chosen]
    inside, surface = (known[chosen] for known in known_pixels(frame.constraints))
    anchor, pseudo = (
        (refine(said, frame.constraints) if config.correct else (said > 0).float())[chosen] for said in (frame.anchor_logits, teacher)
    )
    # A prompt that depth sees, but that nothing fits, is false or misplaced. Where there is no depth the mask itself may be
    # what is wrong, so that the prompt still counts as a measurement, but the mask teaches nothing.
    fits = prompt_fit(pseudo > 0, constraints) >= config.prompt_fit
    agreed = fits & (hard_iou(pseudo > 0, anchor > 0) >= config.agreement)
    return PseudoLabels(pseudo, anchor, agreed, fits | ~(inside | surface).flatten(1).any(1))
