"""Where segmented objects are in space, from a label image and a registered depth image. Pure numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]

MIN_POINTS = 10
"""With fewer depth pixels under its mask an object has no 3D output."""
MAX_POINTS = 1024
"""Of more, every k-th is taken: the centroid of a thousand pixels is as good as that of all."""
TRIM = 3.0
"""Pixels whose depth is more than this many robust standard deviations (1.4826 MAD) from the object's median are left out: flying pixels
at edges, and background under a mask that reaches too far. An object whose depths are spread evenly loses none: they lie within 1.35."""
TRIM_FLOOR = 0.01
"""Metres from the median that are always kept: on a flat face seen head on, MAD is only the sensor's noise."""
TAIL = 0.01
"""Share of the points left out at either end of each axis when the extent is measured: the edge of a mask is seldom exact."""


@dataclass(frozen=True)
class Located:
    """An object's place: mean of its depth points and the size of their axis-aligned box, in metres, and how many depth pixels it has."""

    centroid: Float
    extent: Float
    points: int


def back_project(pixels: npt.NDArray[np.int64], depth: npt.NDArray[np.float32], camera: Float) -> Float:
    """(k, 3) points in metres in the camera's optical frame (x right, y down, z forward) of k flat pixel indices; K without skew."""
    z = depth.reshape(-1)[pixels].astype(np.float64)
    v, u = np.divmod(pixels, depth.shape[1])
    return np.stack([(u - camera[0, 2]) / camera[0, 0] * z, (v - camera[1, 2]) / camera[1, 1] * z, z], 1)


def labelled_pixels(labels: npt.NDArray[np.uint16], depth: npt.NDArray[np.float32], n: int) -> list[npt.NDArray[np.int64]]:
    """For each label 1..n, the flat indices of its pixels that have depth."""
    flat = np.flatnonzero((labels > 0) & (depth > 0))
    of_pixel = labels.reshape(-1)[flat]
    order = np.argsort(of_pixel, kind="stable")
    bounds = np.searchsorted(of_pixel[order], np.arange(1, n + 2))
    return [flat[order[bounds[i] : bounds[i + 1]]] for i in range(n)]


def locate(
    labels: npt.NDArray[np.uint16], depth: npt.NDArray[np.float32], camera: Float, n: int, transform: Float | None = None
) -> list[Located | None]:
    """Centroid and extent of the objects of a label image.

    Args:
        labels: (H, W), 0 = background, 1..n the objects.
        depth: (H, W) metres, 0 = none, registered to the labels.
        camera: (3, 3) intrinsic matrix K.
        n: how many objects.
        transform: (4, 4) from the camera's optical frame to the frame of the result; None for the optical frame.

    Returns:
        For each object its place, None where it has fewer than MIN_POINTS depth pixels.
    """
    found: list[Located | None] = []
    for pixels in labelled_pixels(labels, depth, n):
        count = len(pixels)
        if count < MIN_POINTS:
            found.append(None)
            continue
        points = back_project(pixels[:: -(-count // MAX_POINTS)], depth, camera)
        away = np.abs(points[:, 2] - np.median(points[:, 2]))
        points = points[away <= max(TRIM * 1.4826 * float(np.median(away)), TRIM_FLOOR)]
        if transform is not None:
            points = points @ transform[:3, :3].T + transform[:3, 3]
        ranked = np.sort(points, axis=0)
        tail = int(len(points) * TAIL)
        found.append(Located(points.mean(0), ranked[-1 - tail] - ranked[tail], count))
    return found


def cloud(
    labels: npt.NDArray[np.uint16], depth: npt.NDArray[np.float32], camera: Float, transform: Float | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint16]]:
    """All depth points of objects: (k, 3) metres, in the frame of `locate`'s results, and their labels (k,)."""
    flat = np.flatnonzero((labels > 0) & (depth > 0))
    points = back_project(flat, depth, camera)
    if transform is not None:
        points = points @ transform[:3, :3].T + transform[:3, 3]
    return points.astype(np.float32), labels.reshape(-1)[flat]
