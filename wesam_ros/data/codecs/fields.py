"""The fields of image messages, and the error of a message that cannot be used."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]
UInt16 = npt.NDArray[np.uint16]
Float32 = npt.NDArray[np.float32]

MAX_PIXELS = 2**26
"""No image has more (8192 x 8192). A damaged header of a small file may claim gigabytes, so it is read before memory is asked for."""


class CodecError(ValueError):
    """A message that cannot be used; the sentence gives the value that is wrong and what to do.

    Attributes:
        reason: a short key to count by. Of pixels: "empty", "unknown_encoding", "wrong_step", "wrong_size", "truncated", "unknown_format",
            "undecodable", "too_large", "wrong_unit", "out_of_range", "lossy", "unread_transport". Of camera_info: "uncalibrated",
            "not_finite", "wrong_size", "wrong_distortion".
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


def check_known(encoding: str, known: Collection[str], kind: str, remedy: str) -> None:
    """CodecError "unknown_encoding" where an encoding is not among those known for a kind of image."""
    if encoding not in known:
        raise CodecError("unknown_encoding", f"encoding of {kind} must be one of {', '.join(known)}, but got {encoding!r}; {remedy}")
