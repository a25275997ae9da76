"""Attention in pieces against segment_anything's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from wesam_ros.sam import attention
from wesam_ros.sam.attention import PiecewiseAttention, compute_in_pieces
from wesam_ros.sam.original import Attention

GRIDS = [(1, (9, 9)), (1, (5, 7)), (5, (4, 4))]
"""Images or windows, and their tokens: a matrix in several pieces, one whose axes differ, and several matrices to a piece."""


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a layer for a grid of tokens; a piece is so small that neither rows nor matrices come out even, and weights are not kept."""
    monkeypatch.setattr(attention, "PIECE", 800)
    monkeypatch.setattr(attention, "KEPT", 0)

    def make(grid: tuple[int, int]) -> Any:
        torch.manual_seed(0)
        made = Attention(24, num_heads=3, use_rel_pos=True, input_size=grid)
        for table in (made.rel_pos_h, made.rel_pos_w):
            torch.nn.init.normal_(table, std=0.3)
        return made

    return make


def _outcome(layer: Any, kind: type[Any], x: Tensor) -> list[Tensor]:
    """A layer's output for tokens, and the gradients with respect to these and to its parameters."""
    layer.__class__ = kind
    y = layer(x)
    weights = torch.linspace(-1, 1, y.numel()).reshape(y.shape)
    return [y.detach(), *torch.autograd.grad((y.float() * weights).sum(), [x, *layer.parameters()])]


@pytest.mark.parametrize("kept", [0, 10**6])
@pytest.mark.parametrize(("count", "grid"), GRIDS)
def test_output_and_gradients(layer: Any, count: int, grid: tuple[int, int], kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "KEPT", kept)
    made, x = layer(grid), torch.randn(count, *grid, 24, requires_grad=True)
    for found, expected in zip(_outcome(made, PiecewiseAttention, x), _outcome(made, Attention, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("count", "grid"), GRIDS)
def test_in_bfloat16_it_is_about_as_near_to_float32_as_the_released_one(layer: Any, count: int, grid: tuple[int, int]) -> None:
    made, x = layer(grid), torch.randn(count, *grid, 24, requires_grad=True)
    exact = _outcome(made, Attention, x)
    with torch.autocast("cpu", torch.bfloat16):
        pieces, released = _outcome(made, PiecewiseAttention, x), _outcome(made, Attention, x)
    for true, ours, theirs in zip(exact, pieces, released, strict=True):
        assert ours.dtype == theirs.dtype
        assert (ours - true).norm() < 2 * (theirs - true).norm() + 1e-6 * true.norm()


def test_many_scores_are_not_kept_for_the_gradient(layer: Any) -> None:
    made, x = layer((9, 9)), torch.randn(1, 9, 9, 24, requires_grad=True)
    largest = {}
    for kind in (Attention, PiecewiseAttention):
        kept: list[int] = []

        def keep(tensor: Tensor, kept: list[int] = kept) -> Tensor:
            kept.append(tensor.numel())
            return tensor

        made.__class__ = kind
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            made(x)
        largest[kind] = max(kept)
    assert largest[Attention] == 3 * 81 * 81  # weights of three heads
    assert largest[PiecewiseAttention] == 3 * 81 * 9  # what positions along an axis add


def test_a_loaded_model_computes_in_pieces_until_it_is_told_not_to(small_sam: Any) -> None:
    kinds = [type(block.attn) for block in small_sam.image_encoder.blocks]
    assert kinds == [PiecewiseAttention] * 2
    try:
        compute_in_pieces(small_sam, False)
        assert [type(block.attn) for block in small_sam.image_encoder.blocks] == [Attention] * 2
    finally:
        compute_in_pieces(small_sam)
