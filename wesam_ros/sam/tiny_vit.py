"""TinyViT-5M (Wu et al., ECCV 2022) as MobileSAM uses it for SAM's image encoder (Zhang et al., 2023, arXiv:2306.14289).

A stem and a stage of inverted bottlenecks (MobileNetV2's), then three stages of attention in windows, each with a 3 x 3 convolution between
attention and MLP. MobileSAM's change: the last stage is not downsampled, so that the embedding has a sixteenth of the image's side as in
SAM, and SAM's neck follows. Modules are named as in the official checkpoint.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS, DEPTHS, HEADS, WINDOWS = (64, 128, 160, 320), (2, 2, 6, 2), (2, 4, 5, 10), (7, 7, 14, 7)
"""Channels, blocks, attention heads and the window's side of each stage; the first stage has no attention."""
STRIDES = (2, 2, 1)
"""Strides of the downsampling after each stage but the last."""
CLASSES = 1000


class TinyVit(nn.Module):
    """Embeds preprocessed images (n, 3, side, side) as (n, out_chans, side / 16, side / 16).

    Attributes:
        img_size: the input's side in pixels, a multiple of 16.
    """

    def __init__(self, img_size: int = 1024, out_chans: int = 256) -> None:
        from segment_anything.modeling.common import LayerNorm2d

        super().__init__()
        self.img_size = img_size
        first = WIDTHS[0]
        stem = nn.Sequential(_convolution(3, first // 2, 3, stride=2), nn.GELU(), _convolution(first // 2, first, 3, stride=2))
        self.patch_embed = nn.Sequential(OrderedDict(seq=stem))
        self.layers = nn.ModuleList(_Stage(index) for index in range(len(WIDTHS)))
        # The published file holds the classifier that it was distilled with, and so the model has it; no image goes through it.
        self.norm_head, self.head = nn.LayerNorm(WIDTHS[-1]), nn.Linear(WIDTHS[-1], CLASSES)
        self.neck = nn.Sequential(
            nn.Conv2d(WIDTHS[-1], out_chans, 1, bias=False),
            LayerNorm2d(out_chans),
            nn.Conv2d(out_chans, out_chans, 3, padding=1, bias=False),
            LayerNorm2d(out_chans),
        )

    @property
    def blocks(self) -> list[_AttentionBlock]:
        """The blocks that attend, which an adapter changes. They are not of one width."""
        return [block for block in self.layers.modules() if isinstance(block, _AttentionBlock)]

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        for stage in self.layers:
            x = stage(x)
        embedding: Tensor = self.neck(x)
        return embedding


class _Stage(nn.Module):
    def __init__(self, index: int) -> None:
        super().__init__()
        width = WIDTHS[index]
        self.blocks = nn.ModuleList(
            _AttentionBlock(width, HEADS[index], WINDOWS[index]) if index else _InvertedBottleneck(width) for _ in range(DEPTHS[index])
        )
        self.downsample = _downsampling(width, WIDTHS[index + 1], STRIDES[index]) if index < len(STRIDES) else None

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class _InvertedBottleneck(nn.Sequential):
    """MBConv of (n, c, h, w): four times as many channels in between."""

    def __init__(self, width: int) -> None:
        hidden = 4 * width
        super().__init__(
            OrderedDict(
                conv1=_convolution(width, hidden, 1),
                act1=nn.GELU(),
                conv2=_convolution(hidden, hidden, 3, groups=hidden),
                act2=nn.GELU(),
                conv3=_convolution(hidden, width, 1),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return functional.gelu(x + inner)


class _AttentionBlock(nn.Module):
    """Attention in windows of (n, c, h, w), a convolution per channel, and an MLP."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = _Attention(width, heads, window)
        self.local_conv = _convolution(width, width, 3, groups=width)
        layers = OrderedDict(norm=nn.LayerNorm(width), fc1=nn.Linear(width, 4 * width), act=nn.GELU(), fc2=nn.Linear(4 * width, width))
        self.mlp = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        from segment_anything.modeling.image_encoder import window_partition, window_unpartition

        size = (x.shape[2], x.shape[3])
        # A grid that the windows do not divide is filled up with zeros before the norm, so that they, too, are attended to.
        windows, padded = window_partition(x.permute(0, 2, 3, 1), self.window)
        attended = self.attn(windows.flatten(1, 2)).reshape(windows.shape)
        x = x + window_unpartition(attended, self.window, padded, size).permute(0, 3, 1, 2)
        x = self.local_conv(x)
        inner: Tensor = self.mlp(x.permute(0, 2, 3, 1))
        return x + inner.permute(0, 3, 1, 2)


class _Attention(nn.Module):
    """Attention among the tokens (n, window², c) of a window, with a learnt bias for each head and distance."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.num_heads, self.window = heads, window
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)  # per head its q, k and v
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))  # by rows apart, then by columns apart

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (self.num_heads, 3, -1)).transpose(1, 2).unbind(3)  # each (n, heads, window², d)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3) + self._bias()
        attended: Tensor = self.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        return attended

    def _bias(self) -> Tensor:
        """(heads, window², window²), of each pair of tokens."""
        along = torch.arange(self.window, device=self.attention_biases.device)
        apart = (along[:, None] - along).abs()
        index = apart[:, None, :, None] * self.window + apart[None, :, None, :]  # row, column, row, column
        bias: Tensor = self.attention_biases.index_select(1, index.flatten()).unflatten(1, (self.window**2, -1))
        return bias


def _downsampling(width: int, out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv1=_convolution(width, out, 1),
            act1=nn.GELU(),
            conv2=_convolution(out, out, 3, stride=stride, groups=out),
            act2=nn.GELU(),
            conv3=_convolution(out, out, 1),
        )
    )


def _convolution(width: int, out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution without a bias, and batch normalisation, which here is always in evaluation mode."""
    convolution = nn.Conv2d(width, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(c=convolution, bn=nn.BatchNorm2d(out)))
