"""TensorRT's engine where there is no TensorRT: the names that are used, and our side of every call.

`Double` (tensorrt_double.py) stands in for the module tensorrt. The tests show that our calls are in
order and that damage is handled, not that TensorRT keeps to its documentation.
"""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import re
import sys
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tensorrt_double import Double

from wesam_ros.engines import selection, tensorrt_engine, tensorrt_plans
from wesam_ros.engines.engine import EngineError
from wesam_ros.engines.export import random_adapter, random_prompts
from wesam_ros.engines.parity import MIN_IOU, agreement, check_parity
from wesam_ros.engines.selection import create_engine
from wesam_ros.engines.store import DECODER, ENCODER, MANIFEST, folder_of
from wesam_ros.engines.tensorrt_engine import TensorRtEngine
from wesam_ros.engines.tensorrt_plans import Platform, import_tensorrt, plan_file, plans_of
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.sam import AdapterError, Prompt, Prompts

CLASSES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "tensor": "ITensor",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
}
"""The classes that the variables of our code hold."""

NAMES = """
    Builder Builder.build_serialized_network Builder.create_builder_config Builder.create_network Builder.create_optimization_profile
    BuilderFlag.TF32 IBuilderConfig.add_optimization_profile IBuilderConfig.clear_flag IBuilderConfig.create_timing_cache
    IBuilderConfig.get_timing_cache IBuilderConfig.set_timing_cache ICudaEngine.create_execution_context ICudaEngine.get_tensor_dtype
    ICudaEngine.get_tensor_name ICudaEngine.num_io_tensors IExecutionContext.execute_async_v3 IExecutionContext.get_tensor_shape
    IExecutionContext.set_input_shape IExecutionContext.set_tensor_address ILogger ILogger.Severity ILogger.__init__
    INetworkDefinition.get_input INetworkDefinition.num_inputs IOptimizationProfile.set_shape ITensor.name ITensor.shape
    NetworkDefinitionCreationFlag.STRONGLY_TYPED OnnxParser OnnxParser.get_error OnnxParser.num_errors OnnxParser.parse_from_file
    Runtime Runtime.deserialize_cuda_engine __version__ float32 int64
"""
"""The names that our code uses; the bindings of 10.0, 10.13 and 11.4 have them all."""
OF_OTHERS = "ILogger.Severity.ERROR ILogger.Severity.INTERNAL_ERROR ILogger.Severity.WARNING ITimingCache.serialize ParserError.desc"
"""Names used through other variables, or through the result of a call."""


def used_names() -> set[str]:
    found = set()
    for module in (tensorrt_plans, tensorrt_engine):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            chain: list[str] = []
            while isinstance(node, ast.Attribute):
                chain.insert(0, node.attr)
                node = node.value
            chain = [node.id, *chain] if isinstance(node, ast.Name) else []
            for index, name in enumerate(chain[:-1]):  # platform.trt.Runtime, self.context.set_input_shape
                if name in ("trt", *CLASSES):
                    found.add(".".join([CLASSES[name], *chain[index + 1 :]] if name in CLASSES else chain[index + 1 :]))
    return found


def test_the_list_of_names_is_what_is_used() -> None:
    prefixes = {"BuilderFlag", "NetworkDefinitionCreationFlag"}  # of names that are in the list with what is taken from them
    assert used_names() - prefixes == set(NAMES.split())


def test_tensorrt_has_the_names() -> None:
    trt = pytest.importorskip("tensorrt", reason="TensorRT is not installed: the names that are used are not looked up in it here")
    for name in f"{NAMES} {OF_OTHERS}".split():
        value = trt
        for part in name.split("."):
            assert hasattr(value, part), name
            value = getattr(value, part)


@pytest.fixture
def trt(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Double:
    """The double, on a GPU that is the CPU, with a cache of the test's own that holds the export."""
    double = Double()
    (tmp_path / "onnx").symlink_to(cache / "onnx")
    monkeypatch.setenv("WESAM_CACHE", str(tmp_path))
    stream = SimpleNamespace(wait_stream=lambda other: None, synchronize=lambda: None, cuda_stream=7)
    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda device: stream)
    for name in ("device", "stream"):
        monkeypatch.setattr(torch.cuda, name, lambda given: nullcontext())
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)

    def of(device: torch.device) -> Platform:
        errors: deque[str] = deque(maxlen=3)
        return Platform(double, torch.device("cpu"), "Double", "8.7", tensorrt_plans._logger(double, errors), errors)

    monkeypatch.setattr(Platform, "of", of)
    return double


def load(sam: Any, sentences: list[str] | None = None, *, build: bool = True) -> TensorRtEngine:
    return TensorRtEngine.load(sam, folder_of(sam), build=build, say=(sentences if sentences is not None else []).append)


def test_our_calls_give_the_masks_of_torch(small_sam: Any, trt: Double) -> None:
    """All forms of prompts in three calls, one object with more points than a plan takes, adapters in turn, and the gate."""
    engine, reference, size = load(small_sam), TorchEngine(small_sam), (96, 128)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    rng = np.random.default_rng(1)
    points = (rng.uniform(0, 1, (70, 2)) * (size[1], size[0])).astype(np.float32)
    many = Prompt(points=points, point_labels=rng.integers(0, 2, 70))
    prompts = Prompts(size, (many, *random_prompts(size, 80, rng).objects))
    adapters = None, random_adapter(small_sam, 4, 0), random_adapter(small_sam, 64, 1)
    trt.addresses.clear()
    for adapter in (*adapters, adapters[1], adapters[1]):
        expected, found = reference.encode(image, adapter), engine.encode(image, adapter)
        difference = (found.features - expected.features).abs().max() / expected.features.abs().max()
        assert difference < 0.02
    uploaded = [call["a"] for call in trt.addresses]
    assert len(set(uploaded[:3])) == 3
    assert uploaded[3] == uploaded[4]
    trt.addresses.clear()
    masks, other = reference.decode(expected, prompts), engine.decode(expected, prompts)
    assert len(trt.addresses) == 4  # 46 objects without masks, 34 with, at most 32 at a time
    np.testing.assert_allclose(other.low_res[0], masks.low_res[0], atol=1e-7)  # torch's own
    np.testing.assert_allclose(other.low_res, masks.low_res, atol=0.02 * abs(masks.low_res).max())
    np.testing.assert_allclose(other.scores, masks.scores, atol=0.02 * abs(masks.scores).max())
    assert agreement(masks, other).iou.min() >= MIN_IOU["float16"]
    assert engine.capabilities.precision == "float16"
    for adapter in adapters[:2]:
        assert check_parity(engine, reference, adapter).iou.min() >= MIN_IOU["float16"]
    with pytest.raises(AdapterError, match="belongs to a model with hash"):
        engine.encode(image, replace(random_adapter(small_sam, 4, 0), base="0" * 64))
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.encode(image)


def test_plans_are_built_once_for_all_shapes(small_sam: Any, trt: Double, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no plans have been built for TensorRT 11.0.double on Double; .*`wesam doctor --model tiny"):
        load(small_sam, build=False)
    load(small_sam)
    assert trt.built == ["encoder.onnx", "decoder.onnx", "decoder_with_masks.onnx"]
    shapes = {name: shape for profile in trt.profiles for name, shape in profile.items()}
    assert shapes["a"] == ((1, 256), (4, 256), (64, 256))
    assert shapes["b"] == ((256, 1), (256, 4), (256, 64))
    assert shapes["points"] == ((1, 1, 2), (10, 2, 2), (32, 64, 2))
    assert shapes["masks"] == ((1, 1, 64, 64), (10, 1, 64, 64), (32, 1, 64, 64))
    load(small_sam, build=False)
    assert len(trt.built) == 3
    assert [path.read_bytes() for path in (tmp_path / "tensorrt").glob("timings-*")] == [b"timings"]


def the_folder(sam: Any) -> Path:
    return plans_of(sam, folder_of(sam), Platform.of(sam.device), build=False)


def rewrite(folder: Path, data: bytes) -> None:
    """A plan that is what the manifest says, but not what TensorRT loads."""
    name = plan_file(DECODER)
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / plan_file(ENCODER)).write_bytes(b"plan"), "missing, truncated or changed; its plans are built again"),
        (lambda folder: (folder / MANIFEST).write_text("[]"), "cannot be read"),
        (lambda folder: rewrite(folder, b"foreign"), "does not load .*the plan is of another version; the plans are built again"),
        (lambda folder: rewrite(folder, (folder / plan_file(ENCODER)).read_bytes()), "is not a plan of the exported decoder.onnx"),
    ],
)
def test_damaged_plans_are_built_again(small_sam: Any, trt: Double, spoil: Callable[[Path], Any], sentence: str) -> None:
    load(small_sam)
    spoil(the_folder(small_sam))
    sentences: list[str] = []
    load(small_sam, sentences, build=False)
    assert any(re.search(sentence, each) for each in sentences), sentences
    assert len(trt.built) == 6


def test_other_versions_have_plans_of_their_own(small_sam: Any, trt: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    load(small_sam)
    monkeypatch.setattr(trt, "__version__", "11.1.double")
    with pytest.raises(EngineError, match=r"no plans have been built for TensorRT 11\.1"):
        load(small_sam, build=False)


@pytest.mark.parametrize(
    ("switch", "sentence"),
    [
        ("reads", "cannot read encoder.onnx: no importer for Gelu; report"),
        ("builds", "cannot build encoder.onnx: no kernel found; report"),
        ("loads", "does not load .*: the plan is of another version"),
    ],
)
def test_where_tensorrt_fails_its_reason_is_given(small_sam: Any, trt: Double, switch: str, sentence: str) -> None:
    setattr(trt, switch, False)
    with pytest.raises(EngineError, match=sentence):
        load(small_sam)


def test_a_full_disk_leaves_nothing_and_torch_serves(small_sam: Any, trt: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensorrt_plans, "to_half_precision", full)
    with pytest.raises(OSError, match="No space left"):
        create_engine(small_sam, "tensorrt", [].append)
    assert list((tmp_path / "tensorrt").iterdir()) == []


def test_timings_that_do_not_fit_are_left(small_sam: Any, trt: Double, tmp_path: Path) -> None:
    path = tmp_path / "tensorrt" / "timings-11.0.double-8.7.cache"
    path.parent.mkdir()
    path.write_bytes(b"of another GPU")
    load(small_sam)
    assert path.read_bytes() == b"timings"


# Which engine is taken


class OnGpu:
    """A model that says that it is on a GPU."""

    def __init__(self, sam: Any) -> None:
        self._sam = sam

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sam, name)


def test_auto_on_a_gpu_says_why_not_tensorrt(small_sam: Any, cache: Path) -> None:
    if _installed():
        pytest.skip("TensorRT is installed here: nothing to say of it missing")
    sam: Any = OnGpu(small_sam)
    taken = create_engine(sam, "auto", [].append)
    assert isinstance(taken.engine, TorchEngine)
    assert taken.refused[0].startswith("tensorrt: tensorrt cannot be imported")
    assert taken.refused[1].startswith("compiled: nobody has measured it")
    assert taken.refused[2].startswith("onnxruntime: nobody has measured it")


def _installed() -> bool:
    try:
        import_tensorrt()
    except EngineError:
        return False
    return True


def test_on_a_gpu_auto_takes_tensorrt_once_its_plans_are_built(small_sam: Any, trt: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "TorchEngine", lambda sam: TorchEngine(small_sam))
    sam: Any = OnGpu(small_sam)
    before = create_engine(sam, "auto", [].append)
    assert isinstance(before.engine, TorchEngine)
    assert "tensorrt: no plans have been built" in before.refused[0]
    sentences: list[str] = []
    assert isinstance(create_engine(sam, "tensorrt", sentences.append).engine, TensorRtEngine)
    assert any("tensorrt agrees with torch" in each for each in sentences)
    after = create_engine(sam, "auto", [].append)
    assert isinstance(after.engine, TensorRtEngine)
    assert after.refused == ()
    assert len(trt.built) == 3
    monkeypatch.delattr(Double, "Runtime")  # as bindings of a version that nobody here knows
    last = create_engine(sam, "auto", [].append)
    assert isinstance(last.engine, TorchEngine)
    assert "AttributeError: 'Double' object has no attribute 'Runtime'" in last.refused[0]


@pytest.mark.parametrize(("version", "sentence"), [("8.6.1", "TensorRT 8.6.1 is too old"), (None, "without a version is too old")])
def test_old_versions_are_refused(version: str | None, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(**({"__version__": version} if version else {})))
    with pytest.raises(EngineError, match=sentence):
        import_tensorrt()


def test_tensorrt_on_a_cpu_is_refused(small_sam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_plans, "import_tensorrt", Double)
    with pytest.raises(EngineError, match="needs an NVIDIA GPU, but the model is on cpu; set device to cuda"):
        create_engine(small_sam, "tensorrt", [].append)


def test_what_tensorrt_says_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    trt, errors = Double(), deque[str]()
    logger = tensorrt_plans._logger(trt, errors)
    with caplog.at_level(logging.WARNING):
        for severity in trt.ILogger.Severity:
            logger.log(severity, severity.name)
    assert list(errors) == ["INTERNAL_ERROR", "ERROR"]
    assert [record.message for record in caplog.records] == [f"TensorRT: {name}" for name in ("INTERNAL_ERROR", "ERROR", "WARNING")]
