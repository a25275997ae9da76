"""The choice of an engine: the parity gate that it has to pass, and the race against torch."""

from __future__ import annotations

import builtins
import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wesam_ros.engines import CHOICES
from wesam_ros.engines.engine import Capabilities, Engine, EngineError
from wesam_ros.engines.export import random_adapter
from wesam_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from wesam_ros.engines.parity import agreement, check_parity, scene
from wesam_ros.engines.selection import Selection, create_engine
from wesam_ros.engines.store import DECODER, DECODER_WITH_MASKS, ENCODER, MANIFEST, folder_of, publish
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.sam import Masks, Prompts

NEEDS_OPENVINO = "needs openvino: pip install -e '.[openvino]'"


@pytest.fixture(scope="session")
def sam(small_sam: Any) -> Any:
    return small_sam


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
    """Sets how long each engine seems to take for its frames; the last one's time is that of all further ones. Others take for ever."""
    left = {name: list(times) for name, times in seconds.items()}

    def next_of(engine: Engine) -> float:
        times = left.get(engine.capabilities.name, [9.0])
        return times.pop(0) if len(times) > 1 else times[0]

    monkeypatch.setattr("wesam_ros.engines.selection._seconds", next_of)


def why_not(selection: Selection, name: str) -> list[str]:
    """The reasons that an engine was refused for."""
    return [sentence.removeprefix(f"{name}: ") for sentence in selection.refused if sentence.startswith(f"{name}: ")]


def test_auto_takes_onnxruntime_where_it_agrees_and_is_faster(sam: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    takes({"torch": [0.2], "onnxruntime": [0.1]}, monkeypatch)
    sentences: list[str] = []
    selection = create_engine(sam, "auto", sentences.append)
    assert selection.engine.capabilities.name == "onnxruntime"
    assert why_not(selection, "onnxruntime") == []
    assert sentences[-1].startswith("engine: onnxruntime 1")
    assert any(sentence.startswith("onnxruntime agrees with torch") for sentence in sentences)


@pytest.mark.parametrize(
    ("openvino_takes", "onnxruntime_takes", "taken"),
    [(0.05, 0.08, "openvino"), (0.08, 0.05, "onnxruntime"), (0.2, 0.3, "torch"), (0.09, 0.3, "openvino")],
)
def test_auto_takes_the_fastest(
    sam: Any, cache: Path, openvino_takes: float, onnxruntime_takes: float, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason=NEEDS_OPENVINO)
    takes({"torch": [0.1], "openvino": [openvino_takes], "onnxruntime": [onnxruntime_takes]}, monkeypatch)
    first, again = create_engine(sam), create_engine(sam)
    assert first.engine.capabilities.name == again.engine.capabilities.name == taken
    assert len(first.refused) == len(again.refused) == (2 if taken == "torch" else 0)


def test_auto_takes_torch_where_onnxruntime_is_slower(sam: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    takes({"torch": [0.1], "onnxruntime": [0.2]}, monkeypatch)
    selection = create_engine(sam, "auto")
    assert selection.engine.capabilities.name == "torch"
    assert why_not(selection, "onnxruntime") == [
        f"not faster on this machine than torch by 5%, with 200 and 100 ms for a frame of 12 objects on {date.today()} "
        "(`wesam export --again` has it measured anew); if you want it all the same, set engine to its name",
    ]


@pytest.mark.parametrize(("takes_first", "taken"), [(0.2, "torch"), (0.05, "onnxruntime")])
def test_which_is_faster_is_measured_once(sam: Any, broken: Path, takes_first: float, taken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    takes({"torch": [0.1], "onnxruntime": [takes_first]}, monkeypatch)
    before = create_engine(sam, "auto")
    takes({"torch": [], "onnxruntime": []}, monkeypatch)  # whatever is measured now fails
    after = create_engine(sam, "auto")
    assert after.engine.capabilities.name == before.engine.capabilities.name == taken
    assert after.refused == before.refused
    threads = torch.get_num_threads()
    other = "torch" if taken == "onnxruntime" else "onnxruntime"
    takes({taken: [0.2], other: [0.1]}, monkeypatch)
    try:
        torch.set_num_threads(threads + 1)
        assert create_engine(sam, "auto").engine.capabilities.name == other  # it may be otherwise with more threads
    finally:
        torch.set_num_threads(threads)
    for file in broken.glob("race-*.json"):
        file.write_text("{}")
    assert create_engine(sam, "auto").engine.capabilities.name == other


def test_where_nothing_can_be_remembered_it_is_said(sam: Any, broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    takes({"torch": [0.1], "onnxruntime": [0.2]}, monkeypatch)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("wesam_ros.engines.selection.write_atomically", full)
    sentences: list[str] = []
    assert create_engine(sam, "auto", sentences.append).engine.capabilities.name == "torch"
    assert any("cannot be written (No space left on device): the next start measures again" in sentence for sentence in sentences)


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
    sentences: list[str] = []
    selection = create_engine(sam, "auto", sentences.append)
    assert isinstance(selection.engine, TorchEngine)
    assert "onnxruntime cannot be imported" in sentences[-1]
    assert "pip install -e '.[onnx]'" in sentences[-1]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"onnx, onnxscript, onnxruntime not installed.*\.\[onnx\]"):
        create_engine(sam, "onnxruntime", sentences.append)


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
    assert [sentence.split(":")[0] for sentence in selection.refused] == ["openvino", "onnxruntime"]


def test_an_engine_that_disagrees_is_refused(sam: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: OnnxRuntimeEngine, features: torch.Tensor, prompts: Prompts) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.ones(len(prompts), 64, 64), torch.ones(len(prompts))

    monkeypatch.setattr(OnnxRuntimeEngine, "_decode", wrong)
    takes({"torch": [0.1]}, monkeypatch)
    selection = create_engine(sam)
    assert isinstance(selection.engine, TorchEngine)
    assert "do not agree with torch" in why_not(selection, "onnxruntime")[0]
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
    assert engine.closed == 3  # by its name, and in place of each engine that auto tries


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
    assert broken.closed == sound.closed == 2
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
