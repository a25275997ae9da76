"""Questions of the adapter node to a person, and the answers: the topic ~/questions and the service ~/answer."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode

from wesam_ros.adaptation.answer_files import AnswerFolder
from wesam_ros.adaptation.answers import MENDED, NO, YES, Answered, keep_answer
from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.examining import examine, look_of
from wesam_ros.adaptation.questions import Question, Questions
from wesam_ros.adaptation.replay_buffer import ANSWERS_KEPT, JUDGE_EVERY
from wesam_ros.data.requests import mask_of_crop
from wesam_ros.msg import Questions as QuestionsMessage
from wesam_ros.ros.diagnostics import Diagnostics
from wesam_ros.ros.frame_request import FrameRequest
from wesam_ros.ros.intake import Intake
from wesam_ros.ros.learning import Learning
from wesam_ros.ros.parameters import Declared
from wesam_ros.ros.question_messages import question_message
from wesam_ros.ros.subscriptions import LATCHED, create_output
from wesam_ros.settings import AdapterParameters
from wesam_ros.srv import AnswerQuestion
from wesam_ros.web.values import PERSON

if TYPE_CHECKING:
    from wesam_ros.adaptation.learner import Learner

EXAMINE_SECONDS = 5.0
"""Seconds between two frames that are examined: a person needs as long to answer, and the next frame shows the same things."""
UNDO_DEPTH = 5
"""Answers that can be taken back, with their images in memory."""
FOLDER = ".answers"
"""Ending of the folder's name, after that of the adapter file that it lies beside."""


class Questioning:
    """Keeps the questions that wait and the answers that were given. With the parameter `questions` at 0 it computes nothing.

    All but the callback runs in the worker thread.

    Args:
        node: the owner of topic and service.
        declared: its parameters.
        adaptation: settings of the method.
        intake: its worker.
        learning: has the learner.
        diagnostics: counts answers, "failed.save" and "refused.answers".
        beside: the adapter file that the folder of answers lies beside; None keeps answers in memory.
    """

    def __init__(
        self,
        node: LifecycleNode,
        declared: Declared[AdapterParameters],
        adaptation: Declared[AdaptationConfig],
        intake: Intake,
        learning: Learning,
        diagnostics: Diagnostics,
        beside: Path | None,
    ) -> None:
        self._declared, self._adaptation, self._intake, self._learning = declared, adaptation, intake, learning
        self._diagnostics, self._log = diagnostics, node.get_logger()
        self._folder = AnswerFolder(beside.with_name(beside.name + FOLDER)) if beside is not None else None
        self._questions = Questions(declared.value.questions)
        self._answers = 0
        self._next_number, self._examine_at = 1, 0.0
        self._undo: deque[tuple[Question, int | None]] = deque(maxlen=UNDO_DEPTH)
        self._output = create_output(node, diagnostics, QuestionsMessage, "~/questions", LATCHED)
        node.create_service(AnswerQuestion, "~/answer", self._on_answer, callback_group=ReentrantCallbackGroup())

    def prepare(self, learner: Learner) -> None:
        """Gives a new learner the answers of earlier processes. OSError: the folder cannot be read."""
        self._questions = Questions(self._declared.value.questions)
        self._undo.clear()
        saved = self._saved()
        for each in saved:
            keep_answer(learner.replay_buffer, learner.sam, each, learner.config.precision)
            self._questions.know(look_of(learner.sam, each.image, each.box, learner.config.precision))
        self._answers = len(self._folder) if self._folder is not None else 0
        self._next_number = self._folder.next_number if self._folder is not None else 1
        if saved:
            self._log.info(f"learns from {len(saved)} answers in {self._folder.path if self._folder is not None else ''}")

    def _saved(self) -> list[Answered]:
        if self._folder is None:
            return []
        try:
            return self._folder.load(ANSWERS_KEPT)
        except ValueError as error:
            self._diagnostics.problem("refused.answers", f"{error}; it is kept as {self._folder.put_aside()}, and answers begin anew")
            return []

    def publish(self) -> None:
        """Publishes the questions that wait."""
        waiting = [question_message(each) for each in self._questions.waiting]
        self._output.publish(QuestionsMessage(questions=waiting, answers=self._answers, enabled=self._questions.most > 0))

    def consider(self, request: FrameRequest) -> None:
        """Looks for questions in a frame that was accepted, once in EXAMINE_SECONDS."""
        most, now = self._declared.value.questions, time.monotonic()
        if most != self._questions.most:
            self._questions.most = most
            self._questions.offer([])
            self.publish()
        if not most or now < self._examine_at or any(each.startswith(PERSON) for each in request.objects.detections.ids):
            return
        learner = self._learning.running()
        prompts, classes = request.objects.prompts, request.objects.detections.classes
        found = examine(learner.sam, learner.adapter, request.frame, prompts, self._adaptation.value, request.robot, classes)
        self._examine_at = time.monotonic() + EXAMINE_SECONDS
        self._diagnostics.count("frames_examined")
        self._diagnostics.timing("examine_ms", (time.monotonic() - now) * 1e3)
        if self._questions.offer(found):
            self.publish()

    def values(self) -> dict[str, str]:
        """Values for /diagnostics."""
        return {"questions": str(len(self._questions.waiting)), "answers": str(self._answers)}

    async def _on_answer(self, request: AnswerQuestion.Request, response: AnswerQuestion.Response) -> AnswerQuestion.Response:
        try:
            response.message = await self._intake.call(lambda: self._take(request))
            response.success = True
        except Exception as error:
            response.success, response.message = False, str(error)
        return response

    def _take(self, request: AnswerQuestion.Request) -> str:
        """Obeys an answer; the sentence on what follows. ValueError: it cannot be used."""
        kinds: dict[str, Callable[[AnswerQuestion.Request], str]] = {
            AnswerQuestion.Request.UNDO: self._take_back,
            AnswerQuestion.Request.SKIP: self._skip,
            **dict.fromkeys((YES, NO, MENDED), self._learn),
        }
        if request.answer not in kinds:
            raise ValueError(f"an answer must be one of {', '.join(kinds)}, but got {request.answer!r}")
        sentence = kinds[request.answer](request)
        self._diagnostics.count(f"answers.{request.answer}")
        self.publish()
        return sentence

    def _waiting(self, number: int) -> Question:
        for each in self._questions.waiting:
            if each.id == number:
                return each
        raise ValueError(f"question {number} does not wait for an answer any more; take one of ~/questions")

    def _skip(self, request: AnswerQuestion.Request) -> str:
        question = self._waiting(request.id)
        self._questions.take(question.id)
        self._undo.append((question, None))
        return "it is not asked again"

    def _learn(self, request: AnswerQuestion.Request) -> str:
        question = self._waiting(request.id)
        mask = question.mask
        if request.answer == MENDED:
            size = (question.image.shape[0], question.image.shape[1])
            given = mask_of_crop(request.mask, size)
            if given is None or not given.any():
                raise ValueError("an answer that mends must have a mask with at least one pixel set, in pixels of the original image")
            mask = given
        number = self._next_number
        answered = Answered(
            number, request.answer, question.image, question.box, mask, question.stamp_ns, question.robot, question.class_id
        )
        learner = self._learning.running()
        keep_answer(learner.replay_buffer, learner.sam, answered, learner.config.precision)
        self._questions.take(question.id)
        self._undo.append((question, number))
        self._next_number, self._answers = number + 1, self._answers + 1
        kept = self._write(lambda folder: folder.add(answered))
        if request.answer == NO:
            return f"it is not learnt from any more{kept}"
        return f"{'adapters are judged by it' if number % JUDGE_EVERY == 0 else 'it is learnt from'} from now on{kept}"

    def _take_back(self, request: AnswerQuestion.Request) -> str:
        if not self._undo:
            raise ValueError("there is no answer of this process to take back")
        question, number = self._undo.pop()
        self._questions.put_back(question)
        if number is None:
            return "it is asked again"
        self._learning.running().replay_buffer.answered.pop(number, None)
        self._next_number, self._answers = number, self._answers - 1
        return f"the last answer is taken back{self._write(lambda folder: folder.remove(number))}"

    def _write(self, change: Callable[[AnswerFolder], None]) -> str:
        """Changes the folder; words on where that could not be done. The answer counts all the same."""
        if self._folder is None:
            return ", until this process ends: there is no save_to"
        try:
            change(self._folder)
        except OSError as error:
            self._diagnostics.problem(
                "failed.save", f"{self._folder.path} cannot be written ({error.strerror or error}); it is tried again with the next answer"
            )
            return ", until this process ends: it could not be saved"
        return ""
