"""What the adapter node does and says with each outcome of a frame, with a learner that follows a script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

import numpy as np
import torch
from rclpy.lifecycle import TransitionCallbackReturn
from std_msgs.msg import Header
from wesam_ros.msg import AdaptationStatus

from wesam_ros.adaptation import state
from wesam_ros.adaptation.guard import Comparison, ValidationScore
from wesam_ros.adaptation.learner import Admission, Proposal
from wesam_ros.adaptation.step import StepResult
from wesam_ros.nodes import adapter as adapter_module
from wesam_ros.nodes.adapter import AdapterNode, unjudged
from wesam_ros.ros import frame_node
from wesam_ros.ros.frame_node import Conversion
from wesam_ros.ros.saving import LearnerFiles
from wesam_ros.ros.synchronizer import SynchronizedFrame
from wesam_ros.sam import Adapter, base_hash
from wesam_ros.worker import Worker


class Scripted:
    """In place of a learner: the test sets what it answers."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.counters: Counter[str] = Counter()
        self.replay_buffer: list[Any] = []
        self.admission, self.proposal = Admission(True), Proposal(None, "not_due")
        self.stepped: Callable[[], None] = lambda: None
        self.steps = self.proposals = 0
        self.measured = 1

    def observe(self, *_: Any) -> Admission:
        return self.admission

    def step(self) -> StepResult:
        self.steps += 1
        self.stepped()
        return StepResult({"total": 1.0}, 1, self.measured, self.measured)

    def propose(self) -> Proposal:
        self.proposals += 1
        return self.proposal

    def reset(self) -> Adapter:
        return self.adapter


@pytest.fixture
def learner(sam: Any) -> Scripted:
    return Scripted(Adapter.untrained(sam, base_hash(sam), 4, seed=0))


@pytest.fixture
def node(graph: Any, learner: Any) -> Iterator[AdapterNode]:
    """A node of this process that nothing spins."""
    made = AdapterNode()
    made._learner = learner
    yield made
    made.destroy_node()


def learnt(node: AdapterNode) -> AdaptationStatus:
    """The status of one more frame."""
    frame: Any = SimpleNamespace(frame=None, request=SimpleNamespace(prompts=None), joined=SimpleNamespace(source="detections"))
    status = unjudged(Header())
    node._learn(frame, status)
    return status


def test_no_step_without_new_frames_after_a_while(node: AdapterNode, learner: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_module, "STALE_STEPS", 4)
    learner.admission = Admission(False, "no_prompts")
    reasons = [learnt(node).reason for _ in range(4)]
    assert reasons == ["no_prompts"] * 2 + ["no_prompts, nothing_new"] * 2
    assert learner.steps == 2 * node.parameters.steps_per_frame == 4
    assert learner.proposals == 4  # what is served may have to be withdrawn still
    assert node.diagnostics.counters()["nothing_new"] == 2
    learner.admission = Admission(True)
    assert learnt(node).reason == ""
    learner.admission = Admission(False, "no_prompts")
    assert learnt(node).reason == "no_prompts"
    assert learner.steps == 8


def test_frames_that_nothing_is_learnt_from_are_told(node: AdapterNode, learner: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_module, "UNTRUSTED_STEPS", 4)
    learner.measured = 0
    assert learnt(node).reason == "nothing_trusted"
    assert "warning" not in node.state()
    assert learnt(node).reason == "nothing_trusted"
    assert "nothing is learnt" in node.state()["warning"]
    learner.measured = 1
    assert learnt(node).reason == ""
    assert "warning" not in node.state()


def test_boxes_that_do_not_belong_to_the_depth_are_told_of(node: AdapterNode, learner: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each robot by itself: frames of another one, between, change nothing."""
    monkeypatch.setattr(adapter_module, "MISPLACED_FRAMES", 2)

    def learnt_from(robot: str, admission: Admission) -> dict[str, str]:
        learner.admission = admission
        node.worker = SimpleNamespace(source=f"{robot}/detections", run_calls=lambda: None, stopping=False)  # type: ignore[assignment]
        assert learnt(node).reason == admission.reason
        node.worker = None
        return node.state()

    misplaced = Admission(False, "misplaced_boxes", (-32.0, 19.4))
    assert "warning" not in learnt_from("/a", misplaced)
    assert "warning" not in learnt_from("/b", Admission(True))
    told = learnt_from("/a", misplaced)
    assert "nothing is learnt from /a" in told["warning"]
    assert told["boxes_off_by/a"] == "-32 19"
    assert "/a" in learnt_from("/b", misplaced)["warning"]
    assert node.diagnostics.counters()["frames_rejected.misplaced_boxes"] == 3
    told = learnt_from("/a", Admission(True))
    assert not {"warning", "boxes_off_by/a"} & told.keys()


def test_a_thread_that_is_left_behind_stops_and_has_no_successor(
    node: AdapterNode, learner: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step took longer than the node waits for it: the frame's other steps are not taken, and until then nobody else computes."""
    monkeypatch.setattr(frame_node, "STOP_SECONDS", 0.0)
    begun, goes_on = Event(), Event()

    def waits() -> None:
        begun.set()
        goes_on.wait(10)

    def learn(_: Any) -> None:
        learnt(node)

    learner.stepped = waits
    node.worker = worker = Worker("test", learn, node._failed, node._dropped)
    worker.offer("detections", "frame")
    assert begun.wait(10)
    node.close()
    state: Any = None
    assert node.on_activate(state) == TransitionCallbackReturn.FAILURE
    goes_on.set()
    node.worker.stop(10)
    assert (learner.steps, learner.proposals) == (1, 0)
    node.close()
    assert node.worker is None


def test_a_pause_ends_the_steps_of_the_frame_at_hand(node: AdapterNode, learner: Scripted) -> None:
    def pause() -> None:
        node._paused = True

    learner.stepped = pause
    learnt(node)
    assert (learner.steps, learner.proposals) == (1, 0)


def test_a_decision_that_cannot_be_kept_is_told_and_obeyed(node: AdapterNode, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    node._pause_mark = tmp_path / "file" / "adapter.safetensors.paused"
    assert not node.remembered(node._pause_mark)
    node._pause(True)
    assert node._paused and not node.remembered(node._pause_mark)
    node._pause(False)
    assert not node._paused
    assert node.diagnostics.counters()["failed.save"] == 2


def test_refusals_and_goings_back_are_told(node: AdapterNode, learner: Scripted) -> None:
    judged = Comparison(ValidationScore(0.1, 0.5, 9), ValidationScore(0.9, 0.75, 9), ValidationScore(0.8, 1.0, 9))
    learner.proposal = Proposal(None, "worse_fit (0.1 after 0.9)", judged)
    status = learnt(node)
    assert status.proposal_reason == "worse_fit (0.1 after 0.9)"
    assert (status.validation_score, status.validation_score_published, status.validation_score_frozen, status.agreement) == pytest.approx(
        (0.1, 0.9, 0.8, 0.5)
    )
    assert node.state()["last_refusal"] == "worse_fit (0.1 after 0.9)"
    learner.stepped = lambda: learner.counters.update(["restored: refused"])
    assert learnt(node).proposal_reason == "worse_fit (0.1 after 0.9), restored.refused"
    learner.proposal = Proposal(None, "not_due")
    learner.stepped = lambda: learner.counters.update(["restored: not_finite"])
    status = learnt(node)
    assert status.proposal_reason == "restored.not_finite"
    assert np.isnan([status.validation_score, status.validation_score_published, status.validation_score_frozen, status.agreement]).all()
    assert node.state()["guard.fit_frozen"] == "0.800"  # the last that were judged
    steps = node.parameters.steps_per_frame
    counters = node.diagnostics.counters()
    assert (counters["restored.refused"], counters["restored.not_finite"], counters["candidates_refused"]) == (steps, steps, 2)


def test_a_reset_removes_the_saved_state_first(
    node: AdapterNode, learner: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill before the next state, or a full disk, does not bring the forgotten frames back."""
    node._files = LearnerFiles(tmp_path / "adapter.safetensors", node.diagnostics, node.get_logger())
    assert node._files.state is not None
    node._files.state.write_bytes(b"frames")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state, "save", full)
    assert "starts anew" in node._reset()
    assert not node._files.state.exists()
    assert node.diagnostics.counters()["failed.save"] == 1


def test_out_of_memory_costs_the_frame_at_hand(graph: Any, node: AdapterNode, learner: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch says it on a GPU; the adapter that was published stays, and the next frame is learnt from."""
    statuses: Queue[AdaptationStatus] = Queue()
    published: list[Any] = []
    monkeypatch.setattr(node, "_status", SimpleNamespace(publish=statuses.put))
    monkeypatch.setattr(node, "_adapters", SimpleNamespace(publish=published.append))
    messages = graph.frame(graph.next_header())
    frame = Conversion(SynchronizedFrame(1, "detections", messages["detections"], messages["image"], None, None, 0.0), node._values)

    def fails() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    worker = Worker("test", node._process, node._failed, node._dropped)
    learner.stepped, learner.proposal = fails, Proposal(learner.adapter, "admitted")
    worker.offer("detections", frame)
    told = statuses.get(timeout=10)
    assert (told.state, told.reason) == (AdaptationStatus.FAILED, "OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB")
    assert np.isnan(told.validation_score)
    assert "training failed: OutOfMemoryError" in node.state()["error"]
    assert worker.call(node.diagnostics.counters).result(10)["failed.frame"] == 1
    assert not published
    learner.stepped = lambda: None
    worker.offer("detections", frame)
    told = statuses.get(timeout=10)
    assert (told.state, told.accepted, told.published) == (AdaptationStatus.LEARNING, True, True)
    assert len(published) == 1
    assert "error" not in node.state()
    assert worker.stop(10)


def test_a_frame_is_converted_once_whoever_asks() -> None:
    converted: list[Any] = []

    def convert(joined: Any) -> Any:
        converted.append(joined)
        raise ValueError("no pixels")

    conversion = Conversion("joined", convert)
    with ThreadPoolExecutor(4) as pool:
        errors = [each.exception(10) for each in [pool.submit(conversion.result) for _ in range(8)]]
    assert [str(each) for each in errors] == ["no pixels"] * 8
    assert converted == ["joined"]
