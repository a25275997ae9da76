"""RVL, the lossless code of depth images (Wilson, "Fast Lossless Depth Image Compression", ISS 2017).

A stream of numbers: the length of a run of zeros, that of a run of other pixels, then each of these as the difference to the last pixel
that was not zero, signs folded into the lowest bit (0, -1, 1, -2, ...); and so on until all pixels are there. A number has three bits in a
nibble, the lowest first; the nibble's top bit says that more follow. Eight nibbles, the first one highest, are a little-endian word.
compressed_depth_image_transport writes columns and rows before them, as two little-endian words (src/codec.cpp).
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from wesam_ros.data.codecs.fields import MAX_PIXELS, CodecError, UInt8, UInt16

SIZE = struct.Struct("<II")
WORD = 4
MOST_NIBBLES = 11
"""Nibbles of the longest number: 32 bits. One that is longer is damage."""
MORE, BITS = 8, 7
TOO_LONG = 2**40
BYTES_OF_PIXEL = 8
"""No pixel takes more, with the run that it is in; bytes behind are not looked at."""

Int64 = npt.NDArray[np.int64]


def decode_rvl(data: bytes) -> UInt16:
    """(H, W) uint16 of columns, rows and the words of RVL.

    Memory is asked for only once the runs add up to the pixels, so a small message cannot ask for much.

    Raises:
        CodecError: "truncated", "empty", "too_large" or "undecodable".
    """
    if len(data) < SIZE.size:
        raise CodecError("truncated", f"RVL must begin with {SIZE.size} bytes of columns and rows, but got {len(data)} bytes")
    columns, rows = SIZE.unpack_from(data)
    pixels = rows * columns
    if not pixels:
        raise CodecError("empty", f"RVL image must have pixels, but got {columns} x {rows}; check the camera driver")
    if pixels > MAX_PIXELS:
        raise CodecError("too_large", f"RVL image must have at most {MAX_PIXELS} pixels, but got {columns} x {rows}; its header is damaged")
    numbers = _numbers(data[SIZE.size : SIZE.size + pixels * BYTES_OF_PIXEL + 2 * WORD])
    runs, heads, end = _runs(numbers, pixels)
    result = np.zeros(pixels, np.uint16)
    differences = np.delete(numbers[:end], np.concatenate([heads, heads + 1]))
    signed = (differences >> 1) ^ -(differences & 1)
    result[np.repeat(np.tile([False, True], len(heads)), runs)] = np.cumsum(signed).astype(np.uint16)  # modulo 2^16, as in C
    return result.reshape(rows, columns)


def _numbers(data: bytes) -> Int64:
    """The numbers of a stream; `TOO_LONG` for one of more than `MOST_NIBBLES`."""
    whole = np.frombuffer(data[: len(data) // WORD * WORD], np.uint8).reshape(-1, WORD)[:, ::-1].ravel()
    nibbles: UInt8 = np.empty(2 * len(whole), np.uint8)
    nibbles[0::2], nibbles[1::2] = whole >> 4, whole & 15
    ends = np.flatnonzero(nibbles < MORE)
    starts = np.concatenate([[0], ends + 1])[: len(ends)]
    lengths = ends - starts
    numbers: Int64 = (nibbles[starts] & BITS).astype(np.int64)
    longer = np.flatnonzero(lengths)
    for place in range(1, MOST_NIBBLES):
        if not len(longer):
            return numbers
        numbers[longer] |= (nibbles[starts[longer] + place] & BITS).astype(np.int64) << (3 * place)
        longer = longer[lengths[longer] > place]
    numbers[longer] = TOO_LONG
    return numbers


def _runs(numbers: Int64, pixels: int) -> tuple[Int64, Int64, int]:
    """Lengths (2n,) of the runs, of zeros and of others in turn; where among the numbers each pair of them stands (n,); where they end."""
    runs: list[int] = []
    heads: list[int] = []
    place, left, count = 0, pixels, len(numbers)
    view = numbers.data  # its items are Python's numbers, and quicker to get than an array's
    while left:
        if place + 2 > count:
            raise CodecError("truncated", f"RVL image must have {pixels} pixels, but its words end after {pixels - left}; it was cut short")
        zeros, others = view[place], view[place + 1]
        left -= zeros + others
        heads.append(place)
        runs += (zeros, others)
        place += 2 + others
        if left < 0:
            raise CodecError("undecodable", f"RVL image must have {pixels} pixels, but its runs are longer; it is damaged, or no RVL")
        if place > count:
            raise CodecError("truncated", f"RVL image must have {pixels} pixels, but its words end in a run; it was cut short")
    return np.array(runs), np.array(heads), place
