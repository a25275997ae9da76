"""The parity gate for adapters that arrive while an engine serves: its results and its end, and a segmenter whose engine goes wrong."""

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

from wesam_ros.data.messages import image_of
from wesam_ros.engines.engine import Capabilities, Engine
from wesam_ros.engines.parity import scene
from wesam_ros.engines.parity_monitor import NICENESS, ParityMonitor
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.ros.objects import mask_of
from wesam_ros.ros.subscriptions import LATCHED
from wesam_ros.sam import Adapter, Masks, Prompts, base_hash

FAILING_LATER, WRONG, FAILING = 6, 7, 8
SECONDS = 180.0
"""The longest wait for what takes a second on an idle machine."""


class Altered(Engine):
    """A torch of its own that goes wrong with two adapters, and with a third one only while it serves."""

    def __init__(self, sam: Any, *, concurrent: bool) -> None:
        super().__init__(sam)
        self.torch, self.concurrent, self.asked = TorchEngine(copy.deepcopy(sam)), concurrent, threading.local()
        self.alone = threading.Lock()  # its torch takes one adapter at a time, and it says that it takes two
        self.places: list[tuple[str, int]] = []
        self.running, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities("altered", "1", "cpu")

    def _embed(self, pixels: torch.Tensor, adapter: Any) -> torch.Tensor:
        self.asked.version = version = adapter.version if adapter else 0
        name = threading.current_thread().name
        self.places.append((name, os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
        self.running.set()
        assert self.go_on.wait(SECONDS)
        if version == FAILING or (version == FAILING_LATER and name != "gate"):
            raise RuntimeError("out of memory")
        with self.alone:
            return self.torch._embed(pixels, adapter)

    def _decode(self, features: torch.Tensor, prompts: Prompts) -> tuple[torch.Tensor, torch.Tensor]:
        logits, scores = self.torch._decode(features, prompts)
        return torch.ones_like(logits) if self.asked.version == WRONG else logits, scores

    def warm_up(self) -> None:
        print("the engine is warmed up", flush=True)
        super().warm_up()


SEGMENTER = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_parity_monitor import Altered
from wesam_ros.engines import serving
from wesam_ros.engines.selection import Selection
from wesam_ros.nodes import segmenter

def create_engine(sam, *_, adapter, device):
    print("an engine is made to begin with adapter", adapter and adapter.version, flush=True)
    return Selection(Altered(sam, concurrent=True))

serving.create_engine = create_engine
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
@pytest.mark.usefixtures("one_object")
def test_results(sam: Any, adapter: Adapter, concurrent: bool, version: int, sentence: str) -> None:
    results: Queue[tuple[int, str | None]] = Queue()
    between = []

    def between_frames(call: Callable[[], Masks]) -> Masks:
        between.append(threading.current_thread().name)
        return call()

    engine = Altered(sam, concurrent=concurrent)
    gate = ParityMonitor(engine, between_frames, lambda adapter, refusal: results.put((adapter.version, refusal)), pytest.fail)
    gate.offer(adapter)
    assert results.get(timeout=SECONDS) == (1, None)
    gate.offer(replace(adapter, version=version))
    found, refusal = results.get(timeout=SECONDS)
    assert found == version
    assert refusal.startswith(sentence)
    gate.offer(replace(adapter, version=9))  # after a refusal there is nothing to check
    assert gate.stop(SECONDS)
    assert results.empty()
    assert engine.places == [("gate", max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))] * 2
    assert between == ([] if concurrent else ["gate"] * 2)


@pytest.fixture
def one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate's frame has one object."""
    image, prompts = scene()
    monkeypatch.setattr("wesam_ros.engines.parity.scene", lambda: (image, prompts.select(np.array([0]))))


@pytest.mark.usefixtures("one_object")
def test_the_end_of_the_thread_that_serves_tells_nothing(sam: Any, adapter: Adapter) -> None:
    failures: Queue[Exception] = Queue()

    def between_frames(call: Callable[[], Masks]) -> Masks:
        raise RuntimeError("the node is not active; activate it first")

    gate = ParityMonitor(Altered(sam, concurrent=False), between_frames, lambda *_: pytest.fail("a result"), failures.put)
    gate.offer(adapter)
    assert "not active" in str(failures.get(timeout=SECONDS))
    assert gate.stop(SECONDS)


@pytest.mark.usefixtures("one_object")
def test_after_its_end_a_gate_calls_nobody_and_leaves_torch_alone(sam: Any, adapter: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends while the engine computes, such as where that has failed with a frame."""
    results: list[Any] = []
    engine = Altered(sam, concurrent=True)
    engine.go_on.clear()
    gate = ParityMonitor(engine, lambda call: call(), lambda *result: results.append(result), results.append)
    gate.offer(replace(adapter, version=WRONG))
    assert engine.running.wait(SECONDS)
    gate.end()
    monkeypatch.setattr(TorchEngine, "segment", lambda *_: results.append("torch is used"))
    gate.offer(adapter)
    engine.go_on.set()
    assert gate.stop(SECONDS)
    assert results == []


@pytest.fixture
def segmenter(graph: Any, random_tiny: Path, adapter: Adapter, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    graph.diagnostics.clear()  # of an earlier test's segmenter
    (tmp_path / "node.py").write_text(SEGMENTER)
    replace(adapter, version=3).save(tmp_path / "adapter.safetensors")
    parameters = ["-p", f"checkpoint:={random_tiny}", "-p", "torch_threads:=1", "-p", "refine:=off"]
    parameters += ["-p", f"adapter:={tmp_path / 'adapter.safetensors'}"]
    command = [sys.executable, str(tmp_path / "node.py"), "--ros-args", *parameters]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=tmp_path) as process:
        try:
            graph.until(lambda: process.poll() is not None or graph.publishers["detections"].get_subscription_count(), "the start", SECONDS)
            assert process.poll() is None, (tmp_path / "log").read_text()
            yield process
        finally:
            process.terminate()
            process.wait(SECONDS)


@pytest.fixture
def publish(graph: Any, adapter: Adapter) -> Iterator[Callable[[int], Adapter]]:
    """Publishes the adapter under a version, for the segmenter of one test."""
    publisher = graph.node.create_publisher(AdapterMessage, "adapter", LATCHED)

    def publish_as(version: int) -> Adapter:
        taken = replace(adapter, version=version)
        publisher.publish(AdapterMessage(version=version, base_hash=taken.base, data=array("B", taken.to_bytes())))
        return taken

    yield publish_as
    graph.node.destroy_publisher(publisher)


def state(graph: Any) -> dict[str, str]:
    return dict(graph.diagnostics.get("/segmenter", {}))


def is_torchs(graph: Any, sam: Any, adapter: Adapter) -> bool:
    """True where the segmenter's masks of a frame are those of torch with an adapter."""
    frame = graph.frame(graph.next_header())
    graph.send(**frame)
    result = graph.masks_of(frame["image"].header)
    assert result.adapter_version == adapter.version
    size = (120, 160)
    prompts = Prompts.from_boxes(np.stack([each.box for each in result.objects]), size)
    masks = TorchEngine(sam).segment(image_of(frame["image"]), prompts, adapter).masks
    found = np.stack([mask_of(each.mask, size) for each in result.objects])
    assert not masks.all()
    return bool((found != masks).mean() < 1e-3)


@pytest.mark.usefixtures("segmenter")
def test_torch_serves_when_the_engine_is_wrong_with_an_adapter(graph: Any, sam: Any, publish: Callable[[int], Adapter]) -> None:
    publish(1)
    graph.until(lambda: state(graph).get("adapter_version") == "1", "the segmenter's taking the adapter", SECONDS)
    graph.until(lambda: graph.count("segmenter", "checked.adapter"), "the check of an adapter", SECONDS)
    assert state(graph)["engine"].startswith("altered 1")
    assert "engine.refused" not in state(graph)
    assert graph.answer().adapter_version == 1

    taken = publish(WRONG)
    graph.until(lambda: graph.count("segmenter", "refused.engine"), "the refusal of the engine", SECONDS)
    assert state(graph)["engine"].startswith("torch")
    assert "altered: with adapter version 7, the masks of altered" in state(graph)["engine.refused"]
    assert is_torchs(graph, sam, taken)


def test_torch_serves_the_frame_that_the_engine_fails_with(
    graph: Any, sam: Any, publish: Callable[[int], Adapter], segmenter: Any, tmp_path: Path
) -> None:
    """The engine is made for the adapter from the file, and warmed up before the node is active."""
    assert graph.answer().adapter_version == 3
    log = (tmp_path / "log").read_text()
    assert log.index("an engine is made to begin with adapter 3") < log.index("the engine is warmed up") < log.index("active: tiny")

    taken = publish(FAILING_LATER)
    graph.until(lambda: graph.versions and graph.versions[-1] == FAILING_LATER, "the segmenter's taking the adapter", SECONDS)
    assert is_torchs(graph, sam, taken)
    graph.until(lambda: graph.count("segmenter", "refused.engine"), "the refusal of the engine", SECONDS)
    assert state(graph)["engine"].startswith("torch")
    assert "altered: altered 1 on cpu in float32 fails: RuntimeError: out of memory" in state(graph)["engine.refused"]
    assert graph.count("segmenter", "refused.engine") == 1
    assert not graph.count("segmenter", "failed.frame")
