"""Bad input to the codecs of every encoding and to intrinsics: a value or a CodecError, never anything else, never gigabytes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wesam_ros.data import codecs
from wesam_ros.data.codecs import CodecError, RawImage
from wesam_ros.data.codecs.rvl import decode_rvl
from wesam_ros.data.intrinsics import camera_of_info
from wesam_ros.scene.geometry import cloud

Attempt = Callable[..., Any]
ENCODINGS = sorted({*codecs.COLOUR_ENCODINGS, *codecs.DEPTH_ENCODINGS, *codecs.LABEL_ENCODINGS})
PLANE = (np.arange(24 * 32).reshape(24, 32) * 50).astype(np.uint16)
WORDS = st.sampled_from(
    ["png", "jpeg", "tiff", "webp", "h264", "theora", "compressed", "compressedDepth", "rvl", "bgr8", "mono8", ";", "; ", *ENCODINGS]
)
FORMATS = st.lists(WORDS, max_size=5).map(" ".join) | st.text(max_size=12)
COUNTS = st.integers(0, 40) | st.sampled_from([2**16, 2**31 - 1, 2**32 - 1])


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes of a valid file, some overwritten, cut out or appended."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, min(len(data), 96)) | st.integers(0, len(data)))
        few = draw(st.binary(min_size=1, max_size=8) | st.sampled_from([b"\xff" * 4, bytes(8), b"\x7f\xff\xff\xff"]))
        kind = draw(st.sampled_from(["overwrite", "cut", "remove", "append"]))
        if kind == "overwrite":
            data[place : place + len(few)] = few
        elif kind == "cut":
            del data[place:]
        elif kind == "remove":
            del data[place : place + len(few)]
        else:
            data += few
    return bytes(data)


@st.composite
def messages(draw: st.DrawFn) -> RawImage:
    """An Image of any encoding, whose data is about as long as it must be."""
    encoding, height, width = draw(st.sampled_from(ENCODINGS)), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    step = width * draw(st.sampled_from([1, 2, 3, 4, 6, 8])) + draw(st.integers(0, 3))
    length = step * height * draw(st.sampled_from([1, 2, 3])) // draw(st.sampled_from([1, 2])) + draw(st.integers(-4, 4))
    data = draw(st.binary(min_size=max(length, 0), max_size=max(length, 0)))
    return RawImage(encoding, height, width, draw(st.just(step) | COUNTS), draw(st.integers(0, 1)), data)


@given(message=messages())
def test_raw_images_of_every_encoding(attempt: Attempt, message: RawImage) -> None:
    image = attempt(codecs.decode_image, message, refusal=CodecError)
    assert image is None or (image.shape == (message.height, message.width, 3) and image.dtype == np.uint8)
    depth = attempt(codecs.decode_depth, message, refusal=CodecError)
    assert depth is None or (np.isfinite(depth).all() and (depth >= 0).all())
    labels = attempt(codecs.decode_labels, message, refusal=CodecError)
    assert labels is None or labels.dtype == np.uint16


FILES = {
    "jpeg": cv2.imencode(".jpg", PLANE.astype(np.uint8))[1].tobytes(),
    "png": codecs.encode_png(PLANE),
    "webp": cv2.imencode(".webp", np.dstack([PLANE.astype(np.uint8)] * 3))[1].tobytes(),
    "tiff": cv2.imencode(".tiff", PLANE)[1].tobytes(),
    "float tiff": cv2.imencode(".tiff", PLANE.astype(np.float32) / 9000)[1].tobytes(),
}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # Pillow's, of damaged tags
@pytest.mark.parametrize("kind", sorted(FILES))
@given(data=st.data())
def test_files_with_any_words(attempt: Attempt, kind: str, data: st.DataObject) -> None:
    bad, words = data.draw(damaged(FILES[kind])), data.draw(FORMATS)
    image = attempt(codecs.decode_compressed_image, bad, words, refusal=CodecError)
    assert image is None or (image.ndim == 3 and image.dtype == np.uint8)
    attempt(codecs.decode_compressed_labels, bad, words, refusal=CodecError)
    for payload in (bad, bytes(12) + bad):
        depth = attempt(codecs.decode_compressed_depth, payload, words, refusal=CodecError)
        assert depth is None or (np.isfinite(depth).all() and (depth >= 0).all())


@given(columns=COUNTS, rows=COUNTS, words=st.binary(max_size=96) | st.lists(st.integers(0, 2**32 - 1), max_size=40))
def test_any_rvl(attempt: Attempt, columns: int, rows: int, words: Any) -> None:
    tail = words if isinstance(words, bytes) else struct.pack(f"<{len(words)}I", *words)
    pixels = attempt(decode_rvl, struct.pack("<II", columns, rows) + tail, refusal=CodecError)
    assert pixels is None or pixels.shape == (rows, columns)


@given(data=st.data(), encoding=st.sampled_from(["16UC1", "mono16", "32FC1"]))
def test_damaged_rvl(attempt: Attempt, data: st.DataObject, encoding: str) -> None:
    whole = struct.pack("<iff", 0, 10100.0, -1009.0) + struct.pack("<II", 3, 2) + bytes.fromhex("1021a123")
    depth = attempt(codecs.decode_compressed_depth, data.draw(damaged(whole)), f"{encoding}; compressedDepth rvl", refusal=CodecError)
    assert depth is None or (np.isfinite(depth).all() and (depth >= 0).all())


NUMBERS = st.floats(width=32) | st.sampled_from([0.0, 1.0, -1.0, 120.0, 200.0, 1e30, -1e-30])


@given(data=st.data())
def test_any_camera_info(attempt: Attempt, data: st.DataObject) -> None:
    def numbers(least: int, most: int) -> list[float]:
        return data.draw(st.lists(NUMBERS, min_size=least, max_size=most))

    whole = [200.0, 0, 16, 0, 200, 12, 0, 0, 1]
    region = SimpleNamespace(**{name: data.draw(COUNTS) for name in ("x_offset", "y_offset", "width", "height")})
    info = SimpleNamespace(
        k=data.draw(st.just(whole)) if data.draw(st.booleans()) else numbers(8, 9),
        d=numbers(0, 15),
        r=data.draw(st.sampled_from([[1.0, 0, 0, 0, 1, 0, 0, 0, 1], [0.0] * 9])),
        p=numbers(12, 12),
        width=data.draw(st.just(32) | COUNTS),
        height=data.draw(st.just(24) | COUNTS),
        binning_x=data.draw(COUNTS),
        binning_y=data.draw(COUNTS),
        roi=data.draw(st.sampled_from([region, None])),
        distortion_model=data.draw(st.sampled_from(["plumb_bob", "rational_polynomial", "equidistant", "", "fov"])),
    )
    size, topic = (data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))), data.draw(st.sampled_from(["", "/image_rect"]))
    camera = attempt(camera_of_info, info, size, data.draw(st.sampled_from(["auto", "true", "false"])), topic, refusal=CodecError)
    if camera is None:
        return
    assert np.isfinite(camera.matrix).all() and camera.matrix[0, 0] > 0
    rays = attempt(camera.rays, refusal=CodecError)
    assert rays.shape == (*size, 2)
    points, _ = cloud(np.ones(size, np.uint16), np.ones(size, np.float32), rays)
    assert np.isfinite(points).all()
