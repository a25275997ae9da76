"""Pixels that rise over a support surface, within its edges: the things that nobody asked for are of them. At half resolution."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.scene.plane import LEAST_POINTS, NEAR, RAISED_BY, Plane, find_plane
from wesam_ros.scene.projection import Projection, measured, slopes

Bool = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float32]

SPARSE = 4
"""The plane is looked for in every fourth row and column of the half-size depth."""
NEARER = (1.0, 0.7, 0.5)
"""Shares of the points, the nearest ones, that a third of has to be on the surface."""
RISEN, RISEN_ITSELF = 1.15, 0.7
"""Times the noise above the plane of the mean of a pixel's neighbourhood, and of itself, from which on it rises, too: flat things do."""
FILLED = 3
"""Half-resolution pixels from the nearest depth up to which holes are filled."""
LEAST_PART = 0.15
"""Of the largest part of the surface, the area that a further one must have to count: where a wall cuts the plane is a strip of it."""
LEAST_SURFACE = 0.01
"""Share of the image that the largest part must have."""
BEYOND = 0.1
"""Metres beyond the surface's convex hull over which things may still stand: their feet hide its edge."""
HIGHEST = 1.0
"""Metres above the surface up to which things are looked for."""


@dataclass(frozen=True, eq=False)
class Raised:
    """A support surface and the pixels that rise over it, at half resolution (h, w).

    Attributes:
        plane: the surface.
        depth: (h, w) float32 metres, 0 = none.
        points: (h, w, 3) float32 metres in the camera's frame.
        height: (h, w) float32 metres above the plane; without meaning where there is no depth.
        raised: (h, w) bool, over the surface and not of it.
        surface: (h, w) bool, of the surface.
        noise: (h, w) float32, metres of depth within which two points may be at one distance.
        spacing: metres from one pixel's point to the next at a distance of one metre.
    """

    plane: Plane
    depth: Float
    points: Float
    height: Float
    raised: Bool
    surface: Bool
    noise: Float
    spacing: float


def find_raised(
    depth: Float,
    camera: Projection,
    rng: np.random.Generator,
    plane: Plane | None = None,
) -> Raised | None:
    """The support surface that most of the depth lies on, and what rises over it; None where no plane holds a third of it.

    Args:
        depth: (H, W) metres along the optical axis, 0 = none.
        camera: (3, 3) intrinsic matrix, or (H, W, 2) rays.
        rng: draws the plane's candidates.
        plane: of the frame before, which is kept where it fits.
    """
    depth = measured(depth, camera)
    half = _filled(np.ascontiguousarray(depth[::2, ::2]))
    x, y = (np.broadcast_to(each, depth.shape)[::2, ::2].astype(np.float32) for each in slopes(camera, (depth.shape[0], depth.shape[1])))
    spacing = float(np.median(np.diff(x[x.shape[0] // 2])))
    points = np.asarray(cv2.merge([x * half, y * half, half]), np.float32)
    thinned = points[::SPARSE, ::SPARSE].reshape(-1, 3)
    sparse: npt.NDArray[np.float64] = thinned[thinned[:, 2] > 0].astype(np.float64)
    if len(sparse) < LEAST_POINTS:
        return None
    if plane is None or not plane.holds(sparse):
        plane = _nearest_plane(sparse, rng)
    if plane is None:
        return None
    normal = plane.normal.astype(np.float32)
    height = _along(points, normal) - np.float32(plane.offset)
    scale = np.maximum(half, np.float32(0.3)) ** 2
    near = scale * np.float32(NEAR * plane.noise)
    known = half > 0
    surface = _large_parts(known & (np.abs(height) < near))
    if not surface.any():
        return None
    over = _over(points, normal, surface, height)
    around = cv2.blur(np.where(known, height, 0), (5, 5)) / np.maximum(cv2.blur(known.astype(np.float32), (5, 5)), np.float32(1e-6))
    high = (height > near * np.float32(RAISED_BY)) | ((around > near * np.float32(RISEN)) & (height > near * np.float32(RISEN_ITSELF)))
    raised = known & over & high & (height < np.float32(HIGHEST))
    return Raised(plane, half, points, height, raised, surface, near, spacing)


def _along(points: Float, direction: Float) -> Float:
    """(h, w) scalar products of points (h, w, 3) with a direction (3,); not by `@`, whose threads hold up torch's (plane.along)."""
    return np.asarray(points[..., 0] * direction[0] + points[..., 1] * direction[1] + points[..., 2] * direction[2], np.float32)


def _nearest_plane(points: npt.NDArray[np.float64], rng: np.random.Generator) -> Plane | None:
    """The plane that most of points (n, 3) lie on; where there is none, of the nearer ones: floor and walls may fill an image."""
    for share in NEARER:
        near = points[points[:, 2] <= np.quantile(points[:, 2], share)]
        plane = find_plane(near, rng)
        if plane is not None:
            return plane
    return None


def _filled(depth: Float) -> Float:
    """The depth (h, w) with small holes filled by the farthest neighbour: beside a near thing a hole is of what lies behind."""
    for _ in range(FILLED):
        depth = np.where(depth > 0, depth, cv2.dilate(depth, np.ones((3, 3), np.uint8)))
    return depth


def _large_parts(mask: Bool) -> Bool:
    """The parts of a mask (h, w) that are large."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    areas[0] = 0
    large = areas >= max(LEAST_SURFACE * mask.size, LEAST_PART * areas.max())
    return np.asarray(large[labels])


def _over(points: Float, normal: Float, surface: Bool, height: Float) -> Bool:
    """(h, w) bool: over the convex hull of the surface's points, or little beyond it."""
    first = np.cross(normal, [0.0, 1.0, 0.0] if abs(normal[1]) < 0.9 else [1.0, 0.0, 0.0]).astype(np.float32)
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    across = cv2.merge([_along(points, first), _along(points, second)])  # along the plane: a point's foot
    hull = cv2.convexHull(across[surface][:: max(1, int(surface.sum()) // 20000)].astype(np.float32))
    hull = cv2.approxPolyDP(hull, 0.01, True)[:, 0]
    middle = hull.mean(0)
    over = np.ones(points.shape[:2], bool)
    for start, end in zip(hull, np.roll(hull, -1, 0), strict=True):
        along = end - start
        length = float(np.hypot(*along))
        if length < 1e-6:
            continue
        outward = np.array([along[1], -along[0]], np.float32) / length
        if (middle - start) @ outward > 0:
            outward = -outward
        over &= across[..., 0] * outward[0] + across[..., 1] * outward[1] < float(start @ outward) + BEYOND
    return over
