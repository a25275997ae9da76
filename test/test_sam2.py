"""SAM 2.1: its files, adapters of blocks of several widths, learning, and its graphs in every engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import draw
from tiny_stream import CONFIG, stream
from torch import Tensor

from wesam_ros.adaptation.learner import Learner
from wesam_ros.engines.export import export, random_adapter
from wesam_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from wesam_ros.engines.parity import check_parity
from wesam_ros.engines.store import DECODER, DECODER_WITH_MASKS, ENCODER
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.sam import Adapter, CheckpointError, base_hash, load_sam
from wesam_ros.sam.architectures import ARCHITECTURES, build_sam2
from wesam_ros.sam.hiera import HieraSize
from wesam_ros.sam.lora import adapter_terms, merge, prepare
from wesam_ros.sam.predictor import embed_images
from wesam_ros.sam.sam2 import SMALL
from wesam_ros.sam.sam2_names import MEMORY

NAME, SIDE = "sam2.1_hiera_tiny", 256
FEW = HieraSize(24, 1, (1, 1, 2, 1), (3,), 7)
"""A trunk with a block of each kind: at a stage's beginning and not, in windows that divide the grid and not, and of the whole image."""
State = dict[str, Tensor]


def official(state: State) -> State:
    """Names of the official file for those of this package, with some of its memory."""
    renamed = {}
    for name, value in state.items():
        name = name.replace("prompt_encoder.", "sam_prompt_encoder.").replace("mask_decoder.", "sam_mask_decoder.")
        name = name.replace("image_encoder.quarter", "sam_mask_decoder.conv_s0").replace("image_encoder.eighth", "sam_mask_decoder.conv_s1")
        name = name.replace("image_encoder.no_mem_embed", "no_mem_embed").replace(".mlp.lin1.", ".mlp.layers.0.")
        renamed[name.replace(".mlp.lin2.", ".mlp.layers.1.")] = value
    memory = ("memory_attention.norm.weight", "memory_encoder.out_proj.weight", "maskmem_tpos_enc", "no_obj_ptr", "obj_ptr_tpos_proj.bias")
    return renamed | {name: torch.ones(1) for name in memory}


def drawn(size: HieraSize) -> State:
    state: State = draw({name: tuple(value.shape) for name, value in build_sam2(size, SIDE).state_dict().items()})
    return state


@pytest.fixture(scope="module")
def state() -> State:
    return drawn(FEW)


@pytest.fixture(scope="module", autouse=True)
def few() -> Any:
    """The small trunk by the name of the official one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, NAME, replace(ARCHITECTURES[NAME], build=partial(build_sam2, FEW, SIDE)))
        yield


@pytest.fixture(scope="module")
def sam2(state: State, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("weights") / "sam2.pt"
    torch.save({"model": official(state)}, path)
    return load_sam(NAME, path)


def pixels() -> Tensor:
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": official(state)},
        lambda state: {f"module.{name}": value for name, value in official(state).items()},
        lambda state: {name: value for name, value in official(state).items() if not name.startswith(MEMORY)},
        lambda state: state,
    ],
    ids=["official", "DataParallel", "without a memory", "own names"],
)
def test_files_that_fit(wrap: Callable[[State], State], state: State, sam2: Any, tmp_path: Path) -> None:
    torch.save(wrap(state), tmp_path / "a.pt")
    assert base_hash(load_sam(NAME, tmp_path / "a.pt")) == base_hash(sam2)


def without_time(state: State) -> State:
    return {name: value for name, value in official(state).items() if not name.startswith("obj_ptr_tpos_proj")}


@pytest.mark.parametrize(
    ("model", "make", "words"),
    [
        (NAME, lambda _: official(drawn(SMALL)), "it is a sam2.1_hiera_small checkpoint: set model to sam2.1_hiera_small"),
        ("vit_b", official, f"it is a {NAME} checkpoint: set model to {NAME}"),
        (NAME, without_time, r"is a SAM 2\.0 checkpoint.*give sam2\.1_hiera_tiny\.pt of SAM 2"),
        (
            NAME,
            lambda state: {**official(state), "image_encoder.trunk.blocks.0.adapter.weight": torch.ones(1)},
            "a SAM 2.1 checkpoint of no",
        ),
        (NAME, None, r"download sam2\.1_hiera_tiny\.pt \(SAM 2's README\)"),
    ],
    ids=["another size", "another model", "SAM 2.0", "layers added", "none"],
)
def test_files_that_do_not_fit_are_named(
    model: str, make: Callable[[State], State] | None, words: str, state: State, tmp_path: Path
) -> None:
    if make is not None:
        torch.save(make(state), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=words):
        load_sam(model, tmp_path / "a.pt" if make else None)


def test_adapter_has_terms_of_each_block(sam2: Any) -> None:
    """q and v; the first block of a stage has twice as many outputs as inputs."""
    widths = [(24, 24), (24, 48), (48, 96), (96, 96), (96, 192)]
    assert adapter_terms(sam2) == [each for each in widths for _ in "qv"]
    adapter = random_adapter(sam2, 4, 0)
    assert torch.equal(Adapter.from_bytes(adapter.to_bytes(), for_sam=sam2).b, adapter.b)


def test_adapter_off_equals_base_and_merged_equals_unmerged(sam2: Any, state: State) -> None:
    base, fresh, adapter = embed_images(sam2, pixels()), Adapter.untrained(sam2, base_hash(sam2), 4, 0), random_adapter(sam2, 4, 0)
    torch.testing.assert_close(embed_images(sam2, pixels(), fresh.low_rank), base)
    with torch.no_grad():
        adapted = embed_images(sam2, pixels(), adapter.low_rank)
    in_parallel = embed_images(sam2, pixels(), (adapter.a.clone().requires_grad_(), adapter.b))
    torch.testing.assert_close(in_parallel, adapted, atol=1e-4, rtol=1e-4)
    assert (adapted - base).abs().max() > 1e-2
    other = build_sam2(FEW, SIDE)
    other.load_state_dict(state)
    prepare(other)
    merge(other, adapter.low_rank)
    with torch.no_grad():
        torch.testing.assert_close(embed_images(other, pixels()), adapted, atol=1e-4, rtol=1e-4)


def test_every_term_learns_and_nothing_else(sam2: Any) -> None:
    adapter = random_adapter(sam2, 4, 0)
    low_rank = adapter.a.clone().requires_grad_(), adapter.b.clone().requires_grad_()
    embed_images(sam2, pixels(), low_rank).square().mean().backward()
    assert all(bool((each.grad != 0).any(axis).all()) for axis, each in zip((0, 1), low_rank, strict=True))
    assert all(parameter.grad is None for parameter in sam2.parameters())


def test_graphs_pass_the_gate_in_every_engine(sam2: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The export is held against torch within; then the gate's frame, frozen and with an adapter."""
    onnx, _ = (pytest.importorskip(name, reason="needs the extra onnx") for name in ("onnx", "onnxruntime"))
    monkeypatch.setenv("WESAM_CACHE", str(tmp_path / "cache"))
    errors = export(sam2, tmp_path / "export", say=lambda _: None)
    assert errors is not None and errors.largest < 1e-4
    from test_export import TENSORRT

    for name in (ENCODER, DECODER, DECODER_WITH_MASKS):
        nodes = onnx.load(tmp_path / "export" / name).graph.node
        assert {node.op_type for node in nodes} <= set(TENSORRT.split())
        assert all(len(node.output) == 1 for node in nodes)
    reference = TorchEngine(sam2)
    for adapter in (None, random_adapter(sam2, 4, 0)):
        assert check_parity(OnnxRuntimeEngine(sam2, tmp_path / "export"), reference, adapter).iou.min() > 0.99
    pytest.importorskip("openvino", reason="needs openvino: pip install -e '.[openvino]'")
    from wesam_ros.engines.openvino_engine import OpenVinoEngine

    for adapter in (None, random_adapter(sam2, 4, 0)):
        assert check_parity(OpenVinoEngine(sam2, tmp_path / "export", precision="float32"), reference, adapter).iou.min() > 0.99


def test_adaptation_lowers_its_loss(sam2: Any) -> None:
    """Random weights, the same frame again and again."""
    learner = Learner(sam2, CONFIG, 0)
    learner.observe(*stream(1)[0])
    losses = []
    for _ in range(30):
        result = learner.step()
        assert result is not None
        losses.append(result.losses["total"])
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
