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
STRONG, MORE_ON_EDGES = 40, 1.05
"""Levels of brightness that make a strong edge, and how much stronger the edges under a moved relief's outlines must be."""
MASKS_OFF = 8.0
"""Pixels by which a model's masks may all be off in one direction; depth that is off by more is moved whatever the image shows."""
SURE = 3.0
"""Logits up to which the model counts the more, the surer it is."""
FATTEST = 4
"""Pixels, at half resolution, by which near things may be too wide in depth."""
BELIEVED = 0.6
"""The least share of an object's sure pixels that must rise for depth to be believed about it: flat things do not, for one."""
BELIEVED_ALL, NOBODYS = 0.6, 0.02
"""Depth is of another scene where the mean of that over a frame's objects is less, and a larger share of what rises is nobody's."""


def registered(found: Relief, logits: Float, image: npt.NDArray[np.uint8]) -> Relief:
    """A relief moved to where it agrees best with the model's masks, if its outlines lie on stronger edges of the image there.

    Depth that is late, or not registered to colour, is off in one direction: the peak of a correlation. Masks may be off together, too, but
    then the image tells.

    Args:
        found: the relief.
        logits: (h, w) of the same part of the image, the highest of any object.
        image: (H, W, 3) uint8.
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
    if max(abs(x), abs(y)) < LEAST_OFFSET:
        return found
    moved = _moved(found, round(-x), round(-y))
    if max(abs(x), abs(y)) > MASKS_OFF:
        return moved
    edges = _edges(image[found.around])
    return moved if _on_edges(moved, edges) > MORE_ON_EDGES * _on_edges(found, edges) else found


def _edges(image: npt.NDArray[np.uint8]) -> Float:
    """(h / 2, w / 2) steps in brightness of an image (h, w, 3), clipped so that the strongest do not outvote all others."""
    grey = cv2.cvtColor(image[::2, ::2], cv2.COLOR_RGB2GRAY)
    steps = cv2.morphologyEx(cv2.blur(grey, (3, 3)), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    return np.minimum(steps, STRONG).astype(np.float32)


def _on_edges(found: Relief, edges: Float) -> float:
    """Mean step in brightness (h / 2, w / 2) where raised parts of a relief meet the surface."""
    kinds = found.kinds[::2, ::2]
    raised, surface = (cv2.dilate((kinds == each).view(np.uint8), np.ones((3, 3), np.uint8)) > 0 for each in (RAISED, SURFACE))
    outline = np.asarray(raised & surface)
    return float(edges[outline].mean()) if outline.any() else 0.0


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


def nobodys(found: Relief, logits: Float, inside: npt.NDArray[np.bool_]) -> float:
    """Share in [0, 1] of what rises in any box that is no object's for the model.

    Args:
        found: the relief.
        logits: (h, w) of the same part of the image, the highest of any object.
        inside: (h / 2, w / 2) in any box.
    """
    raised = (found.kinds[::2, ::2] == RAISED) & inside
    return float(np.count_nonzero(raised & (logits[::2, ::2] < -SURE))) / max(1, int(np.count_nonzero(raised)))
