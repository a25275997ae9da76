"""The parts of an object that a camera does not see: its far side, by symmetry, and what is hidden below its lowest point."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wesam_ros.scene.plane_view import PlaneView
from wesam_ros.scene.projection import Float32, Points

Bool = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint16]

SIDE = 0.04
"""Share of the points at either end of the silhouette of which the middle is taken."""
TOP = 0.15
"""Share of an object's height that is its top."""
LAYER = 0.006
"""Metres that the top has at least: the depth's noise."""
FREE = 0.015
"""Metres that a pixel's depth lies behind a place from which on the camera has looked through it: nothing is there."""
STANDS = 0.03
"""Metres above the plane up to which the lowest point seen may be: the object stands on it."""
BELOW = 0.008
"""Metres below the lowest points seen at which it is looked for what hides the rest."""
LOWEST = 48
"""So many of an object's points, the lowest, are asked."""
BESIDE = 0.2
"""Share of these places that must lie beside the object's own mask to tell of what it lies on."""
AROUND = 0.01
"""Metres around a point at which its surroundings are looked at."""
HIDES = 0.03
"""Metres by which that is nearer than the object's side would be. What the object lies on is seen nearer than this."""


def far_side(places: Points, view: PlaneView) -> tuple[Points, Bool]:
    """Places in the support plane that objects also cover, unseen.

    Seen from above, most things are the same after half a turn. The middle of such a thing lies below the middle of its top, and halfway
    between the left and the right end of its silhouette. Its points are turned about that, and count where the camera does not look
    through them.

    Args:
        places: (3, n, k) metres in the plane's frame (PlaneView), of n objects.
        view: depth, camera and plane.

    Returns:
        The turned points (2, n, k) in the plane, and those that count (n, k).
    """
    turned = places.copy()
    turned[:2] = 2 * _middles(places)[..., None] - places[:2]
    index, inside, z = view.pixels(turned)
    there = view.depth.ravel().take(index, mode="clip")  # 0 without a depth: it may be there
    return turned[:2], inside & (there - z < FREE)


def _middles(places: Points) -> Points:
    """(2, n): the middles of objects, by top and silhouette. The camera is above (0, 0)."""
    flat, height, count = places[:2], places[2], places.shape[2]
    view = flat.mean(2)
    view /= np.maximum(np.sqrt((view**2).sum(0)), 1e-9)
    x, y = view[..., None]
    away, across = flat[0] * x + flat[1] * y, flat[1] * x - flat[0] * y
    ends, half = max(1, int(count * SIDE)), max(1, int(count * SIDE)) // 2
    by_side = np.take_along_axis(away, np.argsort(across, 1), 1)
    of_ends = (np.sort(by_side[:, :ends], 1)[:, half] + np.sort(by_side[:, -ends:], 1)[:, half]) / 2
    left, right = across.min(1), across.max(1)
    ranked = np.sort(height, 1)
    low, high = ranked[:, count // 100], ranked[:, -1 - count // 200]
    top = height >= (high - np.maximum(TOP * (high - low), LAYER))[:, None]
    tops, rows, counts = np.sort(np.where(top, away, np.inf), 1), np.arange(len(top)), top.sum(1)
    of_top = (tops[rows, counts // 25] + tops[rows, counts - 1 - counts // 25]) / 2
    near, far = away.min(1), away.max(1)
    of_top = np.minimum(of_top, np.maximum(near + far, 2 * near + right - left) / 2)  # what is seen of the top may be another thing's end
    forward, aside = np.maximum(of_top, of_ends), (left + right) / 2
    return np.stack([view[0] * forward - view[1] * aside, view[1] * forward + view[0] * aside])


def ends_at(places: Points, low: Points, lowest: Bool, view: PlaneView, labels: Labels, own: Labels) -> Points:
    """(n,) metres above the plane at which objects end whose lowest points seen are at `low` (n,), well above it.

    0 where something nearer hides what is below. `low` where another surface is seen there: the object lies on it. Seen from straight
    above, an object hides what is below itself, so it ends where its surroundings are.

    Args:
        places: (3, n, k) metres in the plane's frame (PlaneView).
        low: as above.
        lowest: (n, k), which of the points are the lowest.
        view: depth, camera and plane.
        labels: (H, W), the objects.
        own: (n,), the objects' values there.
    """
    chosen = np.argpartition(places[2], LOWEST, 1)[:, :LOWEST]
    places, lowest = np.take_along_axis(places, chosen[None], 2), np.take_along_axis(lowest, chosen, 1)
    below = places.copy()
    below[2] -= BELOW
    there, inside, mine, z = _seen_at(below, view, labels, own)
    beside = lowest & ~mine
    hidden = beside & (((there > 0) & (there < z - HIDES)) | ~inside)
    counts = beside.sum(1)
    told = counts >= BESIDE * lowest.sum(1)
    ends = np.where(told & (2 * hidden.sum(1) <= counts), low, 0.0)
    if told.all():
        return ends
    around = places.copy()
    away = places[:2] - places[:2].mean(2, keepdims=True)
    around[:2] += away * (AROUND / np.sqrt(np.maximum(away[0] ** 2 + away[1] ** 2, 1e-18)))
    there, inside, mine, z = _seen_at(around, view, labels, own)
    height = (around[2] + view.offset) * (there / np.maximum(z, 1e-6)) - view.offset
    counted = lowest & inside & ~mine & (there > 0) & (height < (low - LAYER)[:, None])
    ranked, counts = np.sort(np.where(counted, height, np.inf), 1), counted.sum(1)
    middle = np.where(counts > 0, ranked[np.arange(len(low)), counts // 2], 0.0)
    return np.where(told, ends, np.where(middle < STANDS, 0.0, middle))


def _seen_at(places: Points, view: PlaneView, labels: Labels, own: Labels) -> tuple[Float32, Bool, Bool, Points]:
    """Depth at the pixels of places (3, n, k), whether they lie inside the image, and on the objects' own masks, and their own depth."""
    index, inside, z = view.pixels(places)
    return view.depth.ravel().take(index, mode="clip"), inside, inside & (labels.ravel().take(index, mode="clip") == own[:, None]), z
