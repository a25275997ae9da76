"""The parity gate for adapters that arrive while an engine serves: its verdicts, and a segmenter whose engine is wrong with one of them."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import threading
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

import torch
from wesam_ros.msg import Adapter as AdapterMessage

from wesam_ros.engines.engine import Capabilities, Engine
from wesam_ros.engines.parity import scene
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.nodes.conversions import image_of
from wesam_ros.nodes.gate import NICENESS, AdapterGate
from wesam_ros.nodes.objects import mask_of
from wesam_ros.sam import Adapter, Masks, Prompts, base_hash

WRONG, FAILING = 7, 8
SECONDS = 180.0
"""The longest wait for what takes a second on an idle machine."""


class Altered(Engine):
    """A torch of its own that goes wrong with two adapters."""

    def __init__(self, sam: Any, *, concurrent: bool) -> None:
        super().__init__(sam)
        self.torch, self.concurrent, self.version = TorchEngine(copy.deepcopy(sam)), concurrent, 0
        self.places: list[tuple[str, int]] = []

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities("altered", "1", "cpu")

    def _embed(self, pixels: torch.Tensor, adapter: Any) -> torch.Tensor:
        self.version = adapter.version if adapter else 0
        self.places.append((threading.current_thread().name, os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
        if self.version == FAILING:
            raise RuntimeError("out of memory")
        return self.torch._embed(pixels, adapter)

    def _decode(self, features: torch.Tensor, prompts: Prompts) -> tuple[torch.Tensor, torch.Tensor]:
        logits, scores = self.torch._decode(features, prompts)
        return torch.ones_like(logits) if self.version == WRONG else logits, scores


SEGMENTER = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_gate import Altered
from wesam_ros.engines.selection import Selection
from wesam_ros.nodes import segmenter

segmenter.create_engine = lambda sam, *_: Selection(Altered(sam, concurrent=True))
sys.exit(segmenter.main())
"""
"""The node as it is, with an engine of ours."""


@pytest.fixture(scope="module")
def adapter(sam: Any) -> Adapter:
    fresh = Adapter.untrained(sam, base_hash(sam), rank=2, seed=0)
    return replace(fresh, b=torch.randn(fresh.b.shape, generator=torch.Generator().manual_seed(0)) * 0.1, version=1)


@pytest.mark.parametrize(
    ("concurrent", "version", "sentence"),
    [
        (True, WRONG, "with adapter version 7, the masks of altered 1 on cpu in float32 do not agree with torch"),
        (False, FAILING, "with adapter version 8, altered 1 on cpu in float32 fails: RuntimeError: out of memory"),
    ],
)
def test_verdicts(sam: Any, adapter: Adapter, concurrent: bool, version: int, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image, prompts = scene()
    monkeypatch.setattr("wesam_ros.engines.parity.scene", lambda: (image, prompts.select(np.array([0]))))
    verdicts: Queue[tuple[int, str | None]] = Queue()
    between = []

    def between_frames(call: Callable[[], Masks]) -> Masks:
        between.append(threading.current_thread().name)
        return call()

    engine = Altered(sam, concurrent=concurrent)
    gate = AdapterGate(engine, between_frames, lambda adapter, refusal: verdicts.put((adapter.version, refusal)), pytest.fail)
    gate.offer(adapter)
    assert verdicts.get(timeout=SECONDS) == (1, None)
    gate.offer(replace(adapter, version=version))
    found, refusal = verdicts.get(timeout=SECONDS)
    assert found == version
    assert refusal.startswith(sentence)
    gate.offer(replace(adapter, version=9))  # after a refusal there is nothing to check
    assert gate.stop(SECONDS)
    assert verdicts.empty()
    assert engine.places == [("gate", max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))] * 2
    assert between == ([] if concurrent else ["gate"] * 2)


@pytest.fixture
def segmenter(graph: Any, random_tiny: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    (tmp_path / "node.py").write_text(SEGMENTER)
    parameters = ["-p", f"checkpoint:={random_tiny}", "-p", "torch_threads:=1"]
    command = [sys.executable, str(tmp_path / "node.py"), "--ros-args", *parameters]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=tmp_path) as process:
        try:
            graph.until(lambda: process.poll() is not None or graph.publishers["detections"].get_subscription_count(), "the start", SECONDS)
            assert process.poll() is None, (tmp_path / "log").read_text()
            yield process
        finally:
            process.terminate()
            process.wait(SECONDS)


@pytest.mark.usefixtures("segmenter")
def test_torch_serves_when_the_engine_is_wrong_with_an_adapter(graph: Any, sam: Any, adapter: Adapter, adapter_publisher: Any) -> None:
    def publish(version: int) -> Adapter:
        taken = replace(adapter, version=version)
        message = AdapterMessage(version=version, base_hash=taken.base, data=array("B", taken.to_bytes()))
        adapter_publisher.publish(message)
        return taken

    def state() -> dict[str, str]:
        return dict(graph.diagnostics.get("/segmenter", {}))

    publish(1)
    graph.until(lambda: graph.count("segmenter", "checked.adapter"), "the check of an adapter", SECONDS)
    assert state()["engine"].startswith("altered 1")
    assert "engine.refused" not in state()
    assert graph.answer().adapter_version == 1

    taken = publish(WRONG)
    graph.until(lambda: graph.count("segmenter", "refused.engine"), "the refusal of the engine", SECONDS)
    assert state()["engine"].startswith("torch")
    assert "altered: with adapter version 7, the masks of altered" in state()["engine.refused"]

    frame = graph.frame(graph.next_header())
    graph.send(**frame)
    result = graph.masks_of(frame["image"].header)
    assert result.adapter_version == WRONG
    size = (120, 160)
    prompts = Prompts.from_boxes(np.stack([each.box for each in result.objects]), size)
    masks = TorchEngine(sam).segment(image_of(frame["image"]), prompts, taken).masks
    found = np.stack([mask_of(each.mask, size) for each in result.objects])
    assert (found != masks).mean() < 1e-3
    assert not masks.all()
