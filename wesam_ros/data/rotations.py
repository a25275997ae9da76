"""Rotations as ROS messages have them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


def rotation_matrix(x: float, y: float, z: float, w: float) -> npt.NDArray[np.float64]:
    """(3, 3) of a unit quaternion."""
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_of(rotation: npt.NDArray[np.float64]) -> tuple[float, float, float, float]:
    """x y z w, w not negative, of a (3, 3) rotation (Shepperd, 1978: by the largest of the four, so that none is a small difference)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation.tolist()
    largest = max(xx + yy + zz, xx, yy, zz)
    if largest == xx + yy + zz:
        x, y, z, w = zy - yz, xz - zx, yx - xy, 1 + largest
    elif largest == xx:
        x, y, z, w = 1 + xx - yy - zz, xy + yx, xz + zx, zy - yz
    elif largest == yy:
        x, y, z, w = xy + yx, 1 - xx + yy - zz, yz + zy, xz - zx
    else:
        x, y, z, w = xz + zx, yz + zy, 1 - xx - yy + zz, yx - xy
    length = math.copysign(math.sqrt(x * x + y * y + z * z + w * w), w)
    return x / length, y / length, z / length, w / length
