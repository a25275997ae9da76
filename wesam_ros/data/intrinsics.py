"""Intrinsics of an image from a CameraInfo: one function for live messages and recorded ones.

The rules are those of sensor_msgs/msg/CameraInfo.msg: K and P are for the full resolution, `width` x `height`; an image shows the region of
interest, given in pixels of the full resolution, binned; P belongs to rectified images, K and D to raw ones; K[0] = 0 is no calibration.
Principal points scale with the image, (cx - x_offset) / binning, without half a pixel, as image_geometry has it.
Fields are read by name, in upper case too, as ROS 1 has them (K, D, R, P), so nothing of ROS is imported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wesam_ros.data.codecs.fields import CodecError
from wesam_ros.data.distortion import check_distortion, rays_of_image, rays_of_points

Float = npt.NDArray[np.float64]
Size = tuple[int, int]
Pair = tuple[int, int]
"""Of x and y."""

RECTIFIED = ("auto", "true", "false")
_NAMED_RECTIFIED = re.compile(r"(^|[/_])rect(ified)?($|[/_])", re.IGNORECASE)
OFF_MIDDLE = 0.2
"""Share of a frame by which a principal point may be off its middle. Where it is farther, K may be of another frame than it says."""

LEAST_FOCAL = 0.03
"""Share of the image's side below which no focal length in pixels is: it would see 173 degrees. Shares and millimetres are less."""


@dataclass(frozen=True, eq=False)
class Camera:
    """Intrinsics in pixels of an image.

    Attributes:
        matrix: (3, 3) float64, focal lengths and principal point in pixels of an image of `size`; skew is not used.
        size: (H, W) of the image.
        distortion: coefficients D of the raw image; empty where there is nothing to undistort.
        model: distortion model of D, "plumb_bob", "rational_polynomial" or "equidistant".
        rectified: whether the image was taken as rectified.
        why: which of K and P is used, and what was done to it, as a sentence to log once.
        usual: True where the image is as it was calibrated: K is used, nothing was done to it, and D is zero.
    """

    matrix: Float
    size: Size
    distortion: tuple[float, ...] = ()
    model: str = ""
    rectified: bool = True
    why: str = ""
    usual: bool = True

    @property
    def projection(self) -> Float | npt.NDArray[np.float32]:
        """The matrix (3, 3), or, where the image is distorted, `rays`: scene/geometry.py takes both."""
        return self.rays() if self.distortion else self.matrix

    def rays(self) -> npt.NDArray[np.float32]:
        """(H, W, 2) float32: x and y at z = 1 m of each pixel's ray in the optical frame; NaN beyond what the model can show.

        Those of the last few cameras are kept, so that each frame of a camera shares them; read-only.
        """
        return rays_of_image(self.pinhole, self.distortion, self.model, self.size)

    def rays_at(self, points: npt.NDArray[Any]) -> Float:
        """(n, 2) x and y at z = 1 m of the rays of points (n, 2), x and y in pixels; NaN beyond what the model can show."""
        return rays_of_points(np.asarray(points, np.float64).reshape(-1, 2), self.pinhole, self.distortion, self.model)

    @property
    def pinhole(self) -> tuple[float, float, float, float]:
        """fx, fy, cx, cy in pixels."""
        fx, fy, cx, cy = self.matrix[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
        return fx, fy, cx, cy


def camera_of_info(info: Any, size: Size, rectified: str | bool = "auto", topic: str = "") -> Camera:
    """Intrinsics of an image of `size` (H, W) from a CameraInfo.

    Args:
        info: the message, by its fields: k, d, r, p, width, height, binning_x, binning_y, roi, distortion_model.
        size: (H, W) of the image as it came, after any decimation on its way.
        rectified: "true", "false", or "auto": by the image's topic (image_rect, rect/image), else by D and R: all zero and the identity
            mean that there is nothing left to rectify.
        topic: name of the image's topic, for "auto".

    Raises:
        CodecError: "uncalibrated", "not_finite", "wrong_size" for an image that is no scale of what camera_info describes, or
            "wrong_distortion" for a model, or a number of coefficients, that cannot be undistorted.
        ValueError: `rectified` is none of the three.
    """
    choice = str(rectified).lower()
    if choice not in RECTIFIED:
        raise ValueError(f"rectified must be one of {', '.join(RECTIFIED)}, but got {rectified!r}")
    return _camera(_fields_of(info), size, choice, topic)


class _Region(NamedTuple):
    x_offset: int
    y_offset: int
    width: int
    height: int


class _Fields(NamedTuple):
    """The fields of a camera_info but its header: the message of each frame says the same."""

    k: bytes
    d: bytes
    r: bytes
    p: bytes
    width: int
    height: int
    binning_x: int
    binning_y: int
    roi: _Region
    distortion_model: str


def _fields_of(info: Any) -> _Fields:
    k, d, r, p = (_numbers(info, name).tobytes() for name in "kdrp")
    width, height, binning_x, binning_y = (int(getattr(info, name, 0)) for name in ("width", "height", "binning_x", "binning_y"))
    roi = getattr(info, "roi", None)
    region = _Region(*(int(getattr(roi, name, 0)) for name in _Region._fields))
    return _Fields(k, d, r, p, width, height, binning_x, binning_y, region, str(getattr(info, "distortion_model", "")))


@lru_cache(maxsize=32)
def _camera(info: _Fields, size: Size, choice: str, topic: str) -> Camera:
    """The result of `camera_of_info`, kept for the next frame."""
    k, p = _numbers(info, "k", 9).reshape(3, 3), _projection(info)
    _check_matrix(k)
    d = _numbers(info, "d")
    if not np.isfinite(d).all():
        raise CodecError("not_finite", f"D of camera_info must be finite, but got {d.tolist()}; calibrate the camera")
    is_rectified, reason = _is_rectified(choice, topic, d, _numbers(info, "r"))
    name, chosen = ("K", k) if not is_rectified or p is None else ("P", p)
    if is_rectified and p is None:
        reason += ", but its P is not set"
    with np.errstate(over="ignore", invalid="ignore"):  # told below
        matrix, fitted = _fitted(chosen, info, size)
    distortion: tuple[float, ...] = ()
    model = ""
    if not is_rectified and d.any():
        distortion, model = check_distortion(d, info.distortion_model)
        fitted = [*fitted, f"points are undistorted ({model})"]
    why = "; ".join([f"{name} of camera_info is used: {reason}", *fitted])
    if not (np.isfinite(matrix).all() and matrix[0, 0] > 0 and matrix[1, 1] > 0):
        raise CodecError(
            "not_finite", f"{name} of camera_info must be finite at {size}, but got {matrix.ravel().tolist()}; calibrate the camera"
        )
    if min(matrix[0, 0] / size[1], matrix[1, 1] / size[0]) < LEAST_FOCAL:
        raise CodecError(
            "uncalibrated",
            f"{name} of camera_info must have focal lengths in pixels, but got {matrix[0, 0]:g} and {matrix[1, 1]:g} for an image of "
            f"{size[1]} x {size[0]}; calibrate the camera",
        )
    usual = not fitted and not d.any() and np.array_equal(matrix, k)
    matrix.flags.writeable = False
    return Camera(matrix, size, distortion, model, is_rectified, why, usual)


def _numbers(info: Any, name: str, count: int | None = None) -> Float:
    """(n,) of a field in lower or upper case; CodecError where there are not `count` of them."""
    values = getattr(info, name, None)
    if isinstance(values, bytes):
        values = np.frombuffer(values)
    values = np.asarray(getattr(info, name.upper(), ()) if values is None else values, np.float64).ravel()
    if count is not None and len(values) != count:
        raise CodecError("uncalibrated", f"{name} of camera_info must have {count} numbers, but got {len(values)}; calibrate the camera")
    return values


def _check_matrix(k: Float) -> None:
    """CodecError where K is not finite, or none: zeros, the identity, or written by columns."""
    if not np.isfinite(k).all():
        raise CodecError("not_finite", f"K of camera_info must be finite, but got {k.ravel().tolist()}; calibrate the camera")
    wrong = (
        "focal lengths above 0"
        if k[0, 0] <= 0 or k[1, 1] <= 0
        else "0, 0, 1 in its last row"
        if k[2].any() and k[2].tolist() != [0, 0, 1]
        else "its principal point in the image"
        if not k[:2, 2].any()
        else ""
    )
    if wrong:
        raise CodecError("uncalibrated", f"K of camera_info must have {wrong}, but got {k.ravel().tolist()}; calibrate the camera")


def _projection(info: _Fields) -> Float | None:
    """The left (3, 3) of P; None where it is not set, or not finite."""
    values = _numbers(info, "p")
    if len(values) != 12 or not np.isfinite(values).all() or values[0] <= 0 or values[5] <= 0:
        return None
    return values.reshape(3, 4)[:, :3].copy()


def _is_rectified(choice: str, topic: str, d: Float, r: Float) -> tuple[bool, str]:
    """True for a rectified image, and the reason."""
    if choice != "auto":
        return choice == "true", f"rectified is {choice}"
    if _NAMED_RECTIFIED.search(topic):
        return True, f"the name of {topic} says that the image is rectified"
    if d.any():
        return False, "D is not zero, so the image is raw"
    if not r.any() or (len(r) == 9 and np.allclose(r, np.eye(3).ravel(), atol=1e-9)):
        return True, "D is zero and R the identity, so there is nothing to rectify"
    return False, "D is zero and R is not the identity, so the image is raw"


def _fitted(matrix: Float, info: _Fields, size: Size) -> tuple[Float, list[str]]:
    """The matrix in pixels of an image of `size`, and what was done to it.

    Drivers fill width and height in two ways: with the full resolution, as the message wants it, or with the size of the image that they
    send. In the second case, the principal point tells whether K was reduced as well.
    """
    full = info.width, info.height
    binning = max(info.binning_x, 1), max(info.binning_y, 1)
    corner, region = _region(info.roi, full)
    if 0 in region:
        return matrix, ["camera_info gives no size, so it is taken for the image's"]
    height, width = size
    expected = region[0] / binning[0], region[1] / binning[1]
    as_expected = abs(width - expected[0]) < 1 and abs(height - expected[1]) < 1
    overhangs = any(at + side > whole for at, side, whole in zip(corner, region, full, strict=True))
    if full == (width, height) and (overhangs or (not as_expected and (binning != (1, 1) or corner != (0, 0)))):
        return _of_own_size(matrix, size, binning, info.roi)
    if overhangs:
        raise CodecError(
            "wrong_size",
            f"region of camera_info must lie in its {full[0]} x {full[1]} pixels, but got {tuple(info.roi)}; set it in the driver",
        )
    moved, notes = _reduced(matrix, full, binning, corner)
    if as_expected:
        return moved, notes
    if abs(width * expected[1] - height * expected[0]) >= max(expected):  # sides are whole, so they may be off by one
        raise CodecError(
            "wrong_size",
            f"image must be a scale of the {expected[0]:g} x {expected[1]:g} pixels of its camera_info, but got {width} x {height}; "
            "give the camera_info topic of this image",
        )
    scale = width / expected[0], height / expected[1]
    return _moved(moved, (0, 0), (1 / scale[0], 1 / scale[1])), [*notes, f"it is scaled by {scale[0]:.4g}, to {width} x {height}"]


def _reduced(matrix: Float, full: Pair, binning: Pair, corner: Pair) -> tuple[Float, list[str]]:
    """The matrix of the binned region of interest, and what was done to it."""
    notes = [] if corner == (0, 0) else [f"it is moved to the region of interest at {corner}"]
    if binning == (1, 1):
        return _moved(matrix, corner, binning), notes
    of_full, of_binned = _off_middle(matrix, full), _off_middle(matrix, (full[0] / binning[0], full[1] / binning[1]))
    if of_full > OFF_MIDDLE > of_binned:  # a calibration made with binned images, under the full resolution's name
        binned = corner[0] / binning[0], corner[1] / binning[1]
        return _moved(matrix, binned, (1, 1)), [*notes, f"by its principal point, it is of images binned by {binning} already"]
    return _moved(matrix, corner, binning), [*notes, f"it is binned by {binning}"]


def _region(roi: _Region, full: Pair) -> tuple[Pair, Pair]:
    """Corner (x, y) and (width, height) of the region of interest; all zeros mean the full resolution."""
    x, y, width, height = roi
    return (x, y), (width or max(full[0] - x, 0), height or max(full[1] - y, 0))


def _of_own_size(matrix: Float, size: Size, binning: Pair, roi: _Region) -> tuple[Float, list[str]]:
    """The matrix for a camera_info whose width and height are already those of a binned or cropped image."""
    shape, corner = (size[1], size[0]), (roi.x_offset, roi.y_offset)
    shown = tuple(each / side for each, side in zip((roi.width, roi.height), binning, strict=True))
    if all(shown) and any(abs(each - side) >= 1 for each, side in zip(shown, shape, strict=True)):
        return matrix, ["the image is not its region of interest, but has its width and height, and so it is taken as it is"]
    moved = _moved(matrix, corner, binning)
    inside = all(0 <= each < side for each, side in zip(moved[:2, 2], shape, strict=True))
    if inside and (corner != (0, 0) or _off_middle(moved, shape) < _off_middle(matrix, shape)):
        return moved, [f"width and height are the image's, and it is of the full resolution: binned by {binning}, moved by {corner}"]
    return matrix, ["width and height are the image's, and so it is taken as it is"]


def _moved(matrix: Float, corner: tuple[float, float], divisor: tuple[float, float]) -> Float:
    """The matrix of an image that begins at a corner, with sides divided."""
    moved = matrix.copy()
    moved[:2, 2] -= corner
    moved[0] /= divisor[0]
    moved[1] /= divisor[1]
    return moved


def _off_middle(matrix: Float, shape: tuple[float, float]) -> float:
    """Share of a frame (width, height) by which the principal point is off its middle, along the worse axis."""
    return float(max(abs(matrix[0, 2] / shape[0] - 0.5), abs(matrix[1, 2] / shape[1] - 0.5)))
