"""Images in the wire format: what rclpy makes of them is the measure."""

from __future__ import annotations

from array import array
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from wesam_ros.data.codecs import decode_labels
from wesam_ros.data.messages import image_of
from wesam_ros.ros.wire import from_wire, image_on_wire

HEADERS = [Header(stamp=Time(sec=3, nanosec=4), frame_id=name) for name in ("", "c", "cam", "came", "optical_frame", "kamera_ü")]


def fields(message: Any) -> dict[str, Any]:
    """A message's fields by name, its pixels as bytes."""
    names = ("height", "width", "encoding", "is_bigendian", "step") if hasattr(message, "encoding") else ("format",)
    return {"header": message.header, "data": bytes(message.data), **{name: getattr(message, name) for name in names}}


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header.frame_id or "none")
@pytest.mark.parametrize("word", ["", "8", "bgr8", "16UC1; compressedDepth png"])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_as_rclpy_reads_them(header: Header, word: str, count: int) -> None:
    data = array("B", range(count))
    raw = Image(header=header, height=2, width=3, encoding=word, is_bigendian=1, step=9, data=data)
    for message in (raw, CompressedImage(header=header, format=word, data=data)):
        assert fields(from_wire(serialize_message(message), type(message))) == fields(message)


def test_the_other_order_of_bytes() -> None:
    big = b"\0\0\0\0" + bytes.fromhex("00000003 00000004 00000002 6300 0000 00000001 00000002 00000006") + b"mono8\0" + b"\0\0"
    big += bytes.fromhex("00000002 00000002 0708")
    message = from_wire(big, Image)
    assert fields(message) == fields(
        Image(header=HEADERS[1], height=1, width=2, encoding="mono8", is_bigendian=0, step=2, data=array("B", [7, 8]))
    )


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header.frame_id or "none")
@pytest.mark.parametrize("shape", [(3, 5), (2, 4, 3)])
def test_as_rclpy_takes_them(header: Header, shape: tuple[int, ...]) -> None:
    pixels = np.arange(np.prod(shape)).reshape(shape).astype(np.uint16 if len(shape) == 2 else np.uint8)
    message = deserialize_message(image_on_wire(header, pixels), Image)
    assert message.header == header
    np.testing.assert_array_equal(image_of(message) if len(shape) == 3 else decode_labels(message), pixels)
    assert fields(from_wire(image_on_wire(header, pixels), Image)) == fields(message)


@given(st.data())
def test_damaged_bytes_are_refused_or_read(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from([Image, CompressedImage]))
    whole = bytearray(serialize_message(kind(header=HEADERS[4], data=array("B", range(20)))))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(4, len(whole)))  # the first four say that it is CDR
        whole[at : at + 4] = data.draw(st.binary(max_size=4))
    with suppress(ValueError):
        from_wire(bytes(whole), kind)


def test_a_cut_message_is_refused() -> None:
    whole = serialize_message(Image(header=HEADERS[4], height=2, width=3, encoding="rgb8", step=9, data=array("B", bytes(18))))
    for length in range(4, len(whole)):
        with pytest.raises(ValueError, match=f"ends after {length} bytes"):
            from_wire(whole[:length], Image)
