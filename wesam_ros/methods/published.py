"""WeSAM as published (Zhang et al., CVPR 2024, arXiv 2312.03502; official code zhang-haojie/wesam as released, commit 1782a38).

    loss = 20 focal + dice + iou + anchor + contrastive
    focal        n (1 - exp(-BCE))^2 BCE,   BCE = mean cross-entropy of all pixels of all n objects, student against teacher's mask
    dice         1 - (2 sum(p t) + n) / (sum p + sum t + n), over all pixels of all objects together
    iou          mean over objects of (predicted IoU - IoU with the teacher's mask)^2
    anchor       0.5 dice(student, anchor's mask) + 0.5 dice(teacher, anchor's mask), smoothed by 1; gradients through both views
    contrastive  -log of the sum over objects i of exp(s_ii) over the sum over i, j of exp(s_ij),   s_ij = cosine of teacher's
                 embedding of i and anchor's of j, over 0.3; 0 with one object

Teacher (weak view), student (strong view) and anchor (frozen, weak view, asked in every step) get the same prompts; teacher and student
share the LoRA tensors. Adam, 1e-4, weight decay 1e-4, warm-up 250. A coarse mask is turned into its bounding box.

The n in focal and dice is what the released code does: it hands the number of masks to the parameters alpha (0.8) and smooth (1). The IoU's
mask is logit >= 0.5, as there. Three things are not as released. Pixels are SAM's own preprocessing, as everywhere here. Losses
are at the decoder's resolution, without padding, not on logits upscaled fourfold. Embeddings are averaged under the hard masks,
as in the paper and the code since July 2024; the release weighted them by raw logits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from wesam_ros.adaptation.losses import hard_iou, masked_prototypes
from wesam_ros.adaptation.predictions import Prediction
from wesam_ros.adaptation.replay_buffer import BufferedFrame
from wesam_ros.data.boxes import box_of_mask
from wesam_ros.data.frames import Frame
from wesam_ros.methods.base import TrainedMethod
from wesam_ros.sam.predictor import decode
from wesam_ros.sam.prompts import Prompt, Prompts

FOCAL = 20.0
TEMPERATURE = 0.3


def as_boxes(prompts: Prompts) -> Prompts:
    """The prompts with each coarse mask replaced by its bounding box; where there is a box already, that one stays."""

    def convert(each: Prompt) -> Prompt:
        if each.mask is None:
            return each
        box = box_of_mask(each.mask).astype(np.float32) if each.box is None else each.box
        return Prompt(box, each.points, each.point_labels)

    return Prompts(prompts.size, tuple(convert(each) for each in prompts.objects))


def flat_focal(logits: Tensor, target: Tensor, alpha: float, gamma: float = 2.0) -> Tensor:
    """Focal loss, a scalar, from the mean cross-entropy of logits (n, h, w) with targets in {0, 1}."""
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, target)
    return alpha * (1 - torch.exp(-cross_entropy)) ** gamma * cross_entropy


def flat_dice(logits: Tensor, target: Tensor, smooth: float) -> Tensor:
    """Dice loss, a scalar, over all pixels of logits (n, h, w) with targets in {0, 1}."""
    probability = logits.sigmoid()
    return 1 - (2 * (probability * target).sum() + smooth) / (probability.sum() + target.sum() + smooth)


def flat_contrast(prototypes: Tensor, anchors: Tensor) -> Tensor:
    """Contrastive loss, a scalar, of unit prototypes (n, c) with the anchor's (n, c)."""
    similarity = prototypes @ anchors.T / TEMPERATURE
    return similarity.flatten().logsumexp(0) - similarity.diagonal().logsumexp(0)


def _prototypes(prediction: Prediction) -> Tensor:
    """Unit mean embeddings (n, c) under the masks at the embedding's resolution, as in the official code (bilinear)."""
    size = (prediction.embedding.shape[1], prediction.embedding.shape[2])
    masks = functional.interpolate(prediction.logits.detach()[:, None], size, mode="bilinear", align_corners=False)[:, 0] > 0
    return masked_prototypes(prediction.embedding, masks.float())


def published_loss(teacher: Prediction, student: Prediction, anchor: Prediction) -> Tensor:
    """The whole loss, a scalar, of three predictions of n objects."""
    n = len(student.logits)
    pseudo_label, anchor_mask = (teacher.logits.detach() > 0).float(), (anchor.logits > 0).float()
    actual = hard_iou(student.logits.detach() >= 0.5, pseudo_label > 0)
    return (
        FOCAL * flat_focal(student.logits, pseudo_label, alpha=n)
        + flat_dice(student.logits, pseudo_label, smooth=n)
        + ((student.scores - actual) ** 2).mean()
        + 0.5 * flat_dice(student.logits, anchor_mask, smooth=1)
        + 0.5 * flat_dice(teacher.logits, anchor_mask, smooth=1)
        + flat_contrast(_prototypes(teacher), _prototypes(anchor))
    )


class Published(TrainedMethod):
    """WeSAM as published."""

    lr = 1e-4
    warm_up = 250

    def observe(self, frame: Frame, prompts: Prompts, masks: npt.NDArray[np.bool_] | None) -> None:
        super().observe(frame, as_boxes(prompts), masks)

    def loss(self, frame: BufferedFrame, chosen: Tensor) -> Tensor:
        views = self.views(frame)
        teacher, student = self.predict(frame, chosen, [views.weak, views.strong], views.is_mirrored, self.low_rank, decode)
        with torch.no_grad():
            (anchor,) = self.predict(frame, chosen, [views.weak], views.is_mirrored, None, decode)
        return published_loss(teacher, student, anchor)
