"""Procedural surface textures: (size, size, 3) uint8 RGB, drawn from a numpy Generator alone."""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]
Rng = np.random.Generator
Colour = tuple[float, float, float]


def noise(rng: Rng, size: int, base: float = 4, octaves: int = 5, gain: float = 0.55, stretch: float = 1.0) -> Plane:
    """Fractal value noise (size, size) in [0, 1]; base cells across, stretch > 1 draws it out along x."""
    total = np.zeros((size, size), np.float32)
    weight = 1.0
    for _ in range(octaves):
        cells = (max(2, int(base)), max(2, int(base / stretch)))
        if max(cells) > size:
            break
        total += weight * cv2.resize(rng.random(cells, np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
        weight, base = weight * gain, base * 2
    low, high = float(total.min()), float(total.max())
    return ((total - low) / max(high - low, 1e-6)).astype(np.float32)


def colour(rng: Rng) -> Colour:
    """RGB in [0, 1]: vivid, pastel, dark, grey or brown, as things in a household are."""
    kind = rng.choice(["vivid", "pastel", "dark", "grey", "brown", "light"], p=[0.34, 0.14, 0.14, 0.1, 0.14, 0.14])
    hue = float(rng.random())
    if kind == "vivid":
        return colorsys.hsv_to_rgb(hue, float(rng.uniform(0.6, 1)), float(rng.uniform(0.5, 0.95)))
    if kind == "pastel":
        return colorsys.hsv_to_rgb(hue, float(rng.uniform(0.15, 0.5)), float(rng.uniform(0.7, 0.95)))
    if kind == "dark":
        return colorsys.hsv_to_rgb(hue, float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.08, 0.35)))
    if kind == "brown":
        return colorsys.hsv_to_rgb(float(rng.uniform(0.03, 0.13)), float(rng.uniform(0.25, 0.7)), float(rng.uniform(0.3, 0.85)))
    if kind == "light":
        return colorsys.hsv_to_rgb(hue, float(rng.uniform(0, 0.1)), float(rng.uniform(0.82, 0.98)))
    return colorsys.hsv_to_rgb(hue, 0.04, float(rng.uniform(0.1, 0.9)))


def near(rng: Rng, tone: Colour, spread: float = 0.1) -> Colour:
    """A colour close to tone."""
    r, g, b = (float(np.clip(c + rng.normal(0, spread), 0.02, 0.98)) for c in tone)
    return r, g, b


def ramp(plane: Plane, tones: list[Colour]) -> Image:
    """The plane's values in [0, 1] coloured along tones."""
    stops = np.linspace(0, 1, len(tones))
    levels = np.linspace(0, 1, 256)
    table = np.stack([np.interp(levels, stops, [t[c] for t in tones]) for c in range(3)], 1)
    return (table * 255).astype(np.uint8)[(np.clip(plane, 0, 1) * 255).astype(np.uint8)]


def rgb255(tone: Colour) -> tuple[int, int, int]:
    """A colour with values from 0 to 255."""
    return int(tone[0] * 255), int(tone[1] * 255), int(tone[2] * 255)


def shaded(image: Image, plane: Plane, amount: float) -> Image:
    """The image made darker and lighter by a plane in [0, 1]."""
    return np.asarray(np.clip(image * (1 + amount * (plane[..., None] - 0.5) * 2), 0, 255), np.uint8)


def muted(image: Image, rng: Rng) -> Image:
    """The image greyer and lighter or darker by chance, as furniture and walls are beside what stands on them."""
    grey = image.mean(2, keepdims=True)
    level = float(np.exp(rng.normal(0.1, 0.25)))
    return np.asarray(np.clip((grey + (image - grey) * rng.uniform(0.1, 0.7)) * level, 8, 245), np.uint8)


def reflecting(image: Image, room: Image, amount: float, rng: Rng) -> Image:
    """The texture of a shiny thing: amount of it (0 to 1) shows a room's texture, stretched and bent, and a few bright windows."""
    h, w = image.shape[:2]
    bend = (noise(rng, 256, 3, 2) - 0.5) * 120
    y, x = np.mgrid[:256, :256].astype(np.float32)
    seen = cv2.remap(
        cv2.resize(room, (256, 256), interpolation=cv2.INTER_AREA),
        x * 0.7 + bend,
        y * 1.6 + bend.T,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    for _ in range(int(rng.integers(1, 4))):
        corner, size = rng.integers(0, 230, 2), rng.integers(6, 40, 2)
        cv2.rectangle(seen, (int(corner[0]), int(corner[1])), (int(corner[0] + size[0]), int(corner[1] + size[1])), (255, 255, 250), -1)
    mirrored = cv2.resize(cv2.GaussianBlur(seen, (0, 0), 1.5), (w, h)).astype(np.float32)
    return np.asarray(np.clip((1 - amount) * image + amount * mirrored, 0, 255), np.uint8)


def wood(rng: Rng, size: int) -> Image:
    """Wood with rings and grain."""
    x, y = np.meshgrid(np.linspace(0, 1, size, dtype=np.float32), np.linspace(0, 1, size, dtype=np.float32))
    rings = y * rng.uniform(4, 14) + noise(rng, size, 4, 3, stretch=4) * rng.uniform(1, 5) + 0.3 * x
    grain = 0.5 + 0.5 * np.sin(rings * 2 * np.pi)
    fine = noise(rng, size, 128, 2, stretch=24)
    tone = colorsys.hsv_to_rgb(float(rng.uniform(0.04, 0.12)), float(rng.uniform(0.2, 0.7)), float(rng.uniform(0.25, 0.9)))
    deep = float(rng.uniform(0.55, 0.9))
    dark: Colour = (tone[0] * deep, tone[1] * deep * 0.96, tone[2] * deep * 0.92)
    image = ramp((0.6 * grain + 0.4 * fine).astype(np.float32), [dark, tone, near(rng, tone, 0.04)])
    if rng.random() < 0.5:
        boards = int(rng.integers(3, 8))
        for i in range(boards):
            a, b = i * size // boards, (i + 1) * size // boards
            image[a:b] = np.roll(np.clip(image[a:b] * rng.uniform(0.8, 1.15), 0, 255).astype(np.uint8), int(rng.integers(size)), 1)
            image[a : a + 2] //= 2
    return image


def plain(rng: Rng, size: int) -> Image:
    """One tone with faint noise."""
    tone = colour(rng)
    return shaded(np.full((size, size, 3), rgb255(tone), np.uint8), noise(rng, size, 6, 7, 0.8), float(rng.uniform(0.02, 0.12)))


def weave(rng: Rng, size: int) -> Image:
    """A woven cloth."""
    period = int(rng.integers(3, 8))
    y, x = np.mgrid[:size, :size]
    warp = 0.5 + 0.5 * np.sin(x * 2 * np.pi / period) * np.sin(y * 2 * np.pi / period)
    tone = colour(rng)
    deep: Colour = (tone[0] * 0.6, tone[1] * 0.6, tone[2] * 0.6)
    image = ramp((0.7 * warp + 0.3 * noise(rng, size, 64, 3)).astype(np.float32), [near(rng, deep, 0.03), tone])
    return shaded(image, noise(rng, size, 3, 4), 0.15)


def plaid(rng: Rng, size: int) -> Image:
    """Bands that cross, as on a tablecloth."""
    cells = int(rng.integers(4, 16))
    bands = [colour(rng) for _ in range(3)]
    widths = rng.random(3) + 0.2
    edges = np.cumsum(widths / widths.sum())
    phase = (np.arange(size) * cells / size) % 1
    table = np.array(bands)[np.clip(np.searchsorted(edges, phase), 0, 2)]
    image = (0.5 * (table[None] + table[:, None]) * 255).astype(np.uint8)
    return shaded(image, noise(rng, size, 128, 2), 0.1)


def stripes(rng: Rng, size: int) -> Image:
    """Stripes of two to four tones, straight or wavy."""
    tones = [colour(rng) for _ in range(int(rng.integers(2, 5)))]
    angle = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
    y, x = np.mgrid[:size, :size] / size
    wobble = noise(rng, size, 4, 2) * rng.choice([0, 0, 0.1, 0.4])
    position = (x * np.cos(angle) + y * np.sin(angle) + wobble) * rng.integers(2, 16) % 1
    return np.asarray(np.array(tones)[(position * len(tones)).astype(int) % len(tones)] * 255, np.uint8)


def _circle(count: int, start: float = 0.0) -> npt.NDArray[np.float64]:
    """count points (count, 2) evenly round the unit circle."""
    angle = np.arange(count) * 2 * np.pi / count + start
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def stamped(rng: Rng, size: int) -> Image:
    """A print of repeated motifs (dots, flowers, polygons, rings)."""
    image = plain(rng, size) if rng.random() < 0.7 else weave(rng, size)
    tones = [rgb255(colour(rng)) for _ in range(3)]
    pitch = int(rng.integers(24, 96))
    kind = int(rng.integers(4))
    regular = rng.random() < 0.5
    for row, cy in enumerate(range(pitch // 2, size, pitch)):
        for cx in range(pitch // 2 + (row % 2) * pitch // 2, size, pitch):
            jitter = rng.uniform(-0.4, 0.4, 2) * (0 if regular else pitch)
            centre = (int(cx + jitter[0]), int(cy + jitter[1]))
            radius = int(pitch * (0.28 if regular else rng.uniform(0.12, 0.45))) + 1
            tone = tones[int(rng.integers(3))]
            if kind == 0:
                cv2.circle(image, centre, radius, tone, -1, cv2.LINE_AA)
            elif kind == 1:
                for x, y in (centre + 0.6 * radius * _circle(5)).astype(int).tolist():
                    cv2.circle(image, (x, y), max(1, radius // 2), tone, -1, cv2.LINE_AA)
                cv2.circle(image, centre, max(1, radius // 3), tones[0], -1, cv2.LINE_AA)
            elif kind == 2:
                n = int(rng.integers(3, 7))
                corners = centre + radius * _circle(n, rng.uniform(0, 6))
                cv2.fillPoly(image, [corners.astype(np.int32)], tone, cv2.LINE_AA)
            else:
                cv2.circle(image, centre, radius, tone, max(1, radius // 4), cv2.LINE_AA)
    return image


def marble(rng: Rng, size: int) -> Image:
    """Marble with veins."""
    veins = np.abs(noise(rng, size, 3, 6) - 0.5) * 2
    tone = colour(rng)
    return ramp(veins ** float(rng.uniform(0.3, 0.8)), [near(rng, tone, 0.3), tone, near(rng, tone, 0.08)])


def speckle(rng: Rng, size: int) -> Image:
    """Fine speckles of three tones."""
    tones = [near(rng, colour(rng), 0.1) for _ in range(3)]
    return ramp(noise(rng, size, int(rng.choice([32, 64, 128])), 3, 0.9), tones)


def patches(rng: Rng, size: int) -> Image:
    """Large soft blobs of a few colours, as camouflage or batik."""
    level = noise(rng, size, float(rng.uniform(3, 12)), int(rng.integers(2, 6)))
    tones = [colour(rng) for _ in range(int(rng.integers(3, 6)))]
    index = np.clip((level * len(tones) * 1.4 - 0.2 * len(tones)).astype(int), 0, len(tones) - 1)
    return shaded((np.array(tones)[index] * 255).astype(np.uint8), noise(rng, size, 64, 3), 0.08)


def tiles(rng: Rng, size: int) -> Image:
    """Square tiles with joints."""
    count = int(rng.integers(2, 10))
    pitch = size // count
    base = plain(rng, size) if rng.random() < 0.5 else marble(rng, size)
    gain = cv2.resize(rng.uniform(0.82, 1.1, (count, count)).astype(np.float32), (size, size), interpolation=cv2.INTER_NEAREST)
    if rng.random() < 0.3:
        other = rgb255(colour(rng))
        checks = (np.add.outer(np.arange(size) // pitch, np.arange(size) // pitch) % 2).astype(bool)
        base[checks] = (base[checks] * 0.2 + np.array(other) * 0.8).astype(np.uint8)
    image = np.asarray(np.clip(base * gain[..., None], 0, 255), np.uint8)
    grout = rgb255(colour(rng))
    width = max(1, pitch // 30)
    for k in range(0, size, pitch):
        image[k : k + width] = grout
        image[:, k : k + width] = grout
    return image


def scene(rng: Rng, size: int) -> Image:
    """Something like a photograph: a sky, hills and soft round things; for book covers, packaging and posters."""
    y = np.linspace(0, 1, size, dtype=np.float32)[:, None] * np.ones((1, size), np.float32)
    image = ramp(y, [colour(rng), colour(rng)])
    for _ in range(int(rng.integers(0, 4))):
        horizon = (rng.uniform(0.3, 0.9) + 0.3 * (noise(rng, size, 3, 5)[0] - 0.5)) * size
        mask = np.arange(size)[:, None] > horizon[None]
        image[mask] = shaded(np.full((size, size, 3), rgb255(colour(rng)), np.uint8), noise(rng, size, 8, 5), 0.4)[mask]
    for _ in range(int(rng.integers(1, 7))):
        centre = tuple(int(v) for v in rng.integers(0, size, 2))
        axes = tuple(int(v) for v in rng.uniform(0.04, 0.28, 2) * size)
        mask = cv2.ellipse(np.zeros((size, size), np.uint8), centre, axes, float(rng.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA)
        light = np.hypot(*(np.mgrid[:size, :size] - np.array(centre)[::-1, None, None] + 0.4 * min(axes))) / (1.6 * max(axes))
        blob = ramp((1 - np.clip(light, 0, 1)).astype(np.float32), [near(rng, (0.15, 0.1, 0.1), 0.05), colour(rng), (0.95, 0.93, 0.9)])
        image = np.where(mask[..., None] > 127, blob, image)
    return image


SURFACES: dict[str, Callable[[Rng, int], Image]] = {
    "wood": wood,
    "plain": plain,
    "weave": weave,
    "plaid": plaid,
    "stripes": stripes,
    "stamped": stamped,
    "marble": marble,
    "speckle": speckle,
    "patches": patches,
    "tiles": tiles,
    "scene": scene,
}


def surface(rng: Rng, weights: dict[str, float], size: int = 512) -> Image:
    """A texture of one of the named SURFACES, drawn with the given weights."""
    names = sorted(weights)
    p = np.array([weights[n] for n in names])
    return SURFACES[str(rng.choice(names, p=p / p.sum()))](rng, size)
