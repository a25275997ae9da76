"""LoRA on q and v of every encoder block, with the adapter as data beside the model (Hu et al., ICLR 2022; WeSAM's setting: rank 4).

The frozen model stays as it was loaded. An adapter is two stacked tensors; `adapted` puts them into the encoder for the time of a call. So
one model in memory serves as anchor (no adapter), teacher, student and published model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from wesam_ros.sam.tiny_vit import TinyVit

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

LowRank = tuple[Iterable[Tensor], Iterable[Tensor]]
"""An adapter's a and b, as stacked tensors or one per block."""


class LoraQkv(nn.Linear):
    """An encoder block's qkv projection that adds a low-rank term to q and v while it holds an adapter.

    It shares the weight and bias of the layer that it replaces, under the same names. The scale is 1 (loralib: lora_alpha = r).

    Args:
        base: the layer to replace.
        groups: 1 where the outputs are q, k, v of all heads (SAM); the number of heads where they are q, k, v of each head (TinyViT).
    """

    def __init__(self, base: nn.Linear, groups: int = 1) -> None:
        with torch.device("meta"):
            super().__init__(base.in_features, base.out_features, bias=base.bias is not None)
        self.weight, self.bias = base.weight, base.bias
        self.groups = groups
        self.low_rank: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.low_rank is None:
            return super().forward(x)
        a, b = self.low_rank
        up, down = self.fused(a, b)
        if (torch.is_grad_enabled() and (x.requires_grad or a.requires_grad or b.requires_grad)) or torch.compiler.is_compiling():
            return super().forward(x) + functional.linear(functional.linear(x, down), up)
        # The same with the products bracketed the other way: there are more tokens than channels. With gradients it would cost more,
        # as they would go through a whole matrix of weights.
        return functional.linear(x, self.weight + up @ down, self.bias)

    def fused(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The projections (3d, 2r) and (2r, d) of the layer as a whole, for a (2, r, d) and b (2, d, r), q before v."""
        zeros = torch.zeros_like(b[0])
        up = torch.cat([torch.cat([b[0], zeros], 1), torch.cat([zeros, zeros], 1), torch.cat([zeros, b[1]], 1)])
        if self.groups > 1:
            up = up.unflatten(0, (3, self.groups, -1)).transpose(0, 1).flatten(0, 2)
        return up, a.flatten(0, 1)


def prepare(sam: Sam) -> None:
    """Replaces the qkv projection of every encoder block, in place; without an adapter the model computes what it did before."""
    for block in sam.image_encoder.blocks:
        if not isinstance(block.attn.qkv, LoraQkv):
            per_head = isinstance(sam.image_encoder, TinyVit)
            block.attn.qkv = LoraQkv(block.attn.qkv, block.attn.num_heads if per_head else 1)


@contextmanager
def adapted(sam: Sam, low_rank: LowRank | None) -> Iterator[None]:
    """Within the block, the encoder of `sam` computes with the tensors a (L, 2, r, d) and b (L, 2, d, r), or as the base for None.

    Where the blocks differ in width (TinyViT), d is the widest one's, and a narrower block takes the first of its channels: so an adapter
    stays two tensors, whatever the model, and all blocks are adapted. The other channels are zero and get no gradient.

    One thread at a time: the model's own layers hold the tensors meanwhile.
    """
    layers = [block.attn.qkv for block in sam.image_encoder.blocks]
    try:
        if low_rank is not None:
            for layer, a, b in zip(layers, *low_rank, strict=True):
                layer.low_rank = _narrowed(layer, a, b)
        yield
    finally:
        for layer in layers:
            layer.low_rank = None


def merge(sam: Sam, low_rank: LowRank) -> None:
    """Adds an adapter's tensors to the weights of the encoder, in place: without an adapter it computes what it did with this one."""
    with torch.no_grad():
        for block, a, b in zip(sam.image_encoder.blocks, *low_rank, strict=True):
            layer = block.attn.qkv
            up, down = layer.fused(*_narrowed(layer, a, b))
            layer.weight = nn.Parameter(layer.weight + up @ down, requires_grad=False)


def _narrowed(layer: LoraQkv, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The part of an adapter's tensors that a layer takes."""
    return (a, b) if layer.in_features == a.shape[-1] else (a[..., : layer.in_features], b[:, : layer.in_features])


def adapter_shape(sam: Sam) -> tuple[int, int]:
    """(number of encoder blocks, channels of the widest) that an adapter of this model has."""
    widths = block_widths(sam)
    return len(widths), max(widths)


def block_widths(sam: Sam) -> list[int]:
    """Channels of each of the encoder's blocks."""
    return [block.attn.qkv.in_features for block in sam.image_encoder.blocks]
