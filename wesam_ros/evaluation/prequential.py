"""The prequential stream: each request is predicted with what was learnt before it, and then learnt from.

All offline loops are made of it: `wesam adapt`, the cells of `wesam evaluate`, attacks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from wesam_ros.adaptation.learner import Learner
from wesam_ros.evaluation.prompts import Prompted
from wesam_ros.sam.adapter import Adapter

if TYPE_CHECKING:
    from wesam_ros.methods.registry import Method

P = TypeVar("P")


class Subject(Protocol):
    """Something that adapts on a stream."""

    @property
    def adapter(self) -> Adapter | None:
        """The adapter that serves now; None is the frozen model."""

    def observe(self, request: Prompted) -> Any:
        """Takes a request to learn from; the result goes into the record."""

    def step(self) -> Any:
        """One training step: its result, None where there is nothing to learn from yet."""

    def end(self) -> None:
        """Ends what a request led to, after its steps."""


@dataclass(frozen=True, eq=False)
class Turn(Generic[P]):
    """The record of one request.

    Attributes:
        index: its place in the stream, from 0.
        request: the request.
        prediction: made before it was learnt from.
        admission: result of `Subject.observe`.
        steps: results of the training steps that were made after it.
        seconds: wall-clock time of these steps.
    """

    index: int
    request: Prompted
    prediction: P
    admission: Any
    steps: tuple[Any, ...]
    seconds: float


def prequential(
    subject: Subject, stream: Iterable[Prompted], steps: Callable[[int], int], predict: Callable[[Prompted, Adapter | None], P]
) -> Iterator[Turn[P]]:
    """Predicts each request of a stream, then learns from it.

    Args:
        subject: the one that adapts.
        stream: requests in their order; each is taken when the one before is done.
        steps: training steps after the request at an index.
        predict: makes the prediction of a request with the adapter that serves.
    """
    for index, request in enumerate(stream):
        prediction = predict(request, subject.adapter)
        admission = subject.observe(request)
        results, seconds = [], 0.0
        for _ in range(steps(index)):
            began = time.perf_counter()
            result = subject.step()
            if result is not None:
                results.append(result)
                seconds += time.perf_counter() - began
        subject.end()
        yield Turn(index, request, prediction, admission, tuple(results), seconds)


class LearnerOnStream:
    """A learner as on a robot: what it publishes serves from the next request on. It proposes once after the steps of a request."""

    def __init__(self, learner: Learner, *, publishes: bool = True) -> None:
        """With `publishes` False nothing is proposed, and the first adapter serves throughout."""
        self.learner, self._publishes = learner, publishes
        self.adapter: Adapter | None = learner.adapter
        """The adapter that serves: the one that was published last, unless someone puts another here."""

    def observe(self, request: Prompted) -> Any:
        """Takes a request, without the truth."""
        return self.learner.observe(replace(request.frame, labels=None, void=None), request.prompts, request.source)

    def step(self) -> Any:
        """One training step."""
        return self.learner.step()

    def end(self) -> None:
        """Asks for an adapter to publish."""
        if self._publishes:
            self.adapter = self.learner.propose().adapter or self.adapter


class MethodOnStream:
    """A method of the comparison. It sees only requests with prompts, and true masks only where it is supervised."""

    def __init__(self, method: Method, supervised: bool) -> None:
        self._method, self._supervised = method, supervised

    @property
    def adapter(self) -> Adapter | None:
        """The method's adapter."""
        return self._method.adapter

    def observe(self, request: Prompted) -> None:
        """Takes a request that has prompts."""
        if len(request.prompts):
            self._method.observe(request.frame, request.prompts, request.masks if self._supervised else None)

    def step(self) -> float | None:
        """One training step."""
        return self._method.step()

    def end(self) -> None:
        """Nothing: methods propose within their steps, where they do at all."""
