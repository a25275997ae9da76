"""Oriented boxes of segmented objects: the smallest rectangle about the support plane's normal, or principal axes where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.scene.far_side import STANDS, ends_at, far_side
from wesam_ros.scene.object_points import MIN_POINTS, ObjectPoints, connected, taken
from wesam_ros.scene.plane import along
from wesam_ros.scene.plane_around import support_plane
from wesam_ros.scene.plane_view import PlaneView
from wesam_ros.scene.projection import Float, Float32, Points, Projection

Labels = npt.NDArray[np.uint16]
Crop = tuple[slice, slice]
Bool = npt.NDArray[np.bool_]

ON_PLANE = 0.006
"""Metres above the support plane, at a distance of one metre, up to which a point under a mask is the plane's."""
NEAREST = 0.5
"""Metres; the depth's noise does not fall below that of this distance."""
FLAT = 0.012
"""An object of less height than this, in metres, keeps all its points: it cannot be told from the plane by height."""
TAIL = 0.002
"""Share of the points left out at either end of a height."""
DIRECTIONS = np.stack([np.cos(np.arange(8) * np.pi / 8), np.sin(np.arange(8) * np.pi / 8)], 1).astype(np.float32)
"""(8, 2) unit vectors in the plane: the last point at either end of each is left out."""


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
    view = None if plane is None else PlaneView(depth, camera, *plane)
    seen: Points = objects.points
    z = objects.points[2]
    if view is not None:
        seen = view.places(seen)
    kept = np.ones(z.shape, bool) if view is None else _above(seen[2], z)
    together = connected(z, kept)
    if together is not kept:
        kept = np.where(np.count_nonzero(together, 1, keepdims=True) >= MIN_POINTS, together, kept)
    counts = np.rint(objects.counts * kept.mean(1)).astype(int).tolist()
    points = taken(seen, kept)
    if view is None:
        found = [_principal(each) for each in points.transpose(1, 2, 0).astype(np.float64)]
        centers, axes, sizes = (np.stack([box[k] for box in found]) for k in range(3))
    else:
        centers, axes, sizes = _on_plane(points, view, labels, np.array(objects.index, np.uint16) + np.uint16(1))
    if transform is not None:
        centers = np.einsum("ij,nj->ni", transform[:3, :3], centers) + transform[:3, 3]
        axes = np.einsum("ij,njk->nik", transform[:3, :3], axes)
    rows = zip(centers, axes, sizes, counts, strict=True)
    return [OrientedBox(center, turn, size, count, plane is not None) for center, turn, size, count in rows]


def _above(height: Points, z: Points) -> Bool:
    """(n, k) true for points, with heights and depths (n, k), that are not the support plane's; all of an object as flat as the plane."""
    raised = height > ON_PLANE * np.maximum(z, NEAREST) ** 2
    lies = (raised.sum(1) < MIN_POINTS) | ((height > FLAT).sum(1) <= 0.05 * height.shape[1])
    return np.asarray(raised | lies[:, None])


def _on_plane(places: Points, view: PlaneView, labels: Labels, own: Labels) -> tuple[Float, Float, Float]:
    """Centres (n, 3), axes (n, 3, 3) and sizes (n, 3) of the smallest rectangles about the normal of places (3, n, k) in the plane's frame;
    from the plane up, where an object stands on it. `own` (n,) are the objects' values in `labels`."""
    height = places[2]
    ranked = np.sort(height, 1)
    tail = int(ranked.shape[1] * TAIL)
    low, high = ranked[:, tail], ranked[:, -1 - tail]
    middles, turns, sides = _rectangles(places[:2], *far_side(places, view))
    up = np.flatnonzero(low >= STANDS)
    ends = np.zeros_like(low)
    if len(up):
        lowest = height[up] <= (low + (high - low) / 10)[up, None]
        ends[up] = ends_at(places[:, up], low[up], lowest, view, labels, own[up])
    middles = np.concatenate([middles, (ends + high)[:, None] / 2 + view.offset], 1)
    x, y = view.axes[0], view.axes[1]
    cosine, sine = (turns * np.copysign(1, turns[:, :1] * x[0] + turns[:, 1:] * y[0])).T[..., None]  # of two directions, to the right
    axes = np.stack([cosine * x + sine * y, cosine * y - sine * x, np.broadcast_to(view.normal, (len(own), 3))], 2)
    sizes = np.concatenate([sides, np.maximum(high - ends, 0.0)[:, None]], 1, dtype=np.float64)
    return np.einsum("ji,nj->ni", view.axes, middles), axes, sizes


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


def _rectangles(flat: Points, hidden: Points, counts: Bool) -> tuple[Points, Points, Points]:
    """The smallest rectangles of points (2, n, k), which those of `hidden` (2, n, k) that count (n, k) may make larger.

    Returns:
        Centres (n, 2), unit vectors (n, 2) of the longer sides, and the two sides (n, 2). The yaw is that of the points seen.
    """
    rows = np.arange(flat.shape[1])
    inner = np.ones(flat.shape[1:], bool)
    each = np.einsum("dj,jnk->dnk", DIRECTIONS, flat)
    inner[rows, each.argmax(2)] = inner[rows, each.argmin(2)] = False
    start = (flat * inner).sum(2) / inner.sum(1, dtype=np.float32)
    around = (flat - start[..., None]) * inner  # what is left out goes to the middle, where it changes nothing
    angles = np.float32(np.pi / 180) * np.array([cv2.minAreaRect(points)[2] for points in np.stack([*around], 2)], np.float32)
    x, y = np.concatenate([around, (hidden - start[..., None]) * counts], 2)
    cosine, sine = np.cos(angles), np.sin(angles)
    c, s = cosine[:, None], sine[:, None]
    sides = np.stack([x * c + y * s, y * c - x * s])
    low, high = sides.min(2), sides.max(2)
    (across, along_), longer = (low + high) / 2, high[0] - low[0] >= high[1] - low[1]
    middles = np.stack([across * cosine - along_ * sine, across * sine + along_ * cosine], 1) + start.T
    turns = np.where(longer, (cosine, sine), (-sine, cosine)).T
    return middles, turns, -np.sort((low - high).T, 1)


def _right_handed(x: Float, z: Float) -> Float:
    """(n, 3, 3) with columns x, y, z, of x (n, 3) and one z (3,); of the two x that a box has, the one that points to the image's right."""
    x = np.where(x[:, :1] >= 0, x, -x)
    y = np.stack([z[1] * x[:, 2] - z[2] * x[:, 1], z[2] * x[:, 0] - z[0] * x[:, 2], z[0] * x[:, 1] - z[1] * x[:, 0]], 1)
    return np.stack([x, y, np.broadcast_to(z, x.shape)], 2)
