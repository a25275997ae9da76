"""Low-resolution logits of images and prompts: SamPredictor's computation, differentiable, for several objects at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from wesam_ros.sam.lora import LowRank, adapted
from wesam_ros.sam.preprocessing import mask_to_low_res, to_model_coordinates
from wesam_ros.sam.prompts import Prompts

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

COARSE_MASK_LOGIT = 6.0
"""Mask prompts enter as logits of plus or minus this value. SAM's own low-resolution logits have it well inside and outside."""


def embed_images(sam: Sam, images: Tensor, low_rank: LowRank | None = None) -> Tensor:
    """Image embeddings (n, c, h, w) of preprocessed images (n, 3, side, side), with an adapter's stacked tensors or None for the base."""
    with adapted(sam, low_rank):
        embeddings: Tensor = sam.image_encoder(images)
    return embeddings


class Encoder(nn.Module):
    """`embed_images` with an adapter's tensors as inputs, a module for export and compilation."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam = sam

    def forward(self, pixels: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return embed_images(self.sam, pixels, (a, b))


def embed_prompts(sam: Sam, prompts: Prompts) -> tuple[Tensor, Tensor]:
    """Sparse (n, tokens, c) and dense (n, c, h, w) prompt embeddings of n >= 1 objects whose prompts have one form (Prompts.groups)."""
    side = sam.image_encoder.img_size
    device = sam.device
    objects = prompts.objects
    points = boxes = masks = None
    if len(objects[0].points):
        xy = to_model_coordinates(np.stack([each.points for each in objects]), prompts.size, side)
        labels = np.stack([each.point_labels for each in objects])
        points = (torch.from_numpy(xy).to(device), torch.from_numpy(labels).to(device))
    if objects[0].box is not None:
        corners = np.stack([each.box for each in objects if each.box is not None]).reshape(-1, 2, 2)
        boxes = torch.from_numpy(to_model_coordinates(corners, prompts.size, side)).to(device).reshape(-1, 4)
    if objects[0].mask is not None:
        low_res_side = sam.prompt_encoder.mask_input_size[0]
        coarse = [mask_to_low_res(each.mask, side, low_res_side, COARSE_MASK_LOGIT) for each in objects if each.mask is not None]
        masks = torch.stack(coarse).to(device)
    embeddings: tuple[Tensor, Tensor] = sam.prompt_encoder(points=points, boxes=boxes, masks=masks)
    return embeddings


def decode(sam: Sam, embedding: Tensor, prompts: Prompts) -> tuple[Tensor, Tensor]:
    """Masks of the prompted objects.

    Args:
        sam: the model.
        embedding: (1, c, h, w) embedding of the image.
        prompts: n objects, n may be 0, of any mixture of forms.

    Returns:
        Logits (n, h, w) at low resolution, a quarter of the model's input side, and the predicted IoU (n,), both float32, of SAM's
        single-mask output.
    """
    low_res_side = sam.prompt_encoder.mask_input_size[0]
    logits = torch.zeros(len(prompts), low_res_side, low_res_side, device=embedding.device)
    iou = torch.zeros(len(prompts), device=embedding.device)
    position = sam.prompt_encoder.get_dense_pe()
    for indices in prompts.groups():
        sparse, dense = embed_prompts(sam, prompts.select(indices))
        masks, scores = sam.mask_decoder(
            image_embeddings=embedding,
            image_pe=position,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        where = torch.from_numpy(indices).to(embedding.device)
        logits = logits.index_copy(0, where, masks[:, 0].float())
        iou = iou.index_copy(0, where, scores[:, 0].float())
    return logits, iou
