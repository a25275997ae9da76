"""Whole image files in a message: JPEG, PNG, WebP and TIFF, told by their first bytes. EXIF turns are ignored, as a stream has none."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from wesam_ros.data.codecs.fields import MAX_PIXELS, CodecError
from wesam_ros.data.codecs.transports import refuse_payload

JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
PNG_START, PNG_END, PNG_CHUNK = b"\x89PNG\r\n\x1a\n", b"IEND", 12
"""PNG: the first bytes of a file, the kind of its last chunk, and a chunk's bytes beside its data: length, kind and checksum."""
WEBP_START, WEBP_KIND, WEBP_SIZE = b"RIFF", b"WEBP", 8
TIFF_STARTS = (b"II*\x00", b"MM\x00*")
EVERYTHING = cv2.IMREAD_UNCHANGED
"""Channels and bits as they are in the file; OpenCV turns nothing then."""
COLOUR = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
"""Three channels, blue first, 8 or 16 bits."""


def is_jpeg(data: bytes) -> bool:
    """True for the first bytes of a JPEG."""
    return data.startswith(JPEG_START)


def is_tiff(data: bytes) -> bool:
    """True for the first bytes of a TIFF."""
    return data.startswith(TIFF_STARTS)


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


def unpack(data: Any, flags: int, message_format: str = "") -> npt.NDArray[Any]:
    """Pixels of an image file as OpenCV gives them; a file that stops early is an error, where OpenCV would fill the rest with grey.

    Raises:
        CodecError: "empty", "unread_transport", "unknown_format", "truncated", "too_large" or "undecodable".
    """
    raw = bytes(data)
    if not raw:
        raise CodecError("empty", "compressed image must have bytes, but got none; check the camera driver")
    if not _is_whole(raw, message_format):
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


def _is_whole(raw: bytes, message_format: str) -> bool:
    """False where a file's own marks say that something is missing. CodecError where it is none of the known kinds."""
    if is_jpeg(raw):
        # Inside a scan 0xff is always escaped, so an end marker behind the last scan header is the true one (not an EXIF thumbnail's).
        return raw.find(JPEG_END, max(raw.rfind(JPEG_SCAN), 0)) >= 0
    if raw.startswith(PNG_START):
        return png_is_whole(io.BytesIO(raw))
    if raw.startswith(WEBP_START) and raw[WEBP_SIZE : WEBP_SIZE + 4] == WEBP_KIND:
        return int.from_bytes(raw[4:WEBP_SIZE], "little") + WEBP_SIZE <= len(raw)
    if is_tiff(raw):
        return _tiff_is_whole(raw)
    refuse_payload(raw, message_format)
    raise CodecError(
        "unknown_format",
        f"compressed image must be JPEG, PNG, WebP or TIFF, but its bytes start with {raw[:4].hex()} and its format is {message_format!r}; "
        "set the publisher to jpeg or png",
    )


def _tiff_is_whole(raw: bytes) -> bool:
    """False where the strips of a TIFF's only page reach beyond the file."""
    try:
        with Image.open(io.BytesIO(raw), formats=("TIFF",)) as image:
            tags = image.tag_v2  # type: ignore[attr-defined]
            offsets, lengths = tags.get(273) or tags.get(324) or (), tags.get(279) or tags.get(325) or ()
            return len(offsets) == len(lengths) > 0 and all(a + b <= len(raw) for a, b in zip(offsets, lengths, strict=True))
    except Image.DecompressionBombError:
        return True  # told by its size
    except Exception:  # Pillow's reader of tags raises whatever their types lead to
        return False


def _check_size(raw: bytes) -> None:
    """CodecError where the header of an image file cannot be read, or is of an image of more than `MAX_PIXELS`."""
    try:
        with Image.open(io.BytesIO(raw), formats=("JPEG", "PNG", "WEBP", "TIFF")) as image:
            width, height = image.size
    except Image.DecompressionBombError as error:
        raise CodecError("too_large", f"compressed image must have at most {MAX_PIXELS} pixels: {error}; its header is damaged") from error
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise CodecError("undecodable", f"compressed image of {len(raw)} bytes cannot be decoded; its header is damaged") from error
    if width * height > MAX_PIXELS:
        raise CodecError("too_large", f"compressed image must have at most {MAX_PIXELS} pixels, but its header says {width} x {height}")


def pack(extension: str, pixels: npt.NDArray[Any], parameters: list[int]) -> bytes:
    """Bytes of an image file of the kind that an extension names; colour with blue first."""
    ok, data = cv2.imencode(extension, pixels, parameters)
    if not ok:
        raise ValueError(f"OpenCV cannot write {extension} of an array {pixels.shape} {pixels.dtype}")
    return data.tobytes()


def encode_png(array: npt.NDArray[Any]) -> bytes:
    """PNG of an (H, W, 3) uint8 RGB image, or of an (H, W) uint8 or uint16 plane; lossless."""
    pixels = cv2.cvtColor(array, cv2.COLOR_RGB2BGR) if array.ndim == 3 else array
    return pack(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 6])
