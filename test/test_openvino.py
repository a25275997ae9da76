"""OpenVINO's own: precision, compiled files in the cache, devices. What every engine does is in test_engines.py and test_selection.py."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wesam_ros.engines import openvino_engine
from wesam_ros.engines.engine import EngineError
from wesam_ros.engines.export import random_adapter
from wesam_ros.engines.openvino_engine import BLOB, FIXED_RANK, OpenVinoEngine
from wesam_ros.engines.parity import check_parity, scene
from wesam_ros.engines.selection import create_engine
from wesam_ros.engines.store import MANIFEST, folder_of, publish
from wesam_ros.engines.torch_engine import TorchEngine

pytest.importorskip("openvino", reason="needs openvino: pip install -e '.[openvino]'")


@pytest.fixture
def folder(small_sam: Any, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the export in a cache of the test's own, where nothing has been compiled."""
    shutil.copytree(exported / "onnx", tmp_path / "onnx")
    monkeypatch.setenv("WESAM_CACHE", str(tmp_path))
    return folder_of(small_sam)


@pytest.mark.parametrize(("abilities", "expected"), [(("FP32", "BF16"), "bfloat16"), (("FP32", "INT8"), "float32")])
def test_the_processor_decides_the_precision(
    small_sam: Any, folder: Path, abilities: tuple[str, ...], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openvino

    class Core(openvino.Core):  # type: ignore[misc] # a class of a module without types
        def get_property(self, device: str, name: str) -> Any:
            return abilities if name == "OPTIMIZATION_CAPABILITIES" else super().get_property(device, name)

    monkeypatch.setattr(openvino, "Core", Core)
    engine = OpenVinoEngine.load(small_sam, folder)
    assert engine.capabilities.precision == expected
    assert check_parity(engine, TorchEngine(small_sam), random_adapter(small_sam, 4, 0)).iou.min() >= 0.97


def test_where_half_precision_does_not_agree_full_precision_serves(small_sam: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_engine._Compiler, "precision", lambda self, device: "f32" if self._wanted else "bf16")
    monkeypatch.setitem(__import__("wesam_ros.engines.parity", fromlist=["MIN_IOU"]).MIN_IOU, "bfloat16", 1.01)
    sentences: list[str] = []
    engine = create_engine(small_sam, "openvino", sentences.append).engine
    assert str(engine.capabilities).endswith("on cpu in float32")
    assert any(each.startswith("openvino computes in float32, since with the frozen model, the masks") for each in sentences)


def test_an_engine_for_fixed_shapes_equals_torch(small_sam: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An NPU has these: adapters are filled up to one rank."""
    monkeypatch.setattr(openvino_engine, "FIXED_SHAPES", ("CPU",))
    engine = OpenVinoEngine(small_sam, folder, precision="float32")
    for adapter in (None, random_adapter(small_sam, 3, 0)):
        assert check_parity(engine, TorchEngine(small_sam), adapter).logits < 1e-3
    with pytest.raises(EngineError, match=f"rank is at most {FIXED_RANK}, but this one has {FIXED_RANK + 1}"):
        engine.segment(*scene(), random_adapter(small_sam, FIXED_RANK + 1, 0))


def truncate(folder: Path) -> None:
    (folder / BLOB).write_bytes((folder / BLOB).read_bytes()[:1000])


def junk(folder: Path) -> None:
    """A file that is what the manifest says, but nothing that OpenVINO can take."""

    def build(into: Path) -> dict[str, Any]:
        (into / BLOB).write_bytes(b"of another version")
        return {"key": {}}

    publish(folder, build)


@pytest.mark.parametrize(
    ("spoil", "compiled"),
    [
        (lambda folder: None, False),
        (truncate, True),
        (junk, True),
        (lambda folder: (folder / MANIFEST).write_text("{"), True),
        (lambda folder: (folder / BLOB).unlink(), True),
        (shutil.rmtree, True),
    ],
    ids=["whole", "truncated", "junk", "manifest", "missing", "removed"],
)
def test_compiled_files_are_kept_and_made_again_where_they_are_broken(
    small_sam: Any, folder: Path, spoil: Callable[[Path], Any], compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, prompts = scene()
    first = OpenVinoEngine.load(small_sam, folder).segment(image, prompts)
    kept = sorted((folder.parents[1] / "openvino").iterdir())
    assert len(kept) == 3
    spoil(kept[0])
    made: list[Path] = []
    keep = openvino_engine._keep

    def keeping(blob: Any, place: Path) -> None:
        made.append(place)
        keep(blob, place)

    monkeypatch.setattr(openvino_engine, "_keep", keeping)
    again = OpenVinoEngine.load(small_sam, folder).segment(image, prompts)
    np.testing.assert_array_equal(again.low_res, first.low_res)
    assert made == ([kept[0]] if compiled else [])
    assert json.loads((kept[0] / MANIFEST).read_text())["files"]


def test_without_a_place_for_compiled_files_it_serves(small_sam: Any, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder.parents[1] / "openvino").write_text("no folder")
    with caplog.at_level(logging.WARNING):
        OpenVinoEngine.load(small_sam, folder).warm_up()
    assert "OpenVINO compiles again at the next start" in caplog.text


@pytest.mark.parametrize(
    ("choice", "device", "sentence"),
    [
        ("openvino", "openvino:GPU.7", r"finds no device GPU\.7 here, only CPU"),
        ("onnxruntime", "openvino:GPU", "engine must be auto or openvino where device is openvino:GPU, but got 'onnxruntime'"),
    ],
)
def test_devices_that_cannot_be(small_sam: Any, folder: Path, choice: str, device: str, sentence: str) -> None:
    with pytest.raises(EngineError, match=sentence):
        create_engine(small_sam, choice, device=device)


def test_auto_on_a_device_that_is_not_here_takes_torch(small_sam: Any, folder: Path) -> None:
    selection = create_engine(small_sam, device="openvino:GPU.7")
    assert isinstance(selection.engine, TorchEngine)
    assert [each.split(":")[0] for each in selection.refused] == ["openvino"]
