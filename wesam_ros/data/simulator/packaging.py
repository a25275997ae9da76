"""Printed packaging: panels with words, stripes, logos, barcodes and pictures, in the colours of an invented brand."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from wesam_ros.data.simulator.textures import Colour, Image, Rng, colour, near, noise, plain, rgb255, scene, shaded, stamped, stripes

WORDS = (  # noqa: SIM905 - a list of as many quoted words reads worse
    "MILK OATS TEA COFFEE PASTA RICE SOAP SALT SUGAR COCOA FRESH NATURE BIO CLASSIC CRUNCH ORIGINAL LEMON TOMATO BEANS HONEY GOLD "
    "SUPER EXTRA CORN FLAKES SPICY MINT WAFER CHOCO NUTS GLUE SCREWS BULB TAPE PAINT VITAL SPORT BABY CLEAN POWER ALPHA NOVA"
).split()
SMALL = ("net weight 500 g", "best before see lid", "100% natural", "store in a dry place", "new recipe", "ingredients: water, salt")
FONTS = (
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)


@dataclass(frozen=True)
class Brand:
    """Features that the panels of one product share: paper colours, a name, a font, an emblem's number of corners, and a picture."""

    tones: tuple[Colour, Colour, Colour, Colour]
    name: str
    line: str
    font: int
    corners: int
    picture: Image | None


def brand(rng: Rng) -> Brand:
    """Draws the features of a product."""
    base = colour(rng)
    ink: Colour = (0.97, 0.97, 0.95) if sum(base) < 1.5 else (0.05, 0.05, 0.08)
    tones = (base, colour(rng), colour(rng), ink)
    picture = scene(rng, 192) if rng.random() < 0.55 else None
    return Brand(tones, str(rng.choice(WORDS)), str(rng.choice(WORDS)), int(rng.choice(FONTS)), int(rng.integers(3, 9)), picture)


def write(image: Image, text: str, box: tuple[float, float, float, float], tone: Colour, font: int, bold: int = 2) -> None:
    """Put text into box (x0, y0, x1, y1 as fractions of the image), as large as fits."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    (w, h), base = cv2.getTextSize(text, font, 1.0, bold)
    scale = min((x1 - x0) / max(w, 1), (y1 - y0) / max(h + base, 1))
    if scale < 0.15:
        return
    origin = (int((x0 + x1 - w * scale) / 2), int((y0 + y1 + h * scale) / 2))
    cv2.putText(image, text, origin, font, scale, rgb255(tone), max(1, int(bold * scale)), cv2.LINE_AA)


def _rect(image: Image, box: tuple[float, float, float, float], tone: Colour) -> None:
    height, width = image.shape[:2]
    cv2.rectangle(image, (int(box[0] * width), int(box[1] * height)), (int(box[2] * width), int(box[3] * height)), rgb255(tone), -1)


def _ground(rng: Rng, design: Brand, height: int, width: int) -> Image:
    base, second, third, _ = design.tones
    image = np.full((height, width, 3), rgb255(base), np.uint8)
    kind = int(rng.integers(7))
    if kind == 0:
        t = np.linspace(0, 1, height)[:, None, None]
        image = ((np.array(base) * (1 - t) + np.array(second) * t) * 255 * np.ones((1, width, 1))).astype(np.uint8)
    elif kind == 1:
        y = float(rng.uniform(0.2, 0.6))
        _rect(image, (0, y, 1, y + float(rng.uniform(0.1, 0.4))), second)
        _rect(image, (0, y - 0.03, 1, y), third)
    elif kind == 2:
        points = np.array([[0, rng.uniform(0, 1) * height], [width, rng.uniform(0, 1) * height], [width, height], [0, height]], np.int32)
        cv2.fillPoly(image, [points], rgb255(second), cv2.LINE_AA)
    elif kind == 3:
        cv2.circle(
            image,
            (int(rng.uniform(0, width)), int(rng.uniform(0, height))),
            int(rng.uniform(0.3, 0.8) * max(height, width)),
            rgb255(second),
            -1,
            cv2.LINE_AA,
        )
    elif kind == 4:
        source = stamped(rng, 256) if rng.random() < 0.5 else stripes(rng, 256)
        image = cv2.addWeighted(image, 0.45, cv2.resize(source, (width, height)), 0.55, 0).astype(np.uint8)
    elif kind == 5:
        x = float(rng.uniform(0.1, 0.7))
        _rect(image, (x, 0, x + float(rng.uniform(0.1, 0.4)), 1), second)
    return image


def panel(rng: Rng, design: Brand, height: int = 192, width: int = 192) -> Image:
    """A front of the product: ground, name, emblem or picture, small print; (height, width, 3)."""
    image = _ground(rng, design, height, width)
    _, second, third, ink = design.tones
    if design.picture is not None:
        x, y = rng.uniform(0.02, 0.3), rng.uniform(0.25, 0.5)
        x1, y1 = min(0.98, x + rng.uniform(0.4, 0.7)), min(0.97, y + rng.uniform(0.3, 0.5))
        a, b, c, d = int(y * height), int(y1 * height), int(x * width), int(x1 * width)
        image[a:b, c:d] = cv2.resize(design.picture, (d - c, b - a), interpolation=cv2.INTER_AREA)
    elif rng.random() < 0.8:
        angle = np.arange(design.corners * 2) * np.pi / design.corners
        radii = np.where(np.arange(design.corners * 2) % 2, rng.uniform(0.4, 1.0), 1.0) * min(height, width) * rng.uniform(0.15, 0.35)
        centre = rng.uniform(0.3, 0.7, 2) * (width, height)
        cv2.fillPoly(
            image,
            [np.stack([centre[0] + radii * np.cos(angle), centre[1] + radii * np.sin(angle)], 1).astype(np.int32)],
            rgb255(third),
            cv2.LINE_AA,
        )
    top = float(rng.uniform(0.03, 0.2))
    if rng.random() < 0.5:
        _rect(image, (0.04, top - 0.02, 0.96, top + 0.26), near(rng, third, 0.05))
    write(image, design.name, (0.06, top, 0.94, top + 0.24), ink, design.font, 3)
    write(image, design.line, (0.1, 0.74, 0.9, 0.87), ink if rng.random() < 0.5 else second, design.font)
    write(image, str(rng.choice(SMALL)), (0.1, 0.89, 0.9, 0.97), ink, cv2.FONT_HERSHEY_PLAIN, 1)
    return image


def small_print(rng: Rng, design: Brand, height: int = 192, width: int = 192) -> Image:
    """A side of the product: a table of facts, lines of text and a barcode."""
    image = np.full((height, width, 3), rgb255(design.tones[0] if rng.random() < 0.6 else design.tones[1]), np.uint8)
    ink = design.tones[3]
    lines = int(rng.integers(4, 14))
    for k in range(lines):
        y = 0.05 + 0.6 * k / lines
        write(
            image,
            " ".join(rng.choice(WORDS, 3)).lower(),
            (0.05, y, 0.95 if rng.random() < 0.7 else 0.6, y + 0.55 / lines),
            ink,
            cv2.FONT_HERSHEY_SIMPLEX,
            1,
        )
    x0, x1, y0, y1 = int(0.1 * width), int(0.65 * width), int(0.7 * height), int(0.95 * height)
    bars = cv2.resize((rng.random((1, 40)) < 0.5).astype(np.uint8) * 255, (x1 - x0, y1 - y0), interpolation=cv2.INTER_NEAREST)
    image[y0:y1, x0:x1] = bars[..., None]
    return image


def carton(rng: Rng, half: tuple[float, float, float]) -> Image:
    """The (512, 512, 3) atlas of a box with half edges half, as meshes.rounded_box lays its faces out: 3 x 2 cells, the lower row first."""
    design = brand(rng)
    x, y, z = half
    front = panel(rng, design, *_aspect(z, x))
    side = (small_print if rng.random() < 0.7 else panel)(rng, design, *_aspect(z, y))
    top = panel(rng, design, *_aspect(y, x)) if rng.random() < 0.6 else _ground(rng, design, *_aspect(y, x))
    back = front if rng.random() < 0.5 else small_print(rng, design, *_aspect(z, x))
    bottom = np.full((64, 64, 3), rgb255(design.tones[0]), np.uint8)
    cells = [[back, side, bottom], [front, side, top]]
    rows = [np.concatenate([cv2.resize(c, (170, 256), interpolation=cv2.INTER_AREA) for c in row], 1) for row in cells]
    return cv2.resize(np.concatenate(rows), (512, 512)).astype(np.uint8)


def _aspect(height: float, width: float) -> tuple[int, int]:
    scale = 256 / max(height, width)
    return max(32, int(height * scale)), max(32, int(width * scale))


def wrapper(rng: Rng, low: float, high: float, ends: Colour, aspect: float = 1.5) -> Image:
    """A (512, 512, 3) texture for a lathe body: a printed label between v = low and v = high, the colour ends elsewhere.

    aspect: circumference over the label's height, so that letters keep their shape.
    """
    design = brand(rng)
    image = shaded(np.full((512, 512, 3), rgb255(ends), np.uint8), noise(rng, 512, 16, 3), 0.06)
    label_height = 256
    repeats = int(rng.integers(1, 3))
    width = max(96, int(label_height * aspect / (repeats + 1)))
    panels = [panel(rng, design, label_height, width)] * repeats + [small_print(rng, design, label_height, width)]
    a, b = int((1 - high) * 512), int((1 - low) * 512)
    if b - a > 4:
        image[a:b] = cv2.resize(np.concatenate(panels, 1), (512, b - a), interpolation=cv2.INTER_AREA)
    return image


def cover(rng: Rng) -> Image:
    """A (512, 512, 3) flat print such as a book's or a magazine's cover."""
    design = brand(rng)
    image = scene(rng, 512) if rng.random() < 0.5 else cv2.resize(panel(rng, design, 256, 192), (512, 512)).astype(np.uint8)
    if rng.random() < 0.8:
        y = float(rng.uniform(0.05, 0.7))
        write(image, f"{rng.choice(WORDS)} {rng.choice(WORDS)}", (0.08, y, 0.92, y + 0.15), design.tones[3], design.font, 3)
    return image if rng.random() < 0.9 else plain(rng, 512)
