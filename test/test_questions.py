"""Questions to a person: which objects are asked about."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_stream import CONFIG, SIZE, stream

from wesam_ros.adaptation.examining import examine, look_of
from wesam_ros.adaptation.learner import Learner
from wesam_ros.adaptation.questions import Question, Questions, novelty, select
from wesam_ros.sam import Adapter, base_hash

AXES = torch.eye(4)


def question(number: int, doubt: float, look: torch.Tensor) -> Question:
    """A question of which both measures of doubt are `doubt`."""
    blank: Any = np.zeros(0)
    return Question(number, blank, blank, blank, 1 - doubt, doubt, look, 0)


def near(cosine: float) -> torch.Tensor:
    """A unit vector with this cosine to the first axis."""
    return cosine * AXES[0] + float(np.sqrt(1 - cosine**2)) * AXES[1]


@pytest.mark.parametrize(
    ("look", "others", "expected"),
    [
        (AXES[0], [], 1.0),
        (AXES[0], [AXES[1]], 1.0),
        (AXES[0], [AXES[1], AXES[0]], 0.0),
        (AXES[0], [near(0.95)], 0.0),
        (AXES[0], [near(0.85)], 0.5),
        (AXES[0], [near(0.5), near(0.85)], 0.5),
        (AXES[0], [near(0.75)], 1.0),
    ],
)
def test_a_thing_is_new_where_it_looks_like_none_that_is_known(look: torch.Tensor, others: list[torch.Tensor], expected: float) -> None:
    assert novelty(look, others) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("offered", "asked", "most", "expected"),
    [
        ([], [], 3, []),
        ([(1, 0.2, 0), (2, 0.9, 1), (3, 0.5, 2)], [], 2, [(2, 0.9), (3, 0.5)]),  # the most doubtful ones
        ([(1, 0.8, 0), (2, 0.9, 0), (3, 0.1, 1)], [], 3, [(2, 0.9), (3, 0.1)]),  # of one thing once
        ([(1, 0.8, 0), (2, 0.3, 1)], [0], 3, [(2, 0.3)]),  # nothing twice
        ([(1, 0.0, 0)], [], 3, []),  # nothing to learn
        ([(1, 0.8, 0)], [], 0, []),
    ],
)
def test_the_most_valuable_questions_are_kept(offered: Any, asked: Any, most: int, expected: Any) -> None:
    rows = [question(number, doubt, AXES[axis]) for number, doubt, axis in offered]
    found = select(rows, [AXES[axis] for axis in asked], most)
    assert [(each.id, pytest.approx(each.value)) for each in found] == expected


def test_a_thing_that_looks_a_little_like_another_is_worth_less() -> None:
    found = select([question(1, 0.9, AXES[0]), question(2, 0.8, near(0.85)), question(3, 0.5, AXES[2])], [], 3)
    assert [each.id for each in found] == [1, 3, 2]
    assert found[2].value == pytest.approx(0.4, abs=1e-4)


def test_questions_wait_until_they_are_taken_and_can_be_put_back() -> None:
    questions = Questions(2)
    assert questions.offer([question(0, 0.5, AXES[0]), question(0, 0.7, AXES[1]), question(0, 0.2, AXES[2])])
    assert [each.id for each in questions.waiting] == [2, 1]
    assert not questions.offer([question(0, 0.1, AXES[3])])
    taken = questions.take(2)
    assert not questions.offer([question(0, 0.9, AXES[1])])  # it has been asked about
    with pytest.raises(KeyError):
        questions.take(2)
    questions.put_back(taken)
    assert [each.id for each in questions.waiting] == [2, 1]
    questions.most = 1
    assert questions.offer([])
    assert [each.id for each in questions.waiting] == [2]


def test_a_frame_is_examined_with_the_served_adapter(sam: Any) -> None:
    (frame, prompts), learner = stream(1)[0], Learner(sam, CONFIG, 0)
    found = examine(sam, learner.adapter, frame, prompts, CONFIG, "/a", ("cup", "box"))
    assert [(each.class_id, each.robot, each.stamp_ns) for each in found] == [("cup", "/a", 0), ("box", "/a", 0)]
    for each, box in zip(found, [[10, 15, 40, 45], [45, 5, 75, 30]], strict=True):
        assert each.box.tolist() == box
        assert each.mask.shape == SIZE and each.mask.any()
        assert 0 <= each.disagreement <= 1 and 0 <= each.score <= 1
        assert float(each.prototype @ look_of(sam, frame.image, each.box, CONFIG.precision)) == pytest.approx(1, abs=1e-3)
    adapter = Adapter(learner.adapter.a, learner.adapter.b + 2.0, base_hash(sam), 1)
    other = examine(sam, adapter, frame, prompts, CONFIG)
    assert [each.disagreement for each in other] != [each.disagreement for each in found]
    assert examine(sam, learner.adapter, frame, prompts.select(np.zeros(0, np.int64)), CONFIG) == []
