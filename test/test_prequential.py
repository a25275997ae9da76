"""The prequential stream: each request is predicted before it is learnt from, and nobody who learns sees the truth."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from wesam_ros.data.frames import Frame
from wesam_ros.evaluation.prequential import LearnerOnStream, MethodOnStream, prequential
from wesam_ros.evaluation.prompts import Prompted
from wesam_ros.sam.prompts import Prompts

SIZE = (8, 10)


def request(index: int, count: int = 1) -> Prompted:
    boxes = np.tile(np.array([1, 1, 5, 5], np.float32), (count, 1))
    frame = Frame(np.zeros((*SIZE, 3), np.uint8), labels=np.ones(SIZE, np.uint16), void=np.zeros(SIZE, bool), stamp_ns=index)
    return Prompted(frame, Prompts.from_boxes(boxes, SIZE), masks=np.ones((count, *SIZE), bool), source="detections")


class Double:
    """A learner, or a method, that notes its calls; each proposal is a new adapter, named by a number."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.adapter: Any = 0

    def observe(self, frame: Frame, *rest: Any) -> str:
        self.calls.append(("observe", frame.stamp_ns, frame.labels is None and frame.void is None, rest[1:]))
        return f"admission {frame.stamp_ns}"

    def step(self) -> float | None:
        self.calls.append("step")
        return None if len(self.calls) < 5 else 0.5

    def propose(self) -> Any:
        self.calls.append("propose")
        self.adapter += 1
        return SimpleNamespace(adapter=self.adapter)


def test_a_request_is_predicted_then_learnt_from_and_a_proposal_serves_from_the_next_one_on() -> None:
    learner: Any = Double()

    def stream() -> Iterator[Prompted]:
        for index in range(2):
            learner.calls.append(("taken", index))
            yield request(index)

    def predict(asked: Prompted, adapter: Any) -> Any:
        learner.calls.append(("predict", asked.frame.stamp_ns, adapter))
        return adapter

    turns = list(prequential(LearnerOnStream(learner), stream(), lambda index: index + 1, predict))
    assert learner.calls == [
        *(("taken", 0), ("predict", 0, 0), ("observe", 0, True, ("detections",)), "step", "propose"),
        *(("taken", 1), ("predict", 1, 1), ("observe", 1, True, ("detections",)), "step", "step", "propose"),
    ]
    assert [turn.prediction for turn in turns] == [0, 1]
    assert [turn.admission for turn in turns] == ["admission 0", "admission 1"]
    assert [turn.steps for turn in turns] == [(), (0.5, 0.5)]  # steps without a result are none


def test_without_publication_the_first_adapter_serves_throughout() -> None:
    learner: Any = Double()
    turns = list(prequential(LearnerOnStream(learner, publishes=False), map(request, range(3)), lambda _: 1, lambda _, adapter: adapter))
    assert [turn.prediction for turn in turns] == [0, 0, 0]
    assert "propose" not in learner.calls


@pytest.mark.parametrize("supervised", [False, True])
def test_a_method_sees_masks_only_where_it_is_supervised_and_no_request_without_prompts(supervised: bool) -> None:
    method: Any = Double()
    list(prequential(MethodOnStream(method, supervised), [request(0), request(1, 0)], lambda _: 1, lambda *_: None))
    (observed,) = [call for call in method.calls if call[0] == "observe"]
    assert (observed[3][0] is not None) == supervised
    assert method.calls.count("step") == 2
