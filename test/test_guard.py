"""Adapters that the guard admits: they are scored on validation frames, each robot's apart; misplaced and false boxes do not count."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_stream import CONFIG, SIZE, learn, stream

from wesam_ros.adaptation.admission import MISPLACED_BOXES
from wesam_ros.adaptation.buffering import make_buffered_frame
from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.guard import BELOW_FROZEN, NO_VALIDATION_FRAMES, NOT_DUE, WORSE_SCORE, Decision, Guard, rejection_of_candidate
from wesam_ros.adaptation.learner import Learner
from wesam_ros.adaptation.replay_buffer import BufferedFrame
from wesam_ros.adaptation.validation import Comparison, ValidationScore, fills_box, score_adapter, scored_objects
from wesam_ros.data.frames import Frame
from wesam_ros.sam import Adapter, Prompts, base_hash
from wesam_ros.scene.constraints import gather_constraints
from wesam_ros.scene.refine import refine
from wesam_ros.scene.support import Support


def test_candidates_that_score_worse_are_rejected_and_in_the_end_undone(sam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wesam_ros.adaptation.guard.rejection_of_candidate", lambda *_: Decision(WORSE_SCORE, (0.1, 0.9)))
    learner, published = learn(sam, stream(6), config=replace(CONFIG, patience=2))
    assert not published
    assert learner.counters["candidates_rejected.worse_score"] == 2
    assert learner.counters["restored.rejected"] == 1
    assert learner.trainer.steps_since_restore < learner.counters["steps"]


def test_adapters_are_not_scored_on_false_boxes(sam: Any) -> None:
    """A box of table alone, to depth, beside one with a thing that fills it: an adapter is scored on the latter."""
    frame, _ = stream(1)[0]
    thing, table = [10, 15, 40, 45], [45, 5, 75, 30]
    raised = np.zeros((128, 128), bool)
    raised[24:72, 16:64] = True  # the decoder's grid has 128 pixels for the image's 80

    def buffered(*boxes: list[int]) -> BufferedFrame:
        prompts = Prompts.from_boxes(np.array(boxes, np.float32), SIZE)
        support = Support(~raised, raised, raised.astype(np.float32))
        constraints = gather_constraints(prompts, support, sam.image_encoder.img_size, 128)
        kept = make_buffered_frame(sam, frame, prompts, constraints, "float32")
        return replace(kept, evidence=torch.where(refine(kept.anchor_logits, constraints) > 0, 5.0, -5.0) - kept.anchor_logits)

    both, alone = buffered(thing, table), buffered(thing)
    assert scored_objects(both, AdaptationConfig()).tolist() == [True, False]
    assert scored_objects(buffered(table), AdaptationConfig()).tolist() == [False]
    assert score_adapter(sam, None, both, AdaptationConfig(precision="float32")).objects == 1
    scores = [score_adapter(sam, None, each, AdaptationConfig(precision="float32")).score for each in (both, alone)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


BOXES = np.array([[10, 15, 30, 35], [45, 20, 65, 40]], np.float32)
SHIFTED = BOXES + np.array([5, -5, 5, -5], np.float32)


def _things_on_a_table(monkeypatch: pytest.MonkeyPatch) -> Frame:
    """A frame with depth in which a thing fills each of BOXES."""
    raised = np.zeros((128, 128), bool)
    for x0, y0, x1, y1 in (BOXES * 1.6).astype(int):  # the decoder's grid has 128 pixels for the image's 80
        raised[y0:y1, x0:x1] = True
    monkeypatch.setattr("wesam_ros.adaptation.admission.find_support", lambda *_: Support(~raised, raised, raised.astype(np.float32)))
    frame: Frame = stream(1)[0][0]
    return replace(frame, depth=np.ones(SIZE, np.float32), camera=np.eye(3))


def test_a_frame_whose_boxes_belong_elsewhere_costs_no_forward_pass(sam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    frame, learner = _things_on_a_table(monkeypatch), Learner(sam, CONFIG, 0)
    assert learner.observe(frame, Prompts.from_boxes(BOXES, SIZE)).accepted
    monkeypatch.setattr("wesam_ros.adaptation.buffering.make_buffered_frame", None)
    admission = learner.observe(frame, Prompts.from_boxes(SHIFTED, SIZE))
    assert (admission.accepted, admission.reason) == (False, MISPLACED_BOXES)
    assert admission.offset == pytest.approx((-5, 5), abs=1)
    assert learner.counters["frames_rejected.misplaced_boxes"] == len(learner.replay_buffer) == 1


def test_while_boxes_belong_elsewhere_the_published_adapter_is_scored_on_their_frames(sam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its masks of the boxes as they come are compared with the frozen model's where they belong; without a single step."""
    served = replace(Adapter.untrained(sam, base_hash(sam), 4, seed=0), version=7)
    learner = Learner(sam, replace(CONFIG, tolerance=0.01, both_ways=False), 0, replace(served, b=served.b + 0.1))
    frame = _things_on_a_table(monkeypatch)
    for _ in range(2):
        assert not learner.observe(frame, Prompts.from_boxes(SHIFTED, SIZE)).accepted
        assert learner.propose().decision.code == NOT_DUE and not learner.replay_buffer.misplaced
    learner.observe(frame, Prompts.from_boxes(SHIFTED, SIZE))
    (misplaced,) = learner.replay_buffer.misplaced[""]
    assert [each.box.tolist() for each in misplaced.prompts.objects if each.box is not None] == SHIFTED.tolist()
    torch.testing.assert_close(misplaced.constraints.boxes, torch.from_numpy(BOXES * 1.6), atol=1.0, rtol=0)
    right = make_buffered_frame(sam, frame, Prompts.from_boxes(BOXES, SIZE), misplaced.constraints, "float32")
    assert float(((misplaced.anchor_logits > 0) == (right.anchor_logits > 0)).float().mean()) > 0.95

    asked = []

    def scored(_: Any, low_rank: Any, frame: Any, __: Any) -> ValidationScore:
        asked.append(frame)
        return ValidationScore(0.8 if low_rank is None else score, 0.9, 2)

    monkeypatch.setattr("wesam_ros.adaptation.guard.score_adapter", scored)
    score = 0.8
    assert learner.propose().decision.code == learner.propose().decision.code == NOT_DUE
    assert asked == [misplaced] * 2  # the adapter and the frozen model, once
    score = 0.7
    learner.observe(frame, Prompts.from_boxes(SHIFTED, SIZE))
    assert learner.propose().decision.code == NOT_DUE and len(learner.replay_buffer.misplaced[""]) == 1  # every second one is kept
    learner.observe(frame, Prompts.from_boxes(SHIFTED, SIZE))
    proposal = learner.propose()
    assert proposal.withdraws and proposal.decision.values == pytest.approx((0.75, 0.8, 0))
    assert proposal.adapter is learner.adapter and (proposal.adapter.version, bool(proposal.adapter.b.any())) == (8, False)
    assert not len(learner.replay_buffer) and learner.step() is None


@pytest.mark.parametrize(
    ("candidate", "frozen", "reason"),
    [
        (ValidationScore(0.80, 0.7, 9), 0.7, None),
        (ValidationScore(0.795, 0.7, 9), 0.77, None),
        (ValidationScore(0.795, 0.7, 9), 0.78, "below_frozen"),  # a better score, but not by a tenth of the agreement that it cost
        (ValidationScore(0.795, 1.0, 9), 0.8, None),
        (ValidationScore(0.795, 1.0, 9), 0.81, "below_frozen"),
        (ValidationScore(0.70, 0.7, 9), 0.7, "worse_score"),
        (ValidationScore(0.95, 0.1, 9), 0.7, "diverged"),
        # half of the published one's agreement, but not two fifths of the frozen model's
        (ValidationScore(0.95, 0.35, 9), 0.7, "diverged"),
        (ValidationScore(0.95, 0.7, 9, filled=0.5), 0.7, None),
        (ValidationScore(0.95, 0.7, 9, filled=0.6), 0.7, "collapsed"),
    ],
)
def test_rejections_of_candidates(candidate: ValidationScore, frozen: float, reason: str | None) -> None:
    scores = Comparison(candidate, ValidationScore(0.8, 0.7, 9), ValidationScore(frozen, 1.0, 9))
    rejection = rejection_of_candidate(scores, AdaptationConfig())
    assert (rejection and rejection.code) == reason


@pytest.mark.parametrize(
    ("decision", "sentence"),
    [
        (Decision("admitted"), "admitted"),
        (Decision("worse_score", (0.7, 0.8), robot="/b"), "worse_score (0.700 after 0.800) on the frames of /b"),
        (
            Decision("below_frozen", (0.7, 0.8, 0), on_newest=True),
            "below_frozen (0.700, frozen 0.800 and a lead of 0.000) on the newest ones",
        ),
        (Decision("diverged", (0.3, 0.7, 1.0)), "diverged (0.300 after 0.700, frozen 1.000)"),
        (Decision("collapsed", (0.6,)), "collapsed (0.600 of the masks fill their boxes)"),
    ],
)
def test_a_decision_in_words(decision: Decision, sentence: str) -> None:
    assert str(decision) == sentence


def test_masks_that_fill_their_boxes_where_the_anchors_do_not() -> None:
    """A box that is filled, a disc that stays one, a book that the anchor had whole, and points without a box."""
    masks, anchor = torch.zeros(4, 32, 32, dtype=torch.bool), torch.zeros(4, 32, 32, dtype=torch.bool)
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    disc = (rows - 12) ** 2 + (columns - 12) ** 2 <= 64
    masks[:, 4:20, 4:20] = True
    masks[1] = disc
    anchor[:] = disc
    anchor[2, 4:20, 4:20] = True
    anchor[3] = False
    boxes = torch.tensor([[4.0, 4, 20, 20]] * 3 + [[0.0, 0, 0, 0]])
    assert fills_box(masks, anchor, boxes).tolist() == [False, False, False, False]  # a disc has more than 1 / GROWN of its box
    anchor[:2] = anchor[:2] & (columns > 6)
    assert fills_box(masks, anchor, boxes).tolist() == [True, False, False, False]


def test_where_the_published_adapter_is_below_the_frozen_model_that_is_served_again(sam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scene has changed: the published adapter is worse than the frozen model now. So is the candidate, until training starts anew."""
    learner, published = learn(sam, stream(6), config=replace(CONFIG, tolerance=0.01))
    before, frames = learner.adapter, len(learner.replay_buffer)
    assert published and learner.step() is not None and learner.step() is not None

    def scored(_: Any, low_rank: Any, *__: Any) -> ValidationScore:
        return ValidationScore(0.8 if low_rank is None or not low_rank[1].any() else 0.7, 0.9, 2)

    monkeypatch.setattr("wesam_ros.adaptation.guard.score_adapter", scored)
    learner.guard = Guard(sam)
    proposal = learner.propose()
    assert proposal.withdraws and (proposal.decision.code, proposal.decision.on_newest) == (BELOW_FROZEN, False)
    assert proposal.adapter is learner.adapter and proposal.adapter.version == before.version + 1
    assert not proposal.adapter.b.any() and not learner.trainer.low_rank[1].any()
    assert (learner.counters["restored.below_frozen"], len(learner.replay_buffer)) == (1, frames)

    for _ in range(2 * CONFIG.publish_every):  # a candidate is still rejected, but what is served is no worse than the frozen model
        learner.step()
        assert learner.propose().adapter is None
    assert learner.counters["restored.below_frozen"] == 1


def test_the_newer_half_of_the_validation_frames_counts_by_itself(sam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of four frames are of another scene, where the adapters are worse than the frozen model; over all four they are better."""
    learner, published = learn(sam, stream(12), config=replace(CONFIG, tolerance=0.01))
    assert published and learner.step() is not None and learner.step() is not None
    frames = list(learner.replay_buffer.validation[""])
    assert len(frames) == 4
    changed = set(frames[2:])

    def scored(_: Any, low_rank: Any, frame: Any, __: Any) -> ValidationScore:
        trained = low_rank is not None and bool(low_rank[1].any())
        return ValidationScore((0.7 if frame in changed else 0.95) if trained else 0.8, 0.9, 2)

    monkeypatch.setattr("wesam_ros.adaptation.guard.score_adapter", scored)
    learner.guard = Guard(sam)
    proposal = learner.propose()
    assert proposal.withdraws and (proposal.decision.code, proposal.decision.on_newest) == (BELOW_FROZEN, True)
    assert proposal.adapter is learner.adapter and not proposal.adapter.b.any()
    changed.clear()
    assert learner.step() is not None and learner.step() is not None
    assert learner.propose().decision.admits


def test_no_robot_may_lose_what_another_gains(sam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the frames of both robots the candidate is better; on those of one it is worse, also than the frozen model."""
    learner = Learner(sam, replace(CONFIG, tolerance=0.01), 0)
    for frame, prompts in stream(3):
        for robot in ("/a", "/b"):
            learner.observe(frame, prompts, f"{robot}/detections", robot)
    worse = set(learner.replay_buffer.validation["/b"])
    assert worse and learner.replay_buffer.validation["/a"]
    better = ValidationScore(0.95, 0.9, 2)

    def scored(_: Any, low_rank: Any, frame: Any, __: Any) -> ValidationScore:
        trained = low_rank is not None and bool(low_rank[1].any())
        return ValidationScore(0.7, 0.9, 2) if trained and frame in worse else better if trained else ValidationScore(0.8, 0.9, 2)

    monkeypatch.setattr("wesam_ros.adaptation.guard.score_adapter", scored)
    assert learner.step() is not None and learner.step() is not None
    proposal = learner.propose()
    assert proposal.adapter is None and proposal.rejects
    assert (proposal.decision.code, proposal.decision.robot) == (WORSE_SCORE, "/b")
    assert proposal.decision.scores is not None and proposal.decision.scores.candidate.score == 0.7
    worse.clear()
    assert learner.step() is not None and learner.step() is not None
    assert learner.propose().decision.admits


def test_an_adapter_from_elsewhere_is_scored_like_a_candidate(sam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    learner, _ = learn(sam, stream(6), config=replace(CONFIG, tolerance=0.01))
    best, frames = learner.adapter, len(learner.replay_buffer)
    monkeypatch.setattr(
        "wesam_ros.adaptation.guard.score_adapter",
        lambda _, low_rank, *__: ValidationScore(0.7 if low_rank is not None and low_rank[1].abs().max() > 2 else 0.8, 0.9, 2),
    )
    learner.guard = Guard(sam)
    rejected = learner.consider(replace(best, b=best.b + 3, version=70))
    assert (rejected.adapter, rejected.decision.code) == (None, WORSE_SCORE)
    assert learner.adapter is best

    monkeypatch.setattr(
        "wesam_ros.adaptation.guard.score_adapter",
        lambda _, low_rank, *__: ValidationScore(0.8 if low_rank is None or torch.equal(low_rank[1], best.b) else 0.799, 0.9, 2),
    )
    learner.guard = Guard(sam)
    slightly_worse = learner.consider(replace(best, b=best.b + 0.01, version=70))
    assert slightly_worse.decision.code == WORSE_SCORE  # a candidate may be, within the tolerance

    monkeypatch.setattr("wesam_ros.adaptation.guard.score_adapter", lambda *_: ValidationScore(0.8, 0.9, 2))
    learner.guard = Guard(sam)
    other = replace(best, b=best.b + 0.01, version=70)
    admitted = learner.consider(other)
    assert admitted.decision.admits
    assert admitted.adapter.version == best.version + 1  # its own count goes on, not the other's
    assert torch.equal(admitted.adapter.b, other.b)
    torch.testing.assert_close(learner.candidate[1], other.b)
    assert len(learner.replay_buffer) == frames


def test_without_validation_frames_an_adapter_from_elsewhere_is_taken_without_scores(sam: Any) -> None:
    learner = Learner(sam, CONFIG, 0)
    proposal = learner.consider(Adapter.untrained(sam, base_hash(sam), 8, seed=3))
    assert (proposal.decision.code, proposal.adapter.version) == (NO_VALIDATION_FRAMES, 1)
    frame, prompts = stream(1)[0]
    learner.observe(frame, prompts)
    assert learner.step() is not None
