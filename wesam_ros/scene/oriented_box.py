"""Oriented boxes of segmented objects: the smallest rectangle about the support plane's normal, or principal axes where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.scene.far_side import STANDS, View, ends_at, far_side
from wesam_ros.scene.object_points import MIN_POINTS, ObjectPoints, connected, taken
from wesam_ros.scene.plane import STEP, along, fit_plane
from wesam_ros.scene.projection import Float, Float32, Projection, back_project, height_over

Labels = npt.NDArray[np.uint16]
Crop = tuple[slice, slice]
Bool = npt.NDArray[np.bool_]

EVERY = 2
"""Every second point of an object serves its box: as exact, and cheaper."""
PLANE_POINTS = 1000
"""The support plane is fitted to at most as many points."""
TRIALS, VOTES = 48, 200
"""Planes tried for a frame, and points that vote: half of the points around the objects lie on the plane, so few are enough."""
ON_PLANE = 0.006
"""Metres above the support plane, at a distance of one metre, up to which a point under a mask is the plane's."""
NEAREST = 0.5
"""Metres; the depth's noise does not fall below that of this distance."""
FLAT = 0.012
"""An object of less height than this, in metres, keeps all its points: it cannot be told from the plane by height."""
TAIL = 0.002
"""Share of the points left out at either end of a height."""
DIRECTIONS = np.stack([np.cos(np.arange(8) * np.pi / 8), np.sin(np.arange(8) * np.pi / 8)])
"""(2, 8) unit vectors in the plane: the last point at either end of each is left out."""


@dataclass(frozen=True, eq=False)
class OrientedBox:
    """An object's box.

    Attributes:
        center: (3,) metres.
        axes: (3, 3), a rotation whose columns are the box's x, y and z in the frame of the centre. z is the support plane's normal, away
            from it, or, without a plane, the principal axis that points most towards the camera. x is the longer side about it.
        size: (3,) metres, full length along each axis.
        points: how many depth pixels it comes from.
        on_plane: z is a plane's normal.
    """

    center: Float
    axes: Float
    size: Float
    points: int
    on_plane: bool

    @property
    def grasp_width(self) -> float:
        """Metres that a parallel gripper opens which closes along y and comes against z."""
        return float(self.size[1])

    @property
    def approach(self) -> Float:
        """(3,) unit vector, the gripper's way to the object: against z."""
        return np.asarray(-self.axes[:, 2])


def oriented_boxes(
    objects: ObjectPoints,
    labels: Labels,
    depth: Float32,
    camera: Projection,
    crops: Sequence[Crop],
    transform: Float | None = None,
) -> list[OrientedBox]:
    """The boxes of the objects of a label image.

    Flying pixels, pieces that are not connected with the object, and points on the support plane are left out.

    Args:
        objects: their points.
        labels: (H, W), 0 = background, 1..n the objects.
        depth: (H, W) metres, 0 = none, registered to the labels.
        camera: (3, 3) intrinsic matrix K, or (H, W, 2) rays.
        crops: of the n objects, rows and columns that hold each (Masks.crops).
        transform: (4, 4) from the camera's optical frame to that of the boxes; None for the optical frame.

    Returns:
        The box of each of `objects`.
    """
    plane = support_plane(labels, depth, camera, crops)
    seen = np.ascontiguousarray(objects.points[..., ::EVERY])
    kept = np.ones(seen.shape[1:], bool) if plane is None else _above(seen, *plane)
    together = connected(seen[2], kept)
    kept = np.where(np.count_nonzero(together, 1, keepdims=True) >= MIN_POINTS, together, kept)
    counts = np.rint(objects.counts * kept.mean(1)).astype(int).tolist()
    points = taken(seen, kept)
    if plane is None:
        found = [_principal(each) for each in points.transpose(1, 2, 0)]
        centers, axes, sizes = (np.stack([box[k] for box in found]) for k in range(3))
    else:
        view = View(depth, camera, *plane, _level(plane[0]))
        centers, axes, sizes = _on_plane(points, view, labels, np.array(objects.index, np.uint16) + np.uint16(1))
    if transform is not None:
        centers = np.einsum("ij,nj->ni", transform[:3, :3], centers) + transform[:3, 3]
        axes = np.einsum("ij,njk->nik", transform[:3, :3], axes)
    rows = zip(centers, axes, sizes, counts, strict=True)
    return [OrientedBox(center, turn, size, count, plane is not None) for center, turn, size, count in rows]


def _above(points: Float, normal: Float, offset: float) -> Bool:
    """(n, k) true for points that are not the support plane's; all of an object that is as flat as the plane."""
    height = height_over(points, normal, offset)
    raised = height > ON_PLANE * np.maximum(points[2], NEAREST) ** 2
    lies = (np.count_nonzero(raised, 1) < MIN_POINTS) | (np.count_nonzero(height > FLAT, 1) <= 0.05 * height.shape[1])
    return np.asarray(raised | lies[:, None])


def support_plane(labels: Labels, depth: Float32, camera: Projection, crops: Sequence[Crop]) -> tuple[Float, float] | None:
    """Unit normal (3,) towards the camera, and offset, of the plane around the objects: normal . point = offset.

    Returns:
        None where no plane holds a third of the points beside the masks.
    """
    near = np.zeros((len(range(0, depth.shape[0], STEP)), len(range(0, depth.shape[1], STEP))), bool)
    for rows, columns in crops:
        dy, dx = (rows.stop - rows.start) // 2, (columns.stop - columns.start) // 2
        top, left = max(0, rows.start - dy) // STEP, max(0, columns.start - dx) // STEP
        near[top : (rows.stop + dy) // STEP + 1, left : (columns.stop + dx) // STEP + 1] |= rows.stop > rows.start
    v, u = np.nonzero(near & (labels[::STEP, ::STEP] == 0) & (depth[::STEP, ::STEP] > 0))
    every = len(v) // PLANE_POINTS + 1
    points = back_project(v[::every] * STEP, u[::every] * STEP, depth, camera).T.astype(np.float64)
    return fit_plane(points, np.random.default_rng(0), TRIALS, VOTES)  # the same draws for each frame: equal frames give equal boxes


def _on_plane(points: Float, view: View, labels: Labels, own: Labels) -> tuple[Float, Float, Float]:
    """Centres (n, 3), axes (n, 3, 3) and sizes (n, 3) of the smallest rectangles about the normal of points (3, n, k); from the plane up,
    where an object stands on it. `own` (n,) are the objects' values in `labels`."""
    normal = view.normal
    height = height_over(points, normal, view.offset)
    ranked = np.sort(height, 1)
    tail = int(ranked.shape[1] * TAIL)
    low, high = ranked[:, tail], ranked[:, -1 - tail]
    flat = np.stack([height_over(points, axis, 0.0) for axis in view.base.T])
    middles, turns, sides = _rectangles(flat, *far_side(points, flat, height, view))
    stands = low < STANDS
    if not stands.all():
        lowest = height <= (low + (high - low) / 10)[:, None]
        low = np.where(stands, 0.0, ends_at(points, flat, low, lowest, view, labels, own))
    else:
        low = np.zeros_like(low)
    centers = np.einsum("ij,nj->ni", view.base, middles) + normal * (view.offset + (low + high) / 2)[:, None]
    x = np.einsum("ij,nj->ni", view.base, turns)
    return centers, _right_handed(x, normal), np.concatenate([sides, np.maximum(high - low, 0.0)[:, None]], 1)


def _principal(points: Float) -> tuple[Float, Float, Float]:
    """Centre (3,), axes (3, 3) and size (3,) of the box along the principal axes of points (k, 3)."""
    middle = np.median(points, 0)
    around = points - middle
    away = np.linalg.norm(around, axis=1)
    around = around[away <= 3 * np.median(away) + 1e-9]
    vectors = np.linalg.eigh(np.einsum("ni,nj->ij", around, around))[1]
    facing = -along(vectors.T, middle / max(float(np.linalg.norm(middle)), 1e-9))
    third = int(np.abs(facing).argmax())
    z = vectors[:, third] * np.sign(facing[third] or 1.0)
    first, second = (vectors[:, k] for k in range(3) if k != third)
    extents = []
    for axis in (first, second, z):
        ranked = np.sort(along(around, axis))
        tail = int(len(ranked) * TAIL)
        extents.append((ranked[tail], ranked[-1 - tail]))
    if np.ptp(extents[0]) < np.ptp(extents[1]):
        first, second, extents[0], extents[1] = second, first, extents[1], extents[0]
    center = middle + sum((np.mean(each) * axis for each, axis in zip(extents, (first, second, z), strict=True)), np.zeros(3))
    return np.asarray(center), _right_handed(first[None], z)[0], np.array([np.ptp(each) for each in extents])


def _level(normal: Float) -> Float:
    """(3, 2): two unit vectors at right angles to a normal and to each other."""
    across = np.eye(3)[int(np.abs(normal).argmin())]
    first = _cross(normal, across)
    first /= np.linalg.norm(first)
    return np.stack([first, _cross(normal, first)], 1)


def _rectangles(flat: Float, hidden: Float, counts: Bool) -> tuple[Float, Float, Float]:
    """The smallest rectangles of points (2, n, k), which those of `hidden` (2, n, k) that count (n, k) may make larger.

    Returns:
        Centres (n, 2), unit vectors (n, 2) of the longer sides, and the two sides (n, 2). The yaw is that of the points seen.
    """
    rows = np.arange(flat.shape[1])[:, None]
    inner = np.ones(flat.shape[1:], bool)
    each = DIRECTIONS[0] * flat[0][..., None] + DIRECTIONS[1] * flat[1][..., None]
    inner[rows, each.argmax(1)] = inner[rows, each.argmin(1)] = False
    start = flat.mean(2)
    near = np.stack([flat[0] - start[0][:, None], flat[1] - start[1][:, None]], 2).astype(np.float32)
    angles = np.radians([cv2.minAreaRect(points[kept])[2] for points, kept in zip(near, inner, strict=True)])
    x, y = np.concatenate([flat, hidden], 2) - start[..., None]
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    sides = np.stack([x * cosine + y * sine, y * cosine - x * sine])
    used = np.concatenate([inner, counts], 1)
    low, high = np.where(used, sides, np.inf).min(2), np.where(used, sides, -np.inf).max(2)
    turns = np.stack([np.concatenate([cosine, sine], 1), np.concatenate([-sine, cosine], 1)])
    half = (low + high) / 2
    middles = half[0][:, None] * turns[0] + half[1][:, None] * turns[1] + start.T
    longer = (high - low).argmax(0)
    return middles, turns[longer, rows[:, 0]], -np.sort((low - high).T, 1)


def _right_handed(x: Float, z: Float) -> Float:
    """(n, 3, 3) with columns x, y, z, of x (n, 3) and one z (3,); of the two x that a box has, the one that points to the image's right."""
    x = np.where(x[:, :1] >= 0, x, -x)
    y = np.stack([z[1] * x[:, 2] - z[2] * x[:, 1], z[2] * x[:, 0] - z[0] * x[:, 2], z[0] * x[:, 1] - z[1] * x[:, 0]], 1)
    return np.stack([x, y, np.broadcast_to(z, x.shape)], 2)


def _cross(a: Float, b: Float) -> Float:
    """The vector product of two vectors (3,); np.cross takes ten times as long."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])
