"""Predictions of the model, frozen or adapting, on views of one frame, in the precision that it learns in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from wesam_ros.adaptation.views import Pixels
from wesam_ros.sam.decoder import decode_together
from wesam_ros.sam.lora import LowRank
from wesam_ros.sam.predictor import embed_images
from wesam_ros.sam.preprocessing import normalize, resized_size
from wesam_ros.sam.prompts import Prompt, Prompts

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

Decode = Callable[["Sam", Tensor, Prompts], tuple[Tensor, Tensor]]


def valid_region(size: tuple[int, int], low_res_side: int) -> Tensor:
    """(low_res_side, low_res_side) float32: 1 where the image is, 0 in the padding right and below."""
    height, width = resized_size(size, low_res_side)
    valid = torch.zeros(low_res_side, low_res_side)
    valid[:height, :width] = 1
    return valid


def mirrored(prompts: Prompts) -> Prompts:
    """The prompts of the image mirrored left to right."""
    width = np.float32(prompts.size[1])

    def mirror(each: Prompt) -> Prompt:
        box = None if each.box is None else np.array([width - each.box[2], each.box[1], width - each.box[0], each.box[3]], np.float32)
        points = np.stack([width - each.points[:, 0], each.points[:, 1]], 1)
        return Prompt(box, points, each.point_labels, None if each.mask is None else np.ascontiguousarray(each.mask[:, ::-1]))

    return Prompts(prompts.size, tuple(mirror(each) for each in prompts.objects))


def mirror_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (n, s, s) of the mirrored image, mirrored back: within the image's columns, the padding stays on the right."""
    width = resized_size(size, logits.shape[-1])[1]
    return torch.cat([logits[..., :width].flip(-1), logits[..., width:]], -1)


def autocast(sam: Sam, precision: str) -> torch.autocast:
    """The context to run the model in: products in bfloat16 if `precision` is that, or is "auto" and the device computes in it."""
    device = sam.device.type
    if precision == "auto":
        capable = (
            torch.cuda.is_bf16_supported(including_emulation=False)
            if device == "cuda"
            else torch.cpu.get_capabilities().get("avx512_bf16", False)
        )
        precision = "bfloat16" if capable else "float32"
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction of n objects on one view of the frame, mirrored back.

    Attributes:
        logits: (n, h, w) on the decoder's grid.
        scores: (n,) predicted IoU.
        embedding: (c, h', w') of the image.
    """

    logits: Tensor
    scores: Tensor
    embedding: Tensor


def predict_both_ways(sam: Sam, low_rank: LowRank | None, pixels: Pixels, prompts: Prompts, precision: str) -> Tensor:
    """Mean logits (n, h, w) of a frame's image (h', w', 3) and of its mirror image: surer than either. Arguments as of `predict_views`."""
    views = ((pixels, False), (np.ascontiguousarray(pixels[:, ::-1]), True))
    found = [predict_views(sam, low_rank, [view], is_mirrored, prompts, precision)[0].logits for view, is_mirrored in views]
    return torch.stack(found).mean(0)


def predict_views(
    sam: Sam,
    low_rank: LowRank | None,
    views: Sequence[Pixels],
    is_mirrored: bool,
    prompts: Prompts,
    precision: str,
    decode: Decode = decode_together,
) -> list[Prediction]:
    """Predictions on views (h, w, 3) of one frame, which go through the encoder as one batch.

    Args:
        sam: the frozen model.
        low_rank: an adapter's tensors, None for the frozen model.
        views: of the frame, at the model's size.
        is_mirrored: True if they are mirrored; the predictions are not.
        prompts: in pixels of the original image, not mirrored.
        precision: as in AdaptationConfig.
        decode: masks and scores of an embedding (1, c, h', w'), as predictor.decode.
    """
    side = sam.image_encoder.img_size
    batch = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2)
    as_seen = mirrored(prompts) if is_mirrored else prompts
    with autocast(sam, precision):
        embeddings = embed_images(sam, normalize(batch.to(sam.device), side), low_rank)
        decoded = [decode(sam, embedding[None], as_seen) for embedding in embeddings]
    predictions = []
    coarse = embeddings[:, : sam.prompt_encoder.embed_dim].float()  # without the finer features
    for embedding, (logits, scores) in zip(coarse, decoded, strict=True):
        if is_mirrored:
            logits, embedding = mirror_logits(logits, prompts.size), mirror_logits(embedding, prompts.size)
        predictions.append(Prediction(logits, scores, embedding))
    return predictions
