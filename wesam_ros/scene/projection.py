"""Pixels and depth to points in the camera's optical frame. Pure numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Projection = Float | Float32
"""A (3, 3) intrinsic matrix K without skew, or, where the image is distorted, (H, W, 2): x and y at z = 1 m of each pixel's ray, NaN where
there is none."""
Points = npt.NDArray[np.floating[Any]]
"""Points or lengths in metres."""


def back_project(v: npt.NDArray[np.int64], u: npt.NDArray[np.int64], depth: Float32, camera: Projection) -> Float32:
    """(3, ...) points in metres in the camera's optical frame (x right, y down, z forward) of pixels in rows v and columns u (...)."""
    flat = v * depth.shape[1] + u  # one index is several times as fast as two
    z = depth.ravel().take(flat)
    x, y = np.moveaxis(camera.reshape(-1, 2)[flat], -1, 0) if camera.ndim == 3 else _slopes(v, u, camera)
    points = np.empty((3, *z.shape), np.float32)
    points[0], points[1], points[2] = x * z, y * z, z
    return points


def slopes(camera: Projection, size: tuple[int, int]) -> tuple[Projection, Projection]:
    """x and y at z = 1 m of the rays of an image of `size` (H, W), 0 where there is none; of shapes that broadcast to it."""
    if camera.ndim == 3:
        filled = np.nan_to_num(camera).astype(np.float32, copy=False)
        return filled[..., 0], filled[..., 1]
    return _slopes(np.arange(size[0])[:, None], np.arange(size[1])[None], camera)


def _slopes(v: npt.NDArray[np.int64], u: npt.NDArray[np.int64], camera: Projection) -> tuple[Projection, Projection]:
    return (u - camera[0, 2]) / camera[0, 0], (v - camera[1, 2]) / camera[1, 1]


def measured(depth: Float32, camera: Projection) -> Float32:
    """(H, W) metres, 0 also where a pixel has no ray."""
    if camera.ndim != 3:
        return depth
    if camera.shape[:2] != depth.shape:
        raise ValueError(f"rays must have the depth's size {depth.shape}, but got {camera.shape}")
    return np.where(np.isfinite(camera[..., 0]), depth, np.float32(0))


def height_over(points: Points, normal: Float, offset: float) -> Float:
    """(...) metres of points (3, ...) above a plane: its unit normal (3,), and offset along it."""
    return np.asarray(points[0] * normal[0] + points[1] * normal[1] + points[2] * normal[2] - offset)


def moved(points: Points, transform: Float) -> Float:
    """Points (3, ...) in the frame that `transform` (4, 4) leads to. Not by `@`, whose threads hold up torch's (plane.along)."""
    return np.stack([height_over(points, row[:3], -row[3]) for row in transform[:3]])
