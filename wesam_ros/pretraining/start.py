"""The model that a run starts from: ImageNet's trunk, and what fits of weights that are there already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor

from wesam_ros.pretraining.trunk import read_trunk
from wesam_ros.sam.architectures import ARCHITECTURES
from wesam_ros.sam.hybrid_encoder import SameConv2d

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

DEVIATIONS = {"4": 10.0, "8": 6.0, "16": 3.5, "32": 1.5}
"""Standard deviations of the trunk's features by stride, about."""


def build(architecture: str, seed: int, trunk: Path | None, earlier: Path | None) -> Sam:
    """A model to train.

    Args:
        architecture: its name.
        seed: of what is drawn.
        trunk: the published ImageNet weights, or None for random ones.
        earlier: weights (.safetensors) of a model with the same decoder, or None.
    """
    torch.manual_seed(seed)
    sam = ARCHITECTURES[architecture].build().train()
    for table in [p for name, p in sam.image_encoder.named_parameters() if name.endswith("pos_embed") or "rel_pos" in name]:
        torch.nn.init.trunc_normal_(table, std=0.02)
    for stride, layer in sam.image_encoder.lateral.items():
        torch.nn.init.normal_(layer.weight, std=0.5 / DEVIATIONS[stride] / layer.weight[0].numel() ** 0.5)
        torch.nn.init.zeros_(layer.bias)
    if trunk is not None:
        sam.image_encoder.trunk.load_state_dict(read_trunk(trunk))
    if earlier is not None:
        take_over(sam, load_file(earlier))
    return sam


def take_over(sam: Sam, earlier: dict[str, Tensor]) -> int:
    """Copies tensors of the same name and shape; returns how many."""
    own = sam.state_dict()
    fitting = [(own[name], found) for name, found in earlier.items() if name in own and own[name].shape == found.shape]
    for value, found in fitting:
        value.copy_(found)
    return len(fitting)


def freeze(sam: Sam, stages: int) -> None:
    """Keeps the trunk's stem, its first `stages` stages, and all its convolutions per channel as they are.

    The first are general, and most of the time would go into their gradients; of a kernel of 5 x 5 per channel, the gradient of the
    weights takes a hundred times as long as the convolution does (oneDNN, bfloat16).
    """
    trunk = sam.image_encoder.trunk
    for part in (trunk.stem, *trunk.stages[:stages], *(each for each in trunk.modules() if isinstance(each, SameConv2d))):
        part.requires_grad_(False)
