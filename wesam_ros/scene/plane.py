"""The plane that most points lie on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]

STEP = 4
"""The plane is fitted to every fourth pixel of every fourth row."""
TRIALS = 200
LEAST_POINTS = 200
NEAR = 0.006
"""Metres at a distance of one metre within which a point is on the plane: about three times a structured-light camera's noise there."""


def fit_plane(points: Float, rng: np.random.Generator, trials: int = TRIALS, votes_of: int = 1000) -> tuple[Float, float] | None:
    """Unit normal towards the camera and offset of the plane with the most of (n, 3) points near it; None below a third of them."""
    if len(points) < LEAST_POINTS:
        return None
    corners = points[rng.integers(len(points), size=(trials, 3))]
    normals = _cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    normals = normals[lengths > 1e-9] / lengths[lengths > 1e-9, None]
    offsets = along(normals, corners[lengths > 1e-9, 0])
    if not len(normals):
        return None
    tolerance = NEAR * points[:, 2] ** 2
    sample = points[rng.integers(len(points), size=min(votes_of, len(points)))]
    votes = (np.abs(along(sample[:, None], normals) - offsets) < NEAR * sample[:, 2:] ** 2).sum(0)
    best = int(votes.argmax())
    inside = np.abs(along(points, normals[best]) - offsets[best]) < tolerance
    if inside.mean() < 1 / 3:
        return None
    center = points[inside].mean(0)
    spread = points[inside] - center
    normal = np.linalg.eigh(np.einsum("ni,nj->ij", spread, spread))[1][:, 0]
    offset = float(along(normal, center))
    return (-normal, -offset) if offset > 0 else (normal, offset)  # the camera is at the origin


def along(points: Float, direction: Float) -> Float:
    """Scalar products (...) of points (..., 3) with a direction (..., 3).

    Not by `@`: numpy's BLAS has threads of its own, which go on spinning after a product and hold up torch's. On two cores that cost 60 ms
    a frame.
    """
    return np.asarray(np.einsum("...i,...i->...", points, direction))


def _cross(a: Float, b: Float) -> Float:
    """The vector products (n, 3) of (n, 3) and (n, 3); np.cross takes several times as long."""
    (ax, ay, az), (bx, by, bz) = a.T, b.T
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], 1)
