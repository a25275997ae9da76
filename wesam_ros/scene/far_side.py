"""The parts of an object that a camera does not see: its far side, by symmetry, and what is hidden below its lowest point."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wesam_ros.scene.projection import Float, Float32, Projection

Bool = npt.NDArray[np.bool_]

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


def far_side(points: Float, flat: Float, height: Float, base: Float, depth: Float32, camera: Projection) -> tuple[Float, Bool]:
    """Places in the support plane that objects also cover, unseen.

    Seen from above, most things are the same after half a turn. The middle of such a thing lies below the middle of its top, and halfway
    between the left and the right end of its silhouette. Its points are turned about that, and count where the camera does not look
    through them.

    Args:
        points: (3, n, k) metres in the optical frame, of n objects.
        flat: (2, n, k), the points in the support plane, the camera at (0, 0).
        height: (n, k) metres above the plane.
        base: (3, 2), the plane's two axes in the optical frame.
        depth: (H, W) metres, 0 = none.
        camera: (3, 3) intrinsic matrix K, or (H, W, 2) rays.

    Returns:
        The turned points (2, n, k) in the plane, and those that count (n, k).
    """
    turned = 2 * _middles(flat, height).T[..., None] - flat
    across, away = turned - flat
    moved = np.stack([points[i] + base[i, 0] * across + base[i, 1] * away for i in range(3)])
    u, v = _pixels(moved, camera, depth.shape)
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


def hidden_below(points: Float, lowest: Bool, normal: Float, depth: Float32, camera: Projection) -> Bool:
    """(n,) true where something nearer hides what is below an object's lowest points; false where they lie on what is there.

    Args:
        points: (3, n, k) metres in the optical frame.
        lowest: (n, k), which of them are the lowest.
        normal: (3,) of the support plane, away from it.
        depth: (H, W) metres, 0 = none.
        camera: as in `far_side`.
    """
    below = points - BELOW * normal[:, None, None]
    u, v = _pixels(below, camera, depth.shape)
    inside = (u >= 0) & (u < depth.shape[1]) & (v >= 0) & (v < depth.shape[0])
    there = depth[np.where(inside, v, 0), np.where(inside, u, 0)]
    hidden = ((there > 0) & (there < below[2] - HIDES)) | ~inside
    return np.asarray(2 * np.count_nonzero(hidden & lowest, 1) > np.count_nonzero(lowest, 1))


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
