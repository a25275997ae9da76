"""The exported files: what they consist of, that they are written whole or not at all, and the command."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from wesam_ros import cli
from wesam_ros.engines import export as exporting
from wesam_ros.engines.engine import EngineError
from wesam_ros.engines.export import random_adapter
from wesam_ros.engines.store import DECODER, DECODER_WITH_MASKS, ENCODER, MANIFEST, check, folder_of, key_of, publish
from wesam_ros.sam import load_sam
from wesam_ros.sam.architectures import ARCHITECTURES, Architecture, build_vit_t
from wesam_ros.sam.predictor import embed_images

OPERATORS = {
    ENCODER: "Add Concat Conv Div Einsum Expand Gelu LayerNormalization MatMul Mul Pad Pow ReduceMean Reshape Shape Slice Softmax "
    "Sqrt Squeeze Sub Transpose Unsqueeze",
    DECODER: "Add Cast Concat Cos Equal Expand Gather Gelu Gemm GreaterOrEqual LayerNormalization MatMul Mul Pad Relu Reshape Shape Sin "
    "Slice Softmax Squeeze Sub Transpose Unsqueeze",
    DECODER_WITH_MASKS: "Add Cast Concat Conv Cos Div Equal Expand Gather Gelu Gemm GreaterOrEqual LayerNormalization MatMul Mul Pad Pow "
    "ReduceMean Relu Reshape Shape Sin Slice Softmax Sqrt Squeeze Sub Transpose Unsqueeze",
}
"""Operators of the exported files, by torch 2.13 and onnxscript 0.7.2."""

TENSORRT = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast CastLike Ceil Celu Clip Concat Constant
    ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand EyeLike
    Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization
    HardSigmoid HardSwish Identity If InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max MaxPool
    Mean Min Mod Mul Neg Not Or Pad Pow PRelu QuantizeLinear Range Reciprocal ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu
    Reshape Resize Round ScatterND Selu Shape Sigmoid Sign Sin Size Slice Softmax Softplus Split Sqrt Squeeze Sub Sum Tan Tanh Tile TopK
    Transpose Trilu Unsqueeze Where Xor
"""
"""Those that NVIDIA's table for TensorRT 10.0, opsets 9 to 20, marks as supported, less some that no such model has:
https://github.com/onnx/onnx-tensorrt/blob/96e781103cfc4adf4a6bb557e94bac8e693f6f4c/docs/operators.md"""
INITIALIZED = {"Conv": (1,), "Pad": (3,), "ReduceMean": (1,), "Slice": (3,), "Squeeze": (1,), "Unsqueeze": (1,)}
"""Inputs that the table wants constant: weights and axes."""


@pytest.fixture(scope="session")
def sam(small_sam: Any) -> Any:
    return small_sam


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_in_tensorrts_table(sam: Any, cache: Path, name: str) -> None:
    import onnx

    graph = onnx.load(folder_of(sam) / name).graph
    found = {node.op_type for node in graph.node}
    assert found <= set(TENSORRT.split())
    assert found == set(OPERATORS[name].split())
    constants = {each.name for each in graph.initializer}
    for node in graph.node:
        assert not [node.input[i] for i in INITIALIZED.get(node.op_type, ()) if i < len(node.input) and node.input[i] not in constants]
        assert node.domain == ""
        assert len(node.output) == 1


def test_mobile_sams_encoder_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One block of each kind, on a grid that the windows do not divide; its adapter has blocks of several widths."""
    onnx, onnxruntime = (pytest.importorskip(name, reason="needs the extra onnx") for name in ("onnx", "onnxruntime"))
    monkeypatch.setattr("wesam_ros.sam.tiny_vit.DEPTHS", (1, 1, 1, 1))
    monkeypatch.setitem(ARCHITECTURES, "vit_t", replace(ARCHITECTURES["vit_t"], build=partial(build_vit_t, 128)))
    torch.manual_seed(0)
    save_file(build_vit_t(128).state_dict(), tmp_path / "mobile.safetensors")
    model = load_sam("vit_t", tmp_path / "mobile.safetensors")
    name, module, inputs, free = exporting._graphs(model)[0]
    exporting._export_graph(module, inputs, free, tmp_path / name, 20)
    assert {node.op_type for node in onnx.load(tmp_path / name).graph.node} <= set(TENSORRT.split())
    adapter, pixels = random_adapter(model, 7, 0), torch.randn(1, 3, 128, 128)
    values = {"pixels": pixels.numpy(), "a": adapter.a.numpy(), "b": adapter.b.numpy()}
    (found,) = onnxruntime.InferenceSession(tmp_path / name).run(None, values)
    np.testing.assert_allclose(found, embed_images(model, pixels, adapter.low_rank), atol=1e-4)


def test_inputs_and_outputs(sam: Any, cache: Path) -> None:
    import onnx

    graph = onnx.load(folder_of(sam) / DECODER_WITH_MASKS).graph
    shapes = {
        each.name: [axis.dim_param or axis.dim_value for axis in each.type.tensor_type.shape.dim] for each in (*graph.input, *graph.output)
    }
    assert shapes == {
        "embedding": [1, 64, 16, 16],
        "points": ["objects", "tokens", 2],
        "labels": ["objects", "tokens"],
        "masks": ["objects", 1, 64, 64],
        "logits": ["objects", 64, 64],
        "iou": ["objects"],
    }
    assert onnx.load(folder_of(sam) / ENCODER).opset_import[0].version == int(key_of(sam)["opset"]) >= 18


def test_an_export_that_differs_from_torch_is_not_written(sam: Any, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "_export_graph", lambda module, inputs, free, path, opset: shutil.copy(folder_of(sam) / path.name, path))
    with pytest.raises(EngineError, match=r"differs from torch by .* nothing was written"):
        exporting.export(sam, tmp_path / "out", tolerance=1e-12)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["_export_graph", "compare"])
def test_what_a_package_raises_is_one_sentence(sam: Any, cache: Path, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exceptions of onnx and onnxruntime have no base but Exception."""
    from onnx.checker import ValidationError

    def fail(*_: Any, **__: Any) -> Any:
        raise ValidationError("No Op registered for Gelu\n==> Context: Bad node spec")

    monkeypatch.setattr(exporting, "_export_graph", lambda module, inputs, free, path, opset: shutil.copy(folder_of(sam) / path.name, path))
    monkeypatch.setattr(exporting, step, fail)
    with pytest.raises(EngineError, match=r"nothing was written; please report .* ValidationError: No Op registered for Gelu$") as caught:
        exporting.export(sam, tmp_path / "out")
    assert isinstance(caught.value.__cause__, ValidationError)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def broken(sam: Any, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the export in a cache of the test's own, to spoil."""
    shutil.copytree(cache, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("WESAM_CACHE", str(tmp_path))
    return folder_of(sam)


def test_a_whole_export_stays_unless_it_is_to_be_made_again(sam: Any, broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = broken.with_name("source")
    shutil.copytree(broken, source)
    made: list[str] = []

    def copy(module: Any, inputs: Any, free: Any, path: Path, opset: int) -> None:
        made.append(path.name)
        shutil.copy(source / path.name, path)

    monkeypatch.setattr(exporting, "_export_graph", copy)
    assert exporting.export(sam, broken, again=False) is None
    assert made == []
    (broken / DECODER).write_bytes(b"half")
    assert exporting.export(sam, broken, again=False) is not None
    assert exporting.export(sam, broken) is not None
    assert made == [ENCODER, DECODER, DECODER_WITH_MASKS] * 2


def test_an_old_opset_is_refused(sam: Any, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="at least 18, but got 17"):
        exporting.export(sam, tmp_path / "out", opset=17)


def test_publishing_is_all_or_nothing(tmp_path: Path) -> None:
    def full(folder: Path) -> dict[str, Any]:
        (folder / "half").write_bytes(b"x")
        raise OSError(28, "No space left on device")

    def whole(text: str) -> Callable[[Path], dict[str, Any]]:
        return lambda folder: {"key": {}, "n": (folder / "file").write_text(text)}

    for attempt in range(2):
        with pytest.raises(OSError, match="No space"):
            publish(tmp_path / "out", full)
        assert [path.name for path in tmp_path.iterdir()] == ["out"] * attempt
        publish(tmp_path / "out", whole(str(attempt)))
        assert (tmp_path / "out" / "file").read_text() == str(attempt)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["file", MANIFEST]


def test_of_two_at_once_one_publishes(tmp_path: Path) -> None:
    """The others wait for it, and take what it has made."""
    folder, built, inside, go = tmp_path / "out", [], threading.Event(), threading.Event()

    def build(into: Path) -> dict[str, Any]:
        built.append(threading.current_thread().name)
        inside.set()
        assert go.wait(60)
        return {"key": {}}

    threads = [threading.Thread(target=publish, args=(folder, build, folder.exists)) for _ in range(4)]
    for each in threads:
        each.start()
    assert inside.wait(60)
    go.set()
    for each in threads:
        each.join(60)
    assert len(built) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


KILLED = """
import os, sys
from pathlib import Path
from wesam_ros.engines.store import publish

def build(into):
    (into / "half").write_text("x")
    os._exit(3)

publish(Path(sys.argv[1]), build)
"""


def test_what_a_killed_process_leaves_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".out.of-another").mkdir()
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "out")], check=False)
    assert done.returncode == 3
    assert len(list(tmp_path.iterdir())) > 1
    publish(tmp_path / "out", lambda folder: {"key": {}})
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.of-another", "out"]


def test_command_says_what_it_wrote(
    sam: Any,
    small_checkpoint: Path,
    small_architecture: Architecture,
    cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = folder_of(sam)
    monkeypatch.setattr(exporting, "_export_graph", lambda module, inputs, free, path, opset: shutil.copy(source / path.name, path))
    monkeypatch.setitem(ARCHITECTURES, "tiny", small_architecture)
    words = ["export", "--checkpoint", str(small_checkpoint)]
    assert cli.main(words) == 0
    assert "has it already" in capsys.readouterr().out
    assert cli.main([*words, "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "largest error against torch" in shown
    assert "decoder_with_masks.onnx" in shown
    check(tmp_path / "out", sam)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    assert cli.main([*words, "--out", str(tmp_path / "other")]) == 2
    assert "has other files in it" in capsys.readouterr().err
