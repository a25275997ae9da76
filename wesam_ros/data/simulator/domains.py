"""The simulator's domains: how a scene is lit, furnished and photographed. A new one is an entry of DOMAINS and a development function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.float32]
Span = tuple[float, float]
Rng = np.random.Generator

TABLES = {
    "wood": 3.0,
    "plain": 2.5,
    "weave": 1.0,
    "marble": 0.7,
    "speckle": 0.7,
    "tiles": 0.4,
    "plaid": 0.3,
    "stamped": 0.1,
    "patches": 0.1,
}
BUSY = {"plaid": 2.0, "stamped": 3.0, "patches": 3.0, "stripes": 1.5, "speckle": 1.0, "scene": 1.5}


@dataclass(frozen=True)
class Domain:
    """Ranges that a sequence is drawn from.

    Attributes:
        develop: maps a linear RGB picture (H, W, 3) float32 to the one that the camera delivers, in [0, 1], with two Generators: the first
            is the same for all frames of a sequence (exposure, colour, focus), the second goes on (noise, motion). Pure.
        key, ambient: light strengths; tint: how strongly light is coloured, 0 to 1; lights: number of lamps, inclusive.
        gloss: factor on the objects' gloss, and a floor under it.
        table: weights of textures.SURFACES for the table top; mirror: reflectance of the table, none below 0.
        reflection: how much an object's surface shows the table and bright windows in place of its own texture.
        muted: probability that table, floor and walls are greyer than things.
        camouflage: probability that an object wears the table's or a neighbour's texture.
        spread: metres, standard deviation of drop places about the middle of the pile.
        focal: pixels at 640 px of image width; distance: metres from the camera to the middle of the table; elevation: degrees above
            the table, one of the ranges per sequence.
    """

    develop: Callable[[Picture, Rng, Rng], Picture]
    key: Span = (0.45, 0.85)
    ambient: Span = (0.22, 0.45)
    tint: float = 0.08
    lights: tuple[int, int] = (1, 3)
    gloss: tuple[float, float] = (1.0, 0.0)
    table: dict[str, float] = field(default_factory=lambda: dict(TABLES))
    mirror: Span = (-0.25, 0.15)
    reflection: Span = (0.0, 0.0)
    muted: float = 0.8
    camouflage: float = 0.03
    spread: Span = (0.05, 0.11)
    focal: Span = (515.0, 535.0)
    distance: Span = (0.42, 0.68)
    elevation: tuple[Span, ...] = ((30.0, 40.0), (50.0, 60.0))


def exposed(picture: Picture, rng: Rng, low: float, high: float) -> Picture:
    """Automatic exposure: the mean brought to a level between low and high, by a factor of 3 at most."""
    gain = rng.uniform(low, high) / max(float(picture.mean()), 1e-3)
    return np.asarray(picture * np.float32(np.clip(gain, 1 / 3, 3)), np.float32)


def white_balance(picture: Picture, rng: Rng, amount: float) -> Picture:
    """Channel gains about 1 with standard deviation amount."""
    return np.asarray(picture * np.exp(rng.normal(0, amount, 3)).astype(np.float32), np.float32)


def vignette(picture: Picture, strength: float) -> Picture:
    """Darker towards the corners by up to strength."""
    h, w = picture.shape[:2]
    y, x = np.linspace(-1, 1, h, dtype=np.float32)[:, None], np.linspace(-1, 1, w, dtype=np.float32)
    return np.asarray(picture * (1 - np.float32(strength / 2) * (x**2 + y**2))[..., None], np.float32)


def grain(picture: Picture, rng: Rng, read: float, shot: float, size: float = 0.0) -> Picture:
    """Sensor noise: standard deviation sqrt(read^2 + shot^2 * intensity); size > 0 smooths it to blotches of that many pixels."""
    dice = rng.standard_normal(picture.shape, np.float32)
    if size > 0:
        dice = cv2.GaussianBlur(dice, (0, 0), size) * np.float32(2 * np.sqrt(np.pi) * size)
    return np.asarray(picture + dice * np.sqrt(read**2 + shot**2 * np.clip(picture, 0, 1)), np.float32)


def tone(picture: Picture, gamma: float, contrast: float) -> Picture:
    """Highlights rolled off above 0.7, then a power law, then an S-curve mixed in by contrast."""
    over = np.maximum(picture - 0.7, 0)
    lifted = np.clip(np.minimum(picture, 0.7) + 0.3 * (1 - np.exp(-over / 0.3)), 0, 1) ** gamma
    return np.asarray((1 - contrast) * lifted + contrast * (3 * lifted**2 - 2 * lifted**3), np.float32)


def blurred(picture: Picture, sigma: float) -> Picture:
    """The picture after a Gaussian blur of `sigma` pixels; below 0.2 as it was."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.float32) if sigma > 0.2 else picture


def jpeg(picture: Picture, quality: int) -> Picture:
    """The picture after JPEG compression."""
    _, data = cv2.imencode(".jpg", (np.clip(picture, 0, 1) * 255).astype(np.uint8)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.float32)
    return decoded[..., ::-1] / np.float32(255)


def motion(picture: Picture, rng: Rng, low: float, high: float) -> Picture:
    """Blurred along a straight line of low to high pixels at 640 px of width."""
    length, angle = rng.uniform(low, high) * picture.shape[1] / 640, rng.uniform(0, np.pi)
    side = int(np.ceil(length)) | 1
    kernel = np.zeros((side + 2, side + 2), np.float32)
    middle, half = (side + 1) / 2, length / 2
    ends = [(round((middle + s * half * np.cos(angle)) * 16), round((middle + s * half * np.sin(angle)) * 16)) for s in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_AA, 4)
    return np.asarray(cv2.filter2D(picture, -1, kernel / kernel.sum()), np.float32)


def develop_source(picture: Picture, look: Rng, dice: Rng) -> Picture:
    """A decent webcam in a lit room."""
    picture = white_balance(exposed(picture, look, 0.32, 0.52), look, 0.05)
    picture = vignette(picture, float(look.uniform(0, 0.25)))
    picture = blurred(picture, float(look.uniform(0.3, 0.9)))
    picture = tone(picture, float(look.uniform(0.8, 1.1)), float(look.uniform(0, 0.5)))
    return grain(picture, dice, float(look.uniform(0.003, 0.012)), float(look.uniform(0.005, 0.02)))


def develop_dim(picture: Picture, look: Rng, dice: Rng) -> Picture:
    """Evening light of one colour, underexposed and amplified: blotchy noise, weak contrast."""
    cast = [(1.25, 0.95, 0.55), (0.65, 0.9, 1.3), (0.75, 1.15, 0.75), (1.2, 0.75, 1.0)][int(look.integers(4))]
    picture = exposed(picture, look, 0.17, 0.25) * np.array(cast, np.float32) + np.float32(look.uniform(0.0, 0.03))
    picture = blurred(vignette(picture, float(look.uniform(0.2, 0.6))), float(look.uniform(0.6, 1.1)))
    picture = grain(picture, dice, float(look.uniform(0.012, 0.024)), float(look.uniform(0.05, 0.08)))
    return grain(picture, dice, float(look.uniform(0.01, 0.02)), float(look.uniform(0.02, 0.05)), 1.5)


def develop_gloss(picture: Picture, look: Rng, dice: Rng) -> Picture:
    """Hard light, clipped and blooming highlights, a camera in motion."""
    picture = exposed(picture, look, 0.42, 0.6)
    bright = cv2.GaussianBlur(np.clip(picture - 0.85, 0, 1), (0, 0), 8)
    picture = tone(picture + 1.5 * np.asarray(bright, np.float32), float(look.uniform(0.9, 1.2)), float(look.uniform(0.3, 0.8)))
    picture = motion(picture, dice, 5, 12)
    return grain(picture, dice, 0.006, 0.015)


def develop_camera(picture: Picture, look: Rng, dice: Rng) -> Picture:
    """A cheap camera: few pixels enlarged, sharpened, another white balance, dark corners, JPEG blocks."""
    h, w = picture.shape[:2]
    scale = float(look.uniform(0.28, 0.38))
    cast = (1.2, 1.0, 0.72) if look.random() < 0.5 else (0.8, 1.0, 1.25)
    picture = vignette(exposed(picture, look, 0.38, 0.55) * np.array(cast, np.float32), float(look.uniform(0.4, 0.9)))
    small = cv2.resize(picture, (max(8, round(w * scale)), max(8, round(h * scale))), interpolation=cv2.INTER_AREA)
    small = grain(np.asarray(small, np.float32), dice, 0.015, 0.04)
    small = np.asarray(small + np.float32(look.uniform(0.8, 1.6)) * (small - blurred(small, 1.0)), np.float32)
    small = jpeg(
        tone(np.asarray(small, np.float32), float(look.uniform(0.6, 0.8)), float(look.uniform(0, 0.3))), int(look.integers(18, 35))
    )
    return np.asarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR), np.float32)


DOMAINS: dict[str, Domain] = {
    "source": Domain(develop_source),
    "dim": Domain(develop_dim, key=(0.25, 0.45), ambient=(0.08, 0.2), tint=0.2, lights=(1, 1)),
    "clutter": Domain(develop_source, table=BUSY, muted=0.15, camouflage=0.75, spread=(0.03, 0.07)),
    "gloss": Domain(
        develop_gloss, key=(0.9, 1.2), ambient=(0.15, 0.3), lights=(2, 3), gloss=(1.5, 0.65), reflection=(0.35, 0.8), mirror=(0.25, 0.55)
    ),
    "camera": Domain(develop_camera, focal=(380.0, 430.0), distance=(0.5, 0.72), elevation=((62.0, 80.0),)),
}
