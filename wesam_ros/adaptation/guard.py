"""Judges adapters without labels: what may be published, and why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.losses import hard_iou
from wesam_ros.adaptation.predictions import autocast
from wesam_ros.adaptation.pseudo_labels import make_pseudo_labels
from wesam_ros.adaptation.replay_buffer import BufferedFrame
from wesam_ros.sam.decoder import decode_together
from wesam_ros.sam.predictor import embed_images
from wesam_ros.sam.preprocessing import normalize
from wesam_ros.scene.refine import known_pixels, prompt_fit, refine
from wesam_ros.scene.regions import box_pixels

if TYPE_CHECKING:
    from segment_anything.modeling import Sam


FILLED, GROWN, MOST = 0.95, 1.3, 0.5
"""A mask of more than this share of its box's pixels, and of more than so many times the anchor's area, fills its box; more than this share
of all objects that do are a collapse. A book may fill its box, and the frozen model may have missed half of it, but not of most objects."""


@dataclass(frozen=True)
class ValidationScore:
    """What held-back frames say of one adapter, as means over their objects.

    Attributes:
        score: IoU with the anchor's refined mask: what depth and prompts know counts, and elsewhere the anchor's word,
            so that changes that nothing speaks for cost. Where depth knows nothing of an object, how well the mask fits its prompt.
        agreement: IoU with the anchor's mask: what a collapse to speckles lowers.
        objects: how many objects were judged.
        filled: share of masks that fill their box where the anchor's does not: a collapse that fits every box, and that agrees with masks
            of which each has much of its box.
    """

    score: float
    agreement: float
    objects: int
    filled: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """What the same held-back frames, of one robot, say of a candidate, of the last good adapter and of the frozen model.

    `newest` is what the newer half of them says alone: where the scene has changed, the older ones speak of another.
    """

    candidate: ValidationScore
    good: ValidationScore
    frozen: ValidationScore
    newest: Comparison | None = None


def validation_iou(masks: Tensor, frame: BufferedFrame) -> Tensor:
    """How well masks (n, h, w) bool of all objects of a frame fit what is known of them, (n,) in [0, 1]; see ValidationScore."""
    known, _ = known_pixels(frame.constraints)
    reference = refine(frame.anchor_logits, frame.constraints) > 0
    return torch.where(known.flatten(1).any(1), hard_iou(masks, reference), prompt_fit(masks, frame.constraints))


def scored_objects(frame: BufferedFrame, config: AdaptationConfig) -> Tensor:
    """(n,) bool: by which of a frame's objects an adapter is judged: those whose prompts the frozen model's masks fit, as far as the
    measurements allow, and those that depth knows nothing of. In a box that is false or misplaced the worst mask may fit best."""
    return make_pseudo_labels(frame.anchor_logits, frame, torch.arange(len(frame.prompts)), config).measured


@torch.inference_mode()
def score_adapter(sam: Sam, low_rank: tuple[Tensor, Tensor] | None, frame: BufferedFrame, config: AdaptationConfig) -> ValidationScore:
    """Judges an adapter's stacked tensors, or None for the frozen model, on a frame that was not learnt from.

    By its objects as `judging` has them, or by all if `config.prompt_fit` has been raised since, so that none is left.
    """
    pixels = torch.from_numpy(frame.pixels).permute(2, 0, 1)[None].to(sam.device)
    with autocast(sam, config.precision):
        logits, _ = decode_together(sam, embed_images(sam, normalize(pixels, sam.image_encoder.img_size), low_rank), frame.prompts)
    masks, anchor = logits > 0, frame.anchor_logits > 0
    counted = scored_objects(frame, config)
    counted = counted if counted.any() else torch.ones_like(counted)
    return ValidationScore(
        score=float(validation_iou(masks, frame)[counted].mean()),
        agreement=float(hard_iou(masks, anchor)[counted].mean()),
        objects=int(counted.sum()),
        filled=float(fills_box(masks, anchor, frame.constraints.boxes)[counted].float().mean()),
    )


def fills_box(masks: Tensor, anchor: Tensor, boxes: Tensor) -> Tensor:
    """Which masks (n, h, w) bool fill their boxes (n, 4) in pixels of the grid, where the anchor's do not: (n,) bool; see FILLED."""
    within = box_pixels(boxes, (masks.shape[-2], masks.shape[-1]))
    filled = (masks & within).sum((1, 2)) > FILLED * within.sum((1, 2))  # never where there is no box: that has no pixels
    return filled & (masks.sum((1, 2)) > GROWN * anchor.sum((1, 2)))


def together(judgements: Sequence[ValidationScore]) -> ValidationScore:
    """The judgement over the objects of several frames."""
    objects = [each.objects for each in judgements]
    score, agreement, filled = (
        float(np.average([getattr(each, name) for each in judgements], weights=objects)) for name in ("score", "agreement", "filled")
    )
    return ValidationScore(score, agreement, sum(objects), filled)


def below_frozen(adapted: ValidationScore, frozen: ValidationScore, config: AdaptationConfig) -> str | None:
    """Why an adapter may not be served rather than the frozen model, both judged on the same frames; None if it may.

    An adapter is trained to fit, so that it gains more in fit than in truth; the frozen model is not. So what it changed of the masks has
    to pay (`lead`; how it was chosen: docs/reliability.md).
    """
    lead = config.lead * max(0.0, frozen.agreement - adapted.agreement)
    if adapted.score < frozen.score + lead - config.tolerance:
        return f"below_frozen ({adapted.score:.3f}, frozen {frozen.score:.3f} and a lead of {lead:.3f})"
    return None


def fallen(found: Comparison, config: AdaptationConfig) -> str | None:
    """Why the last good adapter may not be served any more; None if it may."""
    return below_frozen(found.good, found.frozen, config) or _on_newest(found, lambda each: below_frozen(each.good, each.frozen, config))


def _on_newest(found: Comparison, against: Callable[[Comparison], str | None]) -> str | None:
    """A reason that the newer half of the frames gives."""
    reason = against(found.newest) if found.newest is not None else None
    return f"{reason} on the newest ones" if reason is not None else None


def objection(found: Comparison, config: AdaptationConfig) -> str | None:
    """Why a candidate may not replace the last good adapter; None if it may.

    The last good one alone would not do: with a tolerance each time, a row of candidates could creep below the model they started from,
    and away from its masks.
    """
    candidate, good, frozen = found.candidate, found.good, found.frozen
    if candidate.score < good.score - config.tolerance:
        return f"worse_fit ({candidate.score:.3f} after {good.score:.3f})"
    below = below_frozen(candidate, frozen, config) or _on_newest(found, lambda each: below_frozen(each.candidate, each.frozen, config))
    if below is not None:
        return below
    if candidate.agreement < config.divergence * max(good.agreement, frozen.agreement):
        return f"diverged ({candidate.agreement:.3f} after {good.agreement:.3f}, frozen {frozen.agreement:.3f})"
    if candidate.filled > MOST:
        return f"collapsed ({candidate.filled:.3f} of the masks fill their boxes)"
    return None


def first_reason(found: Mapping[str, Comparison], against: Callable[[Comparison], str | None]) -> str | None:
    """The first reason against something that the frames of a robot give, with its name where there are several kinds.

    Each robot is asked by itself: over the frames of all, what one gains would hide what another loses.
    """
    for robot, each in found.items():
        if (reason := against(each)) is not None:
            return f"{reason} on the frames of {robot}" if len(found) > 1 else reason
    return None


def least_gain(found: Mapping[str, Comparison]) -> Comparison:
    """What the frames of that robot say that a candidate does least for, against the better of what could be served instead."""
    return min(found.values(), key=lambda each: each.candidate.score - max(each.good.score, each.frozen.score))
