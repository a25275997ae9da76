"""The parts of an object that a camera does not see: its far side, by symmetry, and what is hidden below its lowest point."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wesam_ros.scene.projection import Float, Float32, Projection

SIDE = 0.04
"""Share of the points at either end of the silhouette of which the middle is taken."""
TOP = 0.15
"""Share of an object's height that is its top."""
LAYER = 0.006
"""Metres that the top has at least: the depth's noise."""
FREE = 0.015
"""Metres that a pixel's depth lies behind a place from which on the camera has looked through it: nothing is there."""
BELOW = 0.008
"""Metres below the lowest points seen at which it is looked for what hides the rest."""
HIDES = 0.03
"""Metres by which that is nearer than the object's side would be. What the object lies on is seen nearer than this."""


def far_side(points: Float, flat: Float, height: Float, base: Float, depth: Float32, camera: Projection) -> Float:
    """Places in the support plane that the object also covers, unseen.

    Seen from above, most things are the same after half a turn. The middle of such a thing lies below the middle of its top, and halfway
    between the left and the right end of its silhouette. Its points are turned about that, and stay where the camera does not look
    through them.

    Args:
        points: (n, 3) metres in the optical frame.
        flat: (n, 2), the points in the support plane, the camera at (0, 0).
        height: (n,) metres above the plane.
        base: (3, 2), the plane's two axes in the optical frame.
        depth: (H, W) metres, 0 = none.
        camera: (3, 3) intrinsic matrix K, or (H, W, 2) rays.

    Returns:
        (m, 2) in the plane, m up to n.
    """
    view = flat.mean(0)
    length = float(np.hypot(*view))
    if length < 1e-6:  # seen from right above: nothing is hidden
        return flat[:0]
    view = view / length
    right = np.array([-view[1], view[0]])
    away, across = (np.einsum("ni,i->n", flat, each) for each in (view, right))
    order = np.argsort(across)
    ends = max(1, int(len(flat) * SIDE))
    left, right_end = np.sort(away[order[:ends]]), np.sort(away[order[-ends:]])
    of_ends = (left[ends // 2] + right_end[ends // 2]) / 2
    ranked = np.sort(height)
    low, high = ranked[len(ranked) // 100], ranked[-1 - len(ranked) // 200]
    top = np.sort(away[height >= high - max(TOP * (high - low), LAYER)])
    of_top = (top[len(top) // 25] + top[-1 - len(top) // 25]) / 2
    near, wide = away.min(), across[order[-1]] - across[order[0]]
    of_top = min(of_top, max(near + away.max(), 2 * near + wide) / 2)  # what is seen of the top may be another thing's end
    middle = view * max(of_top, of_ends) + right * (across[order[0]] + across[order[-1]]) / 2
    turned = 2 * middle - flat
    moved = points + np.einsum("ij,nj->ni", base, turned - flat)
    u, v = _pixels(moved, camera, depth.shape)
    seen = (u >= 0) & (u < depth.shape[1]) & (v >= 0) & (v < depth.shape[0]) & (moved[:, 2] > 0)
    behind = np.zeros(len(flat))
    behind[seen] = depth[v[seen], u[seen]] - moved[seen, 2]  # without a depth: far before it, so it may be
    return np.asarray(turned[seen & (behind < FREE)])


def hidden_below(lowest: Float, normal: Float, depth: Float32, camera: Projection) -> bool:
    """True where something nearer hides what is below the lowest points seen (n, 3); False where they lie on what is there.

    Args:
        lowest: (n, 3) metres in the optical frame.
        normal: (3,) of the support plane, away from it.
        depth: (H, W) metres, 0 = none.
        camera: as in `far_side`.
    """
    below = lowest - BELOW * normal
    u, v = _pixels(below, camera, depth.shape)
    inside = (u >= 0) & (u < depth.shape[1]) & (v >= 0) & (v < depth.shape[0])
    there = depth[v[inside], u[inside]]
    hidden = (there > 0) & (there < below[inside, 2] - HIDES)
    return bool(2 * (np.count_nonzero(hidden) + np.count_nonzero(~inside)) > len(lowest))


def _pixels(points: Float, camera: Projection, size: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Columns and rows (2, n) of points (n, 3); of a distorted image, those of the pinhole camera that is most like it."""
    if camera.ndim == 3:
        x, y = camera[size[0] // 2, :, 0], camera[:, size[1] // 2, 1]
        fx, fy = 1 / np.nanmedian(np.diff(x)), 1 / np.nanmedian(np.diff(y))
        cx, cy = np.nanmedian(np.arange(size[1]) - x * fx), np.nanmedian(np.arange(size[0]) - y * fy)
    else:
        fx, fy, cx, cy = camera[0, 0], camera[1, 1], camera[0, 2], camera[1, 2]
    places = points[:, :2].T * (np.array([[fx], [fy]]) / np.maximum(points[:, 2], 1e-6)) + np.array([[cx + 0.5], [cy + 0.5]])
    return np.floor(np.minimum(np.maximum(places, -1), 1e6)).astype(np.int64)
