"""Hiera (Ryali et al., ICML 2023, arXiv:2306.00989), the trunk of SAM 2's image encoder (Ravi et al., 2024, arXiv:2408.00714).

Four stages of transformer blocks, from a quarter of the image's side to a thirty-second. Each stage has half of the grid and twice the
channels of the one before: its first block takes the maximum of the queries over 2 x 2 tokens. All blocks but three attend in windows.
A position has two parts: a coarse table spread over the grid, and a table that repeats in each window of the first stage, since windows
of one table that is stretched would see others than it was trained with (Bolya et al., ICLR 2024, arXiv:2311.05613). Modules are named
as in the official checkpoint.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

PATCH_KERNEL, STRIDE = 7, 4
"""Of the convolution that makes tokens of pixels."""
POOL = 2
"""Side of the square of tokens that becomes one where a stage begins."""


@dataclass(frozen=True)
class HieraSize:
    """The size of a trunk.

    Attributes:
        width: channels of the first stage; each further one has twice as many.
        heads: of the first stage, likewise.
        depths: blocks of each stage.
        global_blocks: which blocks attend to the whole image.
        positions: side of the coarse table of positions.
        windows: side of a window in tokens, of each stage.
    """

    width: int
    heads: int
    depths: tuple[int, ...]
    global_blocks: tuple[int, ...]
    positions: int
    windows: tuple[int, ...] = (8, 4, 14, 7)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.width * 2**stage for stage in range(len(self.depths)))


class Hiera(nn.Module):
    """Features of preprocessed images at a quarter, an eighth, a sixteenth and a thirty-second of their side."""

    def __init__(self, size: HieraSize) -> None:
        super().__init__()
        self.patch_embed = nn.Sequential(OrderedDict(proj=nn.Conv2d(3, size.width, PATCH_KERNEL, STRIDE, PATCH_KERNEL // 2)))
        self.pos_embed = nn.Parameter(torch.zeros(1, size.width, size.positions, size.positions))
        self.pos_embed_window = nn.Parameter(torch.zeros(1, size.width, size.windows[0], size.windows[0]))
        self.blocks = nn.ModuleList()
        self.ends: list[int] = []
        """The last block of each stage."""
        width = size.width
        for stage, (depth, out) in enumerate(zip(size.depths, size.widths, strict=True)):
            for index in range(depth):
                # The first block of a stage still has the grid of the stage before, and so its window.
                window = size.windows[stage if index or not stage else stage - 1]
                if len(self.blocks) in size.global_blocks:
                    window = 0
                self.blocks.append(_Block(width, out, size.heads * 2**stage, window))
                width = out
            self.ends.append(len(self.blocks) - 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features (n, rows, columns, channels) of each stage, finest first, of images (n, 3, h, w); h and w are multiples of 32."""
        x = self.patch_embed(x)
        x = (x + self._positions(x.shape[2], x.shape[3])).permute(0, 2, 3, 1)
        features = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.ends:
                features.append(x)
        return features

    def _positions(self, rows: int, columns: int) -> Tensor:
        """(1, width, rows, columns)."""
        side = self.pos_embed_window.shape[-1]
        coarse = functional.interpolate(self.pos_embed, (rows, columns), mode="bicubic", align_corners=False)
        return coarse + self.pos_embed_window.tile(1, 1, rows // side, columns // side)


class _Block(nn.Module):
    """Attention and an MLP, for tokens (n, rows, columns, width). With `out` channels that are more, it halves the grid.

    A window of 0 is the whole image.
    """

    def __init__(self, width: int, out: int, heads: int, window: int) -> None:
        super().__init__()
        self.window, self.stride = window, 1 if out == width else POOL
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(width, out, heads)
        self.norm2 = nn.LayerNorm(out, eps=1e-6)
        self.mlp = _Mlp(out)
        if out != width:
            self.proj = nn.Linear(width, out)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        if self.stride > 1:
            x = _pooled(self.proj(normed))
        x = x + self._attended(normed, (x.shape[1], x.shape[2]))
        mixed: Tensor = self.mlp(self.norm2(x))
        return x + mixed

    def _attended(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Tokens of a grid of `size` for normed ones, which may be of a finer grid."""
        from segment_anything.modeling.image_encoder import window_partition, window_unpartition

        if not self.window:
            whole: Tensor = self.attn(x)
            return whole
        # A grid that the windows do not divide is filled up with zeros, which are attended to.
        windows, (rows, columns) = window_partition(x, self.window)
        padded = rows // self.stride, columns // self.stride
        tokens: Tensor = window_unpartition(self.attn(windows), self.window // self.stride, padded, size)
        return tokens


class _Attention(nn.Module):
    """Attention among tokens (n, rows, columns, width) of images or windows; queries are pooled where `out` channels are more."""

    def __init__(self, width: int, out: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.pools = heads, out != width
        self.qkv = nn.Linear(width, 3 * out)  # q, k and v of all heads
        self.proj = nn.Linear(out, out)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, -1))
        q, k, v = qkv[..., 0, :], qkv[..., 1, :], qkv[..., 2, :]
        if self.pools:
            q = _pooled(q)
        attended = functional.scaled_dot_product_attention(self._split(q), self._split(k), self._split(v))
        found: Tensor = self.proj(attended.transpose(1, 2).flatten(2).unflatten(1, q.shape[1:3]))
        return found

    def _split(self, x: Tensor) -> Tensor:
        """(n, rows, columns, heads d) as (n, heads, rows columns, d)."""
        heads: Tensor = x.flatten(1, 2).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        return heads


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width, 4 * width), nn.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.layers
        mixed: Tensor = second(functional.gelu(first(x)))
        return mixed


def _pooled(x: Tensor) -> Tensor:
    """The largest values of each channel in squares of 2 x 2 tokens, of (n, rows, columns, c)."""
    return functional.max_pool2d(x.permute(0, 3, 1, 2), POOL).permute(0, 2, 3, 1)
