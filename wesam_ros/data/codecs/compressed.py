"""sensor_msgs/CompressedImage: colour and labels. The file says how its pixels are packed, the words of `format` what they are."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.data.codecs.colour import COLOUR_ENCODINGS, PLANAR, is_bayer, rgb_of
from wesam_ros.data.codecs.fields import CodecError, UInt8, UInt16, check_known
from wesam_ros.data.codecs.files import COLOUR, EVERYTHING, is_jpeg, is_tiff, pack, unpack
from wesam_ros.data.codecs.raw import DEPTH_ENCODINGS, LABEL_ENCODINGS, ids_of

DEPTH_WORD = "compressedDepth"
_KNOWN = {name.lower(): name for name in (*COLOUR_ENCODINGS, *DEPTH_ENCODINGS, *LABEL_ENCODINGS)}
"""Encodings by their names in lower case: some publishers write them in upper case."""


class Format(NamedTuple):
    """The words of `format`: "rgb8; jpeg compressed bgr8" has an encoding, a codec and the encoding that was handed to the codec.

    Any of them may be "": cameras also write "jpeg", "mono8", "16UC1; png" and "bayer_rggb8; png compressed ".
    """

    encoding: str
    codec: str
    target: str


def format_of(text: str) -> Format:
    """The words of a CompressedImage's `format`."""
    first, _, rest = (part.strip() for part in text.partition(";"))
    if not rest and first.lower() not in _KNOWN and not is_bayer(first.lower()):
        first, rest = "", first
    codec, _, target = rest.partition(" compressed")
    return Format(_KNOWN.get(first.lower(), first), codec.strip().lower(), target.strip().lower())


def decode_compressed_image(data: Any, message_format: str = "") -> UInt8:
    """(H, W, 3) uint8 RGB of the data and format of a sensor_msgs/CompressedImage.

    JPEG, PNG, WebP and TIFF are told by their first bytes, EXIF turns are ignored. The channels of a file are in the file's own order,
    whatever the words say, but in a TIFF of compressed_image_transport, which keeps the bytes of the raw image. A mosaic
    ("bayer_rggb8; png compressed ") is demosaiced, unless it was made grey or colour before ("bayer_rggb8; jpeg compressed mono8").

    Raises:
        CodecError: "empty", "unread_transport", "unknown_format", "unknown_encoding", "truncated", "too_large", "wrong_size" or
            "undecodable".
    """
    words = format_of(message_format)
    if DEPTH_WORD in message_format or (words.encoding in DEPTH_ENCODINGS and words.encoding not in COLOUR_ENCODINGS):
        raise CodecError("unknown_encoding", f"colour image must not be depth, but its format is {message_format!r}; give the colour topic")
    if is_bayer(words.encoding.lower()):
        check_known(words.encoding, COLOUR_ENCODINGS, "a compressed mosaic", "set the camera driver to one of 8 or 16 bits")
    raw = bytes(data)
    known = words.encoding in COLOUR_ENCODINGS and words.encoding not in PLANAR
    is_kept = not words.target or is_bayer(words.target)
    as_sent = known and is_kept and (is_bayer(words.encoding) or is_tiff(raw))
    if as_sent:
        pixels = unpack(raw, EVERYTHING, message_format)
        layout = COLOUR_ENCODINGS[words.encoding]
        channels = pixels.shape[2] if pixels.ndim == 3 else 1
        if channels == layout.channels and pixels.dtype.str[1:] in ("u1", "u2"):
            return rgb_of(pixels, words.encoding)
    bgr = unpack(raw, COLOUR, message_format)
    if bgr.dtype not in (np.uint8, np.uint16):
        raise CodecError("unknown_format", f"compressed colour image must have 8 or 16 bits, but got {bgr.dtype}; send jpeg or png")
    return rgb_of(bgr, "bgr8")


def decode_compressed_labels(data: Any, message_format: str = "") -> UInt16:
    """(H, W) uint16 instance ids of a PNG, lossless WebP or TIFF with one channel of 8 or 16 bits.

    Raises:
        CodecError: as `decode_compressed_image`, "lossy" for a JPEG, whose ids are blurred, and "unknown_format" with several channels.
    """
    raw = bytes(data)
    if is_jpeg(raw):
        raise CodecError("lossy", f"labels must be packed without loss, but got JPEG ({message_format!r}); set the publisher to png")
    return ids_of(plane(unpack(raw, EVERYTHING, message_format), "labels"))


def plane(pixels: npt.NDArray[Any], what: str) -> npt.NDArray[Any]:
    """The (H, W) pixels of one channel of 8 or 16 bits; CodecError for others."""
    if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.uint16):
        raise CodecError(
            "unknown_format", f"{what} must be one channel of 8 or 16 bits, but got {pixels.shape} {pixels.dtype}; send a PNG with one"
        )
    return pixels


def encode_jpeg(image: UInt8, quality: int = 90) -> bytes:
    """JPEG of an (H, W, 3) uint8 RGB image; the message's format is "rgb8; jpeg compressed bgr8", as compressed_image_transport has it."""
    return pack(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
