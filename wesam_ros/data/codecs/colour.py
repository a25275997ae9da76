"""Colour encodings of sensor_msgs (image_encodings.hpp) to RGB, by the OpenCV conversions that cv_bridge uses.

YUV is BT.601 in its limited range (Y 16 to 235, U and V 16 to 240): OpenCV's codes for packed and semi-planar YUV know no other, so
cv_bridge, image_proc and RViz show the same colours. NV24, for which OpenCV has no code, follows the same matrix.
Bayer is demosaiced bilinearly. ROS names a pattern by its first two rows; OpenCV's older names begin at the second pixel of the second row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.data.codecs.fields import CodecError, UInt8

BAYER = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}
LEAST_MOSAIC = 3
"""Rows and columns of the smallest Bayer image: OpenCV makes smaller ones black."""
SENSOR_BITS = (10, 12, 14, 16)
"""Bits that sensors give in 16-bit pixels."""
NV24_TO_RGB = np.array(
    [
        [1.164, 0.0, 1.596, -1.164 * 16 - 1.596 * 128],
        [1.164, -0.391, -0.813, -1.164 * 16 + (0.391 + 0.813) * 128],
        [1.164, 2.018, 0.0, -1.164 * 16 - 2.018 * 128],
    ]
)
"""RGB of (Y, U, V, 1), BT.601 in its limited range."""


class Layout(NamedTuple):
    """An encoding's pixels: channels, type of a channel, and the OpenCV code that makes RGB of them (None: it is RGB)."""

    channels: int
    dtype: str
    code: int | None


COLOUR_ENCODINGS: dict[str, Layout] = {
    "rgb8": Layout(3, "u1", None),
    "bgr8": Layout(3, "u1", cv2.COLOR_BGR2RGB),
    "rgba8": Layout(4, "u1", cv2.COLOR_RGBA2RGB),
    "bgra8": Layout(4, "u1", cv2.COLOR_BGRA2RGB),
    "mono8": Layout(1, "u1", cv2.COLOR_GRAY2RGB),
    "rgb16": Layout(3, "u2", None),
    "bgr16": Layout(3, "u2", cv2.COLOR_BGR2RGB),
    "rgba16": Layout(4, "u2", cv2.COLOR_RGBA2RGB),
    "bgra16": Layout(4, "u2", cv2.COLOR_BGRA2RGB),
    "mono16": Layout(1, "u2", cv2.COLOR_GRAY2RGB),
    "8UC1": Layout(1, "u1", cv2.COLOR_GRAY2RGB),
    "8UC3": Layout(3, "u1", cv2.COLOR_BGR2RGB),
    "8UC4": Layout(4, "u1", cv2.COLOR_BGRA2RGB),
    "yuv422": Layout(2, "u1", cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": Layout(2, "u1", cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": Layout(2, "u1", cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": Layout(2, "u1", cv2.COLOR_YUV2RGB_YUY2),
    "nv12": Layout(1, "u1", cv2.COLOR_YUV2RGB_NV12),
    "nv21": Layout(1, "u1", cv2.COLOR_YUV2RGB_NV21),
    "nv24": Layout(1, "u1", None),
    **{f"bayer_{pattern}8": Layout(1, "u1", code) for pattern, code in BAYER.items()},
    **{f"bayer_{pattern}16": Layout(1, "u2", code) for pattern, code in BAYER.items()},
}
PLANAR = ("nv12", "nv21", "nv24")
"""Encodings with the luma plane first and the chroma plane below it; nv12 and nv21 have one chroma pair for 2 x 2 pixels, nv24 for each."""
PACKED_YUV = ("yuv422", "uyvy", "yuv422_yuy2", "yuyv")
ASSUMED = {"8UC3": "bgr8", "8UC4": "bgra8", "8UC1": "mono8"}
"""Encodings that name no colours, and the ones that they are taken for: OpenCV's order."""


def assumption_of(encoding: str) -> str | None:
    """A sentence to log once where an encoding leaves the colours open; None for all others."""
    if encoding not in ASSUMED:
        return None
    taken = ASSUMED[encoding]
    return f"encoding {encoding!r} names no colours; it is taken as {taken}: name it in the publisher, cv2_to_imgmsg(image, {taken!r})"


def is_bayer(encoding: str) -> bool:
    """True for the mosaics of a colour filter."""
    return encoding.startswith("bayer_")


def check_even(encoding: str, height: int, width: int) -> None:
    """CodecError "wrong_size" where the chroma of a YUV image, or the pattern of a mosaic, does not cover its pixels."""
    if encoding in PACKED_YUV and width % 2:
        raise CodecError("wrong_size", f"width of {encoding} must be even, but got {width}; set an even width in the camera driver")
    if encoding in ("nv12", "nv21") and (width % 2 or height % 2):
        raise CodecError("wrong_size", f"{encoding} must have even sides, but got {width} x {height}; set even ones in the camera driver")
    if is_bayer(encoding) and min(height, width) < LEAST_MOSAIC:
        raise CodecError("wrong_size", f"{encoding} must have at least {LEAST_MOSAIC} rows and columns, but got {width} x {height}")


def rgb_of(pixels: npt.NDArray[Any], encoding: str) -> UInt8:
    """(H, W, 3) uint8 RGB of the pixels of a known encoding that is not planar, (H, W) or (H, W, channels), 8 or 16 bits.

    Eight-bit RGB comes back as it is; everything else is a copy.
    """
    check_even(encoding, *pixels.shape[:2])
    code = COLOUR_ENCODINGS[encoding].code
    if pixels.dtype != np.uint8:
        pixels = _eight_bits(pixels)
    return np.asarray(pixels, np.uint8) if code is None else np.asarray(cv2.cvtColor(pixels, code), np.uint8)


def rgb_of_nv24(luma: UInt8, chroma: UInt8) -> UInt8:
    """(H, W, 3) uint8 RGB of the planes of nv24: luma (H, W), and (H, W, 2) with U before V."""
    return np.asarray(cv2.transform(np.dstack([luma, chroma]), NV24_TO_RGB), np.uint8)


def _eight_bits(pixels: npt.NDArray[Any]) -> UInt8:
    """The upper bits of 16-bit pixels, rounded as cv_bridge does (255 / 65535).

    Cameras send 10, 12 or 14 bits in 16 as well, of which nothing tells; scaled as 16 they would be black. So the range is that of the
    fewest bits of `SENSOR_BITS` that hold the largest pixel.
    """
    native = np.require(pixels, np.uint16, ["C", "A"])
    largest = int(native.max())
    bits = next(each for each in SENSOR_BITS if largest < 2**each)
    return np.asarray(cv2.convertScaleAbs(native, alpha=255 / (2**bits - 1)), np.uint8)
