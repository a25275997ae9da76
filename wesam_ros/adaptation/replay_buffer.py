"""Frames that are kept: to learn from, and to validate adapters on. With each go the frozen model's outputs, which never change."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Set
from dataclasses import dataclass, fields, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wesam_ros.sam.prompts import Prompt, Prompts
from wesam_ros.scene.constraints import Constraints

ALARMS = 3
"""Misplaced frames of a robot, less the right ones, from which on they are kept for validation; as many right ones end it. A detector that
boxes only some of what stands there has false alarms."""
JUDGE_EVERY = 3
"""Every so many-th answer of a person judges adapters, and is not learnt from."""
JUDGES, LEAST_JUDGES = 8, 4
"""The newest judging answers that an adapter is scored on, and so many there must be: one alone may be wrong."""
ANSWERS_KEPT = 200
"""Answers in the buffer, the newest ones."""
ANSWERS = "a person's answers"
"""The judging answers among the validation frames of the robots."""
MISPLACED_EVERY = 2
"""Every so many-th misplaced frame is kept then: no other frame shows what is served meanwhile."""


@dataclass(frozen=True, eq=False)
class BufferedFrame:
    """One frame in the buffer. It has no field for labels.

    Where a frame is misplaced, its prompts are the boxes as they came. All else is of these boxes where they belong (constraints.moved).

    Attributes:
        pixels: (h, w, 3) uint8, the image at the model's size.
        prompts: of the n objects that may be learnt from, in the original image.
        constraints: what prompts and depth say of the objects, on the low-resolution grid.
        anchor_logits: (n, low_res, low_res) float32, the frozen model's masks.
        anchor_prototypes: (n, c) float32, its prototypes of the objects, L2-normalised.
        background: (1, c) float32, its prototype of everything else.
        evidence: (n, low_res, low_res) float32, log-odds of depth, prompts and colour that are added to logits where masks are learnt from.
        stamp_ns: time of the image.
        scorable: adapters can be scored on it: of some object it is known what its mask should be (validation.scored_objects).
        answered: a person has given its only object's mask, which `evidence` says with certainty (answers.py). Such a frame is not in the
            state: it is made again of the saved answer.
    """

    pixels: npt.NDArray[np.uint8]
    prompts: Prompts
    constraints: Constraints
    anchor_logits: Tensor
    anchor_prototypes: Tensor
    background: Tensor
    evidence: Tensor
    stamp_ns: int
    scorable: bool = True
    answered: bool = False

    def without(self, box: npt.NDArray[np.float32]) -> BufferedFrame | None:
        """The frame without the objects of this very box; None where no object is left, itself where it has none with that box."""
        left = [row for row, each in enumerate(self.prompts.objects) if each.box is None or not np.array_equal(each.box, box)]
        if len(left) == len(self.prompts):
            return self
        if not left:
            return None
        rows = torch.tensor(left)
        kept = {name: getattr(self, name)[rows] for name in ("constraints", "anchor_logits", "anchor_prototypes", "evidence")}
        return replace(self, prompts=self.prompts.select(rows.numpy()), **kept)

    def state_dict(self) -> dict[str, Any]:
        """The frame as tensors, numbers, lists and dictionaries."""
        prompts = [
            (
                None if each.box is None else torch.from_numpy(each.box),
                torch.from_numpy(each.points),
                torch.from_numpy(each.point_labels),
                None if each.mask is None else torch.from_numpy(each.mask),
            )
            for each in self.prompts.objects
        ]
        return {
            "pixels": torch.from_numpy(self.pixels),
            "size": self.prompts.size,
            "stamp_ns": self.stamp_ns,
            "scorable": self.scorable,
            "tensors": {each.name: getattr(self, each.name).cpu() for each in fields(BufferedFrame) if each.type == "Tensor"},
            "constraints": {each.name: getattr(self.constraints, each.name).cpu() for each in fields(Constraints)},
            "prompts": prompts,
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any], device: torch.device) -> BufferedFrame:
        """The frame that `state_dict` was called on, with its tensors on `device`."""
        objects = tuple(
            Prompt(None if box is None else box.numpy(), points.numpy(), labels.numpy(), None if mask is None else mask.numpy())
            for box, points, labels, mask in state["prompts"]
        )
        return cls(
            pixels=state["pixels"].numpy(),
            prompts=Prompts(tuple(state["size"]), objects),
            constraints=Constraints(**state["constraints"]).to(device),
            stamp_ns=state["stamp_ns"],
            scorable=state["scorable"],
            **{name: tensor.to(device) for name, tensor in state["tensors"].items()},
        )


@dataclass(frozen=True, eq=False)
class TeacherPrediction:
    """The teacher's logits (n, low_res, low_res) float32 of all objects of a frame, and the number of steps before them."""

    logits: Tensor
    step: int


def _misplaced_source(robot: str) -> str:
    """The key that a robot's misplaced frames are counted by: no source, which is a topic, has a space in its name."""
    return f"misplaced {robot}"


class ReplayBuffer:
    """The newest frame, a reservoir of earlier ones, the validation frames, which are never learnt from, and a person's answers.

    The reservoir (Vitter, 1985) is a uniform sample of the whole stream, so a scene of an hour ago is still learnt
    from; a share of the steps (`recent`) takes the newest frame, which is what keeps up with a changing table.
    """

    def __init__(self, capacity: int, validation_every: int, rng: np.random.Generator, validation_frames: int = 4) -> None:
        """Starts empty.

        Args:
            capacity: frames in the reservoir.
            validation_every: every so many-th frame of a source is for validation; may be changed later.
            rng: draws what the reservoir keeps, and what is learnt from.
            validation_frames: most validation frames of a robot at a time, the newest ones; may be changed later.
        """
        self.capacity, self.validation_every, self.rng, self.validation_frames = capacity, validation_every, rng, validation_frames
        self.frames: list[BufferedFrame] = []
        self.validation: dict[str, deque[BufferedFrame]] = {}  # of each robot
        self.misplaced: dict[str, deque[BufferedFrame]] = {}  # of each robot whose boxes are off
        self.alarms: Counter[str] = Counter()  # of each robot: misplaced frames less right ones, 0 to ALARMS
        self.answered: dict[int, BufferedFrame] = {}  # by the number of the answer, oldest first
        self.newest: BufferedFrame | None = None
        self.teacher_predictions: WeakKeyDictionary[BufferedFrame, TeacherPrediction] = WeakKeyDictionary()
        self.seen: Counter[str] = Counter()  # frames of each source since its last validation frame
        self.learnable = 0  # frames that were to be learnt from

    def add(self, frame: BufferedFrame, source: str = "", robot: str = "", misplaced: bool = False) -> bool:
        """Keeps a frame; True if it is to be learnt from, False if it is for validation, as each misplaced one is.

        A frame whose turn it is, but that adapters cannot be scored on, leaves its turn to the next one.

        Each source, such as a robot's detections, is counted by itself: where several take turns, every so many-th frame of all may always
        be of the same one. Each robot has validation frames of its own, which stay where another sends more, or alone.
        """
        if misplaced:
            self._append(frame, self.misplaced.setdefault(robot, deque()))
            return False
        self.seen[source] += 1
        if frame.scorable and self.seen[source] >= self.validation_every:
            self.seen[source] = 0
            self._append(frame, self.validation.setdefault(robot, deque()))
            if robot in self.misplaced:  # they age also where depth no longer tells whether boxes are right
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
        """Takes note of a frame whose boxes belong to its depth, or do not; True if it is to be kept for validation as misplaced.

        Once a robot's boxes are right again, its misplaced frames are forgotten: boxes no longer come as in them.
        """
        self.alarms[robot] = min(max(self.alarms[robot] + (1 if misplaced else -1), 0), ALARMS)
        if not self.alarms[robot]:
            self._forget_misplaced(robot)
        if not misplaced or (self.alarms[robot] < ALARMS and robot not in self.misplaced):
            return False
        source = _misplaced_source(robot)
        self.seen[source] += 1
        return self.seen[source] % MISPLACED_EVERY == 1

    def _forget_misplaced(self, robot: str) -> None:
        self.misplaced.pop(robot, None)
        self.alarms[robot] = self.seen[_misplaced_source(robot)] = 0

    def _append(self, frame: BufferedFrame, kept: deque[BufferedFrame]) -> None:
        kept.append(frame)
        while len(kept) > self.validation_frames:
            kept.popleft()

    def keep_only(self, robots: Set[str]) -> None:
        """Forgets the validation frames of all robots but these."""
        for of_each in (self.validation, self.misplaced, self.alarms):
            for gone in of_each.keys() - robots:
                del of_each[gone]

    def answer(self, number: int, frame: BufferedFrame) -> None:
        """Keeps the frame of a person's answer; of too many the oldest is dropped."""
        self.answered[number] = frame
        while len(self.answered) > ANSWERS_KEPT:
            del self.answered[next(iter(self.answered))]

    def forget_object(self, stamp_ns: int, box: npt.NDArray[np.float32]) -> None:
        """Drops what was made up about an object, since a person has told: in the frames of this stamp, that of this very box."""

        changed: dict[BufferedFrame, BufferedFrame | None] = {}  # a frame may be in several lists

        def kept(frames: Iterable[BufferedFrame]) -> list[BufferedFrame]:
            for each in frames:
                if each not in changed:
                    changed[each] = each.without(box) if each.stamp_ns == stamp_ns else each
            return [left for each in frames if (left := changed[each]) is not None]

        newest = kept([self.newest]) if self.newest is not None else []
        self.frames[:] = kept(self.frames)
        self.newest = next(iter(newest or self.frames[-1:]), None)
        self.validation = {robot: deque(left) for robot, frames in self.validation.items() if (left := kept(frames))}

    def draw(self, recent: float, answers: float = 0.0) -> BufferedFrame | None:
        """An answer with probability `answers`, else the newest frame with probability `recent`, else any; None while there is none."""
        learnt = [frame for number, frame in self.answered.items() if number % JUDGE_EVERY]
        if learnt and self.rng.random() < answers:
            return learnt[int(self.rng.integers(len(learnt)))]
        if self.newest is None:
            return None
        if self.rng.random() < recent:
            return self.newest
        return self.frames[int(self.rng.integers(len(self.frames)))]

    def validation_by_robot(self, most: int) -> dict[str, list[BufferedFrame]]:
        """The newest validation frames of each robot, at most so many, oldest first; its misplaced ones apart, and a person's answers."""
        placed = {robot or "/": list(each)[-most:] for robot, each in self.validation.items()}
        judging = [frame for number, frame in self.answered.items() if not number % JUDGE_EVERY][-JUDGES:]
        return placed | self.misplaced_by_robot(most) | ({ANSWERS: judging} if len(judging) >= LEAST_JUDGES else {})

    def misplaced_by_robot(self, most: int) -> dict[str, list[BufferedFrame]]:
        """The newest misplaced frames of each robot whose boxes are off, at most so many, oldest first."""
        return {f"{robot or '/'} with misplaced boxes": list(each)[-most:] for robot, each in self.misplaced.items()}

    def other_prototypes(self, frame: BufferedFrame, most: int) -> Tensor:
        """(k, c) the anchor's prototypes of the objects in the reservoir's other frames, at most so many."""
        others = [each.anchor_prototypes for each in self.frames if each is not frame]
        return torch.cat([frame.anchor_prototypes[:0], *others])[-most:]

    def __len__(self) -> int:
        return len(self.frames)

    def state_dict(self) -> dict[str, Any]:
        """All frames once, and of each list the places of its frames among them."""
        newest = [] if self.newest is None else [self.newest]
        validation = [frame for of_each in (self.validation, self.misplaced) for each in of_each.values() for frame in each]
        frames = list(dict.fromkeys([*self.frames, *validation, *newest]))
        place = {frame: index for index, frame in enumerate(frames)}
        return {
            "frames": [frame.state_dict() for frame in frames],
            "reservoir": [place[frame] for frame in self.frames],
            "validation": {robot: [place[frame] for frame in each] for robot, each in self.validation.items()},
            "misplaced": {robot: [place[frame] for frame in each] for robot, each in self.misplaced.items()},
            "alarms": dict(self.alarms),
            "newest": None if self.newest is None else place[self.newest],
            "seen": dict(self.seen),
            "learnable": self.learnable,
            "teacher_predictions": [
                (place[frame], each.logits.cpu(), each.step) for frame, each in self.teacher_predictions.items() if frame in place
            ],
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Takes over a buffer's content, with its tensors on `device`. Of more frames than there is room for, a sample is drawn."""
        frames = [BufferedFrame.from_state_dict(each, device) for each in state["frames"]]
        reservoir = [frames[index] for index in state["reservoir"]]
        if len(reservoir) > self.capacity:  # a sample of a sample of the stream is one, too
            reservoir = [reservoir[index] for index in np.sort(self.rng.choice(len(reservoir), self.capacity, replace=False))]
        self.frames[:] = reservoir
        self.validation, self.misplaced = (
            {robot: deque(frames[index] for index in each) for robot, each in state[kind].items()} for kind in ("validation", "misplaced")
        )
        self.alarms = Counter({robot: int(n) for robot, n in state["alarms"].items()})
        self.newest = None if state["newest"] is None else frames[state["newest"]]
        self.seen, self.learnable = Counter({source: int(n) for source, n in state["seen"].items()}), int(state["learnable"])
        for index, logits, step in state["teacher_predictions"]:
            self.teacher_predictions[frames[index]] = TeacherPrediction(logits.to(device), step)
