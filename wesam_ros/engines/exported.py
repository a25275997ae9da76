"""Decoding with the exported files, for every engine that runs them on arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wesam_ros.engines.store import DECODER, DECODER_WITH_MASKS
from wesam_ros.sam.decoder import batches
from wesam_ros.sam.prompts import Prompts

Run = Callable[[str, dict[str, Any]], list[Any]]
"""The outputs of a file, by its name and its inputs' names."""


def decode(run: Run, features: Tensor, prompts: Prompts, side: int, most: int) -> tuple[Tensor, Tensor]:
    """Low-resolution logits (n, side / 4, side / 4) and predicted IoU (n,) of n objects, at most so many in a call.

    Args:
        run: runs one of the two decoders.
        features: (1, c, h, w) of the image.
        prompts: of the objects.
        side: the model's input size in pixels.
        most: objects in a call.
    """
    embedding = features.cpu().numpy()
    logits, iou = np.empty((len(prompts), side // 4, side // 4), np.float32), np.empty(len(prompts), np.float32)
    for rows, inputs in batches(prompts, side, most):
        arrays = {name: value.numpy() for name, value in inputs.items()}
        logits[rows], iou[rows] = run(DECODER_WITH_MASKS if "masks" in inputs else DECODER, {"embedding": embedding, **arrays})
    return torch.from_numpy(logits), torch.from_numpy(iou)
