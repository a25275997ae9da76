"""Compressed depth: whole image files, and those behind the header of compressed_depth_image_transport."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from wesam_ros.data.codecs.compressed import DEPTH_WORD, format_of, plane
from wesam_ros.data.codecs.fields import CodecError, Float32, UInt16, check_known
from wesam_ros.data.codecs.files import EVERYTHING, PNG_START, encode_png, unpack
from wesam_ros.data.codecs.raw import clean_metres, metres_of_mm
from wesam_ros.data.codecs.rvl import decode_rvl

# struct ConfigHeader of compressed_depth_image_transport, compression_common.hpp: enum format (0 = INV_DEPTH), float depthParam[2]
DEPTH_HEADER = struct.Struct("<iff")
MILLIMETRES, METRES = ("16UC1", "mono16", "16SC1"), ("32FC1",)


def decode_compressed_depth(data: Any, message_format: str) -> Float32:
    """(H, W) float32 metres, 0 = no measurement, of a sensor_msgs/CompressedImage from a depth camera.

    Takes what compressed_depth_image_transport packs, 16UC1, mono16, 16SC1 and 32FC1 as png or rvl ("16UC1; compressedDepth rvl"; without
    a last word, as older publishers write, png); else a 16-bit PNG or TIFF in millimetres, or a TIFF of floats in metres. Header and
    formula are those of its src/codec.cpp (ros-perception/image_transport_plugins): depth = a / (value - b), a and b from the header,
    value 0 = none.

    Raises:
        CodecError: as `decode_compressed_image`, for another compression, and "wrong_unit" for floats that cannot be metres.
    """
    raw = bytes(data)
    if not raw:
        raise CodecError("empty", "compressed depth must have bytes, but got none; check the camera driver")
    encoding, _, compression = (part.strip() for part in message_format.partition(";"))
    headed = raw[DEPTH_HEADER.size :].startswith(PNG_START)  # old publishers name the encoding alone; no RVL has so many columns
    if DEPTH_WORD not in message_format and not headed:
        return _metres(_plane(raw, message_format), format_of(message_format).encoding)
    words = compression.split()
    if DEPTH_WORD in words and words[words.index(DEPTH_WORD) + 1 :] not in ([], ["png"], ["rvl"]):
        raise CodecError(
            "unknown_format", f"compressedDepth must be png or rvl, but got {message_format!r}; set the publisher's format parameter to png"
        )
    check_known(encoding, (*MILLIMETRES, *METRES), "a compressed depth image", "set the depth camera's driver to 16UC1")
    if len(raw) <= DEPTH_HEADER.size:
        raise CodecError(
            "truncated", f"compressedDepth must have a header of {DEPTH_HEADER.size} bytes and an image, but got {len(raw)} bytes"
        )
    payload = raw[DEPTH_HEADER.size :]
    values = decode_rvl(payload) if words[-1:] == ["rvl"] and not headed else _sixteen_bits(payload, message_format)
    if encoding not in METRES:
        return _metres(values, encoding)
    _, a, b = DEPTH_HEADER.unpack_from(raw)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        metres = np.float32(a) / (values.astype(np.float32) - np.float32(b))
    metres[values == 0] = 0
    return clean_metres(metres)


def _metres(values: npt.NDArray[Any], encoding: str) -> Float32:
    """Metres of whole millimetres, in 16 bits that have a sign in 16SC1, or of floats."""
    if values.dtype == np.float32:
        return clean_metres(values)
    return metres_of_mm(values.view(np.int16) if encoding == "16SC1" else values)


def _plane(data: bytes, message_format: str) -> npt.NDArray[Any]:
    """(H, W) of 16 bits or floats."""
    pixels = unpack(data, EVERYTHING, message_format)
    if pixels.ndim == 2 and pixels.dtype == np.float32:
        return pixels
    return _checked(pixels)


def _sixteen_bits(data: bytes, message_format: str) -> UInt16:
    return _checked(unpack(data, EVERYTHING, message_format))


def _checked(pixels: npt.NDArray[Any]) -> UInt16:
    if plane(pixels, "depth").dtype != np.uint16:
        raise CodecError(
            "unknown_format", f"compressed depth must have 16 bits, but got {pixels.dtype}; send compressedDepth or a 16-bit PNG"
        )
    return pixels


def encode_compressed_depth(
    depth: Float32, encoding: str = "16UC1", depth_max: float = 10.0, depth_quantization: float = 100.0
) -> tuple[str, bytes]:
    """Format and data of a compressedDepth message for (H, W) float32 metres, 0 = no measurement.

    16UC1 keeps millimetres as they are. 32FC1 quantises inverse depth as compressed_depth_image_transport does (src/codec.cpp, same
    defaults): a = q (q + 1), b = 1 - a / depth_max, value = a / depth + b truncated, 0 at and beyond depth_max.
    Depths that do not fit into 16 bits become 0 (the C++ cast leaves them undefined).
    """
    check_known(encoding, ("16UC1", "32FC1"), "a compressed depth image", "pack depth as one of them")
    if encoding == "16UC1":
        a = b = 0.0
        values = np.rint(depth * np.float32(1000.0))
    else:
        a = depth_quantization * (depth_quantization + 1.0)
        b = 1.0 - a / depth_max
        with np.errstate(divide="ignore"):
            values = np.where((depth > 0) & (depth < depth_max), np.float32(a) / depth + np.float32(b), 0)
    values = np.where((values >= 0) & (values <= 65535), values, 0)
    return f"{encoding}; {DEPTH_WORD} png", DEPTH_HEADER.pack(0, a, b) + encode_png(values.astype(np.uint16))
