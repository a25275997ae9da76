"""Points of segmented objects, as many of each, from a label image and a registered depth image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wesam_ros.scene.projection import Float32, Points, Projection, back_project

Bool = npt.NDArray[np.bool_]

MIN_POINTS = 10
"""With fewer depth pixels under its mask an object has no 3D output."""
POINTS = 256
"""Pixels of an object that are used, evenly spread: their centroid and box are as exact as those of all."""
_EVENLY = (np.arange(POINTS) + 0.5) / POINTS  # from the middle of each part: from its start on, columns at the left would have more
GAP = 0.015
"""Metres of depth, at a distance of one metre, over which two parts of an object are not connected."""


@dataclass(frozen=True, eq=False)
class ObjectPoints:
    """Points of n objects.

    Attributes:
        index: (n,) of the objects, from 0; those with too little depth are not among them.
        counts: (n,) how many depth pixels each has.
        points: (3, n, POINTS) metres in the camera's optical frame; of an object with fewer pixels, each comes several times. With x, y and
            z apart numpy is several times as fast.
    """

    index: list[int]
    counts: npt.NDArray[np.int64]
    points: Float32


def object_points(
    labels: npt.NDArray[np.uint16], depth: Float32, camera: Projection, crops: Sequence[tuple[slice, slice]]
) -> ObjectPoints | None:
    """The points of the objects of a label image; None where no object has MIN_POINTS depth pixels.

    Args:
        labels: (H, W), 0 = background, 1..n the objects.
        depth: (H, W) metres, 0 = none, registered to the labels.
        camera: (3, 3) intrinsic matrix K, or (H, W, 2) rays.
        crops: of the n objects, rows and columns that hold each (Masks.crops).
    """
    counts, samples, corners = dict[int, int](), [], []
    for index, (rows, columns) in enumerate(crops):
        inside = labels[rows, columns] == index + 1
        inside &= depth[rows, columns] > 0
        found = inside.ravel().nonzero()[0]
        if len(found) >= MIN_POINTS:
            counts[index] = len(found)
            samples.append(found.take((_EVENLY * len(found)).astype(np.int64)))
            corners.append((rows.start, columns.start, columns.stop - columns.start))
    if not samples:
        return None
    top, left, width = np.array(corners).T[..., None]
    chosen = np.array(samples)
    v = ((chosen + 0.5) / width).astype(np.int64)  # several times as fast as the division of integers
    points = back_project(v + top, chosen - v * width + left, depth, camera)
    return ObjectPoints(list(counts), np.array([*counts.values()]), points)


def connected(depths: Points, kept: Bool) -> Bool:
    """(n, k): of the points that are kept, the most of each object without a gap in depth.

    What an occluder cuts in two stays whole, as its parts lie in one range of depth; flying pixels and what lies far behind do not.

    Args:
        depths: (n, k) metres, of n objects.
        kept: (n, k), the points that count.
    """
    objects, count = depths.shape
    counted = np.where(kept, depths, np.inf)
    ranked = np.sort(counted, 1)
    gaps = (ranked[:, 1:] > (1 + GAP) * ranked[:, :-1]) & (ranked[:, 1:] < np.inf)
    if not gaps.any():
        return kept
    order = np.argsort(counted, 1)
    part = np.zeros((objects, count), np.int64)
    np.cumsum(gaps, 1, out=part[:, 1:])
    of_order = np.take_along_axis(kept, order, 1)
    part += np.arange(0, objects * count, count)[:, None]
    sizes = np.bincount(part[of_order], minlength=objects * count).reshape(objects, count)
    largest = sizes.argmax(1) + np.arange(0, objects * count, count)
    result = np.empty_like(kept)
    np.put_along_axis(result, order, of_order & (part == largest[:, None]), 1)
    return result


def taken(points: Points, kept: Bool) -> Points:
    """(3, n, k): of points (3, n, k) those that are kept (n, k), evenly spread over k."""
    if kept.all():
        return points
    first = np.argsort(~kept, 1, kind="stable")
    chosen = np.take_along_axis(first, np.arange(kept.shape[1]) * np.count_nonzero(kept, 1)[:, None] // kept.shape[1], 1)
    return np.take_along_axis(points, chosen[None], 2)
