"""Losses of pretraining: masks, predicted IoU, and the rounds of a batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wesam_ros.pretraining.samples import Batch, error_points
from wesam_ros.sam.fine_features import unpack, upscale
from wesam_ros.sam.preprocessing import CPU, normalize

if TYPE_CHECKING:
    from segment_anything.modeling import Sam


@dataclass(frozen=True, eq=False)
class Prompted:
    """Prompts of n things of several pictures on one canvas, as the samples have them, and the picture of each."""

    owners: Tensor
    boxes: Tensor | None
    points: tuple[Tensor, Tensor] | None
    coarse: Tensor | None


def encode(sam: Sam, batch: Batch) -> Tensor:
    """Embeddings (b, 4 c, side / 16, side / 16) of a batch's pictures.

    A canvas smaller than the model's is the same picture with coarser tokens: the position table is resized to it, and segment_anything
    does so with the relative ones.
    """
    pixels = torch.stack([normalize(sample.pixels.to(sam.device), batch.side) for sample in batch.samples])
    encoder = sam.image_encoder
    table = encoder.pos_embed.permute(0, 3, 1, 2)
    grid = batch.side // 16
    if table.shape[-1] != grid:
        table = functional.interpolate(table, (grid, grid), mode="bilinear", align_corners=False)
    embeddings: Tensor = torch.func.functional_call(encoder, {"pos_embed": table.permute(0, 2, 3, 1)}, (pixels,))
    return embeddings


def decode(sam: Sam, embeddings: Tensor, prompts: Prompted, side: int) -> tuple[Tensor, Tensor]:
    """All four masks' logits (n, 4, side / 4, side / 4) and predicted IoU (n, 4) of things in several pictures.

    FineMaskDecoder.predict_masks, which takes the things of one picture, with each thing's own embedding.
    """
    rows, columns = embeddings.shape[-2:]
    scale = sam.image_encoder.img_size / side
    points = None if prompts.points is None else (prompts.points[0] * scale, prompts.points[1])
    boxes = None if prompts.boxes is None else prompts.boxes * scale
    sparse, dense = sam.prompt_encoder(points=points, boxes=boxes, masks=prompts.coarse)
    decoder, count = sam.mask_decoder, len(prompts.owners)
    outputs = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight]).expand(count, -1, -1)
    coarse, eighth, quarter = unpack(embeddings)
    image = coarse[prompts.owners] + dense[..., :rows, :columns]
    position = sam.prompt_encoder.pe_layer((rows, columns)).expand(count, -1, -1, -1)
    tokens, image = decoder.transformer(image, position, torch.cat([outputs, sparse], 1))
    image = image.transpose(1, 2).unflatten(2, (rows, columns))
    upscaled = upscale(decoder.output_upscaling, image, eighth[prompts.owners], quarter[prompts.owners])
    weights = torch.stack([mlp(tokens[:, 1 + index]) for index, mlp in enumerate(decoder.output_hypernetworks_mlps)], 1)
    masks = (weights @ upscaled.flatten(2)).unflatten(2, upscaled.shape[-2:])
    return masks, decoder.iou_prediction_head(tokens[:, 0])


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


def batch_loss(sam: Sam, batch: Batch) -> tuple[Tensor, float]:
    """The mean loss of a batch's rounds, and the mean IoU of the first round's single masks; a picture counts as much as another."""
    device = sam.device
    with torch.autocast(device.type, torch.bfloat16):
        embeddings = encode(sam, batch)
        prompts, masks = collect(batch, device), batch.masks
        target = functional.avg_pool2d(masks.to(device).float(), 2)
        counts = torch.bincount(prompts.owners)
        weights = 1 / (counts[prompts.owners] * len(counts))
        loss, iou, low = _round(sam, embeddings, prompts, batch, target)
        if batch.request.again:
            found = functional.interpolate(low, scale_factor=4.0, mode="bilinear", align_corners=False)[:, 0] > 0
            point, label = error_points(found.cpu().numpy(), masks.numpy(), np.random.default_rng(batch.request.seed))
            point, label = point.to(device), label.to(device)
            if prompts.points is not None:
                point, label = torch.cat([prompts.points[0], point], 1), torch.cat([prompts.points[1], label], 1)
            second, _, _ = _round(sam, embeddings, replace(prompts, points=(point, label), coarse=low), batch, target, single=True)
            loss = (loss + second) / 2
    return (loss * weights).sum(), float((iou * weights).sum())


def collect(batch: Batch, device: torch.device = CPU) -> Prompted:
    """The prompts of all samples of a batch, on the device."""

    def joined(parts: list[Tensor | None]) -> Tensor | None:
        known = [part for part in parts if part is not None]
        return torch.cat(known).to(device) if known else None

    samples = batch.samples
    points = joined([None if sample.points is None else sample.points[0] for sample in samples])
    labels = joined([None if sample.points is None else sample.points[1] for sample in samples])
    return Prompted(
        owners=batch.owners.to(device),
        boxes=joined([sample.boxes for sample in samples]),
        points=None if points is None or labels is None else (points, labels),
        coarse=joined([sample.coarse for sample in samples]),
    )


def _round(
    sam: Sam, embeddings: Tensor, prompts: Prompted, batch: Batch, target: Tensor, *, single: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss (n,), IoU (n,) and logits (n, 1, side / 4, side / 4) without gradients of each thing's single mask."""
    logits, scores = decode(sam, embeddings, prompts, batch.side)
    logits, scores = logits.float(), scores.float()
    low = logits[:, :1].detach()
    click = batch.request.form == "click" and not single
    if not click:  # only a single point is ambiguous: all else has the one mask that is served
        logits, scores = logits[:, :1], scores[:, :1]
    logits = functional.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)
    losses, iou = mask_losses(logits, target)
    loss = losses[:, 0] + (scores - iou).square().mean(1)
    if click:  # of the three further masks the best one learns (Kirillov et al., 2023)
        loss = loss + losses[:, 1:].min(1).values
    return loss, iou[:, 0], low
