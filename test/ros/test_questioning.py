"""Questions of the adapter node in its own process: asked, answered, taken back, and what is left after a kill."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from wesam_ros.msg import Mask, Questions
from wesam_ros.srv import AnswerQuestion

from wesam_ros.data.messages import image_of, stamp_of
from wesam_ros.ros.children import NodeProcess
from wesam_ros.ros.objects import image_message
from wesam_ros.ros.subscriptions import LATCHED

SIZE = (120, 160)
BOXES = ((10, 20, 60, 90), (80, 30, 150, 100))
"""Of the graph's frames."""


def two_things() -> np.ndarray:
    """(120, 160, 3) RGB: a red thing that fills its box, and a white bar across the other one, on grey."""
    image = np.random.default_rng(0).integers(90, 110, (*SIZE, 3), dtype=np.uint8)
    (x0, y0, x1, y1), (x2, y2, x3, _) = BOXES
    image[y0 + 3 : y1 - 3, x0 + 3 : x1 - 3] = (220, 30, 30)
    image[y2 + 30 : y2 + 42, x2:x3] = 250
    return image


class Asker:
    """The adapter node's process, and the questions that it last published."""

    def __init__(self, graph: Any, folder: Path) -> None:
        self.graph, self.folder = graph, folder
        self.saved = folder / "adapter.safetensors"
        self.told: list[Questions] = []
        graph.node.create_subscription(Questions, "adapter/questions", self.told.append, LATCHED)
        self.start()

    def start(self) -> None:
        before = self.graph.listeners("/detections")
        self.told.clear()
        parameters = {"torch_threads": 1, "image_transport": "raw", "save_to": self.saved, "steps_per_frame": 1, "questions": 4}
        self.process = NodeProcess("adapter", parameters, self.folder / "adapter.log", {})

        def subscribed() -> bool:
            self.process.check()
            return bool(self.graph.listeners("/detections") - before)

        self.graph.until(subscribed, "the adapter node's start")

    def send(self) -> None:
        header = self.graph.next_header()
        self.graph.send(**{**self.graph.frame(header), "image": image_message(header, two_things()), "depth": None, "camera_info": None})
        stamp = stamp_of(header)
        self.graph.until(lambda: stamp in self.graph.statuses, f"a status for the frame with stamp {stamp}")

    def until_waiting(self, number: int) -> Questions:
        return self.graph.until(lambda: self.told and len(self.told[-1].questions) == number and self.told[-1], f"{number} questions")

    def answer(self, number: int, answer: str, mask: Mask | None = None) -> AnswerQuestion.Response:
        request = AnswerQuestion.Request(id=number, answer=answer, mask=mask or Mask())
        return self.graph.call(AnswerQuestion, "/adapter/answer", request)

    def kept(self) -> dict[str, list[Any]]:
        content = json.loads((self.folder / "adapter.safetensors.answers" / "annotations.json").read_text())
        return {name: [each["answer"] for each in content[name]] for name in ("annotations", "refused")}


@pytest.fixture(scope="module")
def asker(graph: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    asker = Asker(graph, tmp_path_factory.mktemp("asker"))
    yield asker
    asker.process.stop()


def test_a_frame_leads_to_questions_with_image_and_mask(asker: Asker) -> None:
    assert asker.graph.until(lambda: asker.told, "the first message")[0].enabled
    asker.send()
    told = asker.until_waiting(2)
    assert told.questions[0].value >= told.questions[1].value > 0
    for each in told.questions:
        assert each.class_id == "cup" and tuple(each.box) in [tuple(map(float, box)) for box in BOXES]
        height, width = image_of(each.image).shape[:2]
        assert each.x <= each.box[0] and each.x + width >= each.box[2]
        assert each.y <= each.box[1] and each.y + height >= each.box[3]
        assert each.mask.width and len(each.mask.data) == each.mask.width * each.mask.height


def test_answers_are_taken_saved_and_taken_back(asker: Asker) -> None:
    first, second = asker.until_waiting(2).questions
    for number, answer, complaint in (
        (999, "yes", "does not wait"),
        (first.id, "perhaps", "must be one of"),
        (first.id, "mended", "must have a mask"),
    ):
        response = asker.answer(number, answer)
        assert not response.success and complaint in response.message
    outside = Mask(x=SIZE[1] - 5, y=0, width=10, height=2, data=array("B", bytes([255]) * 20))
    assert "reaches over the image" in asker.answer(first.id, "mended", outside).message

    assert "learnt from" in asker.answer(first.id, "yes").message
    assert [each.id for each in asker.until_waiting(1).questions] == [second.id]
    assert asker.kept() == {"annotations": ["yes"], "refused": []}
    assert asker.answer(0, "undo").success
    assert asker.until_waiting(2).questions[0].id == first.id
    assert asker.kept() == {"annotations": [], "refused": []}

    right = Mask(x=80, y=60, width=70, height=12, data=array("B", bytes([255]) * 840))
    assert asker.answer(first.id, "mended", right).success
    assert "not learnt from any more" in asker.answer(second.id, "no").message
    asker.until_waiting(0)
    assert asker.told[-1].answers == 2
    assert asker.kept() == {"annotations": ["mended"], "refused": ["no"]}
    content = json.loads((asker.folder / "adapter.safetensors.answers" / "annotations.json").read_text())
    assert (content["annotations"][0]["bbox"], content["annotations"][0]["area"]) == ([80, 60, 70, 12], 840)
    asker.send()


def test_a_killed_node_has_its_answers_and_asks_nothing_twice(asker: Asker) -> None:
    asker.process.process.kill()
    asker.process.process.wait(10)
    asker.graph.diagnostics.pop("/adapter", None)
    asker.start()
    assert "learns from 2 answers" in asker.process.log_end()
    assert asker.graph.until(lambda: asker.told, "the first message")[0].answers == 2
    asker.send()  # the things are known
    asker.graph.until(lambda: asker.graph.count("adapter", "frames_examined"), "an examined frame")
    assert not asker.told[-1].questions


def test_no_question_is_looked_for_where_they_are_switched_off(asker: Asker) -> None:
    none = Parameter(name="questions", value=ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=0))
    request = SetParameters.Request(parameters=[none])
    assert asker.graph.call(SetParameters, "/adapter/set_parameters", request).results[0].successful
    asker.send()
    asker.graph.until(lambda: not asker.told[-1].enabled, "the message that questions are off")
