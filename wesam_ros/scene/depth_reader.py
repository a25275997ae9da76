"""The support surfaces in a stream of depth images: found once, and kept while they fit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wesam_ros.data.frames import Frame
from wesam_ros.sam.upscaling import Rectangle
from wesam_ros.scene.plane import LEAST_POINTS, RAISED_BY, STEP, Plane, find_plane
from wesam_ros.scene.projection import Projection, measured, slopes
from wesam_ros.scene.relief import Relief, relief

Float = npt.NDArray[np.float32]

MORE_PLANES = 2
"""Further surfaces, such as a shelf or the walls of a bin, that are looked for."""
LEAST_SHARE = 0.08
"""Of the points in and around the boxes, that one of these must hold, in no box: a book's cover is a plane, too."""
LOOK_AGAIN = 30
"""Frames after which further surfaces are looked for again, where the first one still fits."""


class DepthReader:
    """Finds the support surfaces in depth images, and keeps them while the first one fits."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._planes: list[Plane] = []
        self._age = 0

    def read(self, frame: Frame, boxes: Float, around: Rectangle) -> Relief | None:
        """The relief of a part of a frame; None without depth or camera, or where nothing is a support surface.

        Args:
            frame: depth and camera.
            boxes: (n, 4) x0 y0 x1 y1 in pixels, of the objects: surfaces are looked for in and around them.
            around: rows and columns to look at.
        """
        if frame.depth is None or frame.camera is None:
            return None
        depth = measured(frame.depth, frame.camera)
        points, boxed = _sample(depth, frame.camera, boxes)
        self._age += 1
        if not self._planes or self._age > LOOK_AGAIN or not self._planes[0].holds(points):
            self._planes, self._age = self._found(points, boxed), 0
        return relief(depth, frame.camera, self._planes, around) if self._planes else None

    def _found(self, points: npt.NDArray[np.float64], boxed: npt.NDArray[np.bool_]) -> list[Plane]:
        """The surface that most of points (n, 3) lie on, then others that rise from it where no box is, (n,) False."""
        first = find_plane(points, self._rng)
        planes = [first] if first is not None else []
        least = max(LEAST_POINTS, LEAST_SHARE * len(points))
        while planes and len(planes) <= MORE_PLANES:
            rest = points[~boxed & (planes[0].distances(points) > RAISED_BY * planes[0].noise)]
            for each in planes[1:]:
                rest = rest[np.abs(each.distances(rest)) > RAISED_BY * each.noise]
            other = find_plane(rest, self._rng) if len(rest) >= least else None
            if other is None or other.share * len(rest) < least:
                break
            planes.append(other)
        return planes


def _sample(depth: Float, camera: Projection, boxes: Float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """(k, 3) points in metres in and around boxes (n, 4), of every STEP-th pixel of every STEP-th row; and (k,) those in a box."""
    size = depth.shape[0], depth.shape[1]
    near, boxed = (np.zeros((-(-size[0] // STEP), -(-size[1] // STEP)), bool) for _ in range(2))
    for x0, y0, x1, y1 in boxes / STEP:
        dx, dy = (x1 - x0) / 2, (y1 - y0) / 2
        near[max(0, int(y0 - dy)) : int(y1 + dy) + 1, max(0, int(x0 - dx)) : int(x1 + dx) + 1] = True
        boxed[max(0, int(y0) - 1) : int(y1) + 2, max(0, int(x0) - 1) : int(x1) + 2] = True
    sparse = depth[::STEP, ::STEP]
    near &= sparse > 0
    if np.count_nonzero(near) < LEAST_POINTS:
        near = sparse > 0  # of few and small things, the whole image
    rows, columns = np.nonzero(near)
    z = sparse[rows, columns].astype(np.float64)
    x, y = (each[:: STEP if each.shape[0] > 1 else 1, :: STEP if each.shape[1] > 1 else 1] for each in slopes(camera, size))
    x, y = (each[rows if each.shape[0] > 1 else 0, columns if each.shape[1] > 1 else 0] for each in (x, y))
    return np.stack([x * z, y * z, z], 1), boxed[rows, columns]
