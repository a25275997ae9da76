"""Prompts as values: boxes, points and coarse masks. They are checked when they are made, so that no bad one reaches the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

_REMEDY = {
    "nan": "has a value that is not finite; check the detector's output",
    "inverted": "is inverted; give x0 y0 x1 y1 with x0 <= x1 and y0 <= y1",
    "outside": "lies outside the image; check that the detector saw an image of this size",
    "empty": "has less than one pixel inside the image; give x0 y0 x1 y1 in pixels, not relative to the image's size",
}


_NO_POINTS, _NO_LABELS = np.zeros((0, 2), np.float32), np.zeros(0, np.int64)


class PromptError(ValueError):
    """A prompt that no model can use. The message names the fault, the value and the remedy."""


def check_boxes(boxes: npt.NDArray[np.float32], size: tuple[int, int]) -> tuple[str | None, ...]:
    """The fault of each of (n, 4) boxes in an image of `size` (H, W): None, or "nan", "inverted", "outside" or "empty"."""
    height, width = size
    rows = np.asarray(boxes, np.float64).reshape(-1, 4)
    inside = np.minimum(rows[:, 2:], (width, height)) - np.maximum(rows[:, :2], 0)
    if (inside >= 1).all() and np.isfinite(rows).all():  # the usual case, and quick to tell
        return (None,) * len(rows)
    finite = np.all(np.isfinite(rows), axis=1)
    x0, y0, x1, y1 = np.where(finite[:, None], rows, 0.0).T
    faults = np.full(len(rows), None, object)
    # From the mildest to the gravest: a later line overrules an earlier one.
    faults[(np.minimum(x1, width) - np.maximum(x0, 0) < 1) | (np.minimum(y1, height) - np.maximum(y0, 0) < 1)] = "empty"
    faults[(x0 >= width) | (y0 >= height) | (x1 <= 0) | (y1 <= 0)] = "outside"
    faults[(x1 < x0) | (y1 < y0)] = "inverted"
    faults[~finite] = "nan"
    return tuple(faults)


@dataclass(frozen=True, eq=False)
class Prompt:
    """The prompt of one object: a box, points or a coarse mask, or several of these.

    Attributes:
        box: (4,) float32, x0 y0 x1 y1 in pixels of the original image.
        points: (k, 2) float32, x y in pixels of the original image.
        point_labels: (k,) integers, 1 = on the object, 0 = not on it.
        mask: (H, W) bool, a coarse mask of the object in the original image.

    Raises:
        PromptError: it has none of these, or one with a wrong shape, label or value.
    """

    box: npt.NDArray[np.float32] | None = None
    points: npt.NDArray[np.float32] = field(default_factory=lambda: _NO_POINTS)
    point_labels: npt.NDArray[np.int64] = field(default_factory=lambda: _NO_LABELS)
    mask: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.points is not _NO_POINTS or self.point_labels is not _NO_LABELS:
            self._check_points()
        if self.box is not None:
            box = np.asarray(self.box, np.float32)
            if box.shape != (4,):
                raise PromptError(f"a box must be (4,), but got shape {box.shape}; give x0 y0 x1 y1")
            object.__setattr__(self, "box", box)
        if self.mask is not None:
            mask = np.asarray(self.mask)
            if mask.ndim != 2 or mask.dtype != np.bool_:
                raise PromptError(f"a coarse mask must be (H, W) bool, but got shape {mask.shape} of {mask.dtype}")
            if not mask.any():
                raise PromptError("a coarse mask must have at least one pixel set; leave the mask out where nothing is known")
        if self.box is None and not len(self.points) and self.mask is None:
            raise PromptError("a prompt needs a box, a point or a coarse mask, but has none of them")

    def _check_points(self) -> None:
        points = np.asarray(self.points, np.float32)
        labels = np.asarray(self.point_labels, np.int64)
        if points.ndim != 2 or points.shape[1] != 2 or labels.shape != (len(points),):
            raise PromptError(f"points must be (k, 2) with (k,) labels, but got shapes {points.shape} and {labels.shape}")
        if len(points) and not np.isfinite(points).all():
            raise PromptError(f"points must be finite, but got {points.tolist()}")
        if len(labels) and not np.isin(labels, (0, 1)).all():
            raise PromptError(f"point labels must be 1 (on the object) or 0 (not on it), but got {labels.tolist()}")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "point_labels", labels)


@dataclass(frozen=True, eq=False)
class Prompts:
    """The prompts of the objects in one image. Boxes that reach over the image's border are cut there.

    Attributes:
        size: (H, W) of the image in pixels.
        objects: one Prompt per object, in the order of the results.

    Raises:
        PromptError: a box, point or mask does not fit the image.
    """

    size: tuple[int, int]
    objects: tuple[Prompt, ...]

    def __post_init__(self) -> None:
        height, width = self.size
        if height < 1 or width < 1:
            raise PromptError(f"size must be (height, width) of at least one pixel, but got {self.size}")
        boxed = [index for index, each in enumerate(self.objects) if each.box is not None]
        boxes = np.array([self.objects[index].box for index in boxed], np.float32).reshape(-1, 4)
        for index, box, reason in zip(boxed, boxes, check_boxes(boxes, self.size), strict=True):
            if reason is not None:
                raise PromptError(f"box {index} {box.tolist()} {_REMEDY[reason]} ({width} x {height} pixels)")
        cut = np.clip(boxes, 0, (width, height, width, height)).astype(np.float32)
        clipped = {boxed[row]: cut[row] for row in np.flatnonzero((cut != boxes).any(1))}
        objects = (self._inside(index, each, clipped.get(index)) for index, each in enumerate(self.objects))
        object.__setattr__(self, "objects", tuple(objects))

    def _inside(self, index: int, prompt: Prompt, box: npt.NDArray[np.float32] | None) -> Prompt:
        height, width = self.size
        if prompt.mask is not None and prompt.mask.shape != self.size:
            raise PromptError(f"the coarse mask of object {index} must have the image's size {self.size}, but got {prompt.mask.shape}")
        if len(prompt.points) and not ((prompt.points >= 0) & (prompt.points <= (width, height))).all():
            raise PromptError(f"a point of object {index} lies outside the {width} x {height} image: {prompt.points.tolist()}")
        return prompt if box is None else Prompt(box, prompt.points, prompt.point_labels, prompt.mask)

    @classmethod
    def from_boxes(cls, boxes: npt.ArrayLike, size: tuple[int, int]) -> Prompts:
        """Prompts of (n, 4) boxes, x0 y0 x1 y1 in pixels of an image of `size` (H, W); n may be 0.

        Raises:
            PromptError: a box is not finite, inverted, outside the image or empty, or the shape is wrong.
        """
        rows = np.asarray(boxes, np.float32)
        if rows.size == 0:
            rows = rows.reshape(-1, 4)
        if rows.ndim != 2 or rows.shape[1] != 4:
            raise PromptError(f"boxes must be (n, 4), but got shape {rows.shape}; give x0 y0 x1 y1 per object")
        return cls(size, tuple(Prompt(box=box) for box in rows))

    @staticmethod
    def checked_boxes(boxes: npt.NDArray[np.float32], size: tuple[int, int]) -> tuple[npt.NDArray[np.bool_], tuple[str | None, ...]]:
        """Tells the usable ones of (n, 4) boxes from the others. For streams, where a bad box is counted rather than raised.

        Returns:
            keep (n,) bool, and for each box None or its fault: "nan", "inverted", "outside" or "empty".
        """
        reasons = check_boxes(boxes, size)
        return np.array([reason is None for reason in reasons], bool), reasons

    @classmethod
    def usable_boxes(cls, boxes: npt.NDArray[np.float32], size: tuple[int, int]) -> Prompts:
        """Prompts of the usable ones of (n, 4) boxes; the others are left out."""
        return cls.from_boxes(boxes[cls.checked_boxes(boxes, size)[0]], size)

    def __len__(self) -> int:
        return len(self.objects)

    def select(self, indices: npt.NDArray[np.int64]) -> Prompts:
        """The prompts of some of the objects, in the order of `indices`."""
        return Prompts(self.size, tuple(self.objects[i] for i in indices))

    def groups(self) -> Iterator[npt.NDArray[np.int64]]:
        """Indices of objects whose prompts have the same form, and so the same number of tokens: these can share one decoder call."""
        forms: dict[tuple[bool, int, bool], list[int]] = {}
        for index, prompt in enumerate(self.objects):
            forms.setdefault((prompt.box is not None, len(prompt.points), prompt.mask is not None), []).append(index)
        for indices in forms.values():
            yield np.array(indices)
