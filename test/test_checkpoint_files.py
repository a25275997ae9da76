"""Checkpoints as people have them: wrapped, prefixed, of other formats; and files of other kinds, which are named."""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save, save_file
from torch import Tensor

from wesam_ros.machine import DeviceError, devices, resolve_device
from wesam_ros.sam import CheckpointError, base_hash, load_sam
from wesam_ros.sam.checkpoint_kinds import kind_of_tensors

State = dict[str, Tensor]
OFFICIAL = "sam_vit_b_01ec64.pth"


def training(state: State) -> dict[str, Any]:
    """MedSAM's: the optimizer has tensors, too."""
    moments = {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(4), "exp_avg_sq": torch.zeros(4)}}
    return {"model": state, "optimizer": {"state": moments, "param_groups": [{"lr": 1e-4, "params": [0]}]}, "epoch": 7}


def prefixed(prefix: str) -> Callable[[State], State]:
    return lambda state: {prefix + key: value for key, value in state.items()}


WRAPPED: dict[str, Callable[[State], Any]] = {
    "model": lambda state: {"model": state},
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "best": 0.5},
    "model_state_dict": lambda state: {"model_state_dict": state},
    "nested": lambda state: {"checkpoint": {"model": state}},
    "training": training,
    "values beside the tensors": lambda state: {**state, "epoch": 3, "note": "second run"},
    "DataParallel": prefixed("module."),
    "torch.compile": prefixed("_orig_mod."),
    "DataParallel of torch.compile": prefixed("module._orig_mod."),
    "part compiled": lambda state: {key.replace("image_encoder.", "image_encoder._orig_mod."): value for key, value in state.items()},
    "a wrapper's sam": prefixed("sam."),
    "Lightning": lambda state: {"state_dict": {**prefixed("model.sam.")(state), "loss.weight": torch.ones(2)}, "hyper_parameters": {}},
    "arguments beside": lambda state: {"model": state, "args": argparse.Namespace(lr=1e-4, out=Path("x"))},
    "means of pixels": lambda state: {**state, "pixel_mean": torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)},
    "several, the model's taken": lambda state: {"ema": {key: value + 1 for key, value in state.items()}, "model": state},
}


@pytest.fixture(scope="module")
def state(random_tiny: Path) -> State:
    return load_file(random_tiny)


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("old", [False, True])
def test_wrapped_models_load(name: str, old: bool, state: State, sam: Any, tmp_path: Path) -> None:
    torch.save(WRAPPED[name](state), tmp_path / "a.pth", _use_new_zipfile_serialization=not old)
    assert base_hash(load_sam("tiny", tmp_path / "a.pth")) == base_hash(sam)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_load(kind: torch.dtype, state: State, tmp_path: Path) -> None:
    torch.save({key: value.to(kind) for key, value in state.items()}, tmp_path / "a.pt")
    loaded = load_sam("tiny", tmp_path / "a.pt").state_dict()
    for key, value in state.items():
        assert torch.equal(loaded[key], value.to(kind).float())


@pytest.mark.parametrize("old", [False, True])
def test_a_file_saved_from_a_gpu_loads_without_one(
    old: bool, state: State, sam: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=not old)
    monkeypatch.undo()
    assert b"cuda:0" in (tmp_path / "a.pth").read_bytes()
    assert base_hash(load_sam("tiny", tmp_path / "a.pth")) == base_hash(sam)


@pytest.mark.parametrize(("written", "ending"), [("torch", ".safetensors"), ("safetensors", ".pth"), ("safetensors", ".bin")])
def test_bytes_and_not_names_say_the_format(written: str, ending: str, state: State, sam: Any, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    torch.save(state, path) if written == "torch" else save_file(state, path)
    assert base_hash(load_sam("tiny", path)) == base_hash(sam)


class Runs:
    """Runs a command when it is unpickled by pickle itself."""

    def __reduce__(self) -> Any:
        return os.system, ("exit 1",)


def zipped(name: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, b"1234")
    return out.getvalue()


def saved(content: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    torch.save(content, out, **options)
    return out.getvalue()


def scripted() -> bytes:
    out = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), out)
    return out.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 375042383\n"
OTHER_FILES: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "lfs": (lambda: LFS, "other_kind", "git lfs pull"),
    "html": (lambda: b"\n<!DOCTYPE html><html><head></head></html>", "other_kind", "a web page"),
    "html, old": (lambda: b"<HTML><body>Sign in</body></HTML>", "other_kind", "a web page"),
    "access denied": (lambda: b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "other_kind", "answer"),
    "json": (lambda: b'{"error": "Invalid username or password."}', "other_kind", "answer"),
    "config.json": (lambda: json.dumps({"architectures": ["SamModel"]}).encode(), "other_kind", "configuration"),
    "onnx": (lambda: b"\x08\x08\x12\x07pytorch\x1a\x052.1.0" + bytes(90), "other_kind", "an ONNX file"),
    "openvino": (lambda: b'<?xml version="1.0"?>\n<net name="x" version="11">', "other_kind", "OpenVINO"),
    "tensorrt": (lambda: b"ftrt" + bytes(40), "other_kind", "TensorRT"),
    "keras": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(40), "other_kind", "HDF5"),
    "gzip": (lambda: b"\x1f\x8b\x08" + bytes(40), "other_kind", "gunzip"),
    "zip of a file": (lambda: zipped("sam_vit_b.pth"), "other_kind", "unpack it"),
    "torchscript": (scripted, "other_kind", "TorchScript"),
    "mcap": (lambda: b"\x89MCAP0\r\n" + bytes(40), "other_kind", "a recording"),
    "bytes": (lambda: bytes(range(50, 150)), "other_kind", "no known format"),
    "cut zip": (lambda: saved({"a.b": torch.zeros(400)})[:-30], "cut_short", "has only"),
    "cut old": (lambda: saved({"a.b": torch.zeros(400)}, _use_new_zipfile_serialization=False)[:-30], "cut_short", "has only"),
    "cut safetensors": (lambda: save({"a.b": torch.zeros(400)})[:-30], "cut_short", "has only"),
    "cut header": (lambda: save({"a.b": torch.zeros(400)})[:40], "cut_short", "has only"),
    "a whole model": (lambda: saved(torch.nn.Linear(2, 2)), "other_kind", "state_dict"),
    "yolo": (lambda: saved({"epoch": 3, "model": argparse.Namespace()}), "other_kind", "argparse.Namespace"),
    "code": (lambda: saved({"model": Runs()}), "code", "posix.system"),
    "code, old": (lambda: saved({"model": Runs()}, _use_new_zipfile_serialization=False), "code", "posix.system"),
    "plain pickle with code": (lambda: pickle.dumps(Runs(), 2), "code", "posix.system"),
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_other_files_are_named(name: str, tmp_path: Path) -> None:
    make, reason, words = OTHER_FILES[name]
    (tmp_path / "a.pth").write_bytes(make())
    with pytest.raises(CheckpointError, match=words) as caught:
        load_sam("vit_b", tmp_path / "a.pth")
    assert caught.value.reason == reason
    assert ("again" in str(caught.value)) == (reason == "cut_short")


# Names of tensors as the projects' checkpoints have them
MODELS = {
    "SAM-HQ": ["image_encoder.pos_embed", "mask_decoder.hf_token.weight", "mask_decoder.compress_vit_feat.0.weight"],
    "SAM 2 ": ["image_encoder.trunk.pos_embed", "sam_mask_decoder.iou_token.weight", "no_mem_embed"],
    "SAM 2.1": ["image_encoder.trunk.pos_embed", "sam_mask_decoder.iou_token.weight", "no_obj_embed_spatial", "obj_ptr_tpos_proj.weight"],
    "SAM 3": ["detector.backbone.vision_backbone.trunk.pos_embed", "tracker.maskmem_tpos_enc"],
    "EfficientSAM": ["image_encoder.patch_embed.proj.weight", "prompt_encoder.invalid_points.weight", "mask_decoder.iou_token.weight"],
    "EfficientViT-SAM": ["image_encoder.backbone.input_stem.op_list.0.conv.weight", "mask_decoder.iou_token.weight"],
    "RepViT-SAM": ["image_encoder.features.1.token_mixer.0.conv.c.weight", "mask_decoder.iou_token.weight"],
    "transformers' SamModel": ["shared_image_embedding.positional_embedding", "vision_encoder.layers.0.attn.qkv.weight"],
    "SAM 2 checkpoint of Hugging Face": ["vision_encoder.backbone.pos_embed", "shared_image_embedding.positional_embedding"],
    "Grounding DINO": ["backbone.0.patch_embed.proj.weight", "bert.embeddings.word_embeddings.weight", "transformer.level_embed"],
    "YOLO": ["model.0.conv.weight", "model.22.cv2.0.0.conv.weight"],
    "torchvision": ["backbone.body.conv1.weight", "rpn.head.conv.0.0.weight", "roi_heads.box_head.fc6.weight"],
    "Detectron2": ["backbone.bottom_up.stem.conv1.weight", "proposal_generator.rpn_head.conv.weight"],
    "MMDetection": ["backbone.layer1.0.conv1.weight", "bbox_head.cls_convs.0.conv.weight"],
    "DETR": ["transformer.decoder.layers.0.linear1.weight", "class_embed.weight", "bbox_embed.layers.0.weight"],
    "LoRA": ["base_model.model.vision_encoder.layers.0.attn.qkv.lora_A.weight"],
    "adapter layers": ["image_encoder.blocks.0.Adapter.spatial.0.weight", "mask_decoder.iou_token.weight"],
    "an image encoder alone": ["cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"],
    "CLIP": ["logit_scale", "visual.conv1.weight", "transformer.resblocks.0.attn.in_proj_weight"],
    "ResNet": ["conv1.weight", "layer1.0.conv1.weight", "fc.weight"],
    "adapter of wesam_ros": ["a", "b"],
}


@pytest.mark.parametrize("words", MODELS)
def test_other_models_are_named_by_their_tensors(words: str) -> None:
    kind = kind_of_tensors(MODELS[words])
    assert kind is not None
    assert words.strip() in kind.name


@pytest.mark.parametrize("names", [["image_encoder.pos_embed", "mask_decoder.iou_token.weight"], ["weight"], []])
def test_sam_and_the_unknown_have_no_other_kind(names: list[str]) -> None:
    assert kind_of_tensors(names) is None


def test_a_file_of_another_model_says_so_and_what_to_give(state: State, tmp_path: Path) -> None:
    torch.save({"model": {**state, "mask_decoder.hf_token.weight": torch.zeros(1, 128)}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=f"a SAM-HQ checkpoint.*{OFFICIAL}") as caught:
        load_sam("vit_b", tmp_path / "a.pth")
    assert caught.value.reason == "other_kind"


def test_two_models_under_prefixes_are_not_guessed(state: State, tmp_path: Path) -> None:
    torch.save({**prefixed("student.")(state), **prefixed("teacher.")(state)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"student\., teacher\.") as caught:
        load_sam("tiny", tmp_path / "a.pth")
    assert caught.value.reason == "several"


def test_a_model_of_another_image_size_says_which(state: State, tmp_path: Path) -> None:
    position = state["image_encoder.pos_embed"]
    torch.save({**state, "image_encoder.pos_embed": position[:, :16, :16]}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"images of another size \(256 pixels\)"):
        load_sam("tiny", tmp_path / "a.pth")


def pretend(monkeypatch: pytest.MonkeyPatch, gpus: int, built: str | None) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("device", "gpus", "built", "expected", "words"),
    [
        ("auto", 0, None, "cpu", ""),
        ("auto", 2, "12.6", "cuda", ""),
        ("", 1, "12.6", "cuda", ""),
        ("cpu", 1, "12.6", "cpu", ""),
        ("cuda", 1, "12.6", "cuda", ""),
        ("cuda:1", 2, "12.6", "cuda:1", ""),
        ("cuda", 0, None, None, "only cpu: torch .* is built without CUDA.*pytorch.org"),
        ("cuda:0", 0, "12.6", None, "finds no GPU, or no driver.*nvidia-smi"),
        ("cuda:2", 2, "12.6", None, "only cpu, cuda, cuda:0, cuda:1: GPUs are counted from"),
        ("mps", 0, None, None, "device mps is not here"),
        ("openvino:GPU.1", 1, "12.6", "cpu", ""),
        ("openvino:TPU", 0, None, None, "must be auto, cpu.* but got 'openvino:TPU'"),
        ("gpu", 1, "12.6", None, "must be auto, cpu, cuda.* but got 'gpu'"),
        ("cuda:x", 1, "12.6", None, "must be auto"),
    ],
)
def test_devices(device: str, gpus: int, built: str | None, expected: str | None, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpus, built)
    if expected is None:
        with pytest.raises(DeviceError, match=words):
            resolve_device(device)
    else:
        assert resolve_device(device) == expected


def test_hidden_gpus_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 0, "12.6")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(DeviceError, match="CUDA_VISIBLE_DEVICES is '', which hides"):
        resolve_device("cuda")
    assert devices() == ["cpu"]


def test_a_device_is_proved_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 0, None)
    with pytest.raises(DeviceError):
        load_sam("vit_b", tmp_path / "missing.pth", "cuda")
