"""Masks as prompts and depth allow, and how well masks fit their prompts."""

from __future__ import annotations

import torch
from torch import Tensor

from wesam_ros.scene.constraints import Constraints
from wesam_ros.scene.regions import box_fit, logits_at


def known_pixels(constraints: Constraints) -> tuple[Tensor, Tensor]:
    """What depth knows within the reach of all of a frame's objects, (n, h, w) bool: pixels on the object, and of the support surface."""
    claimed = constraints.candidate & constraints.allowed
    alone = claimed.sum(0) == 1
    return claimed & alone, constraints.surface & constraints.allowed


def refine(logits: Tensor, constraints: Constraints) -> Tensor:
    """Masks (n, h, w) in {0, 1} of all of a frame's objects, from their logits, as the measurements allow.

    No mask leaves its reach, covers the support surface, or shares a pixel with another: where reaches overlap, the highest logit has it.
    What rises from the surface belongs to one of those that claim it.
    """
    within = logits.masked_fill(~constraints.allowed, -torch.inf)
    highest = within == within.amax(0)
    winner = highest & (highest.cumsum(0) == 1)  # the first of equals; argmax over an axis of few is many times slower
    return (winner & constraints.allowed & ~constraints.surface & ((logits > 0) | constraints.candidate)).float()


def prompt_fit(masks: Tensor, constraints: Constraints) -> Tensor:
    """How well masks (n, h, w) bool of all objects fit their prompts, (n,) in [0, 1], the least of what each prompt has.

    Of a box: IoU with the mask's own tight box. Of a coarse mask: the share of its middle that is covered, times the share of the mask
    that is in reach. Of points: the share on the right side.
    """
    fit = torch.where(constraints.boxed, box_fit(masks, constraints.boxes), 1.0)
    middle = constraints.certain.sum((1, 2))
    covered = (masks & constraints.certain).sum((1, 2)) / middle.clamp_min(1)
    within = (masks & constraints.allowed).sum((1, 2)) / masks.sum((1, 2)).clamp_min(1)
    fit = torch.where(middle > 0, torch.minimum(fit, covered * within), fit)
    known = constraints.point_labels >= 0
    if not known.any():
        return fit
    right = ((logits_at(masks.float() - 0.5, constraints.points) > 0) == (constraints.point_labels == 1)) & known
    return torch.where(known.any(1), torch.minimum(fit, right.sum(1) / known.sum(1).clamp_min(1)), fit)
