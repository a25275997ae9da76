"""The pixel grid of a detector's boxes, where it is not the image's: the input of a network, or shares of the image."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from wesam_ros.data.detections import Detections

Size = tuple[int, int]

LETTERBOX, CORNER, STRETCH = "letterbox", "corner", "stretch"
FITS = (LETTERBOX, CORNER, STRETCH)
"""Ways of an image into the network's input: in its middle with bars around it, in its upper left corner, or filling it."""
INPUTS = (320, 416, 512, 640, 800, 1024, 1280, 1536, 2048)
"""Sides of networks' inputs, for a guess."""
SHARES = (-0.5, 1.5)
"""Least and most of boxes in shares of the image, which may reach over it; no box of pixels lies within."""
OVERHANG = 0.05
"""Share of the image's side by which boxes may reach over it, as a tracker's predictions do, before another grid is suspected."""


@dataclass(frozen=True)
class DetectionGrid:
    """The grid that boxes are given in.

    Attributes:
        width, height: of the grid, in its own pixels.
        fit: one of FITS, how the image lies in it.
    """

    width: float
    height: float
    fit: str = STRETCH

    def to_image(self, boxes: npt.NDArray[np.float32], size: Size) -> npt.NDArray[np.float32]:
        """Boxes (n, 4) x0 y0 x1 y1 of this grid in pixels of an image of `size` (H, W)."""
        width, height = size[1], size[0]
        scale = np.array((self.width / width, self.height / height))
        offset = np.zeros(2)
        if self.fit != STRETCH:
            scale[:] = scale.min()
            if self.fit == LETTERBOX:
                offset = (np.array((self.width, self.height)) - scale * (width, height)) / 2
        corners = (np.asarray(boxes, np.float64).reshape(-1, 2, 2) - offset) / scale
        return np.asarray(corners.reshape(-1, 4), np.float32)

    def detections_in(self, found: Detections, size: Size) -> Detections:
        """The detections with their boxes in pixels of an image of `size` (H, W)."""
        return Detections(self.to_image(found.boxes, size), found.ids, found.classes, found.scores)


@lru_cache(maxsize=16)
def grid_of(text: str) -> DetectionGrid | None:
    """The grid of the parameter detections_size, such as "640x640 letterbox" or "1x1 stretch"; None for "", the image's own.

    Raises:
        ValueError: it is none.
    """
    if not text.strip():
        return None
    number = r"(\d+(?:\.\d+)?)"
    match = re.fullmatch(rf"\s*{number}\s*x\s*{number}(?:[\s,]+({'|'.join(FITS)}))?\s*", text.lower())
    if match is None or not (float(match[1]) > 0 and float(match[2]) > 0):
        raise ValueError(f"detections_size must be like '640x640 letterbox', 'WIDTHxHEIGHT' and one of {', '.join(FITS)}, but got {text!r}")
    return DetectionGrid(float(match[1]), float(match[2]), match[3] or STRETCH)


def other_grid(boxes: npt.NDArray[np.float32], size: Size) -> tuple[int, str]:
    """The number of boxes (n, 4) that cannot be of an image of `size` (H, W), and a sentence with a guess at their grid; (0, "") if none.

    Such boxes reach far over the border, or all are shares of the image, from 0 to 1. Boxes that are inverted or not finite do not count.
    """
    if not len(boxes):
        return 0, ""
    width, height = size[1], size[0]
    (left, top, _, _), (_, _, right, bottom) = boxes.min(0).tolist(), boxes.max(0).tolist()
    if (
        left >= 0 and top >= 0 and right <= width and bottom <= height and max(right, bottom) > SHARES[1]
    ):  # the usual case, and quick to tell
        return 0, ""
    finite = boxes[np.isfinite(boxes).all(axis=1)]
    if not len(finite):
        return 0, ""
    remedy = "if they are of the detector's own grid, set detections_size, such as"
    if finite.min() >= SHARES[0] and finite.max() <= SHARES[1] and min(size) > 2:
        return len(finite), f"boxes go from 0 to 1 in an image of {width} x {height} pixels; {remedy} '1x1 stretch'"
    allowed = OVERHANG * np.array((width, height), np.float64)
    farthest = np.maximum(finite[:, 2:] - (width, height), -finite[:, :2])
    beyond = (farthest > allowed).any(axis=1)
    if not beyond.any():
        return 0, ""
    x, y = finite[:, 2:].max(axis=0).tolist()
    side = next((each for each in INPUTS if each >= max(x, y)), round(max(x, y)))
    sentence = f"boxes reach to x {x:.6g}, y {y:.6g} in an image of {width} x {height} pixels; {remedy} '{side}x{side} letterbox'"
    return int(beyond.sum()), sentence
