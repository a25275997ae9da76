"""Oriented boxes of segmented objects: the smallest rectangle about the support plane's normal, or principal axes where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.scene.far_side import far_side, hidden_below
from wesam_ros.scene.object_points import one_piece
from wesam_ros.scene.plane import STEP, along, fit_plane
from wesam_ros.scene.projection import Float, Float32, Projection, back_project, measured

Labels = npt.NDArray[np.uint16]
Crop = tuple[slice, slice]

MIN_BOX_POINTS = 10
"""With fewer depth pixels an object has no box."""
PIXELS = 1000
"""An object with four times as many pixels is looked at in every second row and column, and so on."""
BOX_POINTS = 512
"""Points of an object from which its box is made, evenly spread."""
TRIALS, VOTES = 80, 300
"""Planes tried for a frame, and points that vote: half of the points around the objects lie on the plane, so few are enough."""
ON_PLANE = 0.006
"""Metres above the support plane, at a distance of one metre, up to which a point under a mask is the plane's."""
NEAREST = 0.5
"""Metres; the depth's noise does not fall below that of this distance."""
FLAT = 0.012
"""An object of less height than this, in metres, keeps all its points: it cannot be told from the plane by height."""
STANDS = 0.03
"""Metres above the plane up to which the lowest point seen may be: the object stands on it. Above, it lies on something, unless what is
below is hidden."""
TAIL = 0.002
"""Share of the points left out at either end of the height; where it is a point, one is left out at either end of DIRECTIONS too."""
DIRECTIONS = np.stack([np.cos(np.arange(8) * np.pi / 8), np.sin(np.arange(8) * np.pi / 8)])
"""(2, 8) unit vectors in the plane."""


@dataclass(frozen=True, eq=False)
class _Plane:
    """A plane: unit normal (3,), offset in metres, and two axes (3, 2) in it."""

    normal: Float
    offset: float
    base: Float


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

    def moved(self, transform: Float) -> OrientedBox:
        """The box in the frame that `transform` (4, 4) leads to."""
        turn = transform[:3, :3]
        center = np.einsum("ij,j->i", turn, self.center) + transform[:3, 3]
        return OrientedBox(center, np.einsum("ij,jk->ik", turn, self.axes), self.size, self.points, self.on_plane)


def oriented_boxes(
    labels: Labels, depth: Float32, camera: Projection, crops: Sequence[Crop], transform: Float | None = None
) -> list[OrientedBox | None]:
    """The boxes of the objects of a label image.

    Flying pixels, pieces that are not connected with the object, and points on the support plane are left out.

    Args:
        labels: (H, W), 0 = background, 1..n the objects.
        depth: (H, W) metres, 0 = none, registered to the labels.
        camera: (3, 3) intrinsic matrix K, or (H, W, 2) rays.
        crops: of the n objects, rows and columns that hold each (Masks.crops).
        transform: (4, 4) from the camera's optical frame to that of the boxes; None for the optical frame.

    Returns:
        For each object its box, None where it has fewer than MIN_BOX_POINTS depth pixels.
    """
    depth = measured(depth, camera)
    fitted = support_plane(labels, depth, camera, crops)
    plane = None if fitted is None else _Plane(*fitted, _level(fitted[0]))
    found: list[OrientedBox | None] = []
    for index, crop in enumerate(crops):
        mask = (labels[crop] == index + 1) & (depth[crop] > 0)
        if np.count_nonzero(mask) < MIN_BOX_POINTS:
            found.append(None)
            continue
        box = _box_of(mask, depth, camera, crop, plane)
        found.append(box if transform is None else box.moved(transform))
    return found


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
    points = back_project(v * STEP, u * STEP, depth, camera).T.astype(np.float64)
    return fit_plane(points, np.random.default_rng(0), TRIALS, VOTES)  # the same draws for each frame: equal frames give equal boxes


def _box_of(mask: npt.NDArray[np.bool_], depth: Float32, camera: Projection, crop: Crop, plane: _Plane | None) -> OrientedBox:
    """The box, in the optical frame, of an object's pixels `mask` in the rows and columns `crop`."""
    total = np.count_nonzero(mask)
    step = max(1, int(np.sqrt(total / PIXELS)))
    if step > 1 and np.count_nonzero(mask[::step, ::step]) >= MIN_BOX_POINTS:
        mask, near = mask[::step, ::step], depth[crop][::step, ::step]
    else:
        step, near = 1, depth[crop]
    v, u = np.nonzero(mask)
    points = back_project(v * step + crop[0].start, u * step + crop[1].start, depth, camera).T.astype(np.float64)
    share = total / len(points)
    if plane is not None:
        height = along(points, plane.normal) - plane.offset
        raised = height > ON_PLANE * np.maximum(points[:, 2], NEAREST) ** 2
        if not raised.all() and np.sort(height)[len(height) * 19 // 20] > FLAT and np.count_nonzero(raised) >= MIN_BOX_POINTS:
            points, mask = points[raised], mask.copy()
            mask[v[~raised], u[~raised]] = False
    kept = one_piece(mask, near, step)[mask]
    points = points[kept] if np.count_nonzero(kept) >= MIN_BOX_POINTS else points
    count = round(len(points) * share)
    points = points[np.arange(BOX_POINTS) * len(points) // BOX_POINTS] if len(points) > BOX_POINTS else points
    return _on_plane(points, count, depth, camera, plane) if plane is not None else _principal(points, count)


def _on_plane(points: Float, count: int, depth: Float32, camera: Projection, plane: _Plane) -> OrientedBox:
    """The smallest rectangle about the normal; from the plane up, where the object stands on it."""
    normal, base = plane.normal, plane.base
    height = along(points, normal) - plane.offset
    ranked = np.sort(height)
    tail = int(len(ranked) * TAIL)
    low, high = float(ranked[tail]), float(ranked[-1 - tail])
    flat = np.einsum("ni,ij->nj", points, base)
    middle, turn, size = _rectangle(flat, far_side(points, flat, height, base, depth, camera))
    if low < STANDS or hidden_below(points[height <= low + (high - low) / 10], normal, depth, camera):
        low = 0.0
    center = np.einsum("ij,j->i", base, middle) + normal * (plane.offset + (low + high) / 2)
    axes = _right_handed(np.einsum("ij,j->i", base, turn), normal)
    return OrientedBox(center, axes, np.array([*size, max(high - low, 0.0)]), count, True)


def _principal(points: Float, count: int) -> OrientedBox:
    """The box along the principal axes."""
    middle = np.median(points, 0)
    spread = points - middle
    away = np.linalg.norm(spread, axis=1)
    spread = spread[away <= 3 * np.median(away) + 1e-9]
    vectors = np.linalg.eigh(np.einsum("ni,nj->ij", spread, spread))[1]
    facing = -along(vectors.T, middle / max(float(np.linalg.norm(middle)), 1e-9))
    third = int(np.abs(facing).argmax())
    z = vectors[:, third] * np.sign(facing[third] or 1.0)
    first, second = (vectors[:, k] for k in range(3) if k != third)
    extents = []
    for axis in (first, second, z):
        ranked = np.sort(along(spread, axis))
        tail = int(len(ranked) * TAIL)
        extents.append((ranked[tail], ranked[-1 - tail]))
    if np.ptp(extents[0]) < np.ptp(extents[1]):
        first, second, extents[0], extents[1] = second, first, extents[1], extents[0]
    center = middle + sum((np.mean(each) * axis for each, axis in zip(extents, (first, second, z), strict=True)), np.zeros(3))
    return OrientedBox(np.asarray(center), _right_handed(first, z), np.array([np.ptp(each) for each in extents]), count, False)


def _level(normal: Float) -> Float:
    """(3, 2): two unit vectors at right angles to a normal and to each other."""
    across = np.eye(3)[int(np.abs(normal).argmin())]
    first = _cross(normal, across)
    first /= np.linalg.norm(first)
    return np.stack([first, _cross(normal, first)], 1)


def _rectangle(flat: Float, hidden: Float) -> tuple[Float, Float, Float]:
    """Centre (2,), unit vector (2,) of the longer side, and the two sides of the smallest rectangle of (n, 2) points, which `hidden`
    (m, 2) may make larger. Its yaw is that of the points seen."""
    if len(flat) * TAIL >= 1:
        each = np.einsum("ni,ij->jn", flat, DIRECTIONS)
        inner = np.ones(len(flat), bool)
        inner[each.argmax(1)] = inner[each.argmin(1)] = False
        flat = flat[inner]
    start = flat.mean(0)
    _, _, degrees = cv2.minAreaRect((flat - start).astype(np.float32))
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    sides = np.einsum("ni,ki->nk", np.concatenate([flat, hidden]) - start, turn)
    low, high = sides.min(0), sides.max(0)
    size, middle = high - low, np.einsum("k,ki->i", (low + high) / 2, turn) + start
    longer = int(size.argmax())
    return middle, turn[longer], np.array([size[longer], size[1 - longer]])


def _right_handed(x: Float, z: Float) -> Float:
    """(3, 3) with columns x, y, z; of the two x that a box has, the one that points to the image's right."""
    x = x if x[0] >= 0 else -x
    return np.stack([x, _cross(z, x), z], 1)


def _cross(a: Float, b: Float) -> Float:
    """The vector product of two vectors (3,); np.cross takes ten times as long."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])
