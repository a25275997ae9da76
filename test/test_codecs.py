"""Pixels of ROS image messages: every encoding, both byte orders, padded rows, and bytes that are not what they are said to be."""

import array
import io
import struct

import cv2
import numpy as np
import pytest

from wesam_ros.data import codecs
from wesam_ros.data.codecs import CodecError, RawImage

RGB = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [10, 20, 30]]], np.uint8)
MM = np.array([[0, 1], [1500, 65535]], np.uint16)
METRES = np.array([[0, 0.001], [1.5, 65.535]], np.float32)


def raw(array_: np.ndarray, encoding: str, padding: int = 0, bigendian: int = 0) -> RawImage:
    """Message with rows of the array's bytes, each followed by padding."""
    ordered = array_.astype(array_.dtype.newbyteorder(">" if bigendian else "<"))
    rows = [row.tobytes() + b"\xaa" * padding for row in ordered]
    return RawImage(encoding, len(rows), array_.shape[1], len(rows[0]), bigendian, b"".join(rows))


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "pixels", "expected"),
    [
        ("rgb8", RGB, RGB),
        ("bgr8", RGB[..., ::-1], RGB),
        ("rgba8", np.dstack([RGB, np.full((2, 2), 9, np.uint8)]), RGB),
        ("bgra8", np.dstack([RGB[..., ::-1], np.full((2, 2), 9, np.uint8)]), RGB),
        ("mono8", RGB[..., 2], np.dstack([RGB[..., 2]] * 3)),
    ],
)
def test_colour_encodings(encoding: str, pixels: np.ndarray, expected: np.ndarray, padding: int) -> None:
    np.testing.assert_array_equal(codecs.decode_image(raw(pixels, encoding, padding)), expected)


def test_rgb8_is_not_copied() -> None:
    data = bytearray(RGB.tobytes())
    image = codecs.decode_image(RawImage("rgb8", 2, 2, 6, 0, data))
    data[0] = 7
    assert image[0, 0, 0] == 7


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("bigendian", [0, 1])
@pytest.mark.parametrize(
    ("encoding", "pixels", "expected"),
    [
        ("16UC1", MM, METRES),
        ("mono16", MM, METRES),
        ("32FC1", np.array([[np.nan, np.inf], [-1, 2.5]], np.float32), np.array([[0, 0], [0, 2.5]], np.float32)),
    ],
)
def test_depth_encodings(encoding: str, pixels: np.ndarray, expected: np.ndarray, bigendian: int, padding: int) -> None:
    depth = codecs.decode_depth(raw(pixels, encoding, padding, bigendian))
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, expected, rtol=1e-6)


@pytest.mark.parametrize(("encoding", "dtype"), [("16UC1", np.uint16), ("mono8", np.uint8)])
def test_label_encodings(encoding: str, dtype: type) -> None:
    labels = codecs.decode_labels(raw(np.array([[0, 3]], dtype), encoding))
    assert labels.dtype == np.uint16
    assert labels.tolist() == [[0, 3]]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda b: array.array("B", b), lambda b: np.frombuffer(b, np.uint8)])
def test_bytes_of_every_library_are_taken(kind: type) -> None:
    assert codecs.decode_image(RawImage("rgb8", 2, 2, 6, 0, kind(RGB.tobytes()))).tolist() == RGB.tolist()
    assert codecs.decode_compressed_image(kind(codecs.encode_png(RGB))).tolist() == RGB.tolist()


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (RawImage("rgb8", 0, 2, 6, 0, b"x"), "empty"),
        (RawImage("rgb8", 2, 0, 6, 0, b"x"), "empty"),
        (RawImage("rgb8", 2, 2, 6, 0, b""), "empty"),
        (RawImage("yuv410", 2, 2, 6, 0, bytes(12)), "unknown_encoding"),
        (RawImage("16UC1", 2, 2, 6, 0, bytes(12)), "unknown_encoding"),
        (RawImage("rgb8", 2, 2, 5, 0, bytes(12)), "wrong_step"),
        (RawImage("rgb8", 2, 2, 0, 0, bytes(12)), "wrong_step"),
        (RawImage("rgb8", 2, 2, 6, 0, bytes(11)), "truncated"),
        (RawImage("rgb8", 2, 2, 2**31, 0, bytes(12)), "truncated"),
    ],
)
def test_bad_raw_images(message: RawImage, reason: str) -> None:
    with pytest.raises(CodecError) as error:
        codecs.decode_image(message)
    assert error.value.reason == reason


def test_last_row_may_lack_its_padding() -> None:
    message = raw(RGB, "rgb8", padding=4)
    np.testing.assert_array_equal(codecs.decode_image(message._replace(data=message.data[:-4])), RGB)


@pytest.mark.parametrize("pixels", [RGB, RGB[::-1, ::-1], RGB[..., 0], MM, METRES], ids=["rgb", "strided", "mono", "uint16", "float32"])
def test_encoded_raw_image_is_decoded_to_the_same(pixels: np.ndarray) -> None:
    message = codecs.encode_image(pixels)
    assert len(message.data) == message.height * message.step
    if message.encoding in codecs.COLOUR_ENCODINGS:
        decoded = codecs.decode_image(message)
        np.testing.assert_array_equal(decoded if pixels.ndim == 3 else decoded[..., 0], pixels)
    else:
        np.testing.assert_allclose(codecs.decode_depth(message), METRES, rtol=1e-6)


def test_encode_image_says_what_it_takes() -> None:
    with pytest.raises(ValueError, match=r"image must be .* but got \(2, 2\) int64"):
        codecs.encode_image(np.zeros((2, 2), np.int64))


def smooth() -> np.ndarray:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    return np.dstack([np.tile(ramp, (48, 1)), np.tile(ramp[::-1], (48, 1)), np.full((48, 64), 80, np.uint8)])


def test_jpeg_and_png_keep_the_channels_in_order() -> None:
    assert np.abs(codecs.decode_compressed_image(codecs.encode_jpeg(smooth())).astype(int) - smooth()).mean() < 3
    np.testing.assert_array_equal(codecs.decode_compressed_image(codecs.encode_png(smooth())), smooth())


def test_jpeg_with_padding_behind_its_end_is_whole() -> None:
    assert codecs.decode_compressed_image(codecs.encode_jpeg(smooth()) + bytes(100)).shape == (48, 64, 3)


@pytest.mark.parametrize("encode", [codecs.encode_jpeg, codecs.encode_png])
@pytest.mark.parametrize("kept", [0.2, 0.5, 0.99])
def test_images_cut_short_are_rejected(encode: object, kept: float) -> None:
    data = encode(smooth())  # type: ignore[operator]
    with pytest.raises(CodecError) as error:
        codecs.decode_compressed_image(data[: int(len(data) * kept)])
    assert error.value.reason == "truncated"


def test_jpeg_cut_short_behind_its_thumbnail_is_rejected() -> None:
    data, thumbnail = codecs.encode_jpeg(smooth()), codecs.encode_jpeg(smooth()[:8, :8])
    exif = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    with_thumbnail = data[:2] + exif + data[2:]
    assert codecs.decode_compressed_image(with_thumbnail).shape == (48, 64, 3)
    for cut in (len(with_thumbnail) // 2, len(with_thumbnail) - 50, len(exif) + 10):
        with pytest.raises(CodecError):
            codecs.decode_compressed_image(with_thumbnail[:cut])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"GIF89a....", "unknown_format"),
        (b"\xff\xd8\xff\xe0 nothing \xff\xda\xff\xd9", "undecodable"),
        (codecs.PNG_START + bytes(4) + codecs.PNG_END + bytes(4), "undecodable"),
    ],
)
def test_bad_compressed_images(data: bytes, reason: str) -> None:
    with pytest.raises(CodecError) as error:
        codecs.decode_compressed_image(data)
    assert error.value.reason == reason


def test_labels_as_png_are_exact() -> None:
    np.testing.assert_array_equal(codecs.decode_compressed_labels(codecs.encode_png(MM)), MM)
    with pytest.raises(CodecError, match="one channel"):
        codecs.decode_compressed_labels(codecs.encode_png(RGB))


def test_compressed_depth_in_millimetres_is_exact() -> None:
    message_format, data = codecs.encode_compressed_depth(METRES)
    assert message_format == "16UC1; compressedDepth png"
    np.testing.assert_allclose(codecs.decode_compressed_depth(data, message_format), METRES, rtol=1e-6)


def test_quantised_depth_follows_the_formula_of_compressed_depth_image_transport() -> None:
    depth = np.array([[0, 0.5, 1, 2], [5, 9.9, 10, 30]], np.float32)
    message_format, data = codecs.encode_compressed_depth(depth, "32FC1")
    kind, a, b = struct.unpack("<iff", data[:12])
    assert (kind, a, b) == (0, 10100.0, -1009.0)  # 100 * 101 and 1 - 10100 / 10
    values = cv2.imdecode(np.frombuffer(data[12:], np.uint8), cv2.IMREAD_UNCHANGED)
    assert values.tolist() == [[0, 19191, 9091, 4041], [1011, 11, 0, 0]]  # 10100 / z - 1009, truncated
    decoded = codecs.decode_compressed_depth(data, message_format)
    assert decoded[0, 0] == decoded[1, 2] == decoded[1, 3] == 0
    np.testing.assert_allclose(decoded[depth * (depth < 10) > 0], depth[depth * (depth < 10) > 0], atol=0.01)


@pytest.mark.parametrize("message_format", ["16UC1; compressedDepth", "16UC1;compressedDepth png"])
def test_spellings_of_the_format(message_format: str) -> None:
    _, data = codecs.encode_compressed_depth(METRES)
    np.testing.assert_allclose(codecs.decode_compressed_depth(data, message_format), METRES, rtol=1e-6)


def test_plain_png_is_depth_in_millimetres() -> None:
    np.testing.assert_allclose(codecs.decode_compressed_depth(codecs.encode_png(MM), "16UC1; png compressed "), METRES, rtol=1e-6)


@pytest.mark.parametrize(
    ("data", "message_format", "reason"),
    [
        (b"", "16UC1; compressedDepth png", "empty"),
        (bytes(12), "16UC1; compressedDepth png", "truncated"),
        (bytes(12) + codecs.encode_png(MM)[:-5], "16UC1; compressedDepth png", "truncated"),
        (bytes(12) + codecs.encode_png(MM), "16UC1; compressedDepth jpeg", "unknown_format"),
        (bytes(12) + codecs.encode_png(MM), "8UC1; compressedDepth png", "unknown_encoding"),
        (bytes(12) + codecs.encode_png(RGB), "16UC1; compressedDepth png", "unknown_format"),
        (bytes(12) + codecs.encode_png(RGB[..., 0]), "16UC1; compressedDepth png", "unknown_format"),
    ],
)
def test_bad_compressed_depth(data: bytes, message_format: str, reason: str) -> None:
    with pytest.raises(CodecError) as error:
        codecs.decode_compressed_depth(data, message_format)
    assert error.value.reason == reason


def test_damaged_quantisation_gives_no_depth_rather_than_nan() -> None:
    _, data = codecs.encode_compressed_depth(np.ones((2, 2), np.float32), "32FC1")
    damaged = struct.pack("<iff", 0, float("nan"), 0.0) + data[12:]
    assert codecs.decode_compressed_depth(damaged, "32FC1; compressedDepth png").tolist() == [[0, 0], [0, 0]]


def test_millimetres_are_not_taken_for_metres() -> None:
    depth = np.full((16, 16), 812.0, np.float32)
    depth[:4] = 0
    with pytest.raises(CodecError, match=r"metres \(REP 118\), but the median is 812"):
        codecs.decode_depth(codecs.encode_image(depth))


def test_a_chunk_longer_than_the_png_is_not_decoded() -> None:
    """Decoders would ask for the two gigabytes that its length says."""
    whole = codecs.encode_png(MM)
    place = whole.index(b"IDAT") - 4
    damaged = whole[:place] + (0x81000088).to_bytes(4, "big") + whole[place + 4 :]
    assert codecs.png_is_whole(io.BytesIO(whole)) and not codecs.png_is_whole(io.BytesIO(damaged))
    with pytest.raises(CodecError) as error:
        codecs.decode_compressed_labels(damaged)
    assert error.value.reason == "truncated"
