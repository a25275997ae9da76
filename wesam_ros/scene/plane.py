"""The plane that most points lie on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]

STEP = 4
"""The plane is fitted to every fourth pixel of every fourth row."""
TRIALS, VOTES = 200, 1000
"""Planes tried, and points that vote."""
LEAST_POINTS = 200
RAISED_BY = 2.0
"""Times NEAR above a plane from which on a point is surely not on it."""
KEPT = 0.9
"""A plane is kept for the next frame while it holds this share of the points that it held when it was fitted."""
SIGMAS, WIDEST = 3.0, 3.0
"""A surface ends so many standard deviations of the measured noise above the plane; points farther than WIDEST times NEAR are not on it."""
NEAR = 0.006
"""Metres at a distance of one metre within which a point is on the plane: about three times a structured-light camera's noise there."""


@dataclass(frozen=True, eq=False)
class Plane:
    """A support surface in the camera's optical frame: `normal @ point == offset`.

    Attributes:
        normal: (3,) unit vector towards the camera.
        offset: metres.
        share: of the points that it was fitted to, those near it.
        noise: how many times NEAR the depth's noise needs; 1 for a structured-light camera.
    """

    normal: Float
    offset: float
    share: float
    noise: float = 1.0

    def distances(self, points: Float) -> Float:
        """(n,) of points (n, 3) from it towards the camera, in units of NEAR at the points' distance."""
        return np.asarray((along(points, self.normal) - self.offset) / (NEAR * np.maximum(points[:, 2], 0.3) ** 2))

    def holds(self, points: Float) -> bool:
        """True where it fits points (n, 3) as well as those that it was fitted to, all but a few: the camera stands as it did."""
        return len(points) >= LEAST_POINTS and float((np.abs(self.distances(points)) < self.noise).mean()) > KEPT * self.share


def find_plane(points: Float, rng: np.random.Generator) -> Plane | None:
    """The plane that most of points (n, 3) lie on, and the noise of those on it; None where no plane holds a third of them."""
    fitted = fit_plane(points, rng)
    if fitted is None:
        return None
    plane = Plane(*fitted, share=0.0)
    distances = np.abs(plane.distances(points))
    near = distances < WIDEST
    noise = max(1.0, SIGMAS * 1.4826 * float(np.median(distances[near])))  # NEAR is three standard deviations of a usual camera
    return Plane(plane.normal, plane.offset, float((distances < noise).mean()), noise)


def fit_plane(points: Float, rng: np.random.Generator) -> tuple[Float, float] | None:
    """Unit normal towards the camera and offset of the plane with the most of (n, 3) points near it; None below a third of them."""
    if len(points) < LEAST_POINTS:
        return None
    corners = points[rng.integers(len(points), size=(TRIALS, 3))]
    normals = _cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    normals = normals[lengths > 1e-9] / lengths[lengths > 1e-9, None]
    offsets = along(normals, corners[lengths > 1e-9, 0])
    if not len(normals):
        return None
    tolerance = NEAR * points[:, 2] ** 2
    sample = points[rng.integers(len(points), size=min(VOTES, len(points)))]
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
