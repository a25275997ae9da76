"""The learner on a tiny stream: its adapter changes, the model never does, and it goes back from what fails."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_stream import CONFIG, SIZE, learn, stream

from wesam_ros.adaptation.admission import NO_PROMPTS, SMALL_OBJECTS
from wesam_ros.adaptation.learner import Learner
from wesam_ros.sam import Adapter, Prompt, Prompts, base_hash


@pytest.fixture(scope="module")
def learnt(sam: Any) -> tuple[Learner, list[Adapter]]:
    made: tuple[Learner, list[Adapter]] = learn(sam, stream(6))
    return made


def test_only_the_adapter_changes(sam: Any, learnt: tuple[Learner, list[Adapter]]) -> None:
    learner, published = learnt
    assert [adapter.version for adapter in published] == [1, 2]
    assert float(published[-1].b.abs().max()) > 0
    assert learner.adapter is published[-1]
    from wesam_ros.sam.checkpoints import _hash

    assert _hash(sam.state_dict()) == base_hash(sam)


def test_same_seed_same_adapter_bit_for_bit_and_labels_do_not_matter(sam: Any, learnt: tuple[Learner, list[Adapter]]) -> None:
    labelled = [(replace(frame, labels=np.full(SIZE, 7, np.uint16)), prompts) for frame, prompts in stream(6)]
    _, again = learn(sam, labelled)
    assert torch.equal(again[-1].a, learnt[1][-1].a) and torch.equal(again[-1].b, learnt[1][-1].b)
    _, other = learn(sam, stream(6), seed=1)
    assert not torch.equal(other[-1].b, learnt[1][-1].b)


def test_the_teacher_is_asked_again_when_its_prediction_is_old(sam: Any) -> None:
    learner = Learner(sam, replace(CONFIG, teacher_age=2), 0)
    (frame, prompts), *_ = stream(1)
    learner.observe(frame, prompts)
    asked = []
    for _ in range(5):
        learner.step()
        (prediction,) = learner.replay_buffer.teacher_predictions.values()
        asked.append(prediction.step)
    assert asked == [0, 0, 2, 2, 4]
    learner.reset()
    assert not learner.replay_buffer.teacher_predictions


def test_frames_without_use_are_counted_and_not_buffered(sam: Any) -> None:
    learner = Learner(sam, CONFIG, 0)
    frame, _ = stream(1)[0]
    assert learner.observe(frame, Prompts(SIZE, ())).reason == NO_PROMPTS
    assert learner.observe(frame, Prompts.from_boxes(np.array([[1, 1, 5, 40]], np.float32), SIZE)).reason == SMALL_OBJECTS
    assert learner.step() is None
    assert learner.counters == {"frames": 2, "frames_rejected.no_prompts": 1, "frames_rejected.small_objects": 1}


def test_learns_from_points_coarse_masks_and_mixtures(sam: Any) -> None:
    """One object of each form; all three are learnt from, points by a term of their own as well, and the adapter moves."""
    blob = np.zeros(SIZE, bool)
    blob[5:30, 45:75] = True
    click = Prompt(points=np.array([[20.0, 30.0], [2.0, 2.0]], np.float32), point_labels=np.array([1, 0]))
    mixed = Prompts(SIZE, (click, Prompt(mask=blob), Prompt(box=np.array([10, 40, 70, 58], np.float32))))
    learner = Learner(sam, CONFIG, 0)
    for frame, _ in stream(2):
        assert learner.observe(frame, mixed).accepted
        result = learner.step()
        assert result is not None and result.objects == 3
        assert min(result.losses[term] for term in ("points", "dice")) > 0
    assert float(learner.trainer.low_rank[1].detach().abs().max()) > 0


def test_weights_that_are_not_finite_go_back_to_the_published_adapter(sam: Any) -> None:
    learner = Learner(sam, CONFIG, 0)
    learner.observe(*stream(1)[0])
    with torch.no_grad():
        learner.trainer.low_rank[1].fill_(float("nan"))
    result = learner.step()
    assert result is not None and result.restored
    assert learner.counters["restored.not_finite"] == 1
    assert all(bool(torch.isfinite(tensor).all()) for tensor in learner.trainer.low_rank)


def test_rollback_and_reset_give_new_versions(sam: Any, learnt: tuple[Learner, list[Adapter]]) -> None:
    learner = Learner(sam, CONFIG, 0, adapter=learnt[1][0])
    learner.consider(learnt[1][1])
    back = learner.rollback()
    assert back.version == 3 and torch.equal(back.b, learnt[1][0].b)
    with pytest.raises(ValueError, match="no earlier adapter than version 3"):
        learner.rollback()
    assert learner.adapter is back
    fresh = learner.reset()
    assert fresh.version == 4 and float(fresh.b.abs().max()) == 0
    assert learner.step() is None


def test_goes_on_from_an_adapter(sam: Any, learnt: tuple[Learner, list[Adapter]]) -> None:
    learner = Learner(sam, CONFIG, 0, adapter=learnt[1][-1])
    assert learner.adapter.version == 2
    torch.testing.assert_close(learner.candidate[1], learnt[1][-1].b)


def test_serves_a_share_of_what_it_has_learnt(sam: Any) -> None:
    learner, published = learn(sam, stream(5))  # the second adapter is published with the last step
    assert 0 < CONFIG.strength < 1
    torch.testing.assert_close(published[-1].b, CONFIG.strength * learner.trainer.low_rank[1].detach())
    assert torch.equal(published[-1].a, learner.trainer.low_rank[0].detach())


def test_settings_that_may_change_at_run_time_take_effect(sam: Any) -> None:
    learner = Learner(sam, CONFIG, 0)
    frames = stream(4)
    learner.observe(*frames[0])
    learner.config = replace(CONFIG, validation_every=2, validation_frames=1, weight_decay=0.5)
    for frame in frames[1:]:
        learner.observe(*frame)
    assert [each.stamp_ns for each in learner.replay_buffer.validation[""]] == [3]
    learner.step()
    assert learner.trainer.optimizer.param_groups[0]["weight_decay"] == 0.5
