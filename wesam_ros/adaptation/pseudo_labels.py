"""Pseudo-labels of a frame's objects: the refined masks of teacher and anchor, where they agree."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.losses import hard_iou
from wesam_ros.adaptation.replay_buffer import BufferedFrame
from wesam_ros.scene.refine import known_pixels, prompt_fit, refine


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """Pseudo-labels of m objects.

    Attributes:
        teacher: (m, h, w) in {0, 1}, the teacher's refined masks.
        anchor: (m, h, w) in {0, 1}, the frozen model's.
        agreed: (m,) bool, objects whose masks teach something.
        measured: (m,) bool, objects about which prompts and depth do.
    """

    teacher: Tensor
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
    anchor_masks, teacher_masks = (
        (refine(logits + frame.evidence, frame.constraints) if config.refine != "off" else (logits > 0).float())[chosen]
        for logits in (frame.anchor_logits, teacher)
    )
    if frame.answered:  # a person has said so
        certain = torch.ones(len(chosen), dtype=torch.bool, device=anchor_masks.device)
        return PseudoLabels(teacher_masks, anchor_masks, certain, certain)
    # A prompt that depth sees, but that nothing fits, is false or misplaced. Where there is no depth the mask itself may be
    # what is wrong, so that the prompt still counts as a measurement, but the mask teaches nothing.
    fits = prompt_fit(teacher_masks > 0, constraints) >= config.prompt_fit
    agreed = fits & (hard_iou(teacher_masks > 0, anchor_masks > 0) >= config.agreement)
    return PseudoLabels(teacher_masks, anchor_masks, agreed, fits | ~(inside | surface).flatten(1).any(1))
