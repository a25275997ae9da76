"""A support plane as a camera sees it: from its frame to pixels, and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from wesam_ros.scene.projection import Float, Float32, Points, Projection


@dataclass(frozen=True, eq=False)
class PlaneView:
    """A support plane as a camera sees it.

    Its frame has two axes in the plane, and the plane's normal: the third coordinate is the height above it, and the camera stands above
    (0, 0). Nothing here is by `@`: see plane.along.

    Attributes:
        depth: (H, W) metres, 0 = none.
        camera: (3, 3) intrinsic matrix K, or (H, W, 2) rays.
        normal: (3,) of the plane, a unit vector towards the camera, in the optical frame.
        offset: metres along it.
    """

    depth: Float32
    camera: Projection
    normal: Float
    offset: float

    @cached_property
    def axes(self) -> Float:
        """(3, 3), a rotation whose rows are the frame's axes in the optical frame."""
        x, y, z = self.normal.tolist()
        first = ((0.0, z, -y), (-z, 0.0, x), (y, -x, 0.0))[int(np.abs(self.normal).argmin())]
        length = sum(each * each for each in first) ** 0.5
        a, b, c = (each / length for each in first)
        return np.array([(a, b, c), (y * c - z * b, z * a - x * c, x * b - y * a), (x, y, z)])

    def places(self, points: Points) -> Points:
        """(3, ...) in the plane's frame of points (3, ...) in the optical frame, metres."""
        found: Points = np.einsum("ij,jnk->ink", self.axes.astype(points.dtype), points)
        found[2] -= self.offset
        return found

    def pixels(self, places: Points) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], Points]:
        """The pixels of places (3, n, k) in the plane's frame; of a distorted image, those of the pinhole camera that is most like it.

        Returns:
            Index (n, k) in the flattened image, any number outside of it; (n, k) whether they are inside; and their depth (n, k) in metres.
        """
        turn, shift = self._to_pixels
        x, y, z = np.einsum("ij,jnk->ink", turn, places) + shift
        scale = 1 / np.maximum(z, 1e-6)
        u, v = x * scale, y * scale
        height, width = self.depth.shape
        inside = (u >= 0) & (u < width) & (v >= 0) & (v < height) & (z > 0)
        return v.astype(np.int64) * width + u.astype(np.int64), inside, z

    @cached_property
    def _to_pixels(self) -> tuple[Float32, Float32]:
        """(3, 3) and (3, 1, 1), from the plane's frame to columns and rows times depth, and depth; half a pixel more, for rounding."""
        fx, fy, cx, cy = _pinhole(self.camera, (self.depth.shape[0], self.depth.shape[1]))
        matrix = np.array([(fx, 0.0, cx + 0.5), (0.0, fy, cy + 0.5), (0.0, 0.0, 1.0)])
        turn = np.einsum("ij,kj->ik", matrix, self.axes)
        return turn.astype(np.float32), (turn[:, 2] * self.offset)[:, None, None].astype(np.float32)


def _pinhole(camera: Projection, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy in pixels; of rays, those of their middle row and column."""
    if camera.ndim != 3:
        return float(camera[0, 0]), float(camera[1, 1]), float(camera[0, 2]), float(camera[1, 2])
    x, y = camera[size[0] // 2, :, 0], camera[:, size[1] // 2, 1]
    fx, fy = 1 / np.nanmedian(np.diff(x)), 1 / np.nanmedian(np.diff(y))
    cx, cy = np.nanmedian(np.arange(size[1]) - x * fx), np.nanmedian(np.arange(size[0]) - y * fy)
    return float(fx), float(fy), float(cx), float(cy)
