"""Refined masks: the model's masks as prompts and depth allow. Also the fit of masks to their prompts."""

from __future__ import annotations

import torch
from torch import Tensor

from wesam_ros.scene.constraints import Constraints
from wesam_ros.scene.regions import box_fit, logits_at


def known_pixels(constraints: Constraints) -> tuple[Tensor, Tensor]:
    """Pixels that depth knows within the allowed regions of all of a frame's objects, (n, h, w) bool: on the object, and of the surface."""
    candidate = constraints.candidate & constraints.allowed
    alone = candidate.sum(0) == 1
    return candidate & alone, constraints.surface & constraints.allowed


def shared_out(log_odds: Tensor) -> Tensor:
    """Log-odds (n, h, w) of a frame's objects that share its pixels: above 0 where an object's own are, and are the highest of all."""
    first, second = (log_odds.topk(2, 0).values if len(log_odds) > 1 else log_odds.new_full((2, 1, 1), -torch.inf)).unbind(0)
    others = torch.where(log_odds == first, second, first)
    return torch.minimum(log_odds, log_odds - others)


def refine(logits: Tensor, constraints: Constraints) -> Tensor:
    """Refined masks (n, h, w) in {0, 1} of all of a frame's objects, from their logits.

    No mask leaves its allowed region, covers the support surface, or shares a pixel with another: where allowed regions overlap, the
    highest logit has it. What rises from the surface belongs to one of those that are candidates for it.
    """
    within = logits.masked_fill(~constraints.allowed, -torch.inf)
    highest = within == within.amax(0)
    winner = highest & (highest.cumsum(0) == 1)  # the first of equals; argmax over an axis of few is many times slower
    return (winner & constraints.allowed & ~constraints.surface & ((logits > 0) | constraints.candidate)).float()


def prompt_fit(masks: Tensor, constraints: Constraints) -> Tensor:
    """Fit (n,) in [0, 1] of masks (n, h, w) bool of all objects to their prompts, the least of what each prompt has.

    Of a box: IoU with the mask's own tight box. Of a coarse mask: the share of its middle that is covered, times the share of the mask
    that is allowed. Of points: the share on the right side.
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
