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
_EVENLY = np.arange(BOX_POINTS)
PLANE_POINTS = 2000
"""The support plane is fitted to at most as many points."""
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
"""Share of the points left out at either end of a height."""
DIRECTIONS = np.stack([np.cos(np.arange(8) * np.pi / 8), np.sin(np.arange(8) * np.pi / 8)])
"""(2, 8) unit vectors in the plane: the last point at either end of each is left out."""


@dataclass(frozen=True, eq=False)
class _Pixels:
    """Pixels of an object, taken at every `step` of its rows and columns.

    Attributes:
        index: of the object.
        mask, depth: (h, w), its crop.
        share: how many of its pixels one of these stands for.
        v, u: (k,) rows and columns in the image.
    """

    index: int
    mask: npt.NDArray[np.bool_]
    depth: Float32
    step: int
    share: float
    v: npt.NDArray[np.int64]
    u: npt.NDArray[np.int64]


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
    found: list[OrientedBox | None] = [None] * len(crops)
    seen = [each for index, crop in enumerate(crops) if (each := _pixels_of(index, labels, depth, crop)) is not None]
    if not seen:
        return found
    points, counts = _points_of(seen, depth, camera, plane)
    boxes = _on_plane(points, counts, depth, camera, plane) if plane is not None else [*map(_principal, points, counts)]
    for each, box in zip(seen, boxes, strict=True):
        found[each.index] = box if transform is None else box.moved(transform)
    return found


def _pixels_of(index: int, labels: Labels, depth: Float32, crop: Crop) -> _Pixels | None:
    """The pixels of an object that are looked at; None where it has too few."""
    near = depth[crop]
    mask = (labels[crop] == index + 1) & (near > 0)
    total = int(np.count_nonzero(mask))
    if total < MIN_BOX_POINTS:
        return None
    step = max(1, int(np.sqrt(total / PIXELS)))
    coarse = mask[::step, ::step]
    if np.count_nonzero(coarse) < MIN_BOX_POINTS:
        step, coarse = 1, mask
    v, u = np.nonzero(coarse)
    return _Pixels(index, coarse, near[::step, ::step], step, total / len(v), v * step + crop[0].start, u * step + crop[1].start)


def _points_of(seen: list[_Pixels], depth: Float32, camera: Projection, plane: _Plane | None) -> tuple[Float, list[int]]:
    """(n, BOX_POINTS, 3) metres in the optical frame from which the boxes of n objects are made, and how many pixels they stand for."""
    v, u = (np.concatenate([getattr(each, name) for each in seen]) for name in "vu")
    points = back_project(v, u, depth, camera).T.astype(np.float64)
    starts = np.cumsum([0, *(len(each.v) for each in seen)])
    raised = tall = np.ones(len(points), bool)
    if plane is not None:
        height = along(points, plane.normal) - plane.offset
        raised, tall = height > ON_PLANE * np.maximum(points[:, 2], NEAREST) ** 2, height > FLAT
    chosen, counts = [], []
    for each, start, end in zip(seen, starts, starts[1:], strict=False):
        mask, inside = each.mask, np.arange(start, end)
        kept, most = raised[start:end], 0.05 * (end - start)
        if MIN_BOX_POINTS <= np.count_nonzero(kept) < end - start and np.count_nonzero(tall[start:end]) > most:
            mask, inside = mask.copy(), inside[kept]
            mask[each.mask] = kept
        piece = one_piece(mask, each.depth, each.step)[mask]
        inside = inside[piece] if np.count_nonzero(piece) >= MIN_BOX_POINTS else inside
        counts.append(round(len(inside) * each.share))
        chosen.append(inside[_EVENLY * len(inside) // BOX_POINTS])  # of an object with fewer pixels, each comes several times
    return points[np.stack(chosen)], counts


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


def _on_plane(points: Float, counts: list[int], depth: Float32, camera: Projection, plane: _Plane) -> list[OrientedBox]:
    """The smallest rectangles about the normal of points (n, k, 3); from the plane up, where an object stands on it."""
    height = along(points, plane.normal) - plane.offset
    ranked = np.sort(height, 1)
    tail = int(ranked.shape[1] * TAIL)
    lows, highs = ranked[:, tail].tolist(), ranked[:, -1 - tail].tolist()
    flat = np.einsum("nki,ij->nkj", points, plane.base)
    middles, turns, sizes = _rectangles(flat, *far_side(points, flat, height, plane.base, depth, camera))
    across = np.einsum("ij,nj->ni", plane.base, turns)
    centers = np.einsum("ij,nj->ni", plane.base, middles)
    boxes = []
    for i, (low, high) in enumerate(zip(lows, highs, strict=True)):
        if low < STANDS or hidden_below(points[i][height[i] <= low + (high - low) / 10], plane.normal, depth, camera):
            low = 0.0
        center = centers[i] + plane.normal * (plane.offset + (low + high) / 2)
        size = np.array([*sizes[i], max(high - low, 0.0)])
        boxes.append(OrientedBox(center, _right_handed(across[i], plane.normal), size, counts[i], True))
    return boxes


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


def _rectangles(flat: Float, hidden: Float, counts: npt.NDArray[np.bool_]) -> tuple[Float, Float, Float]:
    """The smallest rectangles of points (n, k, 2), which those of `hidden` (n, k, 2) that count (n, k) may make larger.

    Returns:
        Centres (n, 2), unit vectors (n, 2) of the longer sides, and the two sides (n, 2). The yaw is that of the points seen.
    """
    rows = np.arange(len(flat))[:, None]
    inner = np.ones(flat.shape[:2], bool)
    each = np.einsum("nki,ij->njk", flat, DIRECTIONS)
    inner[rows, each.argmax(2)] = inner[rows, each.argmin(2)] = False
    start = flat.mean(1)
    near = (flat - start[:, None]).astype(np.float32)
    angles = np.radians([cv2.minAreaRect(points[kept])[2] for points, kept in zip(near, inner, strict=True)])
    turns = np.stack([np.stack([np.cos(angles), np.sin(angles)], 1), np.stack([-np.sin(angles), np.cos(angles)], 1)], 1)
    sides = np.einsum("nki,nji->njk", np.concatenate([flat, hidden], 1) - start[:, None], turns)
    used = np.concatenate([inner, counts], 1)[:, None]
    low, high = np.where(used, sides, np.inf).min(2), np.where(used, sides, -np.inf).max(2)
    middles = np.einsum("nj,nji->ni", (low + high) / 2, turns) + start
    longer = (high - low).argmax(1)
    return middles, turns[rows[:, 0], longer], -np.sort(low - high, 1)


def _right_handed(x: Float, z: Float) -> Float:
    """(3, 3) with columns x, y, z; of the two x that a box has, the one that points to the image's right."""
    x = x if x[0] >= 0 else -x
    return np.stack([x, _cross(z, x), z], 1)


def _cross(a: Float, b: Float) -> Float:
    """The vector product of two vectors (3,); np.cross takes ten times as long."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])
