"""The support plane around segmented objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from wesam_ros.scene.plane import LEAST_POINTS, NEAR, STEP
from wesam_ros.scene.projection import Float, Float32, Projection, back_project

Labels = npt.NDArray[np.uint16]
Crop = tuple[slice, slice]

POINTS = 1000
"""The plane is fitted to at most as many points."""
STEPS = 2 * STEP, STEP
"""They are of every such pixel of every such row; of the smaller step where the larger gives less than half as many."""
VOTES = 200
"""Points that vote for a plane."""
DRAWS = np.random.default_rng(0).random((48, 3))
"""Three points of each plane tried, as shares of their number. Half of the points lie on the plane, so few trials are enough; the draws are
the same for each frame, so that equal frames give equal boxes."""


def support_plane(labels: Labels, depth: Float32, camera: Projection, crops: Sequence[Crop]) -> tuple[Float, float] | None:
    """Unit normal (3,) towards the camera, and offset in metres, of the plane around the objects: normal . point = offset.

    As plane.fit_plane (RANSAC), for fewer points, in a fraction of its time.

    Args:
        labels: (H, W), 0 = background, 1..n the objects.
        depth: (H, W) metres, 0 = none, registered to the labels.
        camera: (3, 3) intrinsic matrix K, or (H, W, 2) rays.
        crops: of the n objects, rows and columns that hold each (Masks.crops).

    Returns:
        None where no plane holds a third of the points beside the masks.
    """
    for step in STEPS:
        v, u = _beside(labels, depth, crops, step)
        if len(v) >= POINTS // 2:
            break
    if len(v) < LEAST_POINTS:
        return None
    every = len(v) // POINTS + 1
    points = back_project(v[::every], u[::every], depth, camera).astype(np.float64)
    tolerance = NEAR * points[2] ** 2
    normal, offset = _voted(points, tolerance)
    inside = np.abs(normal[0] * points[0] + normal[1] * points[1] + normal[2] * points[2] - offset) < tolerance
    on_it = points.compress(inside, 1)
    if 3 * on_it.shape[1] < points.shape[1]:
        return None
    center = on_it.mean(1)
    spread = on_it - center[:, None]
    normal = np.linalg.eigh(np.einsum("in,jn->ij", spread, spread))[1][:, 0]
    offset = float((normal * center).sum())
    return (-normal, -offset) if offset > 0 else (normal, offset)  # the camera is at the origin


def _voted(points: Float, tolerance: Float) -> tuple[Float, float]:
    """Unit normal and offset of the plane through three of points (3, n) that most of them are nearer to than their tolerance (n,)."""
    corners = points[:, (DRAWS * points.shape[1]).astype(np.int64)]
    (ax, ay, az), (bx, by, bz) = corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]
    normals = np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])
    lengths = np.sqrt((normals**2).sum(0))
    normals /= np.maximum(lengths, 1e-9)
    offsets = np.where(lengths > 1e-9, (normals * corners[:, :, 0]).sum(0), np.inf)  # three points of a line have no plane
    every = max(1, points.shape[1] // VOTES)
    away = np.abs(np.einsum("it,in->tn", normals, points[:, ::every]) - offsets[:, None])
    best = int((away < tolerance[::every]).sum(1).argmax())
    return normals[:, best], float(offsets[best])


def _beside(labels: Labels, depth: Float32, crops: Sequence[Crop], step: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows and columns of pixels with a depth beside the masks, not farther from one than half of its size; of every step-th row and
    column."""
    near = np.zeros((-(-labels.shape[0] // step), -(-labels.shape[1] // step)), bool)
    for rows, columns in crops:
        if rows.stop > rows.start:
            dy, dx = (rows.stop - rows.start) // 2, (columns.stop - columns.start) // 2
            top, left = max(0, rows.start - dy) // step, max(0, columns.start - dx) // step
            near[top : (rows.stop + dy) // step + 1, left : (columns.stop + dx) // step + 1] = True
    near &= labels[::step, ::step] == 0
    near &= depth[::step, ::step] > 0
    found = near.ravel().nonzero()[0]
    v = found // near.shape[1]
    return v * step, (found - v * near.shape[1]) * step
