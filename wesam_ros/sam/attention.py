"""The encoder's attention computed in pieces on a CPU: the matrix of all tokens by all tokens is never whole in memory.

With ViT-B at 1024 px a global block has 12 heads and 4096 tokens: 805 MB of scores, which segment_anything writes and reads again for two
additions, the softmax and the product with the values, and keeps for the gradient. Here the scores of some rows stay in the processor's
caches from the first product to the last one, and the backward pass computes them once more from q, k and v (as FlashAttention: Dao et al.,
NeurIPS 2022; but rows are whole, so that the softmax needs no running maximum), unless they were few. The result is the same, but for
rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from wesam_ros.sam.original import Attention, get_rel_pos

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

PIECE = 2**21
"""Scores in a piece: 8 MB in float32. With two threads it is about the fastest of 2^17 to 2^23; with one, 2^19 to 2^21 are alike."""
KEPT = 2**22
"""The most weights of a block that are kept for the gradient: 17 MB. All of `tiny` are kept; a block of ViT-B has 46 or 805 MB."""


def compute_in_pieces(sam: Sam, enabled: bool = True) -> None:
    """Lets the attention of SAM's own encoders compute in pieces, or as it was released.

    TinyViT's windows are small, and SAM 2's Hiera has nothing to add to the scores, so that torch's own attention serves: they stay.
    """
    for block in sam.image_encoder.blocks:
        if isinstance(block.attn, Attention):
            block.attn.__class__ = PiecewiseAttention if enabled else Attention  # parameters stay where they are


class PiecewiseAttention(Attention):  # type: ignore[misc]
    """segment_anything's Attention with decomposed relative positions, in pieces on a CPU; elsewhere, and where it is traced, as it was."""

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (n, h, w, c) of n images or windows, to the same shape."""
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            as_released: Tensor = super().forward(x)
            return as_released
        batch, height, width, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, height * width, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).flatten(1, 2).unbind(0)
        placed = q.unflatten(1, (height, width))
        rel_h = torch.einsum("bhwc,hkc->bhwk", placed, get_rel_pos(height, height, self.rel_pos_h))
        rel_w = torch.einsum("bhwc,wkc->bhwk", placed, get_rel_pos(width, width, self.rel_pos_w))
        found: Tensor = _Attend.apply(q * self.scale, k, v, rel_h.flatten(1, 2), rel_w.flatten(1, 2))  # type: ignore[no-untyped-call]
        projected: Tensor = self.proj(found.unflatten(0, (batch, -1)).transpose(1, 2).reshape(batch, height, width, -1))
        return projected


class _Attend(torch.autograd.Function):
    """softmax(q k' + rel_h + rel_w) v, of q, k and v (b, h w, d), with rel_h (b, h w, h) and rel_w (b, h w, w) added along the keys' axes.

    Products are in the inputs' precision, the softmax is in float32, as under autocast.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
        found = torch.empty_like(q)
        with torch.autocast(q.device.type, enabled=False):
            room = _Room(q)
            kept = None
            if any(ctx.needs_input_grad) and len(q) * q.shape[1] ** 2 <= KEPT:
                kept = q.new_empty(len(q), q.shape[1], q.shape[1], dtype=torch.float32)
            for piece, some in _pieces(q):
                weights = room.weights(q[piece], k[some], rel_h[piece], rel_w[piece], None if kept is None else kept[piece])
                found[piece] = weights.to(v.dtype) @ v[some]
        ctx.save_for_backward(q, k, v, rel_h, rel_w, found, kept)
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        q, k, v, rel_h, rel_w, found, kept = ctx.saved_tensors
        gradient = gradient.to(q.dtype)
        to_q, to_h, to_w = (torch.empty_like(each) for each in (q, rel_h, rel_w))
        to_k, to_v = (torch.zeros_like(each, dtype=torch.float32) for each in (k, v))
        mean = (gradient.float() * found).sum(-1, keepdim=True)  # of the weights' gradients, each row's by its weights
        with torch.autocast(q.device.type, enabled=False):
            room = _Room(q)
            for piece, some in _pieces(q):
                weights = room.weights(q[piece], k[some], rel_h[piece], rel_w[piece]) if kept is None else kept[piece]
                to_v[some] += weights.to(v.dtype).mT @ gradient[piece]
                scores = room.scores(gradient[piece], v[some]).float().sub_(mean[piece]).mul_(weights)
                grid = scores.unflatten(-1, (rel_h.shape[-1], -1))
                to_h[piece], to_w[piece] = grid.sum(-1), grid.sum(-2)
                scores = scores.to(q.dtype)
                to_q[piece] = scores @ k[some]
                to_k[some] += scores.mT @ q[piece]
        return to_q, to_k.to(k.dtype), to_v.to(v.dtype), to_h, to_w


def _pieces(q: Tensor) -> Iterator[tuple[tuple[slice, slice], slice]]:
    """Pieces of q (b, n, d), as indices of its first two axes, and of the first alone: whole matrices of scores, or rows of one."""
    batch, tokens, _ = q.shape
    matrices, rows = _piece(q)
    for first in range(0, batch, matrices):
        some = slice(first, first + matrices)
        for row in range(0, tokens, rows):
            yield (some, slice(row, row + rows)), some


def _piece(q: Tensor) -> tuple[int, int]:
    """Numbers of matrices of scores, and of rows of each, in a piece of q (b, n, d)."""
    batch, tokens, _ = q.shape
    return min(batch, max(1, PIECE // tokens**2)), min(tokens, max(1, PIECE // tokens))


class _Room:
    """Memory for a piece's scores and weights that all pieces of q (b, n, d) share: new memory costs as much as the softmax."""

    def __init__(self, q: Tensor) -> None:
        matrices, rows = _piece(q)
        self.products = q.new_empty(matrices, rows, q.shape[1])
        self.shares = torch.empty_like(self.products, dtype=torch.float32)

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        """The products (m, r, n) of r rows and n keys; until the next call."""
        return torch.bmm(q, k.mT, out=self.products[: q.shape[0], : q.shape[1]])

    def weights(self, q: Tensor, k: Tensor, rel_h: Tensor, rel_w: Tensor, out: Tensor | None = None) -> Tensor:
        """The weights (m, r, n) float32 of n keys for r queries: in `out`, or else until the next call."""
        scores = self.scores(q, k)
        scores.unflatten(-1, (rel_h.shape[-1], -1)).add_(rel_h.unsqueeze(-1)).add_(rel_w.unsqueeze(-2))
        return torch.softmax(scores, -1, torch.float32, out=self.shares[: q.shape[0], : q.shape[1]] if out is None else out)
