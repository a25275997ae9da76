"""Two views of one image: a weak one for the teacher and a strong one, on top of it, for the student (WeSAM, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

Pixels = npt.NDArray[np.uint8]
SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13
"""PIL's ImageFilter.SMOOTH."""


def _posterize(image: Pixels, rng: np.random.Generator) -> Pixels:
    return np.asarray(ImageOps.posterize(Image.fromarray(image), int(rng.integers(4, 8))))


def _equalize(image: Pixels, rng: np.random.Generator) -> Pixels:
    return np.asarray(ImageOps.equalize(Image.fromarray(image)))


def _sharpen(image: Pixels, rng: np.random.Generator) -> Pixels:
    share = float(rng.uniform(0.2, 3.0))  # of the image itself, the rest is the smoothed one's: PIL's ImageEnhance.Sharpness
    return np.asarray(cv2.addWeighted(image, share, cv2.filter2D(image, -1, SMOOTH), 1 - share, 0), np.uint8)


def _solarize(image: Pixels, rng: np.random.Generator) -> Pixels:
    return np.asarray(ImageOps.solarize(Image.fromarray(image), int(rng.integers(160, 256))))


def _brightness_contrast(image: Pixels, rng: np.random.Generator) -> Pixels:
    gain, offset = rng.uniform(0.6, 1.4), rng.uniform(-30, 30)
    table = np.clip(np.arange(256) * gain + (offset + 128 * (1 - gain)), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table), np.uint8)


def _shadow(image: Pixels, rng: np.random.Generator) -> Pixels:
    height, width = image.shape[:2]
    corners = rng.uniform(-0.2, 1.2, (4, 2)) * (width, height)
    shade = cv2.fillConvexPoly(np.zeros((height, width), np.uint8), cv2.convexHull(corners.astype(np.int32)), 255)
    light = 1 - np.float32(rng.uniform(0.3, 0.7) / 255) * cv2.GaussianBlur(shade, (0, 0), 5)
    return np.asarray(cv2.multiply(image, cv2.merge([light] * 3), dtype=cv2.CV_8U), np.uint8)


STRONG: tuple[Callable[[Pixels, np.random.Generator], Pixels], ...] = (
    _posterize,
    _equalize,
    _sharpen,
    _solarize,
    _brightness_contrast,
    _shadow,
)
"""WeSAM's list of photometric changes. None moves a pixel, so masks of both views can be compared as they are."""


def weak_view(image: Pixels, rng: np.random.Generator) -> tuple[Pixels, bool]:
    """The image (H, W, 3), mirrored left to right in half of the cases, and whether it was."""
    mirrored = bool(rng.random() < 0.5)
    return (np.ascontiguousarray(image[:, ::-1]) if mirrored else image), mirrored


def strong_view(image: Pixels, rng: np.random.Generator) -> Pixels:
    """The image (H, W, 3) after two of the photometric changes, in random order."""
    for index in rng.choice(len(STRONG), 2, replace=False):
        image = STRONG[index](image, rng)
    return image
