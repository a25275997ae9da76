"""The simulator's domains: how a scene is lit, furnished and photographed. A new one is one entry of DOMAINS and one development function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.float32]
Span = tuple[float, float]

TABLES = {"wood": 3.0, "plain": 2.0, "weave": 1.0, "plaid": 0.6, "stripes": 0.3, "stamped": 0.6, "marble": 0.7, "speckle": 0.7, "tiles": 0.7, "patches": 0.3}
BUSY = {"plaid": 2.0, "stamped": 3.0, "patches": 3.0, "stripes": 1.5, "speckle": 1.0, "scene": 1.5}


@dataclass(frozen=True)
class Domain:
    """Ranges that a sequence is drawn from.

    Attributes:
        develop: maps an RGB picture in [0, 1] float32 and a Generator to the picture that the camera delivers; pure.
        key, ambient: light strengths; tint: how strongly light is coloured, 0 to 1; lights: number of lamps, inclusive.
        gloss: factor on the objects' gloss, and a floor under it.
        table: weights of textures.SURFACES for the table top; mirror: reflectance of the table.
        camouflage: probability that an object wears the table's or a neighbour's texture.
        spread: metres, standard deviation of drop places about the middle of the pile.
        focal: pixels at 640 px of image width; distance: metres from the camera to the middle of the table; elevation: degrees, one range is drawn.
    """

    develop: Callable[[Picture, np.random.Generator], Picture]
    key: Span = (0.45, 0.85)
    ambient: Span = (0.22, 0.45)
    tint: float = 0.08
    lights: tuple[int, int] = (1, 3)
    gloss: tuple[float, float] = (1.0, 0.0)
    table: dict[str, float] = field(default_factory=lambda: dict(TABLES))
    mirror: Span = (0.0, 0.15)
    camouflage: float = 0.03
    spread: Span = (0.08, 0.16)
    focal: Span = (515.0, 535.0)
    distance: Span = (0.7, 1.1)
    elevation: tuple[Span, ...] = ((30.0, 40.0), (50.0, 60.0))


def white_balance(picture: Picture, rng: np.random.Generator, amount: float) -> Picture:
    """Channel gains about 1 with standard deviation amount."""
    return np.asarray(picture * np.exp(rng.normal(0, amount, 3)).astype(np.float32), np.float32)


def vignette(picture: Picture, strength: float) -> Picture:
    """Darker towards the corners by up to strength."""
    h, w = picture.shape[:2]
    y, x = np.linspace(-1, 1, h, dtype=np.float32)[:, None], np.linspace(-1, 1, w, dtype=np.float32)
    return np.asarray(picture * (1 - np.float32(strength / 2) * (x**2 + y**2))[..., None], np.float32)


def grain(picture: Picture, rng: np.random.Generator, read: float, shot: float, size: float = 0.0) -> Picture:
    """Sensor noise: standard deviation sqrt(read^2 + shot^2 * intensity); size > 0 smooths it to blotches of that many pixels."""
    dice = rng.standard_normal(picture.shape, np.float32)
    if size > 0:
        dice = cv2.GaussianBlur(dice, (0, 0), size) * np.float32(2 * np.sqrt(np.pi) * size)
    return np.asarray(picture + dice * np.sqrt(read**2 + shot**2 * np.clip(picture, 0, 1)), np.float32)


def tone(picture: Picture, gamma: float, contrast: float) -> Picture:
    """A power law followed by an S-curve mixed in by contrast."""
    lifted = np.clip(picture, 0, 1) ** gamma
    return np.asarray((1 - contrast) * lifted + contrast * (3 * lifted**2 - 2 * lifted**3), np.float32)


def blurred(picture: Picture, sigma: float) -> Picture:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.float32) if sigma > 0.2 else picture


def jpeg(picture: Picture, quality: int) -> Picture:
    """The picture after JPEG compression."""
    _, data = cv2.imencode(".jpg", (np.clip(picture, 0, 1) * 255).astype(np.uint8)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1], np.float32) / np.float32(255)


def develop_source(picture: Picture, rng: np.random.Generator) -> Picture:
    """A decent webcam in a lit room."""
    picture = white_balance(picture * rng.uniform(0.85, 1.2), rng, 0.05)
    picture = vignette(picture, float(rng.uniform(0, 0.25)))
    picture = blurred(picture, float(rng.uniform(0.3, 0.9)))
    picture = tone(picture, float(rng.uniform(0.8, 1.1)), float(rng.uniform(0, 0.5)))
    return grain(picture, rng, float(rng.uniform(0.003, 0.012)), float(rng.uniform(0.005, 0.02)))


DOMAINS: dict[str, Domain] = {"source": Domain(develop_source)}
