"""The model in torch, eager: the reference that every other engine is held against, as the tests hold it against SamPredictor."""

from __future__ import annotations

import torch
from torch import Tensor

from wesam_ros.engines.engine import Capabilities, Engine
from wesam_ros.sam.adapter import Adapter
from wesam_ros.sam.decoder import decode_together
from wesam_ros.sam.predictor import embed_images
from wesam_ros.sam.prompts import Prompts


class TorchEngine(Engine):
    """Computes with segment_anything's encoder and the decoder of sam/decoder.py, on the device that the model is on."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities("torch", torch.__version__, str(self.sam.device))

    def _embed(self, pixels: Tensor, adapter: Adapter | None) -> Tensor:
        device = self.sam.device
        low_rank = (adapter.a.to(device), adapter.b.to(device)) if adapter is not None else None
        return embed_images(self.sam, pixels, low_rank)

    def _decode(self, features: Tensor, prompts: Prompts) -> tuple[Tensor, Tensor]:
        return decode_together(self.sam, features, prompts)
