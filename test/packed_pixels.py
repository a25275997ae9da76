"""Small images with known pixels, and how cameras and files pack them."""

from __future__ import annotations

import cv2
import numpy as np

H, W = 12, 16


def blocks() -> np.ndarray:
    """(H, W, 3) RGB of 4 x 4 pixels a colour, within what BT.601's limited range can hold."""
    colours = np.random.default_rng(0).integers(30, 220, (H // 4, W // 4, 3)).astype(np.uint8)
    return np.repeat(np.repeat(colours, 4, 0), 4, 1)


RGB = blocks()
GREY = RGB[..., 1]
MM = (np.arange(H * W).reshape(H, W) * 40).astype(np.uint16)
GREY_RGB = np.dstack([GREY] * 3)


def mosaic(pattern: str, rgb: np.ndarray = RGB) -> np.ndarray:
    """(H, W): of each pixel the channel that the pattern's letter names."""
    rows, columns = np.indices((H, W)) % 2
    letters = np.array(["rgb".index(each) for each in pattern]).reshape(2, 2)[rows, columns]
    return np.take_along_axis(rgb, letters[..., None], 2)[..., 0]


def with_alpha(rgb: np.ndarray) -> np.ndarray:
    return np.dstack([rgb, np.full(rgb.shape[:2], 77, rgb.dtype)])


def file_of(kind: str, pixels: np.ndarray, *parameters: int) -> bytes:
    """An image file of an array as OpenCV takes it: blue first."""
    return cv2.imencode(f".{kind}", pixels, list(parameters))[1].tobytes()
