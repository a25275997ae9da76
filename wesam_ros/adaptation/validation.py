"""Scores of adapters on validation frames, without labels."""

from __future__ import annotations

from collections.abc import Sequence
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

FILLED, GROWN = 0.95, 1.3
"""A mask of more than this share of its box's pixels, and of more than so many times the anchor's area, fills its box. A book may fill its
box, and the frozen model may have missed half of it, but not of most objects."""


@dataclass(frozen=True)
class ValidationScore:
    """Scores of one adapter on validation frames, as means over their objects.

    Attributes:
        score: IoU with the anchor's refined mask. Changes that depth and prompts support raise it, all others lower it. For an object that
            depth does not see, the fit of the mask to its prompt, or the mean of both where colour has corrected the anchor's mask. For an
            object of a person's answer, IoU with the mask that the person gave.
        agreement: IoU with the anchor's own mask; a collapse to speckles lowers it.
        objects: how many objects were scored.
        filled: share of masks that fill their box where the anchor's does not. It tells of a collapse to whole boxes, which neither score
            nor agreement shows.
    """

    score: float
    agreement: float
    objects: int
    filled: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """Scores of a candidate, of the published adapter and of the frozen model on the same validation frames of one robot.

    `newest` is the same for the newer half of the frames alone: after a change of scene the older half shows another one.
    """

    candidate: ValidationScore
    published: ValidationScore
    frozen: ValidationScore
    newest: Comparison | None = None


def validation_iou(masks: Tensor, frame: BufferedFrame) -> Tensor:
    """Scores (n,) in [0, 1] of masks (n, h, w) bool of all objects of a frame; see ValidationScore.score."""
    known, _ = known_pixels(frame.constraints)
    iou = hard_iou(masks, refine(frame.anchor_logits + frame.evidence, frame.constraints) > 0)
    if frame.answered:
        return iou
    fit = prompt_fit(masks, frame.constraints)
    seen, corrected = (each.flatten(1).any(1) for each in (known, frame.evidence))
    return torch.where(seen, iou, torch.where(corrected, (fit + iou) / 2, fit))


def scored_objects(frame: BufferedFrame, config: AdaptationConfig) -> Tensor:
    """(n,) bool: the objects of a frame that adapters are scored by.

    These are the objects whose prompts the frozen model's refined masks fit, and those that depth does not see. In a false or misplaced
    box the worst mask may fit best, so such boxes do not count.
    """
    return make_pseudo_labels(frame.anchor_logits, frame, torch.arange(len(frame.prompts)), config).measured


@torch.inference_mode()
def score_adapter(sam: Sam, low_rank: tuple[Tensor, Tensor] | None, frame: BufferedFrame, config: AdaptationConfig) -> ValidationScore:
    """Scores of an adapter's stacked tensors, or with None of the frozen model, on a frame that was not learnt from.

    They are over its `scored_objects`, or over all if `config.prompt_fit` has been raised since, so that none is left.
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
    """(n,) bool: masks (n, h, w) bool that fill their boxes (n, 4) in pixels of the grid, where the anchor's do not; see FILLED."""
    within = box_pixels(boxes, (masks.shape[-2], masks.shape[-1]))
    filled = (masks & within).sum((1, 2)) > FILLED * within.sum((1, 2))  # never where there is no box: that has no pixels
    return filled & (masks.sum((1, 2)) > GROWN * anchor.sum((1, 2)))


def mean_score(scores: Sequence[ValidationScore]) -> ValidationScore:
    """The scores over the objects of several frames."""
    objects = [each.objects for each in scores]
    score, agreement, filled = (
        float(np.average([getattr(each, name) for each in scores], weights=objects)) for name in ("score", "agreement", "filled")
    )
    return ValidationScore(score, agreement, sum(objects), filled)
