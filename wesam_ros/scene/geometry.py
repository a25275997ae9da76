"""Places of segmented objects in space, from a label image and a registered depth image. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wesam_ros.scene.object_points import object_points
from wesam_ros.scene.oriented_box import OrientedBox, oriented_boxes
from wesam_ros.scene.projection import Float, Float32, Points, Projection, back_project, measured, moved

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
        box: its oriented box, where that was asked for.
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
    boxes: bool = True,
) -> list[Located | None]:
    """Centroid, extent and, with `boxes`, oriented box of the objects of a label image, all at once.

    Args:
        labels: (H, W), 0 = background, 1..n the objects.
        depth: (H, W) metres, 0 = none, registered to the labels.
        camera: (3, 3) intrinsic matrix K, or (H, W, 2) rays.
        crops: of the n objects, rows and columns that hold each (Masks.crops).
        transform: (4, 4) from the camera's optical frame to the frame of the result; None for the optical frame.

    Returns:
        For each object its place, None where it has fewer than object_points.MIN_POINTS depth pixels.
    """
    found: list[Located | None] = [None] * len(crops)
    depth = measured(depth, camera)
    objects = object_points(labels, depth, camera, crops)
    if objects is None:
        return found
    points = objects.points
    away = np.abs(points[2] - _medians(points[2]))
    kept = away <= np.maximum(TRIM * 1.4826 * _medians(away), TRIM_FLOOR)
    axes: Points = points
    left = np.count_nonzero(kept, 1)
    if transform is not None:
        axes = moved(points, transform)
    centroids = (axes * kept).sum(2) / left
    ranked, rows = np.sort(np.where(kept, axes, np.inf), 2), np.arange(len(left))  # what was left out is last
    tail = (left * TAIL).astype(int)
    extents = ranked[:, rows, left - 1 - tail] - ranked[:, rows, tail]
    turned = oriented_boxes(objects, labels, depth, camera, crops, transform) if boxes else [None] * len(left)
    for index, centroid, extent, count, box in zip(objects.index, centroids.T, extents.T, objects.counts.tolist(), turned, strict=True):
        found[index] = Located(centroid, extent, count, box)
    return found


def _medians(values: Points) -> Points:
    """(n, 1): the upper medians of the rows of (n, k)."""
    middle = values.shape[1] // 2
    return np.partition(values, middle, 1)[:, middle : middle + 1]


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
