"""Rotations as ROS messages have them."""

from __future__ import annotations

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
