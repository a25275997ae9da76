"""A person's clicks, box and brush strokes on one image, checked as they come from a browser."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.web.values import Marks

MOST_MARKS = 64
"""Clicks, or brush strokes, of one sketch."""
MOST_POINTS = 2000
"""Points of one brush stroke."""
LARGEST_BRUSH = 200.0
"""Radius of the brush in pixels of the image."""


class SketchError(ValueError):
    """A mark that cannot be used; the message is for people."""


@dataclass
class Sketch:
    """The marks on one object of an image.

    Attributes:
        size: height and width of the image in pixels.
        points: x, y, and True where it is on the object.
        box: x0 y0 x1 y1; None if there is none.
        strokes: radius and points of each brush stroke.
    """

    size: tuple[int, int]
    points: list[tuple[float, float, bool]] = field(default_factory=list)
    box: tuple[float, float, float, float] | None = None
    strokes: list[tuple[float, list[tuple[float, float]]]] = field(default_factory=list)
    _order: list[str] = field(default_factory=list)

    def add(self, mark: Mapping[str, Any]) -> None:
        """Adds a mark of the browser. SketchError: it is none, or lies outside of the image."""
        kind = mark.get("kind")
        if not isinstance(kind, str) or kind not in ("point", "box", "stroke"):
            raise SketchError("a mark must be a point, a box or a stroke")
        if len(self._order) >= MOST_MARKS:
            raise SketchError(f"a sketch has at most {MOST_MARKS} marks; clear it and begin again")
        if kind == "point":
            self.points.append((*self._place(mark.get("x"), mark.get("y")), bool(mark.get("on"))))
        elif kind == "box":
            self._add_box(mark)
        else:
            self._add_stroke(mark)
        self._order.append(kind)

    def undo(self) -> None:
        """Takes the last mark away, if there is one."""
        if not self._order:
            return
        kind = self._order.pop()
        if kind == "point":
            self.points.pop()
        elif kind == "stroke":
            self.strokes.pop()
        elif "box" not in self._order:
            self.box = None

    def __len__(self) -> int:
        return len(self._order)

    @property
    def is_whole(self) -> bool:
        """True where it names an object: a click that is off it does not."""
        return self.box is not None or bool(self.strokes) or any(on for *_, on in self.points)

    def marks(self) -> Marks:
        """The marks to ask the segmenter with. SketchError: nothing in them is on the object."""
        if not self.is_whole:
            raise SketchError("click on the object first, then on what is not part of it")
        return Marks(self.box, tuple(self.points), self._painted() if self.strokes else None)

    def drawn(self) -> dict[str, Any]:
        """The marks as the browser draws them."""
        strokes = [{"radius": radius, "points": points} for radius, points in self.strokes]
        return {"points": self.points, "box": self.box, "strokes": strokes}

    def _place(self, x: Any, y: Any) -> tuple[float, float]:
        height, width = self.size
        x, y = _number(x), _number(y)
        if not (0 <= x <= width and 0 <= y <= height):
            raise SketchError(f"{x:g}, {y:g} lies outside of the image of {width} x {height} pixels")
        return min(x, width - 1.0), min(y, height - 1.0)

    def _add_box(self, mark: Mapping[str, Any]) -> None:
        (x0, y0), (x1, y1) = self._place(mark.get("x0"), mark.get("y0")), self._place(mark.get("x1"), mark.get("y1"))
        box = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
        if box[2] - box[0] < 2 or box[3] - box[1] < 2:
            raise SketchError("that box is too small; drag it around the object")
        self.box = box

    def _add_stroke(self, mark: Mapping[str, Any]) -> None:
        given, radius = mark.get("points"), _number(mark.get("radius"))
        if not isinstance(given, list) or not 0 < len(given) <= MOST_POINTS:
            raise SketchError(f"a brush stroke must have 1 to {MOST_POINTS} points")
        if not 0 < radius <= LARGEST_BRUSH:
            raise SketchError(f"the brush's radius must be between 0 and {LARGEST_BRUSH:g} pixels, but is {radius:g}")
        if not all(isinstance(each, list) and len(each) == 2 for each in given):
            raise SketchError("each point of a brush stroke must be x and y")
        self.strokes.append((radius, [self._place(x, y) for x, y in given]))

    def _painted(self) -> npt.NDArray[np.bool_]:
        painted = np.zeros(self.size, np.uint8)
        for radius, points in self.strokes:
            line = np.round(np.array(points)).astype(np.int32)
            cv2.polylines(painted, [line], False, 1, max(1, round(2 * radius)))
            for x, y in line.tolist():
                cv2.circle(painted, (x, y), round(radius), 1, -1)
        return painted > 0


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise SketchError("a mark's place must be a finite number")
    return float(value)
