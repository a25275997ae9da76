"""The parts of an object that a camera does not see: its far side, by symmetry, and what is hidden below its lowest point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wesam_ros.scene.projection import Float, Float32, Projection, height_over

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
BESIDE = 0.2
"""Share of these places that must lie beside the object's own mask to tell of what it lies on."""
AROUND = 0.01
"""Metres around a point at which its surroundings are looked at."""
HIDES = 0.03
"""Metres by which that is nearer than the object's side would be. What the object lies on is seen nearer than this."""


@dataclass(frozen=True, eq=False)
class View:
    """A support plane as a camera sees it.

    Attributes:
        depth: (H, W) metres, 0 = none.
        camera: (3, 3) intrinsic matrix K, or (H, W, 2) rays.
        normal: (3,) of the plane, a unit vector towards the camera, in the optical frame.
        offset: metres along it.
        base: (3, 2), two axes in the plane.
    """

    depth: Float32
    camera: Projection
    normal: Float
    offset: float
    base: Float


def far_side(points: Float, flat: Float, height: Float, view: View) -> tuple[Float, Bool]:
    """Places in the support plane that objects also cover, unseen.

    Seen from above, most things are the same after half a turn. The middle of such a thing lies below the middle of its top, and halfway
    between the left and the right end of its silhouette. Its points are turned about that, and count where the camera does not look
    through them.

    Args:
        points: (3, n, k) metres in the optical frame, of n objects.
        flat: (2, n, k), the points in the support plane, the camera at (0, 0).
        height: (n, k) metres above the plane.
        view: depth, camera and plane.

    Returns:
        The turned points (2, n, k) in the plane, and those that count (n, k).
    """
    depth, base = view.depth, view.base
    turned = 2 * _middles(flat, height).T[..., None] - flat
    across, away = turned - flat
    moved = np.stack([points[i] + base[i, 0] * across + base[i, 1] * away for i in range(3)])
    u, v = _pixels(moved, view.camera, depth.shape)
    seen = (u >= 0) & (u < depth.shape[1]) & (v >= 0) & (v < depth.shape[0]) & (moved[2] > 0)
    there = depth[np.where(seen, v, 0), np.where(seen, u, 0)]  # 0 without a depth: it may be there
    return turned, seen & (there - moved[2] < FREE)


def _middles(flat: Float, height: Float) -> Float:
    """(n, 2): the middles of objects, by top and silhouette."""
    count = flat.shape[2]
    view = flat.mean(2).T
    view = view / np.maximum(np.hypot(view[:, :1], view[:, 1:]), 1e-9)
    right = np.stack([-view[:, 1], view[:, 0]], 1)
    away, across = (flat[0] * each[:, :1] + flat[1] * each[:, 1:] for each in (view, right))
    order, ends = np.argsort(across, 1), max(1, int(count * SIDE))
    both = np.stack([order[:, :ends], order[:, -ends:]])
    of_ends = np.sort(np.take_along_axis(away[None], both, 2), 2)[:, :, ends // 2].mean(0)
    left, last = (np.take_along_axis(across, order[:, k : k + 1], 1)[:, 0] for k in (0, count - 1))
    ranked = np.sort(height, 1)
    low, high = ranked[:, count // 100], ranked[:, -1 - count // 200]
    top = height >= (high - np.maximum(TOP * (high - low), LAYER))[:, None]
    tops, rows, counts = np.sort(np.where(top, away, np.inf), 1), np.arange(len(top)), top.sum(1)
    of_top = (tops[rows, counts // 25] + tops[rows, counts - 1 - counts // 25]) / 2
    near, far = away.min(1), away.max(1)
    of_top = np.minimum(of_top, np.maximum(near + far, 2 * near + last - left) / 2)  # what is seen of the top may be another thing's end
    return np.asarray(view * np.maximum(of_top, of_ends)[:, None] + right * ((left + last) / 2)[:, None])


def ends_at(points: Float, flat: Float, low: Float, lowest: Bool, view: View, labels: Labels, own: Labels) -> Float:
    """(n,) metres above the plane at which objects end whose lowest points seen are at `low` (n,), well above it.

    0 where something nearer hides what is below. `low` where another surface is seen there: the object lies on it. Seen from straight
    above, an object hides what is below itself, so it ends where its surroundings are.

    Args:
        points: (3, n, k) metres in the optical frame.
        flat: (2, n, k), the points in the plane.
        low: as above.
        lowest: (n, k), which of the points are the lowest.
        view: depth, camera and plane.
        labels: (H, W), the objects.
        own: (n,), the objects' values there.
    """
    below = points - BELOW * view.normal[:, None, None]
    there, inside, mine = _seen_at(below, view, labels, own)
    beside = lowest & ~mine
    hidden = beside & (((there > 0) & (there < below[2] - HIDES)) | ~inside)
    counts = np.count_nonzero(beside, 1)
    told = counts >= BESIDE * np.count_nonzero(lowest, 1)
    ends = np.where(told & (2 * np.count_nonzero(hidden, 1) <= counts), low, 0.0)
    if told.all():
        return ends
    away = flat - flat.mean(2, keepdims=True)
    away *= AROUND / np.maximum(np.hypot(away[0], away[1]), 1e-9)
    around = points + np.stack([view.base[i, 0] * away[0] + view.base[i, 1] * away[1] for i in range(3)])
    there, inside, mine = _seen_at(around, view, labels, own)
    height = height_over(around * (there / np.maximum(around[2], 1e-6)), view.normal, view.offset)
    counted = lowest & inside & ~mine & (there > 0) & (height < (low - LAYER)[:, None])
    ranked, counts = np.sort(np.where(counted, height, np.inf), 1), np.count_nonzero(counted, 1)
    middle = np.where(counts > 0, ranked[np.arange(len(low)), counts // 2], 0.0)
    return np.where(told, ends, np.where(middle < STANDS, 0.0, middle))


def _seen_at(points: Float, view: View, labels: Labels, own: Labels) -> tuple[Float32, Bool, Bool]:
    """Depth at the pixels of points (3, n, k), and whether they lie inside the image, and on the objects' own masks."""
    u, v = _pixels(points, view.camera, view.depth.shape)
    inside = (u >= 0) & (u < view.depth.shape[1]) & (v >= 0) & (v < view.depth.shape[0])
    u, v = np.where(inside, u, 0), np.where(inside, v, 0)
    return view.depth[v, u], inside, inside & (labels[v, u] == own[:, None])


def _pixels(points: Float, camera: Projection, size: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Columns and rows (2, ...) of points (3, ...); of a distorted image, those of the pinhole camera that is most like it."""
    if camera.ndim == 3:
        x, y = camera[size[0] // 2, :, 0], camera[:, size[1] // 2, 1]
        fx, fy = 1 / np.nanmedian(np.diff(x)), 1 / np.nanmedian(np.diff(y))
        cx, cy = np.nanmedian(np.arange(size[1]) - x * fx), np.nanmedian(np.arange(size[0]) - y * fy)
    else:
        fx, fy, cx, cy = camera[0, 0], camera[1, 1], camera[0, 2], camera[1, 2]
    scale = 1 / np.maximum(points[2], 1e-6)
    places = np.stack([points[0] * scale * fx + cx, points[1] * scale * fy + cy]) + 0.5
    return np.floor(np.minimum(np.maximum(places, -1), 1e6)).astype(np.int64)
