"""The outcome of each frame, with a learner that follows a script, and the status that is made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

import numpy as np
from std_msgs.msg import Header
from wesam_ros.msg import AdaptationStatus

from wesam_ros.adaptation.admission import MISPLACED_BOXES, NO_PROMPTS, Admission
from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.guard import ADMITTED, BELOW_FROZEN, NOT_DUE, WORSE_SCORE, Decision
from wesam_ros.adaptation.proposal import Proposal
from wesam_ros.adaptation.step import StepResult
from wesam_ros.adaptation.validation import Comparison, ValidationScore
from wesam_ros.ros import learning as learning_module
from wesam_ros.ros.adapter_output import learnt_status
from wesam_ros.ros.learning import NOT_FINITE, NOTHING_NEW, NOTHING_TRUSTED, REJECTED, FrameOutcome, Learning

STEPS = 2
NO_STEP = Proposal(None, Decision(NOT_DUE))


class Scripted:
    """In place of a learner: the test sets what it answers."""

    def __init__(self) -> None:
        self.adapter = SimpleNamespace(version=3)
        self.config = AdaptationConfig()
        self.counters: Counter[str] = Counter()
        self.admission, self.proposal = Admission(True), NO_STEP
        self.stepped: Callable[[], None] = lambda: None
        self.steps = self.proposals = 0
        self.measured, self.restored = 1, False

    def observe(self, *_: Any) -> Admission:
        return self.admission

    def step(self) -> StepResult:
        self.steps += 1
        self.stepped()
        return StepResult({"total": 1.0}, 1, self.measured, self.measured, self.restored)

    def propose(self) -> Proposal:
        self.proposals += 1
        return self.proposal


@pytest.fixture
def learner() -> Any:
    return Scripted()


@pytest.fixture
def published() -> list[Any]:
    return []


@pytest.fixture
def learning(learner: Any, counts: Any, published: list[Any]) -> Learning:
    found = Learning(counts, published.append, lambda: False)
    found.learner = learner
    return found


def learnt(learning: Learning, robot: str = "") -> FrameOutcome:
    """The outcome of one more frame."""
    request: Any = SimpleNamespace(frame=None, objects=SimpleNamespace(prompts=None), source=f"{robot}/detections", robot=robot)
    return learning.learn(request, AdaptationConfig(), STEPS)


def status_of(outcome: FrameOutcome) -> AdaptationStatus:
    return learnt_status(Header(), outcome)


def test_no_step_without_new_frames_after_a_while(
    learning: Learning, learner: Scripted, counts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning_module, "STALE_STEPS", 4)
    learner.admission = Admission(False, NO_PROMPTS)
    outcomes = [learnt(learning) for _ in range(4)]
    assert [each.notes for each in outcomes] == [[], [], [NOTHING_NEW], [NOTHING_NEW]]
    assert status_of(outcomes[-1]).reason == "no_prompts, nothing_new"
    assert learner.steps == 2 * STEPS == 4
    assert learner.proposals == 4  # the published adapter may have to be withdrawn still
    assert counts["nothing_new"] == 2
    learner.admission = Admission(True)
    assert status_of(learnt(learning)).reason == ""
    learner.admission = Admission(False, NO_PROMPTS)
    assert status_of(learnt(learning)).reason == "no_prompts"
    assert learner.steps == 8


def test_frames_that_nothing_is_learnt_from_are_told(learning: Learning, learner: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning_module, "UNTRUSTED_STEPS", 4)
    learner.measured = 0
    assert learnt(learning).notes == [NOTHING_TRUSTED]
    assert not learning.values()["warning"]
    assert learnt(learning).notes == [NOTHING_TRUSTED]
    assert "nothing is learnt" in learning.values()["warning"]
    learner.measured = 1
    assert learnt(learning).notes == []
    assert not learning.values()["warning"]


def test_boxes_that_do_not_belong_to_the_depth_are_told_of(
    learning: Learning, learner: Scripted, counts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each robot by itself: frames of another one, between, change nothing."""
    monkeypatch.setattr(learning_module, "MISPLACED_FRAMES", 2)

    def learnt_from(robot: str, admission: Admission) -> dict[str, str]:
        learner.admission = admission
        assert learnt(learning, robot).admission is admission
        return learning.values()

    misplaced = Admission(False, MISPLACED_BOXES, (-32.0, 19.4))
    learnt_from("/a", misplaced)
    learnt_from("/b", Admission(True))
    assert learning.misplaced() == []
    told = learnt_from("/a", misplaced)
    assert learning.misplaced() == ["/a"]
    assert "/a" in told["warning"]
    assert told["boxes_off_by/a"] == "-32 19"
    learnt_from("/b", misplaced)
    assert learning.misplaced() == ["/a"]
    assert counts["frames_rejected.misplaced_boxes"] == 3
    told = learnt_from("/a", Admission(True))
    assert learning.misplaced() == []
    assert not told["warning"]
    assert "boxes_off_by/a" not in told


def test_a_pause_ends_the_steps_of_the_frame_at_hand(learning: Learning, learner: Scripted) -> None:
    def pause() -> None:
        learning.paused = True

    learner.stepped = pause
    assert learnt(learning).decision is None
    assert (learner.steps, learner.proposals) == (1, 0)


def test_an_interruption_ends_the_steps_of_the_frame_at_hand(learner: Any, counts: Any) -> None:
    learning = Learning(counts, lambda adapter: None, lambda: True)
    learning.learner = learner
    assert learnt(learning).step_seconds == 0
    assert (learner.steps, learner.proposals) == (1, 0)


def test_rejections_and_goings_back_are_told(learning: Learning, learner: Scripted, counts: Any) -> None:
    scores = Comparison(ValidationScore(0.1, 0.5, 9), ValidationScore(0.9, 0.75, 9), ValidationScore(0.8, 1.0, 9))
    rejection = Decision(WORSE_SCORE, (0.1, 0.9), scores=scores)
    learner.proposal = Proposal(None, rejection)
    status = status_of(learnt(learning))
    assert status.proposal_reason == str(rejection)
    assert (status.validation_score, status.validation_score_published, status.validation_score_frozen, status.agreement) == pytest.approx(
        (0.1, 0.9, 0.8, 0.5)
    )
    assert learning.values()["last_rejection"] == str(rejection)
    learner.proposal = Proposal(None, rejection, restored=True)
    outcome = learnt(learning)
    assert outcome.restored == [REJECTED]
    assert status_of(outcome).proposal_reason == f"{rejection}, restored.rejected"
    learner.proposal, learner.restored = NO_STEP, True
    outcome = learnt(learning)
    assert outcome.restored == [NOT_FINITE]
    status = status_of(outcome)
    assert status.proposal_reason == "restored.not_finite"
    assert np.isnan([status.validation_score, status.validation_score_published, status.validation_score_frozen, status.agreement]).all()
    assert learning.values()["guard.validation_score_frozen"] == "0.800"  # of the last that was judged
    assert (counts["restored.rejected"], counts["restored.not_finite"], counts["candidates_rejected"]) == (1, STEPS, 2)


@pytest.mark.parametrize(("code", "rejected"), [(ADMITTED, 0), (BELOW_FROZEN, 1)])
def test_a_proposal_is_published(
    learning: Learning, learner: Scripted, counts: Any, published: list[Any], code: str, rejected: int
) -> None:
    """Also the one that takes the place of a withdrawn adapter."""
    adapter: Any = SimpleNamespace(version=4)
    learner.proposal = Proposal(adapter, Decision(code, (0.1, 0.2, 0.0) if rejected else ()))
    outcome = learnt(learning)
    assert published == [adapter]
    assert outcome.published
    assert (counts["candidates_rejected"], counts["restored.below_frozen"]) == (rejected, rejected)
