"""Image motion from frame to frame, and places where it does not explain the picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.sam.upscaling import Rectangle
from wesam_ros.scene.windows import moved_to

SIDE = 320
"""Pixels of the longer side of the picture that motion is measured in."""
LIMIT, NOISE_TIMES, NOISIEST = 6.0, 4.0, 40.0
"""A pixel has changed where it differs by more than so many grey values, and by so many deviations of what motion leaves unexplained; in
any case where it differs by more grey values than the last, as where something covers the lens."""
STILL = 0.002
"""Share of changed pixels up to which nothing moves: then no motion is measured."""
EXPLAINED = 0.9
"""Share of the difference between two frames that motion leaves at most, if there is any."""
CUT = 0.7
"""Share of pixels that motion does not explain from which on a frame shows another scene."""
SPARSE = 8
"""The camera's motion is fitted to that of every so-manieth pixel of every so-manieth row of the small picture."""

Float = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Flow:
    """The places where the pixels of a frame were in the frame before.

    Attributes:
        back: (h, w, 2) float32 x y in pixels of the image, to be added to a pixel's place; None where nothing moves.
        same: (h, w) uint8, 1 where the picture is what was there before.
        size: (H, W) of the image in pixels.
    """

    back: Float | None
    same: npt.NDArray[np.uint8]
    size: tuple[int, int]

    @property
    def cut(self) -> bool:
        """True where the frame shows another scene."""
        return float(self.same.mean()) < 1 - CUT

    @cached_property
    def camera(self) -> npt.NDArray[np.float64]:
        """(2, 3) affine map of places x y in the frame before to this one, which most of the picture follows (RANSAC; OpenCV's)."""
        still = np.eye(2, 3)
        if self.back is None or self.cut:
            return still
        rows, columns = np.nonzero(self.same[SPARSE // 2 :: SPARSE, SPARSE // 2 :: SPARSE])
        rows, columns = SPARSE * rows + SPARSE // 2, SPARSE * columns + SPARSE // 2
        scale = self.size[1] / self.same.shape[1]
        now = (np.stack([columns, rows], 1) * scale).astype(np.float32)
        found = cv2.estimateAffine2D(now + self.back[rows, columns], now, ransacReprojThreshold=scale)[0] if len(now) >= 3 else None
        return still if found is None else np.asarray(found, np.float64)

    def move(self, window: Rectangle) -> Rectangle:
        """The place of a window of the frame before, as far as it is in the image: its pixels' median motion, to whole pixels."""
        if self.back is None:
            return window
        x, y = np.median(_part(self.back, window, self.size).reshape(-1, 2), axis=0)
        rows, columns = _shifted(window[0], -y, self.size[0]), _shifted(window[1], -x, self.size[1])
        return rows, columns

    def carry(self, values: Float, source: Rectangle, target: Rectangle) -> Float:
        """Values (h, w) of a window of the frame before, in a window of this one; 0 where there are none, or the picture has changed."""
        rows, columns = target
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if self.back is None:
            carried = moved_to(values, source, target)
        else:
            back = cv2.resize(_part(self.back, target, self.size), (width, height), interpolation=cv2.INTER_LINEAR)
            x = back[..., 0] + np.arange(columns.start - source[1].start, columns.stop - source[1].start, dtype=np.float32)
            y = back[..., 1] + np.arange(rows.start - source[0].start, rows.stop - source[0].start, dtype=np.float32)[:, None]
            carried = np.asarray(cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0), np.float32)
        carried = carried * cv2.resize(_part(self.same, target, self.size), (width, height), interpolation=cv2.INTER_NEAREST)
        return np.asarray(carried, np.float32)


class Motion:
    """Measures the motion between the frames of a stream by dense inverse search (Kroeger et al., ECCV 2016; OpenCV's)."""

    def __init__(self) -> None:
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._before: npt.NDArray[np.uint8] | None = None
        self._size: tuple[int, int] | None = None

    def step(self, image: npt.NDArray[np.uint8]) -> Flow | None:
        """The motion from the frame before to this (H, W, 3) uint8 one; None for the first, and after a change of size."""
        size = image.shape[0], image.shape[1]
        factor = min(1.0, SIDE / max(size))
        small = cv2.resize(image, (max(16, round(size[1] * factor)), max(16, round(size[0] * factor))), interpolation=cv2.INTER_AREA)
        grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)
        before, known = self._before, self._size == size
        self._before, self._size = grey, size
        if before is None or not known:
            return None
        difference = _difference(grey, before)
        same = _same(difference, LIMIT)
        if float(same.mean()) >= 1 - STILL:
            return Flow(None, same, size)
        back = np.asarray(self._search.calc(grey, before, np.zeros((*grey.shape, 2), np.float32)), np.float32)
        rows, columns = grey.shape
        x, y = np.arange(columns, dtype=np.float32)[None] + back[..., 0], np.arange(rows, dtype=np.float32)[:, None] + back[..., 1]
        left = _difference(grey, cv2.remap(before, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0))
        limit = min(max(LIMIT, NOISE_TIMES * 1.4826 * float(np.median(left))), NOISIEST)
        if float(left.mean()) > EXPLAINED * float(difference.mean()):  # noise alone: what stood still is better known
            return Flow(None, _same(difference, limit), size)
        return Flow(back * np.float32(size[1] / columns), _same(left, limit), size)


def _difference(first: Any, second: Any) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.absdiff(first, second), np.uint8)


def _same(difference: npt.NDArray[np.uint8], limit: float) -> npt.NDArray[np.uint8]:
    """(h, w) 1 where grey values differ by no more than `limit`, but for single pixels, and nothing next to it has changed."""
    changed = cv2.medianBlur((difference > limit).astype(np.uint8), 3)
    return np.asarray(1 - cv2.dilate(changed, np.ones((3, 3), np.uint8)), np.uint8)


def _part(maps: npt.NDArray[Any], window: Rectangle, size: tuple[int, int]) -> npt.NDArray[Any]:
    """The part of maps (h, w, ...) that covers a window of an image of `size`; one cell at least."""
    spans = []
    for each, length, cells in zip(window, size, maps.shape, strict=False):
        start = min(cells - 1, each.start * cells // length)
        spans.append(slice(start, max(start + 1, -(-each.stop * cells // length))))
    return np.ascontiguousarray(maps[spans[0], spans[1]])


def _shifted(span: slice, by: float, length: int) -> slice:
    start = min(max(0, span.start + round(float(by))), length - 1)
    return slice(start, max(start + 1, min(length, span.stop + round(float(by)))))
