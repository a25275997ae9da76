"""Judges adapters without labels: what may be published, and why not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.losses import hard_iou
from wesam_ros.adaptation.memory import KeptFrame
from wesam_ros.adaptation.step import autocast, grid_boxes
from wesam_ros.sam.predictor import decode, embed_images
from wesam_ros.sam.preprocessing import normalize

if TYPE_CHECKING:
    from segment_anything.modeling import Sam


@dataclass(frozen=True)
class Judgement:
    """What held-back frames say of one adapter, as means over their objects.

    Attributes:
        fit: IoU of the mask's own box with the prompted box: 0 for an empty mask.
        agreement: IoU with the anchor's mask: what a collapse to full boxes or to speckles lowers.
        objects: how many objects were judged.
    """

    fit: float
    agreement: float
    objects: int


def box_fit(masks: Tensor, boxes: Tensor) -> Tensor:
    """IoU (n,) of the tight boxes of masks (n, h, w) bool with boxes (n, 4), both in pixels of the grid; 0 for an empty mask."""
    tight = boxes.new_zeros(len(masks), 4)
    for column, axis in ((0, 1), (1, 2)):
        covered = masks.any(axis)
        length = covered.shape[1]
        tight[:, column] = covered.float().argmax(1)
        tight[:, column + 2] = length - covered.flip(1).float().argmax(1)
    tight[~masks.flatten(1).any(1)] = 0
    overlap = (torch.minimum(tight[:, 2:], boxes[:, 2:]) - torch.maximum(tight[:, :2], boxes[:, :2])).clamp_min(0).prod(1)
    areas = (tight[:, 2:] - tight[:, :2]).prod(1) + (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return overlap / (areas - overlap).clamp_min(1e-6)


@torch.inference_mode()
def judge(sam: Sam, low_rank: tuple[Tensor, Tensor], frames: Iterable[KeptFrame], precision: str) -> Judgement:
    """Judges an adapter's stacked tensors on frames that were not learnt from."""
    side, low_res_side = sam.image_encoder.img_size, sam.prompt_encoder.mask_input_size[0]
    fits, agreements = [], []
    for frame in frames:
        pixels = torch.from_numpy(frame.pixels).permute(2, 0, 1)[None].to(sam.device)
        with autocast(sam, precision):
            logits, _ = decode(sam, embed_images(sam, normalize(pixels, side), low_rank), frame.prompts)
        fits.append(box_fit(logits > 0, grid_boxes(frame.prompts, side, low_res_side).to(sam.device)))
        agreements.append(hard_iou(logits > 0, frame.anchor_logits > 0))
    return Judgement(float(torch.cat(fits).mean()), float(torch.cat(agreements).mean()), sum(len(each) for each in fits))


def objection(candidate: Judgement, good: Judgement, config: AdaptationConfig) -> str | None:
    """Why a candidate may not replace the last good adapter, both judged on the same frames; None if it may."""
    if not np.isfinite(candidate.fit):
        return "not_finite"
    if candidate.fit < good.fit - config.tolerance:
        return f"worse_fit ({candidate.fit:.3f} after {good.fit:.3f})"
    if candidate.agreement < config.divergence * good.agreement:
        return f"diverged ({candidate.agreement:.3f} after {good.agreement:.3f})"
    return None
