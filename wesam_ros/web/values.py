"""The page's view of a robot, as plain values, and the protocols of what it talks to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from wesam_ros.web.history import History


@dataclass(frozen=True, eq=False)
class Marks:
    """The marks of a person, or of a detector, on one object: as `wesam_ros.sam.prompts.Prompt`, which needs torch.

    Attributes:
        box: x0 y0 x1 y1 in pixels; None if there is none.
        points: x, y, and True where it is on the object.
        mask: (H, W) bool, a coarse mask; None if there is none.
    """

    box: tuple[float, float, float, float] | None = None
    points: Sequence[tuple[float, float, bool]] = ()
    mask: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class SeenObject:
    """One object of a frame.

    Attributes:
        id: of the detection, as the detector names it.
        class_id: its class; "" where unknown.
        score: predicted IoU of the mask, 0 to 1.
        source: witnesses that the mask was made of, joined by "+": model, depth, colour.
        track_id: the same for the same thing in every frame; 0 where there are no tracks.
        box: the prompt, x0 y0 x1 y1 in pixels.
        mask: (h, w) bool, cut out of the image.
        corner: column and row of the cut's upper left pixel.
        size: along its own axes in metres; None without depth.
        distance: from the origin of its frame in metres; None without depth.
    """

    id: str
    class_id: str
    score: float
    source: str
    track_id: int
    box: tuple[float, float, float, float]
    mask: npt.NDArray[np.bool_]
    corner: tuple[int, int]
    size: tuple[float, float, float] | None = None
    distance: float | None = None


@dataclass(frozen=True, eq=False)
class SeenFrame:
    """An image with the objects that the segmenter found in it.

    Attributes:
        stamp: of the image, nanoseconds.
        image: (H, W, 3) uint8 RGB.
        objects: in the order of the detections.
        adapter_version: version of the adapter used; 0 for the frozen model.
        model: name of the model.
        latency_ms: from the arrival of image and detections to publishing.
    """

    stamp: int
    image: npt.NDArray[np.uint8]
    objects: Sequence[SeenObject]
    adapter_version: int
    model: str
    latency_ms: float

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True, eq=False)
class Asked:
    """A question to a person: is this mask the thing?

    Attributes:
        id: names it in the answer.
        frame: the part of an image that shows the thing, its only object, in pixels of that part.
        corner: column and row of the part's upper left pixel in the whole image.
    """

    id: int
    frame: SeenFrame
    corner: tuple[int, int]

    @property
    def thing(self) -> SeenObject:
        """The object that is asked about."""
        return self.frame.objects[0]


@dataclass(frozen=True)
class Asking:
    """The questions of a robot's learner.

    Attributes:
        waiting: the most valuable first.
        answers: how many it has.
        enabled: False where it looks for none.
    """

    waiting: tuple[Asked, ...] = ()
    answers: int = 0
    enabled: bool = False


@dataclass(frozen=True)
class NodeHealth:
    """The last report of a node on /diagnostics.

    Attributes:
        name: full name of the node.
        level: 0 ok, 1 warning, 2 error.
        message: its sentence.
        values: counters, rates and the state of its parts.
        age: seconds since it came.
    """

    name: str
    level: int
    message: str
    values: dict[str, str] = field(default_factory=dict)
    age: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """The answer to a command: whether it was done, and a sentence."""

    done: bool
    message: str


class Robot(Protocol):
    """One robot's segmenter and adapter node."""

    name: str
    history: History

    def watch(self, who: str) -> None:
        """Subscribes on behalf of a page, unless that is done."""

    def unwatch(self, who: str) -> None:
        """Ends the subscriptions with the last page."""

    def frame(self) -> SeenFrame | None:
        """The newest frame with objects; None before the first."""

    def nodes(self) -> list[str]:
        """Full names of the nodes that should report."""

    def health(self) -> list[NodeHealth]:
        """The nodes' last reports; a node that was never heard has none."""

    def problem(self) -> str:
        """A sentence on why no picture can come; "" where one can."""

    def is_recent(self, stamp: int) -> bool:
        """True where prompts with this stamp still find their image in the nodes."""

    async def call(self, command: str, value: Any = None) -> Outcome:
        """Has a node do something: pause, use_frozen (value: bool); save, rollback, reset; load (value: a path on its machine)."""

    async def segment(self, frame: SeenFrame, asked: Sequence[Marks], *, frozen: bool = False) -> list[SeenObject]:
        """The objects of marks in a frame's image, without depth. Raises RobotError where the segmenter refuses or does not answer."""

    async def teach(self, frame: SeenFrame, marks: Marks, name: str) -> None:
        """Publishes marks as a prompt for learning, with the frame's stamp. Raises RobotError where nobody listens."""

    def asking(self) -> Asking | None:
        """The questions that wait; None where the learner has told nothing yet."""

    async def answer(self, asked: Asked | None, kind: str, found: SeenObject | None = None) -> Outcome:
        """Answers a question: yes, no or skip, mended with the right object in its frame, or undo without a question."""


class RobotError(Exception):
    """A robot did not do what it was asked for; the message is for people."""


class Robots(Protocol):
    """The robots of a graph."""

    def names(self) -> list[str]:
        """Namespaces of the robots that are there now, "/" for none."""

    def robot(self, name: str) -> Robot:
        """A robot by its name. KeyError: there is none."""


PERSON = "person-"
"""The ids of prompts that a person kept on the page begin so."""
