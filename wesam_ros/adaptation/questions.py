"""Questions to a person: the few objects on which an answer would teach most (active learning: Settles, 2009, sections 3.1 and 5.1).

An answer teaches much where the witnesses disagree (query by committee), where the mask's calibrated score is low (least confidence), and
where the thing is unlike those that were asked about (information density, turned round: one answer is enough for things that look alike).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

SAME = 0.95
"""Cosine of two prototypes from which on both are of one thing. On simulated tables and on the demo's, two views of a thing have 0.95 and
more in three of four cases, two things at most 0.92 in 95 of 100."""
UNLIKE = 0.75
"""Cosine up to which a thing is as new as can be: about the median of two things there."""
REMEMBERED = 500
"""Prototypes of things that were asked about."""


@dataclass(frozen=True, eq=False)
class Question:
    """Is this mask the thing?

    Attributes:
        id: names it; no other question of this process has it.
        image: (H, W, 3) uint8 RGB, which the questions of one frame share.
        box: (4,) float32 x0 y0 x1 y1 in pixels, the prompt.
        mask: (H, W) bool, as it would be served.
        score: predicted IoU of the mask, calibrated.
        disagreement: 1 less the mean IoU of the masks of the frozen model, of the adapting one, and of that one with depth and colour.
        prototype: (c,) of what is in the box, less the image's, L2-normalised: its look.
        stamp_ns: time of the image.
        robot: the namespace that it came from.
        class_id: the detector's.
        value: how much an answer would teach, from 0 to 1; see `select`.
    """

    id: int
    image: npt.NDArray[np.uint8]
    box: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]
    score: float
    disagreement: float
    prototype: Tensor
    stamp_ns: int
    robot: str = ""
    class_id: str = ""
    value: float = 0.0

    @property
    def doubt(self) -> float:
        """From 0 to 1: the mean of disagreement and of what the score lacks."""
        return (self.disagreement + 1 - min(max(self.score, 0.0), 1.0)) / 2


def novelty(prototype: Tensor, others: Sequence[Tensor]) -> float:
    """From 0, where a thing looks like one of the others (SAME), to 1, where it is like none (UNLIKE)."""
    if not others:
        return 1.0
    nearest = float((torch.stack(list(others)) @ prototype).max())
    return min(max((SAME - nearest) / (SAME - UNLIKE), 0.0), 1.0)


def select(offered: Sequence[Question], asked: Sequence[Tensor], most: int) -> list[Question]:
    """The questions to keep, the most valuable first: the doubt of each, times its novelty beside those asked before and those taken.

    Greedy, as the novelty of one depends on those that are taken (as Sener and Savarese, ICLR 2018, choose a core set). Of two that look
    alike only the more doubtful one is kept.

    Args:
        offered: those at hand.
        asked: prototypes of things that were asked about.
        most: how many to keep.
    """
    taken: list[Question] = []
    left = list(offered)
    while left and len(taken) < most:
        known = [*asked, *(each.prototype for each in taken)]
        valued = [replace(each, value=each.doubt * novelty(each.prototype, known)) for each in left]
        best = max(range(len(valued)), key=lambda index: valued[index].value)
        if not valued[best].value:
            break
        taken.append(valued[best])
        del left[best]
    return taken


class Questions:
    """The questions that wait for an answer.

    Attributes:
        waiting: the most valuable first.
        most: how many may wait; may be changed.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.waiting: list[Question] = []
        self._asked: deque[Tensor] = deque(maxlen=REMEMBERED)
        self._ids = count(1)

    def offer(self, found: Sequence[Question]) -> bool:
        """Keeps the best of those that wait and of new ones, which get their ids; True if others wait now."""
        before = [each.id for each in self.waiting]
        numbered = [replace(each, id=next(self._ids)) for each in found]
        self.waiting = select([*self.waiting, *numbered], self._asked, self.most)
        return [each.id for each in self.waiting] != before

    def take(self, number: int) -> Question:
        """Ends a question: its thing is not asked about again. KeyError: no such question waits."""
        index = [each.id for each in self.waiting].index(number) if number in {each.id for each in self.waiting} else None
        if index is None:
            raise KeyError(number)
        question = self.waiting.pop(index)
        self.know(question.prototype)
        return question

    def know(self, prototype: Tensor) -> None:
        """Takes note of a thing that need not be asked about: it was."""
        self._asked.append(prototype)
        self.offer([])

    def put_back(self, question: Question) -> None:
        """Asks again what was taken last."""
        self._asked.pop()
        self.waiting = [question, *self.waiting][: self.most]

    def clear(self) -> None:
        """Drops the questions that wait; things that were asked about stay known."""
        self.waiting.clear()
