"""LoRA on the encoder, with the adapter as data beside the model (Hu et al., ICLR 2022).

In the encoders of SAM, SAM 2.1 and MobileSAM the low-rank terms are on q and v of every block, as WeSAM has them. In `tiny`, four blocks of
attention above a convolutional trunk have too little to learn with: there, convolutions have terms, too, in series (docs/method.md).

The frozen model stays as it was loaded. An adapter is two tensors; `adapted` puts them into the encoder for the time of a call. So one
model in memory serves as anchor (no adapter), teacher, student and published model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from wesam_ros.sam.hybrid_encoder import HybridEncoder
from wesam_ros.sam.tiny_vit import TinyVit

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

LowRank = tuple[Tensor, Tensor] | tuple[Sequence[Tensor], Sequence[Tensor]]
"""An adapter's a (r, I) and b (O, r): the terms' down projections side by side, their up projections one above the other; or each apart."""


class Adaptable:
    """A layer that adds low-rank terms while it holds some. It shares weight and bias of the layer that it replaces, under the same names.

    The scale is 1 (loralib: lora_alpha = r).

    Attributes:
        low_rank: the terms as one, up (out, R) and down (R, .); None leaves the layer as it was loaded.
        merged: weight and bias with the terms in them, for calls without gradients.
    """

    weight: Tensor
    low_rank: tuple[Tensor, Tensor] | None = None
    merged: tuple[Tensor, Tensor | None] | None = None

    @property
    def terms(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of each low-rank term."""
        raise NotImplementedError

    def fused(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The projections up (out, R) and down (R, .) of the layer as a whole, for each term's a (r, inputs) and b (outputs, r)."""
        return b[0], a[0]

    def with_terms(self, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of a layer that computes without the terms what this one does with them."""
        raise NotImplementedError


class LoraQkv(Adaptable, nn.Linear):
    """A block's qkv projection with low-rank terms on q and v, in parallel: W x + B A x.

    Args:
        base: the layer to replace.
        groups: 1 where the outputs are q, k, v of all heads (SAM); the number of heads where they are q, k, v of each head (TinyViT).
    """

    def __init__(self, base: nn.Linear, groups: int = 1) -> None:
        with torch.device("meta"):
            nn.Linear.__init__(self, base.in_features, base.out_features, bias=base.bias is not None)
        self.weight, self.bias, self.groups = base.weight, base.bias, groups

    @property
    def terms(self) -> list[tuple[int, int]]:
        return [(self.in_features, self.out_features // 3)] * 2

    def fused(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        zeros = torch.zeros_like(b[0])
        up = torch.cat([torch.cat([b[0], zeros], 1), torch.cat([zeros, zeros], 1), torch.cat([zeros, b[1]], 1)])
        if self.groups > 1:
            up = up.unflatten(0, (3, self.groups, -1)).transpose(0, 1).flatten(0, 2)
        return up, torch.cat(list(a))

    def with_terms(self, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.weight + up @ down, self.bias

    def forward(self, x: Tensor) -> Tensor:
        if self.merged is not None:
            return functional.linear(x, *self.merged)
        y = super().forward(x)
        if self.low_rank is None:
            return y
        up, down = self.low_rank
        return y + functional.linear(functional.linear(x, down), up)


class AdaptedConv2d(Adaptable, nn.Conv2d):
    """A convolution with a low-rank term in series: y + B A y, in each place of its output y.

    A residual adapter of Rebuffi et al. (CVPR 2018), of low rank. One in parallel would need the input once more, with the same kernel.
    """

    def __init__(self, base: nn.Conv2d) -> None:
        with torch.device("meta"):
            nn.Conv2d.__init__(
                self,
                base.in_channels,
                base.out_channels,
                base.kernel_size,  # type: ignore[arg-type]
                base.stride,  # type: ignore[arg-type]
                base.padding,  # type: ignore[arg-type]
                bias=base.bias is not None,
            )
        self.weight, self.bias = base.weight, base.bias

    @property
    def terms(self) -> list[tuple[int, int]]:
        return [(self.out_channels, self.out_channels)]

    def with_terms(self, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor | None]:
        weight = self.weight + (up @ (down @ self.weight.flatten(1))).view_as(self.weight)
        return weight, None if self.bias is None else self.bias + up @ (down @ self.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.merged is not None:
            merged: Tensor = self._conv_forward(x, *self.merged)
            return merged
        y: Tensor = super().forward(x)
        if self.low_rank is None:
            return y
        up, down = self.low_rank
        if torch.compiler.is_compiling():  # OpenVINO has no convolution whose rank is free
            return y + (up @ (down @ y.flatten(2))).view_as(y)
        return y + functional.conv2d(functional.conv2d(y, down[:, :, None, None]), up[:, :, None, None])


def prepare(sam: Sam) -> None:
    """Replaces the layers that adapters change, in place; without an adapter the model computes what it did before."""
    encoder = sam.image_encoder
    if isinstance(encoder, HybridEncoder):
        for parent, name in encoder.adaptable():
            layer = getattr(parent, name)
            if not isinstance(layer, AdaptedConv2d):
                setattr(parent, name, AdaptedConv2d(layer))
    for block in encoder.blocks:
        if not isinstance(block.attn.qkv, LoraQkv):
            block.attn.qkv = LoraQkv(block.attn.qkv, block.attn.num_heads if isinstance(encoder, TinyVit) else 1)


def adapted_layers(sam: Sam) -> list[LoraQkv | AdaptedConv2d]:
    """The layers of a prepared model that adapters change, in the order of an adapter's terms."""
    return [layer for layer in sam.image_encoder.modules() if isinstance(layer, LoraQkv | AdaptedConv2d)]


@contextmanager
def adapted(sam: Sam, low_rank: LowRank | None) -> Iterator[None]:
    """Within the block, the encoder of `sam` computes with an adapter's tensors, or as the base for None.

    One thread at a time: the model's own layers hold the tensors meanwhile.
    """
    try:
        if low_rank is not None:
            for layer, up, down in _projections(sam, low_rank):
                layer.low_rank = up, down
                trains = torch.is_grad_enabled() and (up.requires_grad or down.requires_grad)
                if not trains and not torch.compiler.is_compiling():
                    layer.merged = layer.with_terms(up, down)
        yield
    finally:
        for layer in adapted_layers(sam):
            layer.low_rank = layer.merged = None


def merge(sam: Sam, low_rank: LowRank) -> None:
    """Adds an adapter's terms to the weights of the encoder, in place: without an adapter it computes what it did with this one."""
    with torch.no_grad():
        for layer, up, down in _projections(sam, low_rank):
            weight, bias = layer.with_terms(up, down)
            layer.weight = nn.Parameter(weight, requires_grad=False)
            layer.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)


def adapter_terms(sam: Sam) -> list[tuple[int, int]]:
    """(inputs, outputs) of each low-rank term that an adapter of this model has."""
    return [term for layer in adapted_layers(sam) for term in layer.terms]


def adapter_shape(sam: Sam) -> tuple[int, int]:
    """(I, O) of an adapter of this model: the terms' inputs and outputs, each added up."""
    inputs, outputs = zip(*adapter_terms(sam), strict=True)
    return sum(inputs), sum(outputs)


def term_by_term(sam: Sam, low_rank: LowRank) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """An adapter's down projections (r, inputs), and its up projections (outputs, r), of each term."""
    a, b = low_rank
    inputs, outputs = zip(*adapter_terms(sam), strict=True)
    return _pieces(a, inputs, 1) if isinstance(a, Tensor) else a, _pieces(b, outputs, 0) if isinstance(b, Tensor) else b


def _pieces(whole: Tensor, sizes: Sequence[int], axis: int) -> list[Tensor]:
    """Parts of those sizes, one after another: by slices, as each node of an exported graph has one output."""
    return [whole.narrow(axis, end - size, size) for size, end in zip(sizes, accumulate(sizes), strict=True)]


def _projections(sam: Sam, low_rank: LowRank) -> Iterator[tuple[LoraQkv | AdaptedConv2d, Tensor, Tensor]]:
    """Each layer with its projections up and down, of an adapter's tensors."""
    downs, ups = map(iter, term_by_term(sam, low_rank))
    for layer in adapted_layers(sam):
        count = len(layer.terms)
        yield layer, *layer.fused([next(downs) for _ in range(count)], [next(ups) for _ in range(count)])
