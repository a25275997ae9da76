"""MobileSAM's encoder: names and sizes as published, and adapters for blocks of several widths. Its masks are in test_reference.py."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import draw
from safetensors.torch import save_file
from torch import Tensor, nn

from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.sam import Adapter, CheckpointError, Prompts, base_hash, load_sam
from wesam_ros.sam.architectures import ARCHITECTURES, build_vit_t
from wesam_ros.sam.lora import LoraQkv, adapter_terms, term_by_term
from wesam_ros.sam.predictor import embed_images

SIDE = 256
"""Of the model in most tests: the published 1024 px take a minute together."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the official one's form: torch's, with integers where batch normalisation counts its steps."""
    path = tmp_path_factory.mktemp("weights") / "mobile_sam.pt"
    torch.save(draw({name: tuple(value.shape) for name, value in build_vit_t(SIDE).state_dict().items()}), path)
    return path


@pytest.fixture(scope="module")
def mobile_sam(checkpoint: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "vit_t", replace(ARCHITECTURES["vit_t"], build=partial(build_vit_t, SIDE)))
        return load_sam("vit_t", checkpoint)


@pytest.fixture(scope="module")
def adapter(mobile_sam: Any) -> Adapter:
    fresh = Adapter.untrained(mobile_sam, base_hash(mobile_sam), rank=4, seed=1)
    return replace(fresh, b=torch.randn(fresh.b.shape, generator=torch.Generator().manual_seed(2)) * 0.1, version=3)


def pixels() -> Tensor:
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def test_names_and_sizes_are_the_published_ones() -> None:
    """10.13 M parameters; 5.74 M in the encoder without its classifier."""
    with torch.device("meta"):
        model = ARCHITECTURES["vit_t"].build()
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    encoder = model.image_encoder
    assert sum(p.numel() for p in model.parameters()) == 10_130_092
    assert sum(p.numel() for p in encoder.parameters()) - 1000 * 321 - 2 * 320 == 5_743_892
    assert len(encoder.state_dict()) == 302
    expected = {
        "patch_embed.seq.0.c.weight": (32, 3, 3, 3),
        "patch_embed.seq.2.bn.running_var": (64,),
        "layers.0.blocks.1.conv2.c.weight": (256, 1, 3, 3),
        "layers.0.downsample.conv3.bn.num_batches_tracked": (),
        "layers.1.blocks.0.attn.attention_biases": (4, 49),
        "layers.2.blocks.5.attn.qkv.weight": (480, 160),
        "layers.2.blocks.5.local_conv.c.weight": (160, 1, 3, 3),
        "layers.2.downsample.conv2.c.weight": (320, 1, 3, 3),
        "layers.3.blocks.1.mlp.fc2.weight": (320, 1280),
        "norm_head.weight": (320,),
        "head.weight": (1000, 320),
        "neck.3.bias": (256,),
    }
    assert {name: shapes[f"image_encoder.{name}"] for name in expected} == expected


def test_loaded_model_segments(mobile_sam: Any) -> None:
    assert not mobile_sam.training
    assert not any(parameter.requires_grad for parameter in mobile_sam.parameters())
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    masks = TorchEngine(mobile_sam).segment(image, Prompts.from_boxes(np.array([[5, 5, 40, 30], [10, 8, 60, 40]]), (48, 64)))
    assert masks.masks.shape == (2, 48, 64)
    assert np.isfinite(masks.low_res).all()


def test_checkpoints_that_do_not_fit_are_explained(checkpoint: Path, random_tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="it is a tiny checkpoint: set model to tiny"):
        load_sam("vit_t", random_tiny)
    with pytest.raises(CheckpointError, match=r"download mobile_sam\.pt \(MobileSAM's README\)"):
        load_sam("vit_t")
    state = torch.load(checkpoint)
    state["image_encoder.patch_embed.seq.0.bn.num_batches_tracked"] = torch.tensor(1.0)
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "wrong.safetensors")
    with pytest.raises(CheckpointError, match="num_batches_tracked must be a dense tensor of integers"):
        load_sam("vit_t", tmp_path / "wrong.safetensors")


@pytest.mark.parametrize("merged", [True, False])
def test_layer_with_q_k_v_per_head_equals_the_other_layout(merged: bool) -> None:
    torch.manual_seed(0)
    plain, heads = nn.Linear(24, 72), 3
    order = torch.arange(72).reshape(3, heads, 8).transpose(0, 1).flatten()  # row of the plain layout, by row of the other
    grouped = nn.Linear(24, 72)
    grouped.load_state_dict({"weight": plain.weight[order], "bias": plain.bias[order]})
    one, other = LoraQkv(plain), LoraQkv(grouped, heads)
    a, b = torch.randn(2, 4, 24), torch.randn(2, 24, 4)
    for layer in (one, other):
        layer.low_rank = layer.fused(a, b)
        layer.merged = layer.with_terms(*layer.low_rank) if merged else None
    x = torch.randn(2, 5, 24)
    with torch.no_grad():
        torch.testing.assert_close(other(x), one(x)[..., order])


def test_adapter_has_terms_of_each_block_s_width(mobile_sam: Any, adapter: Adapter) -> None:
    widths = [each for width, blocks in ((128, 2), (160, 6), (320, 2)) for each in [width] * blocks * 2]
    assert adapter_terms(mobile_sam) == [(width, width) for width in widths]
    fresh = Adapter.untrained(mobile_sam, base_hash(mobile_sam), rank=4, seed=0)
    for each, width in zip(term_by_term(mobile_sam, fresh.low_rank)[0], widths, strict=True):
        assert 0.8 * width**-0.5 < float(each.abs().max()) <= width**-0.5 * (1 + 1e-6)
    back = Adapter.from_bytes(adapter.to_bytes(), for_sam=mobile_sam)
    assert torch.equal(back.a, adapter.a)


def test_adapter_off_equals_base(mobile_sam: Any, adapter: Adapter) -> None:
    base = embed_images(mobile_sam, pixels())
    fresh = Adapter.untrained(mobile_sam, base_hash(mobile_sam), rank=4, seed=0)
    torch.testing.assert_close(embed_images(mobile_sam, pixels(), fresh.low_rank), base)
    assert (embed_images(mobile_sam, pixels(), adapter.low_rank) - base).abs().max() > 1e-3
    torch.testing.assert_close(embed_images(mobile_sam, pixels()), base, atol=0, rtol=0)


def test_only_adapter_parameters_change(mobile_sam: Any, adapter: Adapter) -> None:
    """A training step moves each block's q and v, but not the model, batch statistics among it."""
    before = {name: value.clone() for name, value in mobile_sam.state_dict().items()}
    fresh = Adapter.untrained(mobile_sam, base_hash(mobile_sam), rank=4, seed=0)
    low_rank = fresh.a.clone().requires_grad_(), adapter.b.clone().requires_grad_()
    optimizer = torch.optim.Adam(low_rank, lr=0.01)
    embed_images(mobile_sam, pixels(), low_rank).square().mean().backward()
    optimizer.step()
    for old, new in zip(term_by_term(mobile_sam, (fresh.a, adapter.b)), term_by_term(mobile_sam, low_rank), strict=True):
        assert all(bool((one != other).any()) for one, other in zip(old, new, strict=True))
    after = mobile_sam.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(parameter.grad is None for parameter in mobile_sam.parameters())
