"""The adapter node in this process, with a learner that follows a script: its life cycle, its services, a frame that fails."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from threading import Event, current_thread
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

import numpy as np
import torch
from rclpy.lifecycle import TransitionCallbackReturn
from wesam_ros.msg import AdaptationStatus

from wesam_ros.adaptation import state
from wesam_ros.adaptation.admission import Admission
from wesam_ros.adaptation.guard import ADMITTED, NOT_DUE, Decision
from wesam_ros.adaptation.proposal import Proposal
from wesam_ros.adaptation.step import StepResult
from wesam_ros.data.messages import image_of
from wesam_ros.data.synchronizer import SynchronizedFrame
from wesam_ros.nodes.adapter import AdapterNode
from wesam_ros.ros import frame_request, intake
from wesam_ros.sam import Adapter, base_hash

WAIT = 60.0


class Scripted:
    """In place of a learner: the test sets what it answers."""

    def __init__(self, sam: Any) -> None:
        self.sam, self.adapter = sam, Adapter.untrained(sam, base_hash(sam), 4, seed=0)
        self.counters: Counter[str] = Counter()
        self.replay_buffer: list[Any] = []
        self.proposal = Proposal(None, Decision(NOT_DUE))
        self.stepped: Callable[[], None] = lambda: None
        self.steps = self.proposals = 0

    def observe(self, *_: Any) -> Admission:
        return Admission(True)

    def step(self) -> StepResult:
        self.steps += 1
        self.stepped()
        return StepResult({"total": 1.0}, 1, 1, 1)

    def propose(self) -> Proposal:
        self.proposals += 1
        return self.proposal

    def reset(self) -> Adapter:
        return self.adapter


@pytest.fixture
def learner(sam: Any) -> Any:
    return Scripted(sam)


@pytest.fixture
def node(graph: Any, learner: Any, tmp_path: Path) -> Iterator[AdapterNode]:
    """A node of this process that nothing spins."""
    made = AdapterNode()
    made.learning.learner = learner
    yield made
    made.intake.stop()
    made.destroy_node()


@pytest.fixture
def frame(graph: Any) -> SynchronizedFrame:
    messages = graph.frame(graph.next_header())
    return SynchronizedFrame(1, "detections", messages["detections"], messages["image"], None, None, time.monotonic())


@pytest.fixture
def statuses(node: AdapterNode, monkeypatch: pytest.MonkeyPatch) -> Queue[AdaptationStatus]:
    found: Queue[AdaptationStatus] = Queue()
    monkeypatch.setattr(node.output, "_statuses", SimpleNamespace(publish=found.put))
    return found


def test_frames_are_converted_in_the_worker_thread(
    node: AdapterNode, frame: SynchronizedFrame, statuses: Queue[AdaptationStatus], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []

    def decode(message: Any) -> Any:
        threads.append(current_thread().name)
        return image_of(message)

    monkeypatch.setattr(frame_request, "image_of", decode)
    node.intake.start()
    node.intake.offer("", frame)
    assert statuses.get(timeout=WAIT).accepted
    assert threads == [node.get_name()] != [current_thread().name]


def test_a_thread_that_is_left_behind_stops_and_has_no_successor(
    node: AdapterNode, learner: Scripted, frame: SynchronizedFrame, statuses: Queue[AdaptationStatus], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step took longer than the node waits for it: the frame's other steps are not taken, and until then nobody else computes."""
    monkeypatch.setattr(intake, "STOP_SECONDS", 0.0)
    begun, goes_on = Event(), Event()

    def waits() -> None:
        begun.set()
        goes_on.wait(WAIT)

    learner.stepped = waits
    node.intake.start()
    node.intake.offer("", frame)
    assert begun.wait(WAIT)
    node.lifecycle.close()
    unconfigured: Any = None
    assert node.on_activate(unconfigured) == TransitionCallbackReturn.FAILURE
    assert node.lifecycle.may_pass
    goes_on.set()
    assert node.intake.worker is not None and node.intake.worker.stop(WAIT)
    assert (learner.steps, learner.proposals) == (1, 0)
    node.lifecycle.close()
    assert node.intake.worker is None


def test_a_decision_that_cannot_be_kept_is_told_and_obeyed(node: AdapterNode, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    node._pause_flag.path = tmp_path / "file" / "adapter.safetensors.paused"
    node.learner_services.pause(True)
    assert node.learning.paused
    node.learner_services.pause(False)
    assert not node.learning.paused
    assert node.diagnostics.counters()["failed.save"] == 2


def test_a_reset_removes_the_saved_state_first(
    node: AdapterNode, learner: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill before the next state, or a full disk, does not bring the forgotten frames back."""
    saved = tmp_path / "adapter.safetensors"
    node.files.adapter, node.files.state = saved, tmp_path / "state"
    node.files.state.write_bytes(b"frames")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state, "save", full)
    monkeypatch.setattr(node.output, "_adapters", SimpleNamespace(publish=lambda message: None))
    assert "starts anew" in node.learner_services.reset()
    assert not node.files.state.exists()
    assert node.diagnostics.counters()["failed.save"] == 1


def test_out_of_memory_costs_the_frame_at_hand(
    node: AdapterNode,
    learner: Scripted,
    frame: SynchronizedFrame,
    statuses: Queue[AdaptationStatus],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With torch's words for it on a GPU; the adapter that was published stays, and the next frame is learnt from."""
    published: list[Any] = []
    monkeypatch.setattr(node.output, "_adapters", SimpleNamespace(publish=published.append))

    def fails() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    learner.stepped, learner.proposal = fails, Proposal(learner.adapter, Decision(ADMITTED))
    node.intake.start()
    node.intake.offer("", frame)
    told = statuses.get(timeout=WAIT)
    assert (told.state, told.reason) == (AdaptationStatus.FAILED, "OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB")
    assert np.isnan(told.validation_score)
    assert (told.frames_seen, told.frames_rejected) == (1, 0)  # it was accepted
    errors = [part["error"] for part in node._values() if "error" in part]
    assert errors == ["training failed: OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB"]
    assert node.intake.between_frames(node.diagnostics.counters)["failed.frame"] == 1
    assert not published
    learner.stepped = lambda: None
    node.intake.offer("", frame)
    told = statuses.get(timeout=WAIT)
    assert (told.state, told.accepted, told.published) == (AdaptationStatus.LEARNING, True, True)
    assert len(published) == 1
    assert not any("error" in part for part in node._values())
