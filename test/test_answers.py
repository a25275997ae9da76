"""A person's answers: learnt from, judging adapters, saved and taken back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_replay_buffer import make_buffer, marks
from tiny_stream import CONFIG, SIZE, stream

from wesam_ros.adaptation.answer_files import AnswerFolder
from wesam_ros.adaptation.answers import MENDED, NO, YES, Answered, answered_frame, keep_answer
from wesam_ros.adaptation.guard import Guard
from wesam_ros.adaptation.learner import Learner
from wesam_ros.adaptation.pseudo_labels import make_pseudo_labels
from wesam_ros.adaptation.replay_buffer import ANSWERS, ANSWERS_KEPT, JUDGE_EVERY, JUDGES, LEAST_JUDGES
from wesam_ros.adaptation.validation import ValidationScore, score_adapter, validation_iou
from wesam_ros.data.datasets.coco_files import read_coco_file
from wesam_ros.sam import Adapter, base_hash, load_sam

BOX = np.array([10, 15, 40, 45], np.float32)


def mask_of(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def answered(number: int = 1, kind: str = YES, mask: np.ndarray | None = None, **changes: Any) -> Answered:
    """An answer on the first object of the stream's first frame; its mask reaches over the box."""
    image = stream(1)[0][0].image
    return replace(Answered(number, kind, image, BOX, mask if mask is not None else mask_of(8, 16, 38, 44), 0), **changes)


def keep(learner: Learner, given: Answered) -> None:
    keep_answer(learner.replay_buffer, learner.sam, given, CONFIG.precision)


def test_the_mask_of_a_person_is_the_pseudo_label_whatever_the_model_says(sam: Any) -> None:
    frame = answered_frame(sam, answered(), "float32")
    for logits in (frame.anchor_logits, frame.anchor_logits - 30, frame.anchor_logits + 30):
        labels = make_pseudo_labels(logits, frame, torch.tensor([0]), replace(CONFIG, prompt_fit=1.0, agreement=1.0))
        assert labels.agreed.all() and labels.measured.all()
        assert labels.teacher.equal(labels.anchor)
        rows, columns = labels.teacher[0].nonzero().T
        scale = frame.anchor_logits.shape[-1] / SIZE[1]
        found = [float(value) / scale for value in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]
        assert found == pytest.approx([8, 16, 38, 44], abs=1.0)
    truth = labels.teacher > 0
    assert float(validation_iou(truth, frame)) == 1
    assert float(validation_iou(~truth, frame)) == 0


def test_a_share_of_the_steps_takes_answers_but_not_those_that_judge() -> None:
    buffer = make_buffer(validation_every=1000)
    for mark in marks(20):
        buffer.add(mark)
    before = buffer.rng.bit_generator.state
    plain = [buffer.draw(0.5) for _ in range(20)]
    buffer.rng.bit_generator.state = before
    assert [buffer.draw(0.5, 0.9) for _ in range(20)] == plain  # without answers nothing else is drawn
    answers: list[Any] = [f"answer {number}" for number in range(1, 10)]
    for number, each in enumerate(answers, 1):
        buffer.answer(number, each)
    drawn: list[Any] = [buffer.draw(0.5, 0.25) for _ in range(2000)]
    of_answers = [each for each in drawn if isinstance(each, str)]
    assert len(of_answers) == pytest.approx(500, abs=60)
    assert set(of_answers) == {each for number, each in enumerate(answers, 1) if number % JUDGE_EVERY}


def test_the_newest_answers_are_kept_and_judge_when_there_are_enough() -> None:
    buffer = make_buffer()
    frames: list[Any] = [f"answer {number}" for number in range(1, ANSWERS_KEPT + 30)]
    groups = []
    for number, each in enumerate(frames, 1):
        buffer.answer(number, each)
        groups.append(buffer.validation_by_robot(4).get(ANSWERS))
    assert len(buffer.answered) == ANSWERS_KEPT
    first = LEAST_JUDGES * JUDGE_EVERY
    assert groups[first - 2] is None
    assert groups[first - 1] == [f"answer {number}" for number in range(JUDGE_EVERY, first + 1, JUDGE_EVERY)]
    assert len(groups[-1] or []) == JUDGES and groups[-1] is not None and groups[-1][-1] == f"answer {ANSWERS_KEPT + 28}"


@pytest.mark.parametrize(
    ("changes", "admits"),
    [
        ((0.1, 0.1, 0.1, 0.1, 0.1), True),
        ((0.1, 0.1, 0.1, 0.1, -0.9), True),  # one answer is wrong
        ((0.9, -0.1, -0.1, -0.1, -0.1), False),  # likewise
        ((0.0, -0.2, -0.2, 0.0, 0.0), False),
    ],
)
def test_a_candidate_is_judged_by_the_answers_and_one_wrong_answer_counts_nothing(
    sam: Any, monkeypatch: pytest.MonkeyPatch, changes: tuple[float, ...], admits: bool
) -> None:
    frames: list[Any] = [type("Frame", (), {})() for _ in changes]
    gains = dict(zip(frames, changes, strict=True))
    candidate = torch.zeros(1), torch.zeros(1)
    marked = candidate[0]

    def score(_: Any, low_rank: Any, frame: Any, __: Any) -> ValidationScore:
        gain = gains[frame] if low_rank is not None and low_rank[0] is marked else 0.0
        return ValidationScore(0.5 + gain, 1.0, 1)

    monkeypatch.setattr("wesam_ros.adaptation.guard.score_adapter", score)
    published = Adapter.untrained(sam, base_hash(sam), 4, seed=0)
    decision = Guard(sam).decide(candidate, published, {ANSWERS: frames}, replace(CONFIG, tolerance=0.01))
    assert decision.admits == admits


def test_an_answer_takes_the_place_of_what_was_made_up(sam: Any) -> None:
    learner = Learner(sam, replace(CONFIG, validation_every=100), 0)
    for each in stream(3):
        learner.observe(*each)
    keep(learner, answered())
    assert [len(each.prompts) for each in learner.replay_buffer.frames] == [1, 2, 2]
    assert list(learner.replay_buffer.answered) == [1]
    keep(learner, answered(2, NO, box=np.array([45, 5, 75, 30], np.float32), stamp_ns=2))
    assert [len(each.prompts) for each in learner.replay_buffer.frames] == [1, 2, 1]
    assert learner.replay_buffer.newest is learner.replay_buffer.frames[-1]
    assert list(learner.replay_buffer.answered) == [1]  # with "no" there is nothing to learn
    keep(learner, answered(3, box=np.array([45, 5, 75, 30], np.float32)))
    assert [each.stamp_ns for each in learner.replay_buffer.frames] == [1, 2]  # an empty frame goes
    learner.step()
    learner.reset()
    assert list(learner.replay_buffer.answered) == [1, 3]


def test_steps_on_an_answer_bring_the_mask_closer_to_it() -> None:
    """Of the model that ships: what is learnt is the person's mask, though its own is far from it."""
    sam = load_sam("tiny")
    config = replace(CONFIG, answers=1.0, anchor=0.0, lr=5e-3, warm_up=1)
    learner = Learner(sam, config, 0)
    keep(learner, answered(mask=mask_of(12, 18, 25, 30)))
    frame = learner.replay_buffer.answered[1]
    before = score_adapter(sam, None, frame, config).score
    assert all(learner.step() is not None for _ in range(25))
    assert score_adapter(sam, learner.candidate, frame, config).score > before + 0.1


@pytest.fixture
def folder(tmp_path: Path) -> AnswerFolder:
    return AnswerFolder(tmp_path / "answers")


def test_answers_are_saved_as_coco_and_come_back_exactly(folder: AnswerFolder) -> None:
    rng = np.random.default_rng(0)
    ragged = rng.random(SIZE) < 0.3
    ragged[0, 0] = True
    given = [
        answered(1),
        answered(2, MENDED, ragged, class_id="cup"),
        answered(3, NO, class_id="cup"),
        answered(4, stamp_ns=7, robot="/a/b"),
    ]
    assert folder.load(10) == [] and len(folder) == 0
    for each in given:
        folder.add(each)
    again = AnswerFolder(folder.path)
    found = again.load(10)
    assert len(found) == len(again) == 4 and again.next_number == 5
    for one, other in zip(given, found, strict=True):
        assert (one.number, one.kind, one.stamp_ns, one.robot, one.class_id) == (
            other.number,
            other.kind,
            other.stamp_ns,
            other.robot,
            other.class_id,
        )
        assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("image", "box", "mask"))
    assert [each.number for each in again.load(2)] == [3, 4] and len(again) == 4
    frames = list(read_coco_file(folder.path))  # the reader of anybody's COCO files
    assert [len(np.unique(each.labels)) - 1 for each in frames if each.labels is not None] == [2, 1]  # "no" is no thing


def test_an_answer_that_is_taken_back_leaves_nothing(folder: AnswerFolder) -> None:
    folder.add(answered(1))
    folder.add(answered(2, stamp_ns=5))
    folder.remove(2)
    assert [each.number for each in AnswerFolder(folder.path).load(9)] == [1]
    assert sorted(each.name for each in (folder.path / "images").iterdir()) == ["0.png"]
    folder.remove(1)
    folder.remove(1)
    assert not list((folder.path / "images").iterdir())
    assert AnswerFolder(folder.path).load(9) == []


@pytest.mark.parametrize("damage", ["{", "[]", '{"images": []}', "wrong box", "wrong counts", "wrong place"])
def test_a_damaged_file_is_refused_and_put_aside(folder: AnswerFolder, damage: str) -> None:
    folder.add(answered(1))
    content = json.loads(folder.file.read_text())
    if damage == "wrong box":
        content["annotations"][0]["prompt"] = [1, 2]
    elif damage == "wrong place":
        content["images"][0]["file_name"] = "../images/0.png"
    elif damage == "wrong counts":
        content["annotations"][0]["segmentation"]["counts"] = [5]
    folder.file.write_text(json.dumps(content) if damage.startswith("wrong") else damage)
    again = AnswerFolder(folder.path)
    with pytest.raises(ValueError, match="is no file of answers"):
        again.load(9)
    assert again.put_aside().name == "annotations.json.refused"
    assert again.load(9) == [] and again.next_number == 1


def test_images_of_one_stamp_are_told_apart(folder: AnswerFolder) -> None:
    """Of a camera without stamps."""
    other = answered(2, image=np.full((*SIZE, 3), 7, np.uint8))
    for each in (answered(1), other, answered(3)):
        folder.add(each)
    assert [int(each.image[0, 0, 0]) == 7 for each in AnswerFolder(folder.path).load(9)] == [False, True, False]
    assert len(list((folder.path / "images").iterdir())) == 2


def test_an_answer_whose_image_is_gone_is_left_out(folder: AnswerFolder) -> None:
    folder.add(answered(1))
    folder.add(answered(2, stamp_ns=5))
    (folder.path / "images" / "0.png").unlink()
    assert [each.number for each in AnswerFolder(folder.path).load(9)] == [2]
