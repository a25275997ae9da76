"""Pixels of ROS image messages to arrays and back, with numpy and OpenCV alone.

Everything works on plain values: any object with the fields of sensor_msgs/Image will do, be it a message of rclpy, one of the rosbags
library or a `RawImage`. Bytes may come as bytes, bytearray, memoryview, array.array or a numpy array.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple, Protocol

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

UInt8 = npt.NDArray[np.uint8]
UInt16 = npt.NDArray[np.uint16]
Float32 = npt.NDArray[np.float32]

# encoding: channels, and the OpenCV conversion that makes RGB of it (None: it is RGB)
COLOUR_ENCODINGS: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
}
DEPTH_ENCODINGS = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}
LABEL_ENCODINGS = {"16UC1": "u2", "mono16": "u2", "8UC1": "u1", "mono8": "u1"}

JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
PNG_START, PNG_END, PNG_CHUNK = b"\x89PNG\r\n\x1a\n", b"IEND", 12
"""PNG: the first bytes of a file, the kind of its last chunk, and a chunk's bytes beside its data: length, kind and checksum."""

# struct ConfigHeader of compressed_depth_image_transport, compression_common.hpp: enum format (0 = INV_DEPTH), float depthParam[2]
DEPTH_HEADER = struct.Struct("<iff")
FARTHEST, UNIT_STEP = 100.0, 8
"""Metres that the median of a depth image does not exceed, and the step between the pixels that are looked at: no depth camera sees as far,
and millimetres taken for metres would have everything on the table's surface, so that nothing could be learnt and nobody would know why."""


MAX_PIXELS = 2**26
"""No image has more (8192 x 8192). A damaged header of a small file may claim gigabytes, so it is read before memory is asked for."""


class CodecError(ValueError):
    """Bytes that are not the image they are said to be.

    Attributes:
        reason: a short key to count by: "empty", "unknown_encoding", "wrong_step", "truncated", "unknown_format", "undecodable",
            "too_large".
    """

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class ImageFields(Protocol):
    """The fields of sensor_msgs/Image that describe its pixels."""

    @property
    def encoding(self) -> str: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def is_bigendian(self) -> int | bool: ...
    @property
    def data(self) -> Any: ...


class RawImage(NamedTuple):
    """Values for the fields of a sensor_msgs/Image; `step` is the length of a row in bytes."""

    encoding: str
    height: int
    width: int
    step: int
    is_bigendian: int
    data: Any


def _rows(message: ImageFields, channels: int, dtype: str) -> npt.NDArray[Any]:
    """(H, W) or (H, W, channels) view of the message's bytes, padding cut off; read-only where the bytes are."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = np.frombuffer(message.data, np.uint8)
    if height <= 0 or width <= 0 or data.size == 0:
        raise CodecError("empty", f"image must have pixels, but got {width} x {height} and {data.size} bytes; check the camera driver")
    kind = np.dtype(dtype).newbyteorder(">" if message.is_bigendian else "<")
    row = width * channels * kind.itemsize
    if step < row:
        raise CodecError(
            "wrong_step",
            f"step must be at least {row} bytes for {width} pixels of {message.encoding}, but got {step}; set it to the length of a row",
        )
    needed = step * (height - 1) + row  # drivers may leave out the padding of the last row
    if data.size < needed:
        raise CodecError(
            "truncated",
            f"data must have {needed} bytes for {height} rows with a step of {step}, but got {data.size}; the message was cut short",
        )
    shape, strides = (height, width), (step, channels * kind.itemsize)
    if channels > 1:
        shape, strides = (*shape, channels), (*strides, kind.itemsize)  # type: ignore[assignment]
    return np.ndarray(shape, kind, data.data, 0, strides)


def _known(encoding: str, known: Sequence[str], what: str) -> None:
    if encoding not in known:
        raise CodecError(
            "unknown_encoding",
            f"encoding of {what} must be one of {', '.join(known)}, but got {encoding!r}; convert it before (image_proc does)",
        )


def decode_image(message: ImageFields) -> UInt8:
    """(H, W, 3) uint8 RGB of a raw colour image: rgb8, bgr8, rgba8, bgra8 or mono8.

    rgb8 is a view of the message's bytes (keep the message, and do not write); the others are copies.

    Raises:
        CodecError: no pixels, unknown encoding, step shorter than a row, or fewer bytes than rows.
    """
    _known(message.encoding, tuple(COLOUR_ENCODINGS), "a colour image")
    channels, conversion = COLOUR_ENCODINGS[message.encoding]
    view: UInt8 = _rows(message, channels, "u1")
    return view if conversion is None else np.asarray(cv2.cvtColor(view, conversion), np.uint8)


def decode_depth(message: ImageFields) -> Float32:
    """(H, W) float32 metres, 0 = no measurement, of a raw depth image: 16UC1 and mono16 in mm, 32FC1 in m (NaN, inf, negative = none).

    The units are those of REP 118.

    Raises:
        CodecError: as `decode_image`, and for a 32FC1 image that cannot be in metres.
    """
    _known(message.encoding, tuple(DEPTH_ENCODINGS), "a depth image")
    view = _rows(message, 1, DEPTH_ENCODINGS[message.encoding])
    return _metres_of_mm(view) if view.dtype.kind == "u" else _clean_metres(view)


def decode_labels(message: ImageFields) -> UInt16:
    """(H, W) uint16 instance ids of a raw label image: 16UC1, mono16, 8UC1 or mono8.

    Raises:
        CodecError: as `decode_image`.
    """
    _known(message.encoding, tuple(LABEL_ENCODINGS), "a label image")
    return _rows(message, 1, LABEL_ENCODINGS[message.encoding]).astype(np.uint16)


def _metres_of_mm(millimetres: npt.NDArray[Any]) -> Float32:
    metres = millimetres.astype(np.float32)
    metres *= np.float32(0.001)
    return metres


def _clean_metres(metres: npt.NDArray[Any]) -> Float32:
    clean = np.zeros(metres.shape, np.float32)
    np.copyto(clean, metres, where=(metres > 0) & (metres < np.inf), casting="same_kind")
    some = clean[::UNIT_STEP, ::UNIT_STEP]
    if (some := some[some > 0]).size and (usual := float(np.median(some))) > FARTHEST:
        raise CodecError(
            "wrong_unit",
            f"32FC1 depth must be in metres (REP 118), but the median is {usual:g}; if that is millimetres, divide by 1000 or send 16UC1",
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


def png_is_whole(file: BinaryIO) -> bool:
    """True if the chunks of a PNG, up to the one that ends it, lie within the file.

    Decoders ask for as much memory as a damaged length says, gigabytes.
    """
    size, place = file.seek(0, io.SEEK_END), len(PNG_START)
    while place + PNG_CHUNK <= size:
        file.seek(place)
        head = file.read(8)  # length and kind
        place += PNG_CHUNK + int.from_bytes(head[:4], "big")
        if head[4:] == PNG_END:
            return place <= size
    return False


def _unpacked(data: Any, flags: int) -> npt.NDArray[Any]:
    """Decode JPEG or PNG bytes; a file that stops early is an error, where OpenCV would fill the rest with grey."""
    raw = bytes(data)
    if not raw:
        raise CodecError("empty", "compressed image must have bytes, but got none; check the camera driver")
    if raw.startswith(JPEG_START):
        # Inside a scan 0xff is always escaped, so an end marker behind the last scan header is the true one (not an EXIF thumbnail's).
        complete = raw.find(JPEG_END, max(raw.rfind(JPEG_SCAN), 0)) >= 0
    elif raw.startswith(PNG_START):
        complete = png_is_whole(io.BytesIO(raw))
    else:
        raise CodecError("unknown_format", f"compressed image must be JPEG or PNG, but its bytes start with {raw[:4].hex()}")
    if not complete:
        raise CodecError(
            "truncated",
            f"compressed image must be whole up to its end marker, but its {len(raw)} bytes are not; it was cut short, or damaged",
        )
    _check_size(raw)
    try:
        pixels = cv2.imdecode(np.frombuffer(raw, np.uint8), flags)
    except cv2.error as error:
        raise CodecError("undecodable", f"compressed image of {len(raw)} bytes cannot be decoded: {error.err}") from error
    if pixels is None:
        raise CodecError("undecodable", f"compressed image of {len(raw)} bytes cannot be decoded; its content is damaged")
    return pixels


def _check_size(raw: bytes) -> None:
    """CodecError where the header of a JPEG or PNG cannot be read, or is of an image of more than `MAX_PIXELS`."""
    try:
        with Image.open(io.BytesIO(raw), formats=("JPEG", "PNG")) as image:
            width, height = image.size
    except Image.DecompressionBombError as error:
        raise CodecError("too_large", f"compressed image must have at most {MAX_PIXELS} pixels: {error}; its header is damaged") from error
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise CodecError("undecodable", f"compressed image of {len(raw)} bytes cannot be decoded; its header is damaged") from error
    if width * height > MAX_PIXELS:
        raise CodecError("too_large", f"compressed image must have at most {MAX_PIXELS} pixels, but its header says {width} x {height}")


def decode_compressed_image(data: Any) -> UInt8:
    """(H, W, 3) uint8 RGB of the data of a sensor_msgs/CompressedImage with JPEG or PNG, told by its first bytes. EXIF turns are ignored.

    Raises:
        CodecError: "empty", "unknown_format", "truncated", "too_large" or "undecodable".
    """
    bgr = _unpacked(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def encode_jpeg(image: UInt8, quality: int = 90) -> bytes:
    """JPEG of an (H, W, 3) uint8 RGB image; the message's format is "rgb8; jpeg compressed bgr8", as compressed_image_transport has it."""
    return _packed(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(array: npt.NDArray[Any]) -> bytes:
    """PNG of an (H, W, 3) uint8 RGB image, or of an (H, W) uint8 or uint16 plane; lossless."""
    pixels = cv2.cvtColor(array, cv2.COLOR_RGB2BGR) if array.ndim == 3 else array
    return _packed(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 6])


def _packed(extension: str, pixels: npt.NDArray[Any], parameters: list[int]) -> bytes:
    ok, data = cv2.imencode(extension, pixels, parameters)
    if not ok:
        raise ValueError(f"OpenCV cannot write {extension} of an array {pixels.shape} {pixels.dtype}")
    return data.tobytes()


def decode_compressed_labels(data: Any) -> UInt16:
    """(H, W) uint16 instance ids of a PNG with one channel of 8 or 16 bits.

    Raises:
        CodecError: as `decode_compressed_image`, and "unknown_format" with several channels.
    """
    return _plane(_unpacked(data, cv2.IMREAD_UNCHANGED), "labels").astype(np.uint16)


def _plane(pixels: npt.NDArray[Any], what: str) -> npt.NDArray[Any]:
    if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.uint16):
        raise CodecError("unknown_format", f"{what} must be one channel of 8 or 16 bits, but got {pixels.shape} {pixels.dtype}")
    return pixels


def decode_compressed_depth(data: Any, message_format: str) -> Float32:
    """(H, W) float32 metres, 0 = no measurement, of a sensor_msgs/CompressedImage from a depth camera.

    Takes "16UC1; compressedDepth png", "32FC1; compressedDepth png" (both also without "png", as older publishers write), and a plain
    16-bit PNG in millimetres. Header and formula are those of compressed_depth_image_transport, src/codec.cpp
    (ros-perception/image_transport_plugins): depth = a / (value - b), a and b from the header, value 0 = none.

    Raises:
        CodecError: as `decode_compressed_image`, for the rvl compression, and for a 32FC1 image that cannot be in metres.
    """
    encoding, _, compression = (part.strip() for part in message_format.partition(";"))
    raw = bytes(data)
    if not raw:
        raise CodecError("empty", "compressed depth must have bytes, but got none; check the camera driver")
    if "compressedDepth" not in compression:
        return _metres_of_mm(_sixteen_bits(raw))
    if compression not in ("compressedDepth", "compressedDepth png"):
        raise CodecError(
            "unknown_format", f"compressedDepth must be png, but got {message_format!r}; set the publisher's format parameter to png"
        )
    _known(encoding, ("16UC1", "32FC1"), "a compressed depth image")
    if len(raw) <= DEPTH_HEADER.size:
        raise CodecError(
            "truncated", f"compressedDepth must have a header of {DEPTH_HEADER.size} bytes and a PNG, but got {len(raw)} bytes"
        )
    _, a, b = DEPTH_HEADER.unpack_from(raw)
    values = _sixteen_bits(raw[DEPTH_HEADER.size :])
    if encoding == "16UC1":
        return _metres_of_mm(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        metres = np.float32(a) / (values.astype(np.float32) - np.float32(b))
    metres[values == 0] = 0
    return _clean_metres(metres)


def _sixteen_bits(data: bytes) -> UInt16:
    pixels = _plane(_unpacked(data, cv2.IMREAD_UNCHANGED), "depth")
    if pixels.dtype != np.uint16:
        raise CodecError("unknown_format", f"compressed depth must be a PNG of 16 bits, but got {pixels.dtype}")
    return pixels


def encode_compressed_depth(
    depth: Float32, encoding: str = "16UC1", depth_max: float = 10.0, depth_quantization: float = 100.0
) -> tuple[str, bytes]:
    """Format and data of a compressedDepth message for (H, W) float32 metres, 0 = no measurement.

    16UC1 keeps millimetres as they are. 32FC1 quantises inverse depth as compressed_depth_image_transport does (src/codec.cpp, same
    defaults): a = q (q + 1), b = 1 - a / depth_max, value = a / depth + b truncated, 0 at and beyond depth_max.
    Depths that do not fit into 16 bits become 0 (the C++ cast leaves them undefined).
    """
    _known(encoding, ("16UC1", "32FC1"), "a compressed depth image")
    if encoding == "16UC1":
        a = b = 0.0
        values = np.rint(depth * np.float32(1000.0))
    else:
        a = depth_quantization * (depth_quantization + 1.0)
        b = 1.0 - a / depth_max
        with np.errstate(divide="ignore"):
            values = np.where((depth > 0) & (depth < depth_max), np.float32(a) / depth + np.float32(b), 0)
    values = np.where((values >= 0) & (values <= 65535), values, 0)
    return f"{encoding}; compressedDepth png", DEPTH_HEADER.pack(0, a, b) + encode_png(values.astype(np.uint16))
