"""Pictures of discs on a textured table, which the camera moves over."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

RED, GREEN, BLUE = (200, 60, 50), (60, 170, 70), (60, 80, 200)
TEXTURE = np.clip(
    (cv2.GaussianBlur(np.random.default_rng(5).integers(0, 256, (400, 500, 3), dtype=np.uint8).astype(np.float32), (0, 0), 4) - 127) * 8
    + 120,
    0,
    255,
).astype(np.uint8)


@dataclass(frozen=True)
class Disc:
    """A thing on the table, x and y in the world, which the camera moves over."""

    name: str
    colour: tuple[int, int, int]
    x: float
    y: float
    radius: float = 22.0
    detected: bool = True
    class_id: str = "thing"


def picture(discs: list[Disc], camera: tuple[int, int], rng: np.random.Generator, noise: float = 2.0) -> npt.NDArray[np.uint8]:
    """A frame of (240, 320, 3) with the discs that are there, the later ones before the others."""
    left, top = 60 + camera[0], 60 + camera[1]
    image = TEXTURE[top : top + 240, left : left + 320].astype(np.float32)
    for disc in discs:
        cv2.circle(image, (round(disc.x - camera[0]), round(disc.y - camera[1])), round(disc.radius), disc.colour, -1)
    return np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8)
