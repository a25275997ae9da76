"""An adapter in other tools' formats: each is loaded by its own consumer, which computes the same masks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import loralib
import numpy as np
import pytest
import torch
import yaml
from conftest import build_small
from safetensors.torch import save_file

from wesam_ros import cli
from wesam_ros.engines.contender import import_sam_predictor
from wesam_ros.engines.export import random_adapter
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.hand_over import FORMATS
from wesam_ros.hand_over.formats import HandOverError, formats_of, hand_over, merged_model
from wesam_ros.hand_over.low_rank import read_low_rank, write_peft
from wesam_ros.hand_over.transformers_folder import write_transformers
from wesam_ros.sam import Adapter, AdapterError, Masks, Prompt, Prompts, load_sam
from wesam_ros.sam.architectures import ARCHITECTURES, build_sam2, build_vit_t
from wesam_ros.sam.predictor import embed_images
from wesam_ros.sam.preprocessing import preprocess, resize_image, to_model_coordinates
from wesam_ros.sam.sam2 import TINY

SIZE = (60, 80)
BOXES = np.array([[5, 8, 40, 50], [30, 20, 75, 55]], np.float32)
IMAGE = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-4}


@pytest.fixture(scope="module")
def small_sam(small_architecture: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The small model with weights as torch draws them, and logits of the size that trained ones have: an adapter changes masks."""
    torch.manual_seed(0)
    model = build_small()
    for name, parameter in model.named_parameters():
        if "pos" in name and "prompt" not in name:  # tables of positions start at zero
            torch.nn.init.normal_(parameter, std=0.1)
    with torch.no_grad():
        model.mask_decoder.output_upscaling[3].weight *= 30
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    save_file(model.state_dict(), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "tiny", small_architecture)
        return load_sam("tiny", path)


@pytest.fixture(scope="module")
def adapter(small_sam: Any) -> Adapter:
    return random_adapter(small_sam, 4, 0)


@pytest.fixture(scope="module")
def expected(small_sam: Any, adapter: Adapter) -> Masks:
    masks = TorchEngine(small_sam).segment(IMAGE, Prompts.from_boxes(BOXES, SIZE), adapter)
    frozen = TorchEngine(small_sam).segment(IMAGE, Prompts.from_boxes(BOXES, SIZE))
    assert abs(masks.low_res - frozen.low_res).max() > 0.1  # a format without the adapter would be found
    return masks


def corners(side: int) -> Any:
    """The boxes (n, 2, 2) in pixels of the model's input."""
    return to_model_coordinates(BOXES.reshape(-1, 2, 2), SIZE, side)


def assert_same(expected: Masks, low_res: Any, masks: Any = None) -> None:
    np.testing.assert_allclose(low_res, expected.low_res, **CLOSE)
    if masks is not None:
        sure = abs(masks) > 1e-4
        assert sure.mean() > 0.99
        np.testing.assert_array_equal((masks > 0)[sure], expected.masks[sure])


def test_checkpoint_in_segment_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Built and loaded by segment_anything's own function, with sizes smaller than ViT-B's."""
    from segment_anything.build_sam import _build_sam

    torch.manual_seed(0)
    sizes = (64, 2, 2, [1])
    base = _build_sam(*sizes)
    torch.nn.init.normal_(base.image_encoder.pos_embed, std=0.1)
    torch.save(base.state_dict(), tmp_path / "base.pth")
    monkeypatch.setitem(ARCHITECTURES, "vit_b", replace(ARCHITECTURES["vit_b"], build=lambda: _build_sam(*sizes), bytes=0))
    sam = load_sam("vit_b", tmp_path / "base.pth")
    adapter = random_adapter(sam, 4, 0)
    found = hand_over(sam, adapter, "checkpoint", tmp_path / "merged.pth")
    predictor = import_sam_predictor()(_build_sam(*sizes, checkpoint=found[0]))
    predictor.set_image(IMAGE)
    boxes = predictor.transform.apply_boxes_torch(torch.from_numpy(BOXES), SIZE)
    masks, _, low_res = predictor.predict_torch(None, None, boxes, multimask_output=False, return_logits=True)
    assert_same(TorchEngine(sam).segment(IMAGE, Prompts.from_boxes(BOXES, SIZE), adapter), low_res[:, 0], masks[:, 0].numpy())


def test_a_merged_mobile_sam_computes_the_same() -> None:
    """Its blocks differ in width, and order q, k and v by heads."""
    torch.manual_seed(0)
    sam = build_vit_t(256)
    from wesam_ros.sam.lora import prepare

    prepare(sam)
    sam.weights_hash, sam.weights_name = "0" * 64, "vit_t"
    adapter = random_adapter(sam, 4, 0)
    pixels = preprocess(IMAGE, 256)[None]
    with torch.inference_mode():
        found = embed_images(merged_model(sam, adapter), pixels)
        torch.testing.assert_close(found, embed_images(sam, pixels, adapter.low_rank), **CLOSE)
        assert not torch.allclose(found, embed_images(sam, pixels), atol=1e-3)


@pytest.fixture
def sam_model() -> Any:
    """transformers' SamModel, imported where torchvision's operators are of another build, too."""
    pytest.importorskip("transformers", reason="transformers is not installed: its SamModel is not tried")
    import_sam_predictor()
    from transformers import SamModel

    return SamModel


def of_transformers(model: Any, side: int) -> Any:
    boxes = torch.from_numpy(corners(side).reshape(1, -1, 4))
    with torch.inference_mode():
        found = model.eval()(pixel_values=preprocess(IMAGE, side)[None], input_boxes=boxes, multimask_output=False)
    return found.pred_masks[0, :, 0]


def test_folder_in_transformers(small_sam: Any, adapter: Adapter, expected: Masks, sam_model: Any, tmp_path: Path) -> None:
    hand_over(small_sam, adapter, "transformers", tmp_path / "sam")
    model, about = sam_model.from_pretrained(tmp_path / "sam", output_loading_info=True)
    assert not about["missing_keys"] and not about["unexpected_keys"]
    assert_same(expected, of_transformers(model, 256))
    from transformers import AutoImageProcessor

    pixels = AutoImageProcessor.from_pretrained(tmp_path / "sam", backend="pil")(IMAGE, return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 256, 256)
    assert (pixels[0] - preprocess(IMAGE, 256)).abs().mean() < 0.02


def test_adapter_in_peft(small_sam: Any, adapter: Adapter, expected: Masks, sam_model: Any, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed: its adapters are not tried")
    write_transformers(small_sam, tmp_path / "base")
    hand_over(small_sam, adapter, "peft", tmp_path / "peft")
    model = peft.PeftModel.from_pretrained(sam_model.from_pretrained(tmp_path / "base"), tmp_path / "peft")
    assert_same(expected, of_transformers(model, 256))
    model.save_pretrained(tmp_path / "saved")  # as PEFT itself writes it
    back = read_low_rank(small_sam, "peft", tmp_path / "saved")
    torch.testing.assert_close((back.a, back.b), adapter.low_rank, rtol=0, atol=0)


def test_adapter_in_loralib(small_sam: Any, adapter: Adapter, tmp_path: Path) -> None:
    (path,) = hand_over(small_sam, adapter, "loralib", tmp_path / "lora.pt")
    model = build_small()
    for block in model.image_encoder.blocks:
        block.attn.qkv = loralib.MergedLinear(64, 192, r=4, lora_alpha=4, enable_lora=[True, False, True], merge_weights=False)
    model.load_state_dict(small_sam.state_dict(), strict=False)
    unexpected = model.load_state_dict(torch.load(path, weights_only=True), strict=False).unexpected_keys
    assert unexpected == []
    pixels = preprocess(IMAGE, 256)[None]
    with torch.inference_mode():
        # MergedLinear takes sequences; SAM's blocks give it grids.
        for block in model.image_encoder.blocks:
            block.attn.qkv.register_forward_pre_hook(lambda layer, x: (x[0].flatten(1, 2),))
            block.attn.qkv.register_forward_hook(lambda layer, x, y: y.unflatten(1, (round(y.shape[1] ** 0.5), -1)))
        torch.testing.assert_close(model.image_encoder(pixels), embed_images(small_sam, pixels, adapter.low_rank), **CLOSE)
    torch.save(loralib.lora_state_dict(model), tmp_path / "saved.pt")  # as loralib itself keeps it
    back = read_low_rank(small_sam, "loralib", tmp_path / "saved.pt")
    torch.testing.assert_close((back.a, back.b), adapter.low_rank, rtol=0, atol=0)


def session(path: Path) -> Any:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install -e '.[onnx]'")
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def onnx_prompts(side: int, low: int) -> dict[str, Any]:
    return {
        "point_coords": corners(side).astype(np.float32),
        "point_labels": np.tile(np.array([2, 3], np.float32), (len(BOXES), 1)),
        "mask_input": np.zeros((1, 1, low, low), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
        "orig_im_size": np.array(SIZE, np.float32),
    }


@pytest.mark.parametrize("name", ["small", "tiny"])
def test_graphs_with_the_official_names(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """The model whose parts are segment_anything's, and `tiny`, whose embedding has finer features in it."""
    pytest.importorskip("onnx", reason="needs the extra onnx: pip install -e '.[onnx]'")
    sam = request.getfixturevalue("small_sam") if name == "small" else load_sam("tiny", request.getfixturevalue("untrained_tiny"))
    adapter, side = random_adapter(sam, 4, 0), sam.image_encoder.img_size
    hand_over(sam, adapter, "onnx", tmp_path / "onnx")
    about = yaml.safe_load((tmp_path / "onnx" / "x_anylabeling.yaml").read_text())
    assert about["type"] == "segment_anything" and about["input_size"] == side
    encoder, decoder = (session(tmp_path / "onnx" / about[f"{part}_model_path"]) for part in ("encoder", "decoder"))
    (embedding,) = encoder.run(None, {encoder.get_inputs()[0].name: resize_image(IMAGE, side).astype(np.float32)})
    engine = TorchEngine(sam)
    prompts = Prompts.from_boxes(BOXES, SIZE)
    masks, scores, low_res = decoder.run(None, {"image_embeddings": embedding, **onnx_prompts(side, 256)})  # 256: X-AnyLabeling's
    expected = engine.segment(IMAGE, prompts, adapter)
    assert masks.shape == (2, 1, *SIZE)
    assert_same(expected, low_res[:, 0], masks[:, 0])
    np.testing.assert_allclose(scores[:, 0], expected.scores, **CLOSE)
    points = np.array([[20, 30], [60, 10]], np.float32)
    given = Prompts(SIZE, (Prompt(points=points, point_labels=np.array([1, 0]), mask=None),))
    xy = np.concatenate([to_model_coordinates(points, SIZE, side), np.zeros((1, 2))])[None].astype(np.float32)
    labels = np.array([[1, 0, -1]], np.float32)
    inputs = {"image_embeddings": embedding, **onnx_prompts(side, 256), "point_coords": xy, "point_labels": labels}
    assert_same(engine.segment(IMAGE, given, adapter), decoder.run(None, inputs)[2][:, 0])


def test_model_repository_of_triton(small_sam: Any, adapter: Adapter, expected: Masks, tmp_path: Path) -> None:
    """Run by ONNX Runtime, as Triton's backend of that name does; names and shapes are those that the configuration declares."""
    pytest.importorskip("onnx", reason="needs the extra onnx: pip install -e '.[onnx]'")
    hand_over(small_sam, adapter, "triton", tmp_path / "models")
    folder = tmp_path / "models" / "segment_anything"
    model = session(folder / "1" / "model.onnx")
    declared = re.findall(
        r'(input|output) \{ name: "(\w+)" data_type: TYPE_FP32 dims: \[ ([-\d, ]+) \]', (folder / "config.pbtxt").read_text()
    )
    for kind, tensors in (("input", model.get_inputs()), ("output", model.get_outputs())):
        assert [name for each, name, _ in declared if each == kind] == [each.name for each in tensors]
        assert {each.type for each in tensors} == {"tensor(float)"}
    shapes = {name: [int(each) for each in dims.split(",")] for kind, name, dims in declared}
    inputs = {"images": preprocess(IMAGE, 256)[None].numpy(), **onnx_prompts(256, 64)}
    masks, _, low_res = model.run(None, inputs)
    assert_same(expected, low_res[:, 0], masks[:, 0])
    for name, value in {**inputs, "masks": masks, "low_res_masks": low_res}.items():
        assert len(shapes[name]) == value.ndim and all(d in (-1, n) for d, n in zip(shapes[name], value.shape, strict=True)), name


def test_formats_of_models(small_sam: Any, sam: Any, adapter: Adapter, tmp_path: Path) -> None:
    assert formats_of(small_sam) == FORMATS
    assert formats_of(build_vit_t(256)) == ("checkpoint", "onnx", "triton")
    assert formats_of(build_sam2(TINY, 256)) == ()
    for to in set(FORMATS) - {"onnx", "triton"}:
        with pytest.raises(HandOverError, match=f"tiny has parts .* cannot leave as {to}, only as onnx or triton"):
            hand_over(sam, adapter, to, tmp_path / "never")
    (tmp_path / "there").touch()
    with pytest.raises(HandOverError, match="there is there already"):
        hand_over(small_sam, adapter, "peft", tmp_path / "there")
    assert [each.name for each in tmp_path.iterdir()] == ["there"]


def change_k(state: dict[str, torch.Tensor]) -> None:
    state["base_model.model.vision_encoder.layers.0.attn.qkv.lora_B.weight"][64] = 1.0


def adapt_mlp(state: dict[str, torch.Tensor]) -> None:
    state["base_model.model.vision_encoder.layers.0.mlp.lin1.lora_A.weight"] = torch.zeros(4, 64)


def leave_out(state: dict[str, torch.Tensor]) -> None:
    del state["base_model.model.vision_encoder.layers.1.attn.qkv.lora_B.weight"]


def narrow(state: dict[str, torch.Tensor]) -> None:
    for name, value in list(state.items()):
        state[name] = value[:, :32].contiguous() if "lora_A" in name else value


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (change_k, "changes k as well"),
        (adapt_mlp, "adapts .*mlp.lin1.* only the qkv projections"),
        (leave_out, "has 2"),
        (narrow, "but the model 64 channels"),
    ],
)
def test_foreign_adapters_are_refused(
    small_sam: Any, adapter: Adapter, spoil: Callable[[dict[str, torch.Tensor]], None], sentence: str, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    write_peft(small_sam, adapter, tmp_path / "peft")
    path = tmp_path / "peft" / "adapter_model.safetensors"
    state = load_file(path)
    spoil(state)
    save_file(state, path)
    with pytest.raises(AdapterError, match=sentence):
        read_low_rank(small_sam, "peft", tmp_path / "peft")


def test_the_scale_of_peft_is_taken(small_sam: Any, adapter: Adapter, tmp_path: Path) -> None:
    write_peft(small_sam, adapter, tmp_path / "peft")
    path = tmp_path / "peft" / "adapter_config.json"
    for changed, scale in (({"lora_alpha": 24}, 3.0), ({"lora_alpha": 24, "use_rslora": True}, 24 / 8**0.5)):
        path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
        torch.testing.assert_close(read_low_rank(small_sam, "peft", tmp_path / "peft").b, scale * adapter.b)
    path.write_text(json.dumps({**json.loads(path.read_text()), "use_dora": True}))
    with pytest.raises(AdapterError, match="not that of a LoRA adapter of PEFT"):
        read_low_rank(small_sam, "peft", tmp_path / "peft")


@pytest.mark.parametrize("data", [b"", b"junk" * 100])
def test_files_that_are_no_adapters(small_sam: Any, data: bytes, tmp_path: Path) -> None:
    for name in ("lora.pt", "lora.safetensors"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(AdapterError, match="cannot be read as tensors"):
            read_low_rank(small_sam, "loralib", tmp_path / name)
    with pytest.raises(AdapterError, match="not that of a LoRA adapter of PEFT"):
        read_low_rank(small_sam, "peft", tmp_path)


def test_command(
    small_sam: Any,
    small_architecture: Any,
    adapter: Adapter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(ARCHITECTURES, "tiny", small_architecture)
    adapter.save(tmp_path / "adapter.safetensors")
    save_file({name: value.contiguous() for name, value in small_sam.state_dict().items()}, tmp_path / "small.safetensors")
    model = ["--checkpoint", str(tmp_path / "small.safetensors")]

    def run(source: str, way: str, out: str) -> int:
        return cli.main(["hand-over", str(tmp_path / source), *way.split(), "--out", str(tmp_path / out), *model])

    assert run("adapter.safetensors", "--to peft", "peft") == 0
    assert run("peft", "--from peft", "back.safetensors") == 0
    assert "back.safetensors" in capsys.readouterr().out
    back = Adapter.load(tmp_path / "back.safetensors", for_sam=small_sam)
    torch.testing.assert_close((back.a, back.b), adapter.low_rank, rtol=0, atol=0)
    assert run("peft", "--from peft", "back.safetensors") == 2
    assert "is there already" in capsys.readouterr().err
