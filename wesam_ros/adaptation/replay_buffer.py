"""Frames kept to learn from: what the frozen model says of each, which never changes, and what the teacher said when it was last asked."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Set
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from torch import Tensor

from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene.constraints import Constraints

ALARMS = 3
"""So many frames of a robot must be misplaced, more than are right, before they are held back; and as many right ones end it. A detector
that boxes only some of what stands there has false alarms."""
MISPLACED_EVERY = 2
"""Every so many-th misplaced frame is held back then: nothing else speaks of what is served meanwhile."""


@dataclass(frozen=True, eq=False)
class BufferedFrame:
    """One frame in the memory. It has no field for labels.

    Where it is misplaced, its prompts are the boxes as they came, and all else is of these boxes where they belong (evidence.moved).

    Attributes:
        pixels: (h, w, 3) uint8, the image at the model's size.
        prompts: of the n objects that may be learnt from, in the original image.
        evidence: what prompts and depth say of the objects, on the low-resolution grid.
        anchor_logits: (n, low_res, low_res) float32, the frozen model's masks.
        anchor_prototypes: (n, c) float32, its prototypes of the objects, L2-normalised.
        background: (1, c) float32, its prototype of everything else.
        stamp_ns: time of the image.
    """

    pixels: npt.NDArray[np.uint8]
    prompts: Prompts
    constraints: Constraints
    anchor_logits: Tensor
    anchor_prototypes: Tensor
    background: Tensor
    stamp_ns: int


@dataclass(frozen=True, eq=False)
class TeacherPrediction:
    """What the teacher said of a frame: logits (n, low_res, low_res) float32 of all its objects, and how many steps there had been."""

    logits: Tensor
    step: int


def _turn(robot: str) -> str:
    """What a robot's misplaced frames are counted by: no source, which is a topic, has a space in its name."""
    return f"misplaced {robot}"


class ReplayBuffer:
    """The newest frame, a reservoir of earlier ones, and the frames held back to judge candidates.

    The reservoir (Vitter, 1985) is a uniform sample of the whole stream, so a scene of an hour ago is still learnt
    from; a share of the steps (`recent`) takes the newest frame, which is what keeps up with a changing table.
    """

    def __init__(self, capacity: int, validation_every: int, rng: np.random.Generator, validation_frames: int = 4) -> None:
        """Starts empty.

        Args:
            capacity: frames in the reservoir.
            validation_every: every so many-th frame of a source is held back; may be changed later.
            rng: draws what the reservoir keeps, and what is learnt from.
            validation_frames: most frames of a robot that are held back at a time, the newest ones; may be changed later.
        """
        self.capacity, self.validation_every, self.rng, self.validation_frames = capacity, validation_every, rng, validation_frames
        self.frames: list[BufferedFrame] = []
        self.validation: dict[str, deque[BufferedFrame]] = {}  # of each robot
        self.misplaced: dict[str, deque[BufferedFrame]] = {}  # of each robot whose boxes are off
        self.alarms: Counter[str] = Counter()  # of each robot: misplaced frames less right ones, 0 to ALARMS
        self.newest: BufferedFrame | None = None
        self.teacher_predictions: WeakKeyDictionary[BufferedFrame, TeacherPrediction] = WeakKeyDictionary()
        self.seen: Counter[str] = Counter()  # frames of each source since the last one that was held back
        self.learnable = 0  # frames that were to be learnt from

    def add(self, frame: BufferedFrame, source: str = "", robot: str = "", may_judge: bool = True) -> bool:
        """Keeps a frame; True if it is to be learnt from, False if it is held back.

        Where it is a frame's turn, but there is nothing in it to judge by, it is the next one's.

        Each source, such as a robot's detections, is counted by itself: where several take turns, every so many-th frame of all may always
        be of the same one. Each robot has held-back frames of its own: where another sends more, or alone, it is judged on them still.
        """
        self.seen[source] += 1
        if may_judge and self.seen[source] >= self.validation_every:
            self.seen[source] = 0
            self._hold(frame, self.validation.setdefault(robot, deque()))
            if robot in self.misplaced:  # they age also where depth no longer says whether boxes are right
                self.misplaced[robot].popleft()
                if not self.misplaced[robot]:
                    self._forget_misplaced(robot)
            return False
        self.learnable += 1
        self.newest = frame
        if len(self.frames) < self.capacity:
            self.frames.append(frame)
        else:
            place = int(self.rng.integers(self.learnable))
            if place < self.capacity:
                self.frames[place] = frame
        return True

    def note_placement(self, robot: str, misplaced: bool) -> bool:
        """Takes note of whether a frame's boxes belong to its depth; True if the frame is to be held back because they do not.

        Once a robot's boxes are right again, its misplaced frames are forgotten: they speak of boxes as nobody gives them any more.
        """
        self.alarms[robot] = min(max(self.alarms[robot] + (1 if misplaced else -1), 0), ALARMS)
        if not self.alarms[robot]:
            self._forget_misplaced(robot)
        if not misplaced or (self.alarms[robot] < ALARMS and robot not in self.misplaced):
            return False
        self.seen[_turn(robot)] += 1
        return self.seen[_turn(robot)] % MISPLACED_EVERY == 1

    def hold_misplaced(self, frame: BufferedFrame, robot: str) -> None:
        """Keeps a misplaced frame to judge by; it is never learnt from."""
        self._hold(frame, self.misplaced.setdefault(robot, deque()))

    def _forget_misplaced(self, robot: str) -> None:
        self.misplaced.pop(robot, None)
        self.alarms[robot] = self.seen[_turn(robot)] = 0

    def _hold(self, frame: BufferedFrame, held: deque[BufferedFrame]) -> None:
        held.append(frame)
        while len(held) > self.validation_frames:
            held.popleft()

    def keep_only(self, robots: Set[str]) -> None:
        """Lets go of what was held back of all robots but these."""
        for of_each in (self.validation, self.misplaced, self.alarms):
            for gone in of_each.keys() - robots:
                del of_each[gone]

    def draw(self, recent: float) -> BufferedFrame | None:
        """The newest frame with probability `recent`, else any; None while there is none."""
        if self.newest is None:
            return None
        if self.rng.random() < recent:
            return self.newest
        return self.frames[int(self.rng.integers(len(self.frames)))]

    def __len__(self) -> int:
        return len(self.frames)
