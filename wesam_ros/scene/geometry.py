"""Places of segmented objects in space, from a label image and a registered depth image. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wesam_ros.scene.oriented_box import OrientedBox, oriented_boxes
from wesam_ros.scene.projection import Float, Float32, Projection, back_project, measured

MIN_POINTS = 10
"""With fewer depth pixels under its mask an object has no 3D output."""
POINTS = 512
"""Pixels of an object that are used, evenly spread: their centroid is as exact as that of all."""
_EVENLY = np.arange(POINTS)
TRIM = 3.0
"""Pixels whose depth is more than this many robust standard deviations (1.4826 MAD) from the object's median are left out: flying pixels
at edges, and background under a mask that reaches too far. An object whose depths are spread evenly loses none: they lie within 1.35."""
TRIM_FLOOR = 0.01
"""Metres from the median that are always kept: on a flat face seen head on, MAD is only the sensor's noise."""
TAIL = 0.01
"""Share of the points left out at either end of each axis when the extent is measured: the edge of a mask is seldom exact."""


@dataclass(frozen=True)
class Located:
    """An object's place, in metres.

    Attributes:
        centroid: (3,), mean of its depth points.
        extent: (3,), size of their box along the axes of the frame.
        points: how many depth pixels it has.
        box: its oriented box.
    """

    centroid: Float
    extent: Float
    points: int
    box: OrientedBox | None = None


def locate(
    labels: npt.NDArray[np.uint16],
    depth: Float32,
    camera: Projection,
    crops: Sequence[tuple[slice, slice]],
    transform: Float | None = None,
) -> list[Located | None]:
    """Centroid, extent and oriented box of the objects of a label image, all at once.

    Args:
        labels: (H, W), 0 = background, 1..n the objects.
        depth: (H, W) metres, 0 = none, registered to the labels.
        camera: (3, 3) intrinsic matrix K, or (H, W, 2) rays.
        crops: of the n objects, rows and columns that hold each (Masks.crops).
        transform: (4, 4) from the camera's optical frame to the frame of the result; None for the optical frame.

    Returns:
        For each object its place, None where it has fewer than MIN_POINTS depth pixels.
    """
    found: list[Located | None] = [None] * len(crops)
    depth = measured(depth, camera)
    counts, samples, corners = dict[int, int](), [], []
    for index, (rows, columns) in enumerate(crops):
        inside = np.flatnonzero((labels[rows, columns] == index + 1) & (depth[rows, columns] > 0))
        if len(inside) >= MIN_POINTS:
            counts[index] = len(inside)
            samples.append(inside[_EVENLY * len(inside) // POINTS])  # of an object with fewer pixels, each comes several times
            corners.append((rows.start, columns.start, columns.stop - columns.start))
    if not samples:
        return found
    top, left, width = np.array(corners).T[..., None]
    v, u = np.divmod(np.stack(samples), width)
    points = back_project(v + top, u + left, depth, camera)
    away = np.abs(points[2] - np.median(points[2], axis=1, keepdims=True))
    kept = away <= np.maximum(TRIM * 1.4826 * np.median(away, axis=1, keepdims=True), TRIM_FLOOR)
    axes, left = points, kept.sum(1)
    if transform is not None:  # turned only: a place far from the map's origin has too many digits for float32
        axes = np.tensordot(transform[:3, :3].astype(np.float32), points, 1)
    centroids = (axes * kept).sum(2, dtype=np.float64) / left
    if transform is not None:
        centroids += transform[:3, 3:]
    ranked, objects = np.sort(np.where(kept, axes, np.inf), axis=2), np.arange(len(counts))  # what was left out is last
    tail = (left * TAIL).astype(int)
    extents = ranked[:, objects, left - 1 - tail] - ranked[:, objects, tail]
    boxes = oriented_boxes(labels, depth, camera, crops, transform)
    for index, centroid, extent in zip(counts, centroids.T, extents.T, strict=True):
        found[index] = Located(centroid, extent.astype(np.float64), counts[index], boxes[index])
    return found


def cloud(
    labels: npt.NDArray[np.uint16], depth: Float32, camera: Projection, transform: Float | None = None
) -> tuple[Float32, npt.NDArray[np.uint16]]:
    """All depth points of objects: (k, 3) metres, in the frame of `locate`'s results, and their labels (k,)."""
    depth = measured(depth, camera)
    flat = np.flatnonzero((labels > 0) & (depth > 0))
    points = back_project(*np.divmod(flat, labels.shape[1]), depth, camera).T.astype(np.float64)
    if transform is not None:
        # Not by `@`: the threads of numpy's BLAS go on spinning after it, and hold up torch's in the next frame.
        points = np.einsum("nj,ij->ni", points, transform[:3, :3]) + transform[:3, 3]
    return points.astype(np.float32), labels.reshape(-1)[flat]
