"""Compressed images by their files and the words of `format`: input, expected pixels, expected reason of a refusal."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from packed_pixels import GREY, GREY_RGB, RGB, H, W, file_of, mosaic, with_alpha
from PIL import Image

from wesam_ros.data import codecs
from wesam_ros.data.codecs import CodecError, RawImage
from wesam_ros.data.codecs.compressed import Format, format_of
from wesam_ros.data.datasets.files import read_ids, read_image

MM = (np.arange(H * W).reshape(H, W) * 40).astype(np.uint16)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rgb8; jpeg compressed bgr8", ("rgb8", "jpeg", "bgr8")),
        ("bayer_rggb8; png compressed ", ("bayer_rggb8", "png", "")),
        ("bayer_rggb8; jpeg compressed mono8", ("bayer_rggb8", "jpeg", "mono8")),
        ("16UC1; png", ("16UC1", "png", "")),
        ("mono8", ("mono8", "", "")),
        ("JPEG", ("", "jpeg", "")),
        ("16UC1; compressedDepth rvl", ("16UC1", "compresseddepth rvl", "")),
        ("", ("", "", "")),
    ],
)
def test_words_of_a_format(text: str, words: tuple[str, str, str]) -> None:
    assert format_of(text) == Format(*words)


BGR = np.ascontiguousarray(RGB[..., ::-1])
LOSSLESS = (cv2.IMWRITE_WEBP_QUALITY, 101)
TURNED = {0x0112: 6}


def turned(kind: str, array: np.ndarray) -> bytes:
    """A file whose EXIF says that it is to be turned by a quarter."""
    exif, file = Image.Exif(), io.BytesIO()
    exif.update(TURNED)
    Image.fromarray(array).save(file, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    return file.getvalue()


DEMOSAICED = cv2.cvtColor(mosaic("rggb"), cv2.COLOR_BayerRGGB2RGB)


@pytest.mark.parametrize(
    ("data", "message_format", "expected"),
    [
        (file_of("png", BGR), "rgb8; png compressed bgr8", RGB),
        (file_of("png", BGR), "bgr8; png compressed bgr8", RGB),
        (file_of("png", BGR), "rgb8; png compressed rgb8", RGB),  # many publishers write this of files with their channels in order
        (file_of("png", BGR), "png", RGB),
        (file_of("png", BGR), "", RGB),
        (file_of("png", BGR), "8UC3; png compressed ", RGB),
        (file_of("png", with_alpha(BGR)), "png", RGB),
        (file_of("webp", BGR, *LOSSLESS), "webp", RGB),
        (file_of("tiff", BGR), "tiff", RGB),
        (file_of("tiff", RGB), "rgb8; tiff compressed ", RGB),  # compressed_image_transport packs the raw bytes
        (file_of("tiff", BGR), "bgr8; tiff compressed ", RGB),
        (file_of("png", GREY), "mono8", GREY_RGB),
        (file_of("png", GREY), "mono8; png compressed ", GREY_RGB),
        (file_of("png", GREY.astype(np.uint16) * 257), "mono16; png compressed ", GREY_RGB),
        (file_of("png", BGR.astype(np.uint16) * 257), "rgb16; png compressed bgr16", RGB),
        (file_of("png", GREY.astype(np.uint16) * 16), "mono16; png compressed ", np.rint(GREY_RGB * (16 * 255 / 4095))),  # 12 bits
        (file_of("png", mosaic("rggb")), "bayer_rggb8; png compressed ", DEMOSAICED),
        (file_of("png", mosaic("rggb").astype(np.uint16) * 257), "bayer_rggb16; png compressed ", DEMOSAICED),
        (file_of("tiff", mosaic("rggb")), "bayer_rggb8; tiff compressed ", DEMOSAICED),
        (file_of("png", mosaic("rggb")), "bayer_rggb8", DEMOSAICED),
        (file_of("png", mosaic("rggb")), "BAYER_RGGB8; png compressed ", DEMOSAICED),
        (file_of("png", mosaic("rggb")), "bayer_rggb8; png compressed bayer_rggb8", DEMOSAICED),
        (file_of("png", BGR), "bayer_rggb8; png compressed ", RGB),  # made colour by a publisher that forgot to say so
        (file_of("png", GREY), "bayer_rggb8; jpeg compressed mono8", GREY_RGB),  # ROS 2's JPEG is grey
        (turned("PNG", RGB), "png", RGB),
        (turned("WEBP", RGB), "webp", RGB),
    ],
)
def test_compressed_colour(data: bytes, message_format: str, expected: np.ndarray) -> None:
    decoded = codecs.decode_compressed_image(data, message_format)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, expected)


@pytest.mark.parametrize(
    ("message_format", "pixels", "expected"),
    [
        ("jpeg", BGR, RGB),
        ("rgb8; jpeg compressed bgr8", BGR, RGB),
        ("rgb8; jpeg compressed rgb8", BGR, RGB),
        ("yuv422_yuy2; jpeg compressed bgr8", BGR, RGB),
        ("mono8; jpeg compressed mono8", GREY, GREY_RGB),
        ("bayer_rggb8; jpeg compressed ", mosaic("rggb"), DEMOSAICED),  # noetic keeps the mosaic
    ],
)
def test_jpeg_by_the_words_of_its_format(message_format: str, pixels: np.ndarray, expected: np.ndarray) -> None:
    data = file_of("jpg", pixels, cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111)
    assert np.abs(codecs.decode_compressed_image(data, message_format).astype(int) - expected).mean() < 3


def test_exif_turns_files_and_not_streams(tmp_path: Any) -> None:
    data = turned("JPEG", RGB)
    assert codecs.decode_compressed_image(data, "jpeg").shape == (H, W, 3)
    labels = turned("PNG", GREY)
    np.testing.assert_array_equal(codecs.decode_compressed_labels(labels, "mono8; png compressed "), GREY)
    (tmp_path / "a.jpg").write_bytes(data)
    (tmp_path / "a.png").write_bytes(labels)
    assert read_image(tmp_path / "a.jpg").shape == (W, H, 3)
    np.testing.assert_array_equal(read_ids(tmp_path / "a.png", ""), np.rot90(GREY, -1))


@pytest.mark.parametrize(
    ("data", "message_format", "reason"),
    [
        (b"\x00\x00\x00\x01\x67abc", "h264", "unread_transport"),
        (b"\x00\x00\x00\x01\x40abc", "", "unread_transport"),
        (b"whatever", "hevc", "unread_transport"),
        (b"whatever", "bgr8; h264_nvenc", "unread_transport"),
        (b"OggS1234", "", "unread_transport"),
        (b"\x28\xb5\x2f\xfd....", "zstd", "unread_transport"),
        (b"\x00\x00\x00\x20ftypavif", "avif", "unread_transport"),
        (b"BM whatever", "bmp", "unknown_format"),
        (file_of("webp", BGR)[:-9], "webp", "truncated"),
        (file_of("tiff", BGR)[:-9], "tiff", "truncated"),
        (file_of("tiff", BGR)[:200], "tiff", "truncated"),
        (file_of("png", MM), "16UC1; png compressed ", "unknown_encoding"),
        (bytes(12) + file_of("png", MM), "16UC1; compressedDepth png", "unknown_encoding"),
        (bytes(12) + file_of("png", MM), "mono16; compressedDepth png", "unknown_encoding"),
        (file_of("tiff", (MM / 1000).astype(np.float32)), "tiff", "undecodable"),
        (file_of("png", mosaic("rggb")[:2]), "bayer_rggb8; png compressed ", "wrong_size"),
        (file_of("png", mosaic("rggb")), "bayer_rggb12; png compressed ", "unknown_encoding"),  # not segmented as a grey checkerboard
        (file_of("png", mosaic("rggb")), "bayer_rgbg8", "unknown_encoding"),
    ],
)
def test_bad_compressed_colour(data: bytes, message_format: str, reason: str) -> None:
    with pytest.raises(CodecError) as error:
        codecs.decode_compressed_image(data, message_format)
    assert error.value.reason == reason


@pytest.mark.parametrize(
    ("data", "message_format", "expected", "reason"),
    [
        (file_of("png", GREY), "mono8; png compressed ", GREY, None),
        (file_of("png", MM), "16UC1; png compressed ", MM, None),
        (file_of("png", MM), "mono16; png compressed ", MM, None),
        (file_of("tiff", MM), "16UC1; tiff compressed ", MM, None),
        (file_of("jpg", GREY), "mono8; jpeg compressed mono8", None, "lossy"),
        (file_of("png", BGR), "rgb8; png compressed bgr8", None, "unknown_format"),
        (b"", "png", None, "empty"),
        (b"whatever", "theora", None, "unread_transport"),
    ],
)
def test_compressed_labels(data: bytes, message_format: str, expected: np.ndarray | None, reason: str | None) -> None:
    if expected is not None:
        np.testing.assert_array_equal(codecs.decode_compressed_labels(data, message_format), expected)
        return
    with pytest.raises(CodecError) as error:
        codecs.decode_compressed_labels(data, message_format)
    assert error.value.reason == reason


@pytest.mark.parametrize(
    ("name", "transport"),
    [
        ("/camera/image_raw/ffmpeg", "ffmpeg"),
        ("ffmpeg_image_transport_msgs/msg/FFMPEGPacket", "ffmpeg"),
        ("ffmpeg_image_transport_msgs/FFMPEGPacket", "ffmpeg"),
        ("/camera/theora", "theora"),
        ("theora_image_transport/msg/Packet", "theora"),
        ("foxglove_msgs/msg/CompressedVideo", "foxglove"),
        ("zstd", "zstd"),
        ("/camera/image_raw", None),
        ("/camera/image_raw/compressed", None),
        ("sensor_msgs/msg/CompressedImage", None),
        ("", None),
    ],
)
def test_transports_that_are_not_read(name: str, transport: str | None) -> None:
    assert codecs.unread_transport(name) == transport


@pytest.mark.parametrize("topic", ["/c/image_raw", "/c/image_raw/ffmpeg"])
def test_the_command_that_republishes(topic: str) -> None:
    words = codecs.republish_command("ffmpeg", topic).split()
    assert words[:6] == ["ros2", "run", "image_transport", "republish", "ffmpeg", "raw"]
    assert {"in_transport:=ffmpeg", "out_transport:=raw", "in/ffmpeg:=/c/image_raw/ffmpeg"} <= set(words)


def test_each_refusal_says_what_to_do() -> None:
    """A value and a remedy: the part behind the semicolon."""
    calls: list[Callable[[], Any]] = [
        lambda: codecs.decode_image(RawImage("8UC2", 2, 2, 4, 0, bytes(8))),
        lambda: codecs.decode_image(RawImage("yuyv", 2, 3, 6, 0, bytes(12))),
        lambda: codecs.decode_compressed_image(b"whatever", "h265"),
        lambda: codecs.decode_compressed_image(file_of("png", MM), "16UC1; png compressed "),
        lambda: codecs.decode_compressed_labels(file_of("jpg", GREY), "jpeg"),
    ]
    for call in calls:
        with pytest.raises(CodecError, match=r"but .*; \w+"):
            call()
