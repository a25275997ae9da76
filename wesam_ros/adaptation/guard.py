"""Judges adapters without labels: what may be published, and why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.evidence import prompt_fit
from wesam_ros.adaptation.losses import hard_iou
from wesam_ros.adaptation.memory import KeptFrame
from wesam_ros.adaptation.step import autocast, witnessed
from wesam_ros.sam.decoder import decode_together
from wesam_ros.sam.predictor import embed_images
from wesam_ros.sam.preprocessing import normalize

if TYPE_CHECKING:
    from segment_anything.modeling import Sam


@dataclass(frozen=True)
class Judgement:
    """What held-back frames say of one adapter, as means over their objects.

    Attributes:
        fit: IoU of mask and object over the pixels that are known: those that rise in its box alone are on it, those of the support surface
            or beyond the box are not. Where depth knows nothing of an object, IoU of the mask's own box with the prompted box.
        agreement: IoU with the anchor's mask: what a collapse to full boxes or to speckles lowers.
        objects: how many objects were judged.
    """

    fit: float
    agreement: float
    objects: int


def known_fit(masks: Tensor, frame: KeptFrame) -> Tensor:
    """How well masks (n, h, w) bool of all objects of a frame fit what is known of them, (n,) in [0, 1]; see Judgement."""
    evidence = frame.evidence
    inside, surface = witnessed(evidence)
    overlap = (masks & inside).sum((1, 2))
    union = (inside | (masks & (surface | ~evidence.reach))).sum((1, 2))
    return torch.where(inside.flatten(1).any(1), overlap / union.clamp_min(1), prompt_fit(masks, evidence))


@torch.inference_mode()
def judge(sam: Sam, low_rank: tuple[Tensor, Tensor] | None, frame: KeptFrame, precision: str) -> Judgement:
    """Judges an adapter's stacked tensors, or None for the frozen model, on a frame that was not learnt from."""
    pixels = torch.from_numpy(frame.pixels).permute(2, 0, 1)[None].to(sam.device)
    with autocast(sam, precision):
        logits, _ = decode_together(sam, embed_images(sam, normalize(pixels, sam.image_encoder.img_size), low_rank), frame.prompts)
    masks = logits > 0
    return Judgement(float(known_fit(masks, frame).mean()), float(hard_iou(masks, frame.anchor_logits > 0).mean()), len(masks))


def together(judgements: Sequence[Judgement]) -> Judgement:
    """The judgement over the objects of several frames."""
    objects = [each.objects for each in judgements]
    fit, agreement = (float(np.average([getattr(each, name) for each in judgements], weights=objects)) for name in ("fit", "agreement"))
    return Judgement(fit, agreement, sum(objects))


def below_frozen(adapted: Judgement, frozen: Judgement, config: AdaptationConfig) -> str | None:
    """Why an adapter may not be served rather than the frozen model, both judged on the same frames; None if it may."""
    if adapted.fit < frozen.fit - config.tolerance:
        return f"below_frozen ({adapted.fit:.3f}, frozen {frozen.fit:.3f})"
    return None


def objection(candidate: Judgement, good: Judgement, frozen: Judgement, config: AdaptationConfig) -> str | None:
    """Why a candidate may not replace the last good adapter, all judged on the same frames; None if it may.

    The last good one alone would not do: with a tolerance each time, a row of candidates could creep below the model they started from.
    """
    if not np.isfinite(candidate.fit):
        return "not_finite"
    if candidate.fit < good.fit - config.tolerance:
        return f"worse_fit ({candidate.fit:.3f} after {good.fit:.3f})"
    if (reason := below_frozen(candidate, frozen, config)) is not None:
        return reason
    if candidate.agreement < config.divergence * good.agreement:
        return f"diverged ({candidate.agreement:.3f} after {good.agreement:.3f})"
    return None
