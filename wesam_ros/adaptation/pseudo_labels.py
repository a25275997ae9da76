"""Pseudo-labels of a frame's objects: the refined masks of teacher and anchor, where they agree."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.losses import hard_iou
from wesam_ros.adaptation.replay_buffer import BufferedFrame
from wesam_ros.scene.refine import known_pixels, prompt_fit, refine, shared_out


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """Pseudo-labels of m objects.

    Attributes:
        teacher: (m, h, w) in {0, 1}, the teacher's refined masks.
        shares: (m, h, w) in [0, 1], how much of each cell of the grid is taken to be on the object: outlines run through cells.
        anchor: (m, h, w) in {0, 1}, the frozen model's.
        agreed: (m,) bool, objects whose masks teach something.
        measured: (m,) bool, objects about which prompts and depth do.
    """

    teacher: Tensor
    shares: Tensor
    anchor: Tensor
    agreed: Tensor
    measured: Tensor


def make_pseudo_labels(teacher: Tensor, frame: BufferedFrame, chosen: Tensor, config: AdaptationConfig) -> PseudoLabels:
    """Refines the masks of teacher and anchor, and tells which of them can be trusted.

    Args:
        teacher: logits (n, h, w) of all of the frame's objects.
        frame: with the anchor's outputs of all of them.
        chosen: (m,) indices of the objects that it is about.
        config: the limits.
    """
    constraints = frame.constraints[chosen]
    inside, surface = (known[chosen] for known in known_pixels(frame.constraints))
    if config.refine == "off":
        anchor_masks, teacher_masks = (frame.anchor_logits[chosen] > 0).float(), (teacher[chosen] > 0).float()
        shares = teacher_masks
    else:
        refined = shared_out(teacher + frame.evidence)[chosen]
        anchor_masks = (shared_out(frame.anchor_logits + frame.evidence)[chosen] > 0).float()
        teacher_masks, shares = (refined > 0).float(), refined.sigmoid()
    # A prompt that depth sees, but that nothing fits, is false or misplaced. Where there is no depth the mask itself may be
    # what is wrong, so that the prompt still counts as a measurement, but the mask teaches nothing. Witnesses that are weighed may
    # fill a false box with what is flat on the table; so what prompts and depth rule out altogether has a say here as well.
    strict = refine(teacher, frame.constraints)[chosen]
    fits = (prompt_fit(teacher_masks > 0, constraints) >= config.prompt_fit) & (prompt_fit(strict > 0, constraints) >= config.prompt_fit)
    agreed = fits & (hard_iou(teacher_masks > 0, anchor_masks > 0) >= config.agreement)
    return PseudoLabels(teacher_masks, shares, anchor_masks, agreed, fits | ~(inside | surface).flatten(1).any(1))
