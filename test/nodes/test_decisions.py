"""What the adapter node does and says with each outcome of a frame, with a learner that follows a script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

from wesam_ros.msg import AdaptationStatus

from wesam_ros.adaptation import state
from wesam_ros.adaptation.learner import Proposal, Verdict
from wesam_ros.adaptation.step import StepResult
from wesam_ros.nodes import adapter as adapter_module
from wesam_ros.nodes.adapter import AdapterNode
from wesam_ros.nodes.saving import LearnerFiles
from wesam_ros.sam import Adapter, base_hash


class Scripted:
    """In place of a learner: the test sets what it answers."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.counters: Counter[str] = Counter()
        self.memory: list[Any] = []
        self.verdict, self.proposal = Verdict(True), Proposal(None, "not_due")
        self.stepped: Callable[[], None] = lambda: None
        self.steps = self.proposals = 0

    def observe(self, *_: Any) -> Verdict:
        return self.verdict

    def step(self) -> StepResult:
        self.steps += 1
        self.stepped()
        return StepResult({"total": 1.0}, 1)

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
    frame: Any = SimpleNamespace(frame=None, request=SimpleNamespace(prompts=None))
    status = AdaptationStatus()
    node._learn(frame, status)
    return status


def test_no_step_without_new_frames_after_a_while(node: AdapterNode, learner: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_module, "STALE_STEPS", 4)
    learner.verdict = Verdict(False, "no_prompts")
    reasons = [learnt(node).reason for _ in range(4)]
    assert reasons == ["no_prompts"] * 2 + ["no_prompts, nothing_new"] * 2
    assert learner.steps == 2 * node.parameters.steps_per_frame == 4
    assert node.diagnostics.counters()["nothing_new"] == 2
    learner.verdict = Verdict(True)
    assert learnt(node).reason == ""
    learner.verdict = Verdict(False, "no_prompts")
    assert learnt(node).reason == "no_prompts"
    assert learner.steps == 8


def test_a_pause_ends_the_steps_of_the_frame_at_hand(node: AdapterNode, learner: Scripted) -> None:
    def pause() -> None:
        node._paused = True

    learner.stepped = pause
    learnt(node)
    assert (learner.steps, learner.proposals) == (1, 0)


def test_refusals_and_goings_back_are_told(node: AdapterNode, learner: Scripted) -> None:
    learner.proposal = Proposal(None, "worse_fit (0.1 after 0.9)")
    assert learnt(node).proposal_reason == "worse_fit (0.1 after 0.9)"
    assert node.state()["last_refusal"] == "worse_fit (0.1 after 0.9)"
    learner.stepped = lambda: learner.counters.update(["restored: refused"])
    assert learnt(node).proposal_reason == "worse_fit (0.1 after 0.9), restored.refused"
    learner.proposal = Proposal(None, "not_due")
    learner.stepped = lambda: learner.counters.update(["restored: not_finite"])
    assert learnt(node).proposal_reason == "restored.not_finite"
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
