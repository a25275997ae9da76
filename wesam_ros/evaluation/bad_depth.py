"""Bad depth: what goes wrong with depth cameras, as changes to a frame. Served masks must not be worse than the model's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.data.frames import Frame

Depth = npt.NDArray[np.float32]
Change = Callable[[Depth, np.random.Generator], Depth]


def _moved(depth: Depth, x: int, y: int) -> Depth:
    """All pixels moved right and down by x, y pixels at 640 of width."""
    height, width = depth.shape
    scale = width / 640
    shift = np.array([[1, 0, round(x * scale)], [0, 1, round(y * scale)]], np.float32)
    return np.asarray(cv2.warpAffine(depth, shift, (width, height), flags=cv2.INTER_NEAREST), np.float32)


def _fat_edges(depth: Depth, rng: np.random.Generator) -> Depth:
    """Stereo's windows: near things are wider by 5 pixels, at 640 of width, on each side."""
    far, side = np.where(depth > 0, depth, np.float32(100)), 2 * round(5 * depth.shape[1] / 640) + 1
    near = cv2.erode(far, np.ones((side, side), np.uint8))
    return np.where((depth > 0) | (near < 100), np.where(near < 100, near, 0), 0).astype(np.float32)


def _noisy(depth: Depth, rng: np.random.Generator) -> Depth:
    """Three times a structured-light camera's noise on top of its own."""
    sigma = 3 * (0.0012 + 0.0019 * (depth - 0.4) ** 2)
    return np.where(depth > 0, depth + sigma * rng.standard_normal(depth.shape, np.float32), 0).astype(np.float32)


def _quantised(depth: Depth, rng: np.random.Generator) -> Depth:
    """Whole centimetres."""
    return np.asarray(np.round(depth * 100) / 100, np.float32)


def _third_resolution(depth: Depth, rng: np.random.Generator) -> Depth:
    height, width = depth.shape
    small = cv2.resize(depth, (width // 3, height // 3), interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST), np.float32)


def _half_missing(depth: Depth, rng: np.random.Generator) -> Depth:
    """Blotches of holes over half of the image."""
    height, width = depth.shape
    blotches = cv2.resize(rng.random((height // 16, width // 16), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.where(blotches > np.median(blotches), depth, 0).astype(np.float32)


def _stripes(depth: Depth, rng: np.random.Generator) -> Depth:
    """A second projector's interference: waves of 8 mm every 24 columns, and a fifth of the rows lost in bands."""
    height, width = depth.shape
    waves = 0.008 * np.sin(np.arange(width) * (2 * np.pi / 24) + rng.uniform(0, 2 * np.pi))
    lost = (np.arange(height) % 40) < 8
    return np.where((depth > 0) & ~lost[:, None], depth + waves[None], 0).astype(np.float32)


def _other_camera(depth: Depth, rng: np.random.Generator) -> Depth:
    """The depth of a camera that looks from elsewhere: mirrored, and nearer by a tenth."""
    return np.ascontiguousarray(depth[:, ::-1] * np.float32(0.9))


BAD_DEPTH: dict[str, Change] = {
    "3 px off": lambda depth, rng: _moved(depth, 3, 0),
    "8 px off": lambda depth, rng: _moved(depth, 6, 5),
    "100 ms late": lambda depth, rng: _moved(depth, 20, 0),
    "fat edges": _fat_edges,
    "noise times three": _noisy,
    "quantised": _quantised,
    "a third of the resolution": _third_resolution,
    "half missing": _half_missing,
    "stripes": _stripes,
    "another camera's": _other_camera,
    "a tenth too far": lambda depth, rng: np.asarray(depth * np.float32(1.1), np.float32),
}
"""By name. A camera that moves at 20 px in 100 ms is a slow hand."""


def with_depth(frame: Frame, kind: str, rng: np.random.Generator) -> Frame:
    """A frame with its depth "full", "none", or bad in a way of BAD_DEPTH.

    Raises:
        ValueError: there is no such kind.
    """
    if kind == "none":
        return replace(frame, depth=None)
    if kind == "full" or frame.depth is None:
        return frame
    if kind not in BAD_DEPTH:
        raise ValueError(f"depth must be full, none or one of {', '.join(BAD_DEPTH)}, but got {kind!r}")
    return replace(frame, depth=BAD_DEPTH[kind](frame.depth, rng))
