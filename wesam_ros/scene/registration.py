"""Depth that does not belong to the image, told without labels: held against the model's masks, moved to where it fits, or not believed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.sam.upscaling import Rectangle
from wesam_ros.scene.relief import BETWEEN, DEEP, HOLE, RAISED, SURFACE, Relief
from wesam_ros.scene.windows import within

Float = npt.NDArray[np.float32]

COARSE = 4
"""Offsets are looked for at a quarter of the resolution, and between its pixels by a parabola."""
FARTHEST = 8
"""Coarse pixels to look on each side."""
LEAST_OFFSET, LEAST_GAIN = 2.0, 0.005
"""Depth is moved by so many pixels at least, and where that explains so much more of what model and depth know, as a share of it."""
SURE = 3.0
"""Logits up to which the model counts the more, the surer it is."""
FATTEST = 4
"""Pixels, at half resolution, by which near things may be too wide in depth."""
BELIEVED = 0.6
"""The least share of an object's sure pixels that must rise for depth to be believed about it: flat things do not, for one."""
BELIEVED_ALL = 0.75
"""The least mean of that over a frame's objects for depth to be of the same scene at all."""


def registered(found: Relief, logits: Float) -> Relief:
    """A relief moved to where it agrees best with the model's logits, the highest of any object, (h, w) of the same part of the image.

    Masks of many things have no common error, but depth that is late, or not registered to colour, has one: the peak of a correlation.
    """
    model = np.clip(logits[::COARSE, ::COARSE], -SURE, SURE)
    model[model == -SURE] *= np.float32(0.5)  # most of what is sure to be off is far from any edge
    kinds = found.kinds[::COARSE, ::COARSE]
    known = (kinds == RAISED).astype(np.float32) - (kinds == SURFACE)
    padded = cv2.copyMakeBorder(known, FARTHEST, FARTHEST, FARTHEST, FARTHEST, cv2.BORDER_CONSTANT, value=0.0)
    fits = cv2.matchTemplate(padded, np.ascontiguousarray(model), cv2.TM_CCORR)
    row, column = np.unravel_index(int(fits.argmax()), fits.shape)
    if fits[row, column] - fits[FARTHEST, FARTHEST] < LEAST_GAIN * float(np.abs(model).sum()):
        return found
    y, x = (COARSE * (peak - FARTHEST) for peak in (_peak(fits[:, column], int(row)), _peak(fits[row], int(column))))
    return found if max(abs(x), abs(y)) < LEAST_OFFSET else _moved(found, round(-x), round(-y))


def thinned(found: Relief, logits: Float) -> Relief:
    """A relief whose raised parts are as wide as the model's masks, where these are narrower all around; what is cut off counts as BETWEEN.

    Stereo's windows make near things fat. The image's logits (h, w) are of the same part, the highest of any object.
    """
    model = np.clip(logits[::2, ::2], -SURE, SURE)
    raised = (found.kinds[::2, ::2] == RAISED).view(np.uint8)
    gains = []
    for pixels in range(FATTEST + 1):
        cut = (raised - _eroded(raised, pixels)).view(bool)
        gains.append(-float(model[cut].sum()))
    best = int(np.argmax(gains))
    if gains[best] < LEAST_GAIN * float(np.abs(model).sum()):
        return found
    whole = (found.kinds == RAISED).view(np.uint8)
    cut = (whole - _eroded(whole, 2 * best)).view(bool)
    return replace(found, kinds=np.where(cut, np.uint8(BETWEEN), found.kinds))


def _eroded(mask: npt.NDArray[np.uint8], pixels: int) -> npt.NDArray[np.uint8]:
    side = 2 * pixels + 1
    return np.asarray(cv2.erode(mask, np.ones((side, side), np.uint8)), np.uint8)


def _peak(values: npt.NDArray[Any], index: int) -> float:
    """The place of a maximum between pixels, by a parabola through it and its neighbours."""
    if not 0 < index < len(values) - 1:
        return float(index)
    before, at, after = (float(each) for each in values[index - 1 : index + 2])
    bend = before - 2 * at + after
    return index + (0.5 * (before - after) / bend if bend < 0 else 0.0)


def _moved(found: Relief, x: int, y: int) -> Relief:
    """The relief moved right and down by x and y pixels; holes where nothing comes in."""
    height, width = found.kinds.shape
    shift = np.array([[1, 0, x], [0, 1, y]], np.float32)
    kinds = cv2.warpAffine(found.kinds, shift, (width, height), flags=cv2.INTER_NEAREST, borderValue=HOLE)
    heights = cv2.warpAffine(found.height, shift, (width, height), flags=cv2.INTER_NEAREST)
    return replace(found, kinds=np.asarray(kinds, np.uint8), height=np.asarray(heights, np.float32))


def agreement(found: Relief, logits: Float, window: Rectangle) -> float:
    """Share in [0, 1] of the pixels that the model is sure to be an object's that rise; 1 where none of them has depth.

    Args:
        found: the relief.
        logits: (h, w) of the object, in its window.
        window: rows and columns of the image.
    """
    kinds = found.kinds[within(window, found.around)][::2, ::2]
    sure = (logits[::2, ::2] > SURE) & (kinds != HOLE) & (kinds != DEEP)
    count = int(np.count_nonzero(sure))
    return float(np.count_nonzero(sure & (kinds == RAISED))) / count if count else 1.0
