"""Places of things in a frame that does not move with the camera, and where a camera whose pose is known sees them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wesam_ros.data.frames import Frame
from wesam_ros.sam.upscaling import Rectangle
from wesam_ros.scene.projection import back_project, moved

Float = npt.NDArray[np.float64]


def point_of(frame: Frame, window: Rectangle, mask: npt.NDArray[np.bool_]) -> Float | None:
    """(3,) median of a mask's (h, w) points in the fixed frame, metres; None without pose, pinhole camera, or depth there."""
    if frame.pose is None or frame.depth is None or frame.camera is None or frame.camera.ndim != 2:
        return None
    rows, columns = np.nonzero(mask[::2, ::2] & (frame.depth[window][::2, ::2] > 0))
    if not len(rows):
        return None
    points = back_project(2 * rows + window[0].start, 2 * columns + window[1].start, frame.depth, frame.camera)
    return np.asarray(np.median(moved(points, frame.pose), axis=1), np.float64)


def pixel_of(frame: Frame, point: Float) -> Float | None:
    """(2,) x y in pixels of a point (3,) of the fixed frame; None without pose or pinhole camera, and where it is behind the camera."""
    if frame.pose is None or frame.camera is None or frame.camera.ndim != 2:
        return None
    x, y, z = frame.pose[:3, :3].T @ (point - frame.pose[:3, 3])
    if z <= 0:
        return None
    k = frame.camera
    return np.array([k[0, 0] * x / z + k[0, 2], k[1, 1] * y / z + k[1, 2]])
