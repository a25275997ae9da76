"""The model in torch, eager: the reference that every other engine is held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wesam_ros.sam.lora import Adapter
from wesam_ros.sam.masks import Masks
from wesam_ros.sam.predictor import decode, embed_images
from wesam_ros.sam.preprocessing import preprocess, upscale
from wesam_ros.sam.prompts import Prompts

if TYPE_CHECKING:
    from segment_anything.modeling import Sam


@dataclass(frozen=True, eq=False)
class Embedding:
    """What the encoder made of one image: features (1, c, h, w), the image's size (H, W), and the adapter's version (0: none)."""

    features: Tensor
    size: tuple[int, int]
    adapter_version: int


class TorchEngine:
    """Segments with a model from load_sam. One thread at a time."""

    def __init__(self, sam: Sam) -> None:
        self.sam = sam
        self.side: int = sam.image_encoder.img_size

    @torch.inference_mode()
    def encode(self, image: npt.NDArray[np.uint8], adapter: Adapter | None = None) -> Embedding:
        """Embeds an (H, W, 3) uint8 RGB image, with an adapter of this model or with the frozen weights."""
        pixels = preprocess(image, self.side)[None].to(self.sam.device)
        low_rank = (adapter.a.to(self.sam.device), adapter.b.to(self.sam.device)) if adapter is not None else None
        features = embed_images(self.sam, pixels, low_rank)
        return Embedding(features, (image.shape[0], image.shape[1]), adapter.version if adapter is not None else 0)

    @torch.inference_mode()
    def decode(self, embedding: Embedding, prompts: Prompts) -> Masks:
        """Masks of the prompted objects in the original image.

        Raises:
            ValueError: the prompts are for an image of another size.
        """
        if prompts.size != embedding.size:
            raise ValueError(
                f"the prompts are for an image of {prompts.size}, but the embedding is of one of {embedding.size} (height, width)"
            )
        low_res, scores = decode(self.sam, embedding.features, prompts)
        if not len(prompts):
            return Masks(np.zeros((0, *prompts.size), bool), np.zeros(0, np.float32), low_res.cpu().numpy())
        masks = upscale(low_res, prompts.size, self.side) > self.sam.mask_threshold
        return Masks(masks.cpu().numpy(), scores.float().cpu().numpy(), low_res.float().cpu().numpy())

    def segment(self, image: npt.NDArray[np.uint8], prompts: Prompts, adapter: Adapter | None = None) -> Masks:
        """Masks of the prompted objects in an image: `encode`, then `decode`."""
        return self.decode(self.encode(image, adapter), prompts)
