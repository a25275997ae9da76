"""Images in the wire format (CDR, OMG's Common Data Representation): pixels are read where they lie, and sent without a message.

rclpy copies a message's pixels once more to receive it, and twice more to send it. Header and sizes are a few numbers, whatever the image.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from wesam_ros.data.codecs import encode_image

PLAIN = {b"\x00\x00": ">", b"\x00\x01": "<", b"\x00\x06": ">", b"\x00\x07": "<"}
"""Encodings, CDR and plain CDR2, by the first two bytes, with the order of their numbers' bytes. Of images they differ in nothing else."""
START = 4
"""Bytes before the message; its numbers lie at multiples of their size from there."""


@dataclass
class WireImage:
    """An image message as it came; the fields are those of sensor_msgs/Image.

    Attributes:
        data: a view of the bytes received.
    """

    header: Header
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: memoryview


@dataclass
class WireCompressedImage:
    """A compressed image as it came; the fields are those of sensor_msgs/CompressedImage, `data` a view of the bytes received."""

    header: Header
    format: str
    data: memoryview


class _Reader:
    """Reads numbers and strings of a message, one after another."""

    def __init__(self, data: bytes, order: str) -> None:
        self._data, self._order, self._at = data, order, START

    def numbers(self, kinds: str) -> tuple[int, ...]:
        """Numbers of four bytes: "i" or "I" for each."""
        self._at += -self._at % 4
        found = struct.unpack_from(self._order + kinds, self._data, self._at)
        self._at += 4 * len(kinds)
        return found

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def text(self) -> str:
        (length,) = self.numbers("I")
        return str(self._taken(length), "utf-8", "replace").rstrip("\0")

    def rest(self) -> memoryview:
        (length,) = self.numbers("I")
        return self._taken(length)

    def header(self) -> Header:
        second, nanosecond = self.numbers("iI")
        return Header(stamp=Time(sec=second, nanosec=nanosecond), frame_id=self.text())

    def _taken(self, length: int) -> memoryview:
        found = memoryview(self._data)[self._at : self._at + length]
        if len(found) != length:
            raise ValueError(f"the message ends after {len(self._data)} bytes, {length - len(found)} too early")
        self._at += length
        return found


def _image(reader: _Reader) -> WireImage:
    header = reader.header()
    height, width = reader.numbers("II")
    encoding, is_bigendian = reader.text(), reader.byte()
    (step,) = reader.numbers("I")
    return WireImage(header, height, width, encoding, is_bigendian, step, reader.rest())


def _compressed(reader: _Reader) -> WireCompressedImage:
    return WireCompressedImage(reader.header(), reader.text(), reader.rest())


_FORMS: dict[Any, Callable[[_Reader], Any]] = {Image: _image, CompressedImage: _compressed}


def is_read_here(kind: Any) -> bool:
    """True for the types of message that `from_wire` takes."""
    return kind in _FORMS


def from_wire(data: bytes, kind: Any) -> Any:
    """A message of type Image or CompressedImage: a value with its fields.

    Raises:
        ValueError: the bytes are not of such a message.
    """
    order = PLAIN.get(data[:2])
    if order is None:  # an encoding with more to it
        return deserialize_message(data, kind)
    try:
        return _FORMS[kind](_Reader(data, order))
    except (struct.error, IndexError) as error:
        raise ValueError(f"the message ends after {len(data)} bytes: {error}") from error


def image_on_wire(header: Header, pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> bytes:
    """The bytes of an Image message, to publish: (H, W, 3) uint8 RGB as rgb8, or (H, W) uint16 as 16UC1."""
    raw = encode_image(pixels)
    stamp, frame, encoding = header.stamp, header.frame_id.encode() + b"\0", raw.encoding.encode() + b"\0"
    parts: list[Any] = [b"\0\1\0\0", struct.pack("<iII", stamp.sec, stamp.nanosec, len(frame)), frame, bytes(-len(frame) % 4)]
    parts += [struct.pack("<III", raw.height, raw.width, len(encoding)), encoding, bytes([raw.is_bigendian])]
    parts += [bytes(-(len(encoding) + 1) % 4), struct.pack("<II", raw.step, len(raw.data)), raw.data]
    return b"".join(parts)
