"""sensor_msgs/Image: colour, depth and labels as arrays, and arrays as its fields."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.data.codecs.colour import COLOUR_ENCODINGS, PLANAR, check_even, rgb_of, rgb_of_nv24
from wesam_ros.data.codecs.fields import CodecError, Float32, ImageFields, RawImage, UInt8, UInt16, check_known

DEPTH_ENCODINGS = {"16UC1": "u2", "mono16": "u2", "16SC1": "i2", "32FC1": "f4", "64FC1": "f8"}
LABEL_ENCODINGS = {"16UC1": "u2", "mono16": "u2", "8UC1": "u1", "mono8": "u1", "16SC1": "i2", "32SC1": "i4"}

FARTHEST, UNIT_STEP = 100.0, 8
"""Metres that the median of a depth image does not exceed, and the step between the pixels that are looked at: no depth camera sees as far,
and millimetres taken for metres would have everything on the table's surface, so that nothing could be learnt and nobody would know why."""
LARGEST_METRES = float(np.finfo(np.float32).max)
LARGEST_LABEL = int(np.iinfo(np.uint16).max)


def _bytes(message: ImageFields) -> tuple[UInt8, int, int, int]:
    """The message's bytes (n,), its height, width and step; CodecError where it has no pixels."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = np.frombuffer(message.data, np.uint8)
    if height <= 0 or width <= 0 or data.size == 0:
        raise CodecError("empty", f"image must have pixels, but got {width} x {height} and {data.size} bytes; check the camera driver")
    return data, height, width, step


def _rows(message: ImageFields, channels: int, dtype: str) -> npt.NDArray[Any]:
    """(H, W) or (H, W, channels) view of the message's bytes, padding cut off; read-only where the bytes are."""
    data, height, width, step = _bytes(message)
    kind = np.dtype(dtype).newbyteorder(">" if message.is_bigendian else "<")
    row = width * channels * kind.itemsize
    _check_step(message.encoding, width, step, row)
    _check_length(data, step * (height - 1) + row, height, step)  # drivers may leave out the padding of the last row
    shape, strides = (height, width), (step, channels * kind.itemsize)
    if channels > 1:
        shape, strides = (*shape, channels), (*strides, kind.itemsize)  # type: ignore[assignment]
    return np.ndarray(shape, kind, data.data, 0, strides)


def _check_step(encoding: str, width: int, step: int, row: int) -> None:
    if step < row:
        raise CodecError(
            "wrong_step",
            f"step must be at least {row} bytes for {width} pixels of {encoding}, but got {step}; set it to the length of a row",
        )


def _check_length(data: UInt8, needed: int, height: int, step: int) -> None:
    if data.size < needed:
        raise CodecError(
            "truncated",
            f"data must have {needed} bytes for {height} rows with a step of {step}, but got {data.size}; the message was cut short",
        )


def decode_image(message: ImageFields) -> UInt8:
    """(H, W, 3) uint8 RGB of a raw colour image in one of `COLOUR_ENCODINGS`, or in another one that an installed cv_bridge converts.

    rgb8 is a view of the message's bytes (keep the message, and do not write); the others are copies.

    Raises:
        CodecError: no pixels, unknown encoding, a size or step that the encoding cannot have, or fewer bytes than rows.
    """
    encoding = message.encoding
    if encoding in PLANAR:
        return _planar(message)
    if encoding in COLOUR_ENCODINGS:
        layout = COLOUR_ENCODINGS[encoding]
        return rgb_of(_rows(message, layout.channels, layout.dtype), encoding)
    return _by_cv_bridge(message)


def _planar(message: ImageFields) -> UInt8:
    """RGB of nv12, nv21 and nv24. `step` is that of the luma; the rows of chroma are as long, those of nv24 twice."""
    encoding = message.encoding
    data, height, width, step = _bytes(message)
    check_even(encoding, height, width)
    _check_step(encoding, width, step, width)
    if encoding == "nv24":
        _check_length(data, step * (3 * height - 2) + 2 * width, height, step)
        luma: UInt8 = np.ndarray((height, width), np.uint8, data.data, 0, (step, 1))
        return rgb_of_nv24(luma, np.ndarray((height, width, 2), np.uint8, data.data, step * height, (2 * step, 2, 1)))
    rows = height * 3 // 2
    _check_length(data, step * (rows - 1) + width, height, step)
    planes: UInt8 = np.ndarray((rows, width), np.uint8, data.data, 0, (step, 1))
    return np.asarray(cv2.cvtColor(planes, int(COLOUR_ENCODINGS[encoding].code or 0)), np.uint8)


def _by_cv_bridge(message: ImageFields) -> UInt8:
    """RGB of an encoding that is not in the table, where cv_bridge is installed and converts it."""
    known, encoding = tuple(COLOUR_ENCODINGS), message.encoding
    if encoding in DEPTH_ENCODINGS:
        check_known(encoding, known, "a colour image", "that is depth: give the topic of the colour image")
    _rows(message, 1, "u1")
    try:
        from cv_bridge import CvBridge
    except Exception:  # a build for another numpy raises what it likes
        remedy = "set the camera driver to one of these, or install cv_bridge, which may convert it"
        if re.match(r"\d+[USF]C?\d*$", encoding):
            remedy = "name the colours in the publisher, cv2_to_imgmsg(image, 'bgr8')"
        check_known(encoding, known, "a colour image", remedy)
    names = ("encoding", "height", "width", "step", "is_bigendian", "data", "header")
    fields = SimpleNamespace(**{name: getattr(message, name, None) for name in names})
    try:
        rgb = np.asarray(CvBridge().imgmsg_to_cv2(fields, "rgb8"))
    except Exception as error:  # cv_bridge.CvBridgeError, TypeError, KeyError, cv2.error
        sentence = (
            f"encoding {encoding!r} of a colour image cannot be converted by cv_bridge either ({error}); send one of {', '.join(known)}"
        )
        raise CodecError("unknown_encoding", sentence) from error
    if rgb.shape != (message.height, message.width, 3) or rgb.dtype != np.uint8:
        raise CodecError(
            "unknown_encoding", f"cv_bridge made {rgb.shape} {rgb.dtype} of encoding {encoding!r}; send one of {', '.join(known)}"
        )
    return rgb


def decode_depth(message: ImageFields) -> Float32:
    """(H, W) float32 metres, 0 = no measurement, of a raw depth image.

    16UC1, mono16 and 16SC1 are in millimetres, 32FC1 and 64FC1 in metres (REP 118); NaN, inf, zero and negative mean none.

    Raises:
        CodecError: as `decode_image`, and "wrong_unit" for floats that cannot be in metres.
    """
    remedy = "eight bits and colours hold no depth: give the topic of the depth image"
    check_known(message.encoding, DEPTH_ENCODINGS, "a depth image", remedy)
    view = _rows(message, 1, DEPTH_ENCODINGS[message.encoding])
    return metres_of_mm(view) if view.dtype.kind in "ui" else clean_metres(view)


def decode_labels(message: ImageFields) -> UInt16:
    """(H, W) uint16 instance ids of a raw label image in one of `LABEL_ENCODINGS`.

    Raises:
        CodecError: as `decode_image`, and "out_of_range" for ids that are negative or above 65535.
    """
    check_known(
        message.encoding, LABEL_ENCODINGS, "a label image", "labels are one channel of whole numbers: give the topic of the label image"
    )
    return ids_of(_rows(message, 1, LABEL_ENCODINGS[message.encoding]))


def ids_of(labels: npt.NDArray[Any]) -> UInt16:
    """(H, W) uint16 of instance ids in whole numbers of any type; CodecError where one does not fit."""
    if labels.dtype.kind == "i" and labels.size:
        least, most = int(labels.min()), int(labels.max())
        if least < 0 or most > LARGEST_LABEL:
            raise CodecError(
                "out_of_range", f"labels must be from 0 to {LARGEST_LABEL}, but are from {least} to {most}; number the objects anew"
            )
    return labels.astype(np.uint16)


def metres_of_mm(millimetres: npt.NDArray[Any]) -> Float32:
    """(H, W) float32 metres of whole millimetres; negative ones are none."""
    metres = millimetres.astype(np.float32)
    metres *= np.float32(0.001)
    return metres if millimetres.dtype.kind == "u" else np.maximum(metres, np.float32(0))


def clean_metres(metres: npt.NDArray[Any]) -> Float32:
    """(H, W) float32 metres, 0 where they are no positive number; CodecError "wrong_unit" where they cannot be metres."""
    clean = np.zeros(metres.shape, np.float32)
    np.copyto(clean, metres, where=(metres > 0) & (metres <= LARGEST_METRES), casting="same_kind")
    some = clean[::UNIT_STEP, ::UNIT_STEP]
    if (some := some[some > 0]).size and (usual := float(np.median(some))) > FARTHEST:
        raise CodecError(
            "wrong_unit",
            f"depth in floats must be in metres (REP 118), but the median is {usual:g}; send millimetres as 16UC1, or divide by 1000",
        )
    return clean


def encode_image(array: npt.NDArray[Any]) -> RawImage:
    """Fields of a raw image message for (H, W, 3) uint8 RGB, (H, W) uint8, uint16 or float32; little-endian, no padding.

    `data` is a memoryview of the array's own bytes where the array is contiguous: for rclpy, an `array.array("B")` takes it by `frombytes`.

    Raises:
        ValueError: another shape or type.
    """
    kinds = {(3, "u1"): "rgb8", (2, "u1"): "mono8", (2, "u2"): "16UC1", (2, "f4"): "32FC1"}
    encoding = kinds.get((array.ndim, array.dtype.str[1:]))
    if encoding is None or (array.ndim == 3 and array.shape[2] != 3):
        raise ValueError(f"image must be (H, W, 3) uint8 or (H, W) uint8, uint16 or float32, but got {array.shape} {array.dtype}")
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    height, width = array.shape[:2]
    return RawImage(encoding, height, width, little.strides[0], 0, little.reshape(-1).view(np.uint8).data)
