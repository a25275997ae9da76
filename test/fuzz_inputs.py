"""Inputs that the fuzzing tests share: a small frame, and valid files with damage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

Attempt = Callable[..., Any]
SIZE = (24, 32)
PLANE = np.arange(SIZE[0] * SIZE[1], dtype=np.uint16).reshape(SIZE) * 50
RGB = np.dstack([PLANE // 7, PLANE // 11, PLANE // 160]).astype(np.uint8)
METRES = PLANE.astype(np.float32) / 1000
CAMERA = np.array([[40.0, 0, 16], [0, 40, 12], [0, 0, 1]])

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
SIZES = st.integers(-3, 70) | st.sampled_from([2**16, 2**31 - 1, 2**31, 2**32 - 1])
NUMBERS = st.floats(width=32) | st.sampled_from([0.0, -1.0, 1.0, 31.5, 32.0, 1e30, -1e30])


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """The bytes of a valid file, with some overwritten, cut out, doubled or appended; now and then something else altogether."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["overwrite", "head", "cut", "remove", "double", "append", "other"]))
        # Headers are where it hurts: half of the places are within the first bytes.
        place = draw(st.integers(0, min(len(data), 96)) | st.integers(0, len(data)))
        few = draw(st.binary(min_size=1, max_size=8) | st.sampled_from([b"\xff" * 4, b"\x00" * 8, b"\xff" * 8, b"\x7f\xff\xff\xff"]))
        if kind in ("overwrite", "head"):
            data[place : place + len(few)] = few
        elif kind == "cut":
            del data[place:]
        elif kind == "remove":
            del data[place : place + draw(st.integers(1, 64))]
        elif kind == "double":
            data[place:place] = data[place : place + draw(st.integers(1, 64))]
        elif kind == "append":
            data += few
        else:
            data = bytearray(draw(st.binary(max_size=64)))
    return bytes(data)
