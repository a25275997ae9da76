"""Every encoding of raw images that camera drivers send: input, expected pixels, expected reason of a refusal."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from packed_pixels import GREY, GREY_RGB, RGB, H, W, mosaic, with_alpha

from wesam_ros.data import codecs
from wesam_ros.data.codecs import CodecError, RawImage

MM = (np.arange(H * W).reshape(H, W) * 40).astype(np.uint16)

PADDINGS = pytest.mark.parametrize("padding", [0, 5])


def yuv_of(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Y, U, V of BT.601 in its limited range, by the formula of the recommendation."""
    r, g, b = (rgb[..., i].astype(float) / 255 for i in range(3))
    y = 0.299 * r + 0.587 * g + 0.114 * b
    planes = 16 + 219 * y, 128 + 224 * 0.5 * (b - y) / (1 - 0.114), 128 + 224 * 0.5 * (r - y) / (1 - 0.299)
    return tuple(np.rint(each).astype(np.uint8) for each in planes)  # type: ignore[return-value]


Y, U, V = yuv_of(RGB)


def packed(order: str) -> np.ndarray:
    """(H, W, 2) of yuyv or uyvy."""
    chroma = np.where(np.arange(W) % 2, V, U)
    return np.dstack([Y, chroma] if order == "yuyv" else [chroma, Y]).astype(np.uint8)


def semi_planar(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(3 H / 2, W) of nv12 (U, V) or nv21 (V, U)."""
    return np.vstack([Y, np.dstack([first[::2, ::2], second[::2, ::2]]).reshape(H // 2, W)])


def raw(pixels: np.ndarray, encoding: str, padding: int = 0, bigendian: int = 0, size: tuple[int, int] = (H, W)) -> RawImage:
    """Message with rows of the array's bytes, each followed by padding; the array may have more rows than the image."""
    ordered = pixels.astype(pixels.dtype.newbyteorder(">" if bigendian else "<"))
    rows = [row.tobytes() + b"\xaa" * padding for row in ordered]
    return RawImage(encoding, *size, len(rows[0]), bigendian, b"".join(rows))


WIDE = RGB.astype(np.uint16) * 257


@PADDINGS
@pytest.mark.parametrize(
    ("encoding", "pixels", "expected", "error"),
    [
        ("yuv422", packed("uyvy"), RGB, 2),
        ("uyvy", packed("uyvy"), RGB, 2),
        ("yuv422_yuy2", packed("yuyv"), RGB, 2),
        ("yuyv", packed("yuyv"), RGB, 2),
        ("nv12", semi_planar(U, V), RGB, 2),
        ("nv21", semi_planar(V, U), RGB, 2),
        ("8UC1", GREY, GREY_RGB, 0),
        ("8UC3", RGB[..., ::-1], RGB, 0),
        ("8UC4", with_alpha(RGB[..., ::-1]), RGB, 0),
        ("mono16", GREY.astype(np.uint16) * 257, GREY_RGB, 0),
        ("rgb16", WIDE, RGB, 0),
        ("bgr16", WIDE[..., ::-1], RGB, 0),
        ("rgba16", with_alpha(WIDE), RGB, 0),
        ("bgra16", with_alpha(WIDE[..., ::-1]), RGB, 0),
    ],
)
def test_raw_colour(encoding: str, pixels: np.ndarray, expected: np.ndarray, error: int, padding: int) -> None:
    for bigendian in (0, 1) if pixels.dtype == np.uint16 else (0,):
        decoded = codecs.decode_image(raw(pixels, encoding, padding, bigendian))
        assert decoded.dtype == np.uint8 and decoded.shape == expected.shape
        assert np.abs(decoded.astype(int) - expected).max() <= error


@PADDINGS
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("bits", [8, 16])
def test_raw_bayer(pattern: str, bits: int, padding: int) -> None:
    """Inside a block of one colour, bilinear demosaicing gives that colour: pixels of another block are two away."""
    inside = np.s_[1:-1:4, 1:-1:4]
    pixels = mosaic(pattern) if bits == 8 else mosaic(pattern).astype(np.uint16) * 257
    decoded = codecs.decode_image(raw(pixels, f"bayer_{pattern}{bits}", padding, bigendian=int(bits == 16)))
    np.testing.assert_array_equal(decoded[inside], RGB[inside])
    np.testing.assert_array_equal(decoded[2:-1:4, 2:-1:4], RGB[2:-1:4, 2:-1:4])


@PADDINGS
def test_nv24_has_colour_for_each_pixel(padding: int) -> None:
    rows = [row.tobytes() + bytes(padding) for row in Y]
    rows += [row.tobytes() + bytes(2 * padding) for row in np.dstack([U, V]).reshape(H, 2 * W)]
    decoded = codecs.decode_image(RawImage("nv24", H, W, W + padding, 0, b"".join(rows)))
    assert np.abs(decoded.astype(int) - RGB).max() <= 2
    nv12 = codecs.decode_image(raw(semi_planar(U, V), "nv12"))
    assert np.abs(decoded.astype(int) - nv12).max() <= 1, "another matrix than OpenCV's"


def test_the_range_of_yuv_is_the_limited_one() -> None:
    """Y 16 is black and 235 white, as in cv_bridge: its codes are those of OpenCV, which know no full range."""
    pixels = np.full((2, 4, 2), 128, np.uint8)
    pixels[..., 0] = [[0, 16, 235, 255]] * 2
    assert codecs.decode_image(raw(pixels, "yuyv", size=(2, 4)))[0, :, 1].tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize(("bits", "largest"), [(10, 1023), (12, 4095), (14, 16383), (16, 65535)])
def test_sixteen_bits_are_scaled_by_those_that_are_used(bits: int, largest: int) -> None:
    """A sensor's 12 bits are no black image."""
    pixels = np.zeros((4, 4), np.uint16)
    pixels[0, :2] = largest, largest // 2 + 1
    assert codecs.decode_image(raw(pixels, "mono16", size=(4, 4)))[0, :3, 0].tolist() == [255, 128, 0], bits


@pytest.mark.parametrize(
    ("encoding", "taken"), [("8UC3", "bgr8"), ("8UC4", "bgra8"), ("8UC1", "mono8"), ("bgr8", None), ("yuyv", None), ("", None)]
)
def test_colours_that_are_left_open_are_told(encoding: str, taken: str | None) -> None:
    sentence = codecs.assumption_of(encoding)
    assert sentence is None if taken is None else repr(taken) in str(sentence)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (RawImage("yuv422", 2, 3, 6, 0, bytes(12)), "wrong_size"),
        (RawImage("yuyv", 2, 4, 7, 0, bytes(14)), "wrong_step"),
        (RawImage("yuyv", 2, 4, 8, 0, bytes(15)), "truncated"),
        (RawImage("nv12", 2, 3, 3, 0, bytes(12)), "wrong_size"),
        (RawImage("nv21", 3, 2, 2, 0, bytes(12)), "wrong_size"),
        (RawImage("nv12", 2, 4, 3, 0, bytes(12)), "wrong_step"),
        (RawImage("nv12", 2, 4, 4, 0, bytes(11)), "truncated"),
        (RawImage("nv24", 2, 4, 4, 0, bytes(23)), "truncated"),
        (RawImage("nv24", 2, 4, 2**31, 0, bytes(24)), "truncated"),
        (RawImage("nv12", 0, 4, 4, 0, bytes(12)), "empty"),
        (RawImage("nv12", 2, 4, 4, 0, b""), "empty"),
        (RawImage("bayer_rggb8", 2, 4, 4, 0, bytes(8)), "wrong_size"),
        (RawImage("bayer_rggb16", 4, 4, 7, 0, bytes(32)), "wrong_step"),
        (RawImage("mono16", 2, 2, 4, 0, bytes(7)), "truncated"),
        (RawImage("32FC1", 2, 2, 8, 0, bytes(16)), "unknown_encoding"),
        (RawImage("8UC2", 2, 2, 4, 0, bytes(8)), "unknown_encoding"),
        (RawImage("bayer_rgbg8", 4, 4, 4, 0, bytes(16)), "unknown_encoding"),
        (RawImage("", 2, 2, 6, 0, bytes(12)), "unknown_encoding"),
    ],
)
def test_bad_raw_colour(message: RawImage, reason: str) -> None:
    with pytest.raises(CodecError) as error:
        codecs.decode_image(message)
    assert error.value.reason == reason


def test_even_yuv_of_one_row_and_a_last_row_without_padding() -> None:
    assert codecs.decode_image(raw(packed("yuyv")[:1], "yuyv", size=(1, W))).shape == (1, W, 3)
    for message in (raw(semi_planar(U, V), "nv12", 4), raw(packed("uyvy"), "uyvy", 4)):
        shorter = message._replace(data=message.data[:-4])
        np.testing.assert_array_equal(codecs.decode_image(shorter), codecs.decode_image(message))


class FakeBridge:
    """cv_bridge that knows one encoding more."""

    def imgmsg_to_cv2(self, message: Any, wanted: str) -> np.ndarray:
        if message.encoding != "yuv444":
            raise RuntimeError(f"[{message.encoding}] is not a color format")
        assert wanted == "rgb8"
        return np.full((message.height, message.width, 3), 7, np.uint8)


@pytest.mark.parametrize(("encoding", "taken"), [("yuv444", True), ("32SC3", False)])
def test_cv_bridge_is_asked_for_the_rest(encoding: str, taken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv_bridge", SimpleNamespace(CvBridge=FakeBridge))
    message = RawImage(encoding, 2, 4, 12, 0, bytes(24))
    if taken:
        assert codecs.decode_image(message).tolist() == [[[7] * 3] * 4] * 2
    else:
        with pytest.raises(CodecError) as error:
            codecs.decode_image(message)
        assert error.value.reason == "unknown_encoding"


@PADDINGS
@pytest.mark.parametrize("bigendian", [0, 1])
@pytest.mark.parametrize(
    ("encoding", "pixels", "expected"),
    [
        ("16UC1", MM, MM / 1000),
        ("mono16", MM, MM / 1000),
        ("16SC1", np.array([[-5, 0, 1500, 32767]], np.int16), [[0, 0, 1.5, 32.767]]),
        ("32FC1", np.array([[np.nan, -np.inf, 1.5, 3e-3]], np.float32), [[0, 0, 1.5, 3e-3]]),
        ("64FC1", np.array([[np.nan, 1e300, 1.5, -2]], np.float64), [[0, 0, 1.5, 0]]),
    ],
)
def test_raw_depth(encoding: str, pixels: np.ndarray, expected: Any, bigendian: int, padding: int) -> None:
    size = (pixels.shape[0], pixels.shape[1])
    depth = codecs.decode_depth(raw(pixels, encoding, padding, bigendian, size))
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, np.asarray(expected), rtol=1e-6)


@pytest.mark.parametrize(
    ("encoding", "pixels", "reason"),
    [
        ("64FC1", np.full((16, 16), 812.0), "wrong_unit"),
        ("8UC1", np.zeros((16, 16), np.uint8), "unknown_encoding"),
        ("rgb8", np.zeros((16, 16, 3), np.uint8), "unknown_encoding"),
    ],
)
def test_bad_raw_depth(encoding: str, pixels: np.ndarray, reason: str) -> None:
    with pytest.raises(CodecError) as error:
        codecs.decode_depth(raw(pixels, encoding, size=(16, 16)))
    assert error.value.reason == reason


@pytest.mark.parametrize(
    ("encoding", "pixels", "reason"),
    [
        ("mono16", np.array([[0, 65535]], np.uint16), None),
        ("8UC1", np.array([[0, 255]], np.uint8), None),
        ("16SC1", np.array([[0, 32767]], np.int16), None),
        ("32SC1", np.array([[0, 65535]], np.int32), None),
        ("32SC1", np.array([[0, 65536]], np.int32), "out_of_range"),
        ("16SC1", np.array([[-1, 4]], np.int16), "out_of_range"),
        ("rgb8", np.zeros((1, 2, 3), np.uint8), "unknown_encoding"),
        ("bayer_rggb8", np.zeros((1, 2), np.uint8), "unknown_encoding"),
    ],
)
@pytest.mark.parametrize("bigendian", [0, 1])
def test_raw_labels(encoding: str, pixels: np.ndarray, bigendian: int, reason: str | None) -> None:
    message = raw(pixels, encoding, 3, bigendian, (1, 2))
    if reason is None:
        assert codecs.decode_labels(message).tolist() == pixels.tolist()
    else:
        with pytest.raises(CodecError) as error:
            codecs.decode_labels(message)
        assert error.value.reason == reason
