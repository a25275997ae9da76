"""Engines against torch: the decoder for all objects at once, ONNX Runtime, the gate, and which engine is taken."""

from __future__ import annotations

import builtins
import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wesam_ros.engines import CHOICES
from wesam_ros.engines.compiled_engine import CompiledEngine
from wesam_ros.engines.engine import Capabilities, Engine, EngineError
from wesam_ros.engines.export import random_adapter, random_prompts
from wesam_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from wesam_ros.engines.parity import MIN_IOU, agreement, check_parity, scene
from wesam_ros.engines.selection import create_engine
from wesam_ros.engines.store import DECODER, DECODER_WITH_MASKS, ENCODER, MANIFEST, folder_of, publish
from wesam_ros.engines.tensorrt_engine import TensorRtEngine
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.sam import AdapterError, Masks, Prompt, Prompts, upscale
from wesam_ros.sam.decoder import ABSENT, FIRST_CORNER, NO_POINT, ON, SECOND_CORNER, TOGETHER, decode_together, prompt_tokens
from wesam_ros.sam.predictor import decode
from wesam_ros.sam.upscaling import masks_from_logits

SIZES = [(480, 640), (481, 333), (37, 1000), (512, 512)]


@pytest.fixture(scope="session")
def sam(small_sam: Any) -> Any:
    return small_sam


def image_of(size: tuple[int, int]) -> Any:
    return np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), dtype=np.uint8)


def boxes(size: tuple[int, int], count: int) -> Prompts:
    rng = np.random.default_rng(count)
    corner = rng.uniform(0, 0.6, (count, 2))
    return Prompts.from_boxes(np.hstack([corner, corner + rng.uniform(0.1, 0.4, (count, 2))]) * [*size[::-1], *size[::-1]], size)


def forms(size: tuple[int, int]) -> dict[str, Prompts]:
    """Prompts of one form each, and all of them mixed."""
    rng = np.random.default_rng(sum(size))
    mixed = random_prompts(size, 7, rng)
    names = ("box", "points", "box and points", "mask", "box and mask", "points and mask", "all three")
    return {**{name: mixed.select(np.array([i])) for i, name in enumerate(names)}, "mixed": mixed, "boxes": boxes(size, 20)}


# Upscaling


@pytest.mark.parametrize("size", [*SIZES, (5, 1), (20, 30), (1100, 700)])
def test_masks_from_logits_equal_upscaling(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(sum(size))
    noise = torch.randn(2, 128, 128, generator=generator)
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    discs = torch.stack([3 - torch.hypot(y - row, x - column) for row, column in ((0, 0), (60, 20), (127, 127), (3, 90))])
    low_res = torch.cat([noise, discs, torch.full((1, 128, 128), -1.0), torch.ones(1, 128, 128)])
    logits = upscale(low_res, size, 512)
    masks, within = masks_from_logits(low_res, size, 512)
    differs = masks != (logits > 0).numpy()
    assert not (differs & (logits.abs() > 1e-5).numpy()).any()
    rest = np.zeros(len(masks), np.float32), low_res.numpy()
    assert Masks(masks, *rest, within).crops == Masks(masks, *rest).crops


def test_no_logits_give_no_masks() -> None:
    assert masks_from_logits(torch.zeros(0, 128, 128), (48, 64), 512)[0].shape == (0, 48, 64)


# The decoder


def test_tokens_of_mixed_prompts() -> None:
    box, point = np.array([10, 20, 30, 40], np.float32), np.array([[5, 6]], np.float32)
    mask = np.ones((100, 200), bool)
    one = np.array([1])
    prompts = Prompts((100, 200), (Prompt(box), Prompt(points=point, point_labels=one), Prompt(box, point, one), Prompt(mask=mask)))
    points, labels = prompt_tokens(prompts, 400)
    assert labels.tolist() == [
        [FIRST_CORNER, SECOND_CORNER, ABSENT],
        [ON, NO_POINT, ABSENT],
        [ON, FIRST_CORNER, SECOND_CORNER],
        [ABSENT, ABSENT, ABSENT],
    ]
    np.testing.assert_array_equal(points[2], [[10, 12], [20, 40], [60, 80]])


@pytest.mark.parametrize("size", SIZES)
def test_decoder_equals_segment_anything(sam: Any, size: tuple[int, int]) -> None:
    """Masks, scores, and what training takes from them: the gradient in the embedding."""
    features = TorchEngine(sam).encode(image_of(size)).features
    for form, prompts in forms(size).items():
        found = []
        for decoding in (decode, decode_together):
            embedding = features.clone().requires_grad_()
            logits, iou = decoding(sam, embedding, prompts)
            (logits.sigmoid().mean() + iou.mean()).backward()
            assert embedding.grad is not None
            found.append((logits.detach(), iou.detach(), embedding.grad / embedding.grad.abs().max()))
        for expected, actual in zip(*found, strict=True):
            np.testing.assert_allclose(actual, expected, atol=1e-4, err_msg=form)


def test_decoder_takes_any_number_of_objects_with_and_without_gradients(sam: Any) -> None:
    sam = copy.deepcopy(sam)  # not decoded with before
    features = TorchEngine(sam).encode(image_of((48, 64))).features
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(0, 48, (TOGETHER["cpu"] + 3, 2, 2)), 1).reshape(-1, 4).astype(np.float32)
    prompts = Prompts.from_boxes(corners + np.array([0, 0, 2, 2], np.float32), (50, 64))
    with torch.inference_mode():
        for expected, actual in zip(decode(sam, features, prompts), decode_together(sam, features, prompts), strict=True):
            np.testing.assert_allclose(actual, expected, atol=1e-4)
        assert [len(each) for each in decode_together(sam, features, Prompts((50, 64), ()))] == [0, 0]
    decode_together(sam, features.clone().requires_grad_(), prompts)[0].sum().backward()


# What every engine does


def load_compiled(sam: Any) -> Engine:
    """Without compiling the graphs that torch traces, which takes minutes; with a GPU also in half precision and with CUDA graphs."""
    return CompiledEngine(copy.deepcopy(sam).cuda() if torch.cuda.is_available() else sam, "eager")


def load_onnxruntime(sam: Any) -> Engine:
    return OnnxRuntimeEngine.load(sam, folder_of(sam))


def load_tensorrt(sam: Any) -> Engine:
    pytest.importorskip("tensorrt", reason="TensorRT is not installed: its engine is not held against torch here")
    if not torch.cuda.is_available():
        pytest.skip("torch has no GPU here: the engine of TensorRT is not held against torch")
    return TensorRtEngine.load(copy.deepcopy(sam).cuda(), folder_of(sam))


LOAD = [
    pytest.param(load_compiled, id="compiled"),
    pytest.param(load_onnxruntime, id="onnxruntime"),
    pytest.param(load_tensorrt, id="tensorrt"),
]
CLOSE = {"float32": 1e-4, "float16": 0.02}
"""The largest difference from torch, as a share of the largest value (at least 1)."""


@pytest.fixture(params=LOAD)
def load(request: pytest.FixtureRequest, cache: Path) -> Callable[[Any], Engine]:
    loading: Callable[[Any], Engine] = request.param
    return loading


@pytest.fixture
def engine(sam: Any, load: Callable[[Any], Engine]) -> Engine:
    return load(sam)


@pytest.mark.parametrize("size", SIZES)
def test_every_engine_equals_torch(sam: Any, engine: Engine, size: tuple[int, int]) -> None:
    """Embeddings with no adapter and with random ones of three ranks; each form of prompts, and all mixed."""
    image, reference = image_of(size), TorchEngine(sam)
    rank = 1 + 5 * SIZES.index(size)
    for adapter in (None, random_adapter(sam, rank, seed=rank)):
        expected = reference.encode(image, adapter)
        found = engine.encode(image, adapter)
        assert_close(found.features.cpu(), expected.features, engine)
        assert found.adapter_version == (0 if adapter is None else 1)
    for form, prompts in forms(size).items():
        masks, other = reference.decode(expected, prompts), engine.decode(found, prompts)
        assert_close(other.low_res, masks.low_res, engine, form)
        assert_close(other.scores, masks.scores, engine, form)
        assert agreement(masks, other).iou.min() >= MIN_IOU[engine.capabilities.precision], form


def assert_close(found: Any, expected: Any, engine: Engine, form: str = "") -> None:
    tolerance = CLOSE[engine.capabilities.precision] * max(1.0, float(abs(expected).max()))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=form)


def test_no_prompts_give_no_masks(engine: Engine) -> None:
    masks = engine.segment(image_of((48, 64)), Prompts((48, 64), ()))
    assert masks.masks.shape == (0, 48, 64)


def test_same_frame_same_masks(sam: Any, engine: Engine, load: Callable[[Any], Engine]) -> None:
    """In one engine after other work, and in another one."""
    image, prompts = image_of((48, 64)), boxes((48, 64), 9)
    first = engine.segment(image, prompts)
    engine.segment(image_of((30, 40)), boxes((30, 40), 3), random_adapter(sam, 4, 0))
    for each in (engine, load(sam)):
        np.testing.assert_array_equal(each.segment(image, prompts).low_res, first.low_res)


def test_adapters_are_swapped_from_frame_to_frame(sam: Any, engine: Engine) -> None:
    image = image_of((48, 64))
    adapters = [None, random_adapter(sam, 4, 0), random_adapter(sam, 2, 1)]
    once = [engine.encode(image, each).features for each in adapters]
    again = [engine.encode(image, each).features for each in adapters]
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not torch.allclose(once[0], once[1], atol=1e-4)
    assert not torch.allclose(once[1], once[2], atol=1e-4)


@pytest.mark.parametrize("make", [TorchEngine, *LOAD])
def test_every_engine_refuses_the_same(sam: Any, cache: Path, make: Callable[[Any], Engine]) -> None:
    each = make(sam)
    with pytest.raises(AdapterError, match="belongs to a model with hash 0000"):
        each.encode(image_of((48, 64)), replace(random_adapter(sam, 4, 0), base="0" * 64))
    with pytest.raises(ValueError, match=r"image of \(10, 10\)"):
        each.decode(each.encode(image_of((48, 64))), Prompts((10, 10), ()))
    each.warm_up()
    each.close()


def test_a_closed_engine_says_so(engine: Engine) -> None:
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.encode(image_of((48, 64)))


# The gate


class Altered(Engine):
    """Torch, with logits changed."""

    def __init__(self, sam: Any, change: Callable[[torch.Tensor], torch.Tensor], precision: str = "float32") -> None:
        super().__init__(sam)
        self.torch, self.change, self.precision = TorchEngine(sam), change, precision

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities("altered", "1", "cpu", self.precision)

    def _embed(self, pixels: torch.Tensor, adapter: Any) -> torch.Tensor:
        return self.torch._embed(pixels, adapter)

    def _decode(self, features: torch.Tensor, prompts: Prompts) -> tuple[torch.Tensor, torch.Tensor]:
        logits, scores = self.torch._decode(features, prompts)
        return self.change(logits), scores


def test_the_frame_of_the_gate_has_all_forms_of_prompts() -> None:
    image, prompts = scene()
    assert image.shape == (480, 640, 3)
    assert {(each.box is not None, len(each.points), each.mask is not None) for each in prompts.objects} == {
        (True, 0, False),
        (False, 2, False),
        (True, 0, True),
    }


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda logits: logits + 1e-6, None),
        (lambda logits: torch.cat([logits[:-1], -logits[-1:]]), r"do not agree with torch: IoU 0\.\d+ for object 11"),
        (lambda logits: torch.full_like(logits, float("nan")), "not finite"),
    ],
)
def test_gate(sam: Any, change: Callable[[torch.Tensor], torch.Tensor], sentence: str | None) -> None:
    if sentence is None:
        assert check_parity(Altered(sam, change), TorchEngine(sam), None).iou.min() >= 0.99
    else:
        with pytest.raises(EngineError, match=sentence):
            check_parity(Altered(sam, change), TorchEngine(sam), None)


def test_what_is_not_the_engines_fault_is_no_refusal(sam: Any) -> None:
    def stopped(compute: Callable[[], Masks]) -> Masks:
        raise RuntimeError("the node is not active")

    with pytest.raises(RuntimeError, match="not active"):
        check_parity(TorchEngine(sam), TorchEngine(sam), None, stopped)


def test_agreement_of_empty_masks_is_full() -> None:
    empty = Masks(np.zeros((2, 4, 4), bool), np.zeros(2, np.float32), np.zeros((2, 1, 1), np.float32))
    one = Masks(np.stack([np.zeros((4, 4), bool), np.ones((4, 4), bool)]), empty.scores, empty.low_res)
    assert agreement(empty, empty).iou.tolist() == [1, 1]
    assert agreement(empty, one).iou.tolist() == [1, 0]


# Which engine is taken


def takes(seconds: dict[str, list[float]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets how long each engine seems to take for its frames; the last one's time is that of all further ones."""
    left = {name: list(times) for name, times in seconds.items()}

    def next_of(engine: Engine) -> float:
        times = left[engine.capabilities.name]
        return times.pop(0) if len(times) > 1 else times[0]

    monkeypatch.setattr("wesam_ros.engines.selection._seconds", next_of)


def test_auto_takes_onnxruntime_where_it_agrees_and_is_faster(sam: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    takes({"torch": [0.2], "onnxruntime": [0.1]}, monkeypatch)
    said: list[str] = []
    selection = create_engine(sam, "auto", said.append)
    assert selection.engine.capabilities.name == "onnxruntime"
    assert selection.refused == ()
    assert said[-1].startswith("engine: onnxruntime 1")
    assert "agrees with torch" in said[0]


def test_auto_takes_torch_where_onnxruntime_is_slower(sam: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    takes({"torch": [0.1], "onnxruntime": [0.2]}, monkeypatch)
    selection = create_engine(sam, "auto")
    assert selection.engine.capabilities.name == "torch"
    assert selection.refused == (
        "onnxruntime: not faster on this machine than torch by 5%, with 200 and 100 ms for a frame of 12 objects; if you want it all the "
        "same, set engine to its name",
    )


@pytest.mark.parametrize(
    ("torch_takes", "onnxruntime_takes", "taken"),
    [
        ([0.1], [0.9, 0.09], "onnxruntime"),  # what disturbed one frame does not decide
        ([0.9, 0.1], [0.2], "torch"),
        ([0.1], [0.096], "torch"),  # a tie
        ([0.1], [0.094], "onnxruntime"),
    ],
)
def test_auto_decides_by_the_least_of_some_frames(
    sam: Any, cache: Path, torch_takes: list[float], onnxruntime_takes: list[float], taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes({"torch": torch_takes, "onnxruntime": onnxruntime_takes}, monkeypatch)
    assert create_engine(sam, "auto").engine.capabilities.name == taken


def test_auto_times_both(sam: Any, cache: Path) -> None:
    selection = create_engine(sam, "auto")
    assert (selection.engine.capabilities.name == "torch") == any(
        "not faster on this machine" in sentence for sentence in selection.refused
    )


def without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `import name` fail as where the package is not installed."""
    found = builtins.__import__

    def importing(wanted: str, *args: Any, **kwargs: Any) -> Any:
        if wanted.split(".")[0] == name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return found(wanted, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", importing)


def test_without_onnxruntime_torch_serves(sam: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without("onnxruntime", monkeypatch)
    monkeypatch.setenv("WESAM_CACHE", str(tmp_path))
    said: list[str] = []
    selection = create_engine(sam, "auto", said.append)
    assert isinstance(selection.engine, TorchEngine)
    assert "onnxruntime cannot be imported" in said[-1]
    assert "pip install 'wesam_ros[onnx]'" in said[-1]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"onnx, onnxscript, onnxruntime not installed.*wesam_ros\[onnx\]"):
        create_engine(sam, "onnxruntime", said.append)


@pytest.fixture
def broken(sam: Any, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the export in a cache of the test's own, to spoil."""
    shutil.copytree(cache, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("WESAM_CACHE", str(tmp_path))
    return folder_of(sam)


def truncate(folder: Path) -> None:
    (folder / ENCODER).write_bytes((folder / ENCODER).read_bytes()[:1000])


def change_a_byte(folder: Path) -> None:
    data = bytearray((folder / DECODER).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / DECODER).write_bytes(data)


def of_another_model(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["key"]["weights"] = "f" * 64
    (folder / MANIFEST).write_text(json.dumps(manifest))


def no_onnx(folder: Path) -> None:
    """A file that is what the manifest says, but nothing that can be loaded."""
    for path in folder.glob("*.onnx"):
        path.write_bytes(b"not a model")
    manifest = json.loads((folder / MANIFEST).read_text())
    shutil.move(folder, folder.with_name("spoilt"))
    spoilt = folder.with_name("spoilt")

    def build(into: Path) -> dict[str, Any]:
        for path in spoilt.glob("*.onnx"):
            shutil.copy(path, into)
        return {"key": manifest["key"]}

    publish(folder, build)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (truncate, "encoder.onnx is not what was written"),
        (change_a_byte, "decoder.onnx is not what was written"),
        (of_another_model, "holds a model with hash ffffffffffff"),
        (no_onnx, "cannot load .*encoder.onnx"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "cannot be read"),
        (lambda folder: (folder / MANIFEST).write_text("[]"), "cannot be read"),
        (lambda folder: (folder / DECODER_WITH_MASKS).unlink(), "missing, truncated or changed"),
        (shutil.rmtree, "there is no exported model .*`wesam export --model tiny`"),
    ],
)
def test_broken_files_are_refused_and_torch_serves(sam: Any, broken: Path, spoil: Callable[[Path], Any], sentence: str) -> None:
    spoil(broken)
    with pytest.raises(EngineError, match=sentence):
        OnnxRuntimeEngine.load(sam, broken)
    selection = create_engine(sam)
    assert isinstance(selection.engine, TorchEngine)
    assert len(selection.refused) == 1


def test_an_engine_that_disagrees_is_refused(sam: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: OnnxRuntimeEngine, features: torch.Tensor, prompts: Prompts) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.ones(len(prompts), 64, 64), torch.ones(len(prompts))

    monkeypatch.setattr(OnnxRuntimeEngine, "_decode", wrong)
    selection = create_engine(sam)
    assert isinstance(selection.engine, TorchEngine)
    assert "do not agree with torch" in selection.refused[0]
    with pytest.raises(EngineError, match="do not agree with torch"):
        create_engine(sam, "onnxruntime")


class Faulty(Altered):
    """Torch, with all logits positive, or an exception, in one state: as if the engine took no notice of some adapter, or of there being
    none. Version 1 is the random adapter's."""

    def __init__(self, sam: Any, version: int, fault: Exception | None = None) -> None:
        super().__init__(sam, lambda logits: torch.ones_like(logits) if self.hit else logits)
        self.version, self.fault, self.hit, self.closed = version, fault, False, 0

    def _embed(self, pixels: torch.Tensor, adapter: Any) -> torch.Tensor:
        self.hit = self.version == (adapter.version if adapter else 0)
        if self.hit and self.fault is not None:
            raise self.fault
        return super()._embed(pixels, adapter)

    def close(self) -> None:
        self.closed += 1
        if self.fault is not None:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.mark.parametrize(
    ("version", "sentence"),
    [(0, "with the frozen model, the masks"), (1, "with a random adapter, the masks"), (7, "with adapter version 7, the masks")],
)
def test_an_engine_agrees_in_every_state_that_may_serve(sam: Any, version: int, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, given = Faulty(sam, version), replace(random_adapter(sam, 4, 3), version=7)
    monkeypatch.setattr("wesam_ros.engines.selection._exported", lambda *_, **__: engine)
    monkeypatch.setattr("wesam_ros.engines.selection._seconds", lambda engine: 1.0)
    with pytest.raises(EngineError, match=sentence):
        create_engine(sam, "onnxruntime", adapter=given)
    selection = create_engine(sam, adapter=given)
    assert isinstance(selection.engine, TorchEngine)
    assert sentence in selection.refused[0]
    assert engine.closed == 2


@pytest.mark.parametrize("fault", [TypeError("incompatible function arguments"), AttributeError("no attribute 'execute_async_v3'")])
def test_whatever_an_engine_raises_torch_serves(sam: Any, fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is made, while it is checked, and while it is timed; even if it does not close then."""

    def making(*_: Any, **__: Any) -> Engine:
        raise fault

    def timing(engine: Engine) -> float:
        raise fault

    sound, broken = Faulty(sam, 99), Faulty(sam, 0, fault)
    for made in (making, lambda *_, **__: broken, lambda *_, **__: sound):
        monkeypatch.setattr("wesam_ros.engines.selection._exported", made)
        monkeypatch.setattr("wesam_ros.engines.selection._seconds", timing)
        selection = create_engine(sam)
        assert isinstance(selection.engine, TorchEngine)
        assert f"{type(fault).__name__}: {fault}" in selection.refused[0]
    assert broken.closed == sound.closed == 1
    monkeypatch.setattr("wesam_ros.engines.selection._exported", making)
    with pytest.raises(EngineError, match="it failed on cpu: ") as caught:
        create_engine(sam, "onnxruntime")
    assert caught.value.__cause__ is fault


def test_choices(sam: Any) -> None:
    assert isinstance(create_engine(sam, "torch").engine, TorchEngine)
    with pytest.raises(EngineError, match=f"must be one of {', '.join(CHOICES)}, but got 'tensorflow'"):
        create_engine(sam, "tensorflow")
    with pytest.raises(EngineError, match="compiled serves models on cuda, but this one is on cpu"):
        create_engine(sam, "compiled")
