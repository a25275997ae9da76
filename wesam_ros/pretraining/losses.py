"""Losses of pretraining: masks, predicted IoU, and the rounds of one sample."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wesam_ros.pretraining.samples import Sample, error_points
from wesam_ros.sam.preprocessing import normalize

if TYPE_CHECKING:
    from segment_anything.modeling import Sam


def encode(sam: Sam, samples: tuple[Sample, ...], side: int) -> Tensor:
    """Embeddings (n, c, side / 16, side / 16) of samples on a canvas of `side` pixels.

    A canvas smaller than the model's is the same picture with coarser tokens: the position table is resized to it, and segment_anything
    does so with the relative ones.
    """
    pixels = torch.stack([normalize(sample.pixels, side) for sample in samples])
    encoder = sam.image_encoder
    table = encoder.pos_embed.permute(0, 3, 1, 2)
    grid = side // 16
    if table.shape[-1] != grid:
        table = functional.interpolate(table, (grid, grid), mode="bilinear", align_corners=False)
    embeddings: Tensor = torch.func.functional_call(encoder, {"pos_embed": table.permute(0, 2, 3, 1)}, (pixels,))
    return embeddings


def decode(sam: Sam, embedding: Tensor, sample: Sample, side: int) -> tuple[Tensor, Tensor]:
    """All four masks' logits (n, 4, side / 4, side / 4) and predicted IoU (n, 4) of one sample on a canvas of `side` pixels."""
    rows, columns = embedding.shape[-2:]
    scale = sam.image_encoder.img_size / side
    points = None if sample.points is None else (sample.points[0] * scale, sample.points[1])
    boxes = None if sample.boxes is None else sample.boxes * scale
    sparse, dense = sam.prompt_encoder(points=points, boxes=boxes, masks=sample.coarse)
    position = sam.prompt_encoder.pe_layer((rows, columns))[None]
    masks, iou = sam.mask_decoder.predict_masks(embedding, position, sparse, dense[..., :rows, :columns])
    return masks, iou


def mask_losses(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and true IoU per mask, both (n, k).

    Binary cross-entropy summed and divided by the object's area, so that small objects count as much as large ones, plus dice loss.

    Args:
        logits: (n, k, h, w).
        target: (n, h, w) in [0, 1], the share of each pixel that is the object.
    """
    wanted = target[:, None].expand_as(logits)
    area = wanted.sum((2, 3)).clamp_min(1)
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum((2, 3)) / area
    probability = logits.sigmoid()
    dice = 1 - (2 * (probability * wanted).sum((2, 3)) + 1) / (probability.sum((2, 3)) + wanted.sum((2, 3)) + 1)
    with torch.no_grad():
        found, true = logits > 0, wanted > 0.5
        iou = (found & true).sum((2, 3)) / (found | true).sum((2, 3)).clamp_min(1)
    return cross_entropy + dice, iou


def sample_loss(sam: Sam, embedding: Tensor, sample: Sample, side: int) -> tuple[Tensor, float]:
    """The loss of a sample's rounds, and the mean IoU of the first round's single mask."""
    loss, iou, low = _round_loss(sam, embedding, sample, side)
    if sample.again:
        found = functional.interpolate(low[:, :1], scale_factor=4.0, mode="bilinear", align_corners=False)[:, 0] > 0
        height, width = sample.masks.shape[1:]
        point, label = error_points(found[:, :height, :width].numpy(), sample.masks.numpy(), np.random.default_rng(sample.seed))
        points = (point, label)
        if sample.points is not None:
            points = (torch.cat([sample.points[0], point], 1), torch.cat([sample.points[1], label], 1))
        second = replace(sample, points=points, coarse=low[:, :1], form="box and points")
        more, _, _ = _round_loss(sam, embedding, second, side)
        loss = (loss + more) / 2
    return loss, iou


def _round_loss(sam: Sam, embedding: Tensor, sample: Sample, side: int) -> tuple[Tensor, float, Tensor]:
    """Loss, mean IoU, and the logits without gradients."""
    logits, scores = decode(sam, embedding, sample, side)
    logits, scores = logits.float(), scores.float()
    low = logits.detach()
    click = sample.form == "click"
    if not click:  # only a single point is ambiguous: all else has the one mask that is served
        logits, scores = logits[:, :1], scores[:, :1]
    height, width = sample.masks.shape[1:]
    half = (-(-height // 2), -(-width // 2))
    logits = functional.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)[..., : half[0], : half[1]]
    padded = functional.pad(sample.masks.float(), (0, 2 * half[1] - width, 0, 2 * half[0] - height))
    losses, iou = mask_losses(logits, functional.avg_pool2d(padded, 2))
    loss = losses[:, 0].mean() + functional.mse_loss(scores, iou)
    if click:  # of the three further masks the best one learns (Kirillov et al., 2023)
        loss = loss + losses[:, 1:].min(1).values.mean()
    return loss, float(iou[:, 0].mean()), low


def batch_loss(sam: Sam, samples: tuple[Sample, ...], side: int) -> tuple[Tensor, list[float]]:
    """The mean loss of samples on a canvas of `side` pixels, and each one's mean IoU."""
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = encode(sam, samples, side)
        parts = [sample_loss(sam, each[None], sample, side) for each, sample in zip(embeddings, samples, strict=True)]
    return torch.stack([loss for loss, _ in parts]).mean(), [iou for _, iou in parts]
