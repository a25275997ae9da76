"""Rays of distorted pixels, by the models of sensor_msgs: plumb_bob and rational_polynomial (OpenCV's), equidistant (fisheye)."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.data.codecs.fields import CodecError

Float = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Pinhole = tuple[float, float, float, float]
"""fx, fy, cx, cy in pixels."""

FISHEYE = "equidistant"
MODELS = {
    "plumb_bob": "plumb_bob",
    "rational_polynomial": "rational_polynomial",
    "equidistant": FISHEYE,
    "fisheye": FISHEYE,
    "kannala_brandt": FISHEYE,
    "kannala_brandt4": FISHEYE,
    "brown_conrady": "plumb_bob",
    "": "plumb_bob",
}
"""Names that drivers write, and the models that they mean."""
COUNTS = {"plumb_bob": (4, 5, 8, 12, 14), "rational_polynomial": (8, 12, 14), FISHEYE: (4,)}
"""Numbers of coefficients that OpenCV takes."""

ITERATIONS, PRECISION = 40, 1e-9
RESIDUAL = 0.05
"""Pixels by which a ray, distorted again, may miss its pixel. Beyond the radius up to which a model grows, no ray meets a pixel."""
NODES = 320
"""Columns of the grid that rays of an image are worked out on; between its nodes they are interpolated, which costs 0.01 pixel at most."""


def check_distortion(d: Float, name: str) -> tuple[tuple[float, ...], str]:
    """Coefficients and model that can be undistorted; zeros are left out or added up to a number of them that OpenCV takes.

    Raises:
        CodecError: "wrong_distortion" for another model, or more coefficients than it has.
    """
    model = MODELS.get(name.strip().lower().replace(" ", "_"), "")
    remedy = "rectify the image (image_proc) and give that topic, or set rectified to true"
    if not model:
        known = ", ".join(COUNTS)
        raise CodecError("wrong_distortion", f"distortion_model of camera_info must be one of {known}, but got {name!r}; {remedy}")
    counts = COUNTS[model]
    used = int(np.flatnonzero(d)[-1]) + 1 if d.any() else 0
    length = len(d) if len(d) in counts else next((each for each in counts if used <= each), 0)
    if not length:
        numbers = ", ".join(map(str, counts))
        raise CodecError("wrong_distortion", f"D of camera_info must have {numbers} numbers for {model}, but got {len(d)}; {remedy}")
    return tuple([*d.tolist(), *[0.0] * length][:length]), model


def rays_of_points(points: Float, pinhole: Pinhole, distortion: tuple[float, ...], model: str) -> Float:
    """(n, 2) x and y at z = 1 of the rays of points (n, 2) in pixels; NaN where no ray meets the point."""
    fx, fy, cx, cy = pinhole
    if not distortion:
        return (points - (cx, cy)) / (fx, fy)
    matrix, d = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), np.array(distortion)
    source = points.reshape(-1, 1, 2)
    if not len(source):
        return points.copy()
    with np.errstate(all="ignore"):
        if model == FISHEYE:
            found = cv2.fisheye.undistortPoints(source, matrix, d, criteria=_criteria())
        else:
            found = _undistorted(source, matrix, d)
        rays = np.asarray(found.reshape(-1, 2), np.float64)
        met = (np.abs(points_of_rays(rays, pinhole, distortion, model) - points) <= RESIDUAL).all(axis=1)
    rays[~met] = np.nan
    return rays


def points_of_rays(rays: Float, pinhole: Pinhole, distortion: tuple[float, ...], model: str) -> Float:
    """(n, 2) pixels that show the rays (n, 2), x and y at z = 1; the way back from `rays_of_points`."""
    fx, fy, cx, cy = pinhole
    if not distortion or not len(rays):
        return np.asarray(rays * (fx, fy) + (cx, cy), np.float64)
    matrix, d, source = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), np.array(distortion), rays.reshape(-1, 1, 2)
    if model == FISHEYE:
        points = cv2.fisheye.distortPoints(source, matrix, d)
    else:
        points, _ = cv2.projectPoints(np.dstack([source, np.ones_like(source[..., :1])]), np.zeros(3), np.zeros(3), matrix, d)
    return np.asarray(points.reshape(-1, 2), np.float64)


def _criteria() -> tuple[int, int, float]:
    return cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, ITERATIONS, PRECISION


def _undistorted(source: Float, matrix: Float, d: Float) -> Float:
    """Iterated until it holds: five rounds, which undistortPoints makes by itself, are too few for a wide lens."""
    if hasattr(cv2, "undistortPointsIter"):  # OpenCV 4; from 5 on undistortPoints takes the criteria
        return np.asarray(cv2.undistortPointsIter(source, matrix, d, None, None, _criteria()), np.float64)
    return np.asarray(cv2.undistortPoints(source, matrix, d, criteria=_criteria()), np.float64)


@lru_cache(maxsize=8)
def rays_of_image(pinhole: Pinhole, distortion: tuple[float, ...], model: str, size: tuple[int, int]) -> Float32:
    """(H, W, 2) float32 x and y at z = 1 of each pixel's ray; NaN where no ray meets the pixel. Kept for later calls, so read-only."""
    height, width = size
    step = max(1, round(max(size) / NODES))
    rows, columns = np.arange(0, height + step, step), np.arange(0, width + step, step)
    grid = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2).astype(np.float64)
    nodes = rays_of_points(grid, pinhole, distortion, model).reshape(len(rows), len(columns), 2)
    rays = _between(_between(nodes, height, step).swapaxes(0, 1), width, step).swapaxes(0, 1)
    result = np.ascontiguousarray(rays, np.float32)
    result.flags.writeable = False
    return result


def _between(nodes: Float, length: int, step: int) -> Float:
    """(length, ...) linearly between nodes (n, ...) that are `step` apart along the first axis."""
    index, part = np.divmod(np.arange(length), step)
    weight = (part / step).reshape(-1, *([1] * (nodes.ndim - 1)))
    left = nodes[index]
    return np.where(weight > 0, left + (nodes[index + 1] - left) * weight, left)
