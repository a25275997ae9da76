"""The things that are proposed: how large, where in the image, and how high."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Limits:
    """The things that are proposed.

    Attributes:
        least_pixels: of the image, that a thing must have.
        region: (k, 2) x y in pixels of the image, a polygon in which most of a thing must lie; None for the whole image.
        heights: metres above the surface between which a thing's highest tenth must begin; for depth only.
        most: things in a frame, the largest ones.

    Raises:
        ValueError: one of them makes no sense.
    """

    least_pixels: int = 80
    region: Float | None = None
    heights: tuple[float, float] = (0.0, 1.0)
    most: int = 100

    def __post_init__(self) -> None:
        if self.region is not None and (self.region.ndim != 2 or self.region.shape[1] != 2 or len(self.region) < 3):
            raise ValueError(f"region must be a polygon (k, 2) of at least 3 corners, but got shape {self.region.shape}")
        if not 0 <= self.heights[0] < self.heights[1]:
            raise ValueError(f"heights must be two lengths in metres, the lower one first, but got {self.heights}")
        if self.least_pixels < 1:
            raise ValueError(f"least_pixels must be at least 1, but got {self.least_pixels}")

    def inside(self, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """(H / 2, W / 2) bool, rounded up, of an image of `size` (H, W): in the region."""
        half = -(-size[0] // 2), -(-size[1] // 2)
        if self.region is None:
            return np.ones(half, bool)
        return np.asarray(cv2.fillPoly(np.zeros(half, np.uint8), [np.round(self.region / 2).astype(np.int32)], 1) > 0)


def region_of(text: str) -> Float | None:
    """The polygon (k, 2) that a text means: x0 y0 x1 y1 of a box, or x y of at least three corners; None for "".

    Raises:
        ValueError: it is neither.
    """
    if not text.strip():
        return None
    try:
        numbers = [float(each) for each in text.replace(",", " ").split()]
    except ValueError:
        numbers = []
    if len(numbers) == 4:
        x0, y0, x1, y1 = numbers
        if x0 < x1 and y0 < y1:
            return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float32)
    elif len(numbers) >= 6 and len(numbers) % 2 == 0:
        return np.array(numbers, np.float32).reshape(-1, 2)
    raise ValueError(f"region must be x0 y0 x1 y1 of a box, or x y of at least 3 corners, in pixels, but got {text!r}")
