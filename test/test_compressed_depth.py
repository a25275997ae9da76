"""Compressed depth, PNG and RVL: input, expected metres, expected reason of a refusal."""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
import pytest
from packed_pixels import GREY, H, W, file_of

from wesam_ros.data import codecs
from wesam_ros.data.codecs import CodecError

MM = (np.arange(H * W).reshape(H, W) * 40).astype(np.uint16)


def rvl(pixels: np.ndarray) -> bytes:
    """Columns, rows and words of RVL, one number after the other, by the paper's description."""
    numbers: list[int] = []
    flat, at, last = pixels.ravel().tolist(), 0, 0
    while at < len(flat):
        run = [0, 0]
        for kind in (0, 1):
            while at + run[0] + run[1] < len(flat) and bool(flat[at + run[0] + run[1]]) == bool(kind):
                run[kind] += 1
        numbers += run
        for value in flat[at + run[0] : at + sum(run)]:
            numbers.append(2 * (value - last) if value >= last else 2 * (last - value) - 1)
            last = value
        at += sum(run)
    nibbles: list[int] = []
    for number in numbers:
        digits = [number & 7]
        while number := number >> 3:
            digits.append(number & 7)
        nibbles += [each | 8 for each in digits[:-1]] + digits[-1:]
    nibbles += [0] * (-len(nibbles) % 8)
    words = [int("".join(f"{each:x}" for each in nibbles[i : i + 8]), 16) for i in range(0, len(nibbles), 8)]
    return struct.pack(f"<II{len(words)}I", pixels.shape[1], pixels.shape[0], *words)


SMALL = np.array([[0, 0, 5], [6, 5, 0]], np.uint16)
SMALL_RVL = struct.pack("<II", 3, 2) + bytes.fromhex("1021a123")
"""Two zeros and three others; +5, +1, -1; one zero and no other: nibbles 2 3 a1 2 1 1 0, worked out by hand."""
HOLED = np.where(np.random.default_rng(1).random((H, W)) < 0.3, 0, MM).astype(np.uint16)
JUMPS = np.random.default_rng(2).integers(0, 65536, (H, W)).astype(np.uint16)
NONE, HEADER = np.zeros((H, W), np.uint16), bytes(12)


def test_the_tests_own_rvl_is_the_one_worked_out_by_hand() -> None:
    assert rvl(SMALL) == SMALL_RVL


@pytest.mark.parametrize("encoding", ["16UC1", "mono16"])
@pytest.mark.parametrize("pixels", [SMALL, MM, HOLED, JUMPS, NONE, NONE + 1], ids=["small", "ramp", "holes", "jumps", "zero", "one"])
def test_rvl(pixels: np.ndarray, encoding: str) -> None:
    decoded = codecs.decode_compressed_depth(HEADER + rvl(pixels), f"{encoding}; compressedDepth rvl")
    np.testing.assert_allclose(decoded, pixels / 1000, rtol=1e-6)


@pytest.mark.parametrize("word", ["png", "rvl"])
def test_quantised_depth_in_both_codes(word: str) -> None:
    depth = np.linspace(0.4, 9, H * W, dtype=np.float32).reshape(H, W)
    depth[0] = 0
    name, data = codecs.encode_compressed_depth(depth, "32FC1")
    values = cv2.imdecode(np.frombuffer(data[12:], np.uint8), cv2.IMREAD_UNCHANGED)
    payload = data[12:] if word == "png" else rvl(values)
    decoded = codecs.decode_compressed_depth(data[:12] + payload, f"32FC1; compressedDepth {word}")
    np.testing.assert_array_equal(decoded, codecs.decode_compressed_depth(data, name))
    np.testing.assert_allclose(decoded, depth, atol=0.01)


@pytest.mark.parametrize(
    ("data", "message_format", "expected"),
    [
        (HEADER + file_of("png", MM), "mono16; compressedDepth png", MM / 1000),
        (HEADER + file_of("png", MM), "mono16; compressedDepth", MM / 1000),
        (HEADER + file_of("png", MM), "16UC1", MM / 1000),  # an old publisher
        (HEADER + file_of("png", MM), "16UC1; compressedDepth rvl", MM / 1000),  # wrong word, whole PNG
        (HEADER + file_of("png", np.array([[65531, 1500]], np.uint16)), "16SC1; compressedDepth png", [[0, 1.5]]),
        (file_of("png", MM), "16UC1; png", MM / 1000),
        (file_of("png", MM), "mono16; png compressed ", MM / 1000),
        (file_of("png", MM), "png", MM / 1000),
        (file_of("tiff", MM), "16UC1; tiff compressed ", MM / 1000),
        (file_of("tiff", np.array([[np.nan, 1.5]], np.float32)), "32FC1; tiff compressed ", [[0, 1.5]]),
    ],
)
def test_compressed_depth(data: bytes, message_format: str, expected: Any) -> None:
    np.testing.assert_allclose(codecs.decode_compressed_depth(data, message_format), np.asarray(expected), rtol=1e-6)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "truncated"),
        (bytes(7), "truncated"),
        (bytes(8), "empty"),
        (struct.pack("<II", 2**31, 2**31) + bytes(8), "too_large"),
        (struct.pack("<II", 8192, 8193) + bytes(8), "too_large"),
        (rvl(JUMPS)[:-8], "truncated"),
        (rvl(JUMPS)[:12], "truncated"),
        (struct.pack("<II", 2, 2) + rvl(JUMPS)[8:], "undecodable"),
        (struct.pack("<II", 9, 9) + b"\xff" * 64, "truncated"),  # a number without end
        (struct.pack("<III", 9, 9, 0xFFFFFFFF) + b"\xff\xff\xff\x0f", "truncated"),
        (struct.pack("<II", 9, 9) + b"\xff" * 4 + struct.pack("<II", 0xFFFFFFF0, 0), "undecodable"),
        (struct.pack("<II", 9, 9) + bytes(40), "truncated"),  # empty runs without end
    ],
)
def test_bad_rvl(payload: bytes, reason: str) -> None:
    with pytest.raises(CodecError) as error:
        codecs.decode_compressed_depth(HEADER + payload, "16UC1; compressedDepth rvl")
    assert error.value.reason in (reason, "truncated") and (payload or error.value.reason == reason)


@pytest.mark.parametrize(
    ("data", "message_format", "reason"),
    [
        (file_of("jpg", GREY), "16UC1; jpeg compressed mono8", "unknown_format"),
        (file_of("png", GREY), "mono8; png compressed ", "unknown_format"),
        (file_of("tiff", np.full((16, 16), 812, np.float32)), "32FC1; tiff compressed ", "wrong_unit"),
        (HEADER + rvl(MM), "16UC1; compressedDepth zstd", "unknown_format"),
        (HEADER + rvl(MM), "16UC1; compressedDepth png", "unknown_format"),
        (HEADER + rvl(MM), "64FC1; compressedDepth rvl", "unknown_encoding"),
        (HEADER + rvl(MM), "compressedDepth rvl", "unknown_encoding"),
        (b"\x00\x00\x00\x01\x67", "ffmpeg", "unread_transport"),
    ],
)
def test_bad_compressed_depth(data: bytes, message_format: str, reason: str) -> None:
    with pytest.raises(CodecError) as error:
        codecs.decode_compressed_depth(data, message_format)
    assert error.value.reason == reason
