"""Changes of pictures with their instance ids: where things are, how large, in what light, and beside what."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.pretraining.sources import Labels, Picture

UInt8 = npt.NDArray[np.uint8]
Drawn = tuple[UInt8, UInt8]
Draw = Callable[[], Picture]
WHOLE, ZOOMED = 0.62, 0.28
"""Shares of the samples that are a whole picture, as the model gets it, and a part of one; the others are a whole one made smaller."""
PASTED, MOSAIC = 0.35, 0.08
MOST_IDS = 250


def sample(draw: Draw, side: int, rng: np.random.Generator) -> Drawn:
    """An augmented picture of at most `side` by `side` pixels with consecutive ids, from pictures that `draw` gives."""
    if rng.random() < MOSAIC:
        image, labels = _mosaic([place(*draw(), side // 2, rng) for _ in range(4)], side // 2)
    else:
        image, labels = place(*draw(), side, rng)
    if rng.random() < PASTED:
        for _ in range(int(rng.integers(1, 4))):
            image, labels = paste(image, labels, *draw(), rng)
    return recolour(image, rng), labels


def place(image: UInt8, labels: Labels, side: int, rng: np.random.Generator) -> Drawn:
    """Large-scale jitter: the whole picture with its longest side at `side`, a part, or the whole smaller; also turned and flipped."""
    height, width = labels.shape
    stretch = float(np.exp(rng.normal(0, 0.08)))
    kind = rng.random()
    zoom = 1.0 if kind < WHOLE else float(rng.uniform(1.1, 2.2)) if kind < WHOLE + ZOOMED else float(rng.uniform(0.35, 0.9))
    scale = zoom * side / max(height, width * stretch)
    size = np.array([width * stretch * scale, height * scale])
    canvas = np.maximum(np.minimum(np.round(size), side), 16).astype(int)
    angle = float(rng.normal(0, 12)) if rng.random() < 0.25 else 0.0
    turns = int(rng.integers(4)) if rng.random() < 0.12 else 0
    flip = -1.0 if rng.random() < 0.5 else 1.0
    turn = np.deg2rad(angle)
    linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.diag([flip * stretch * scale, scale])
    free = np.maximum(size - canvas, 0)
    middle = np.array([width, height]) / 2
    centre = canvas / 2 + (rng.random(2) - 0.5) * free
    # Pixels are squares: their middles lie at whole numbers, the image's corner at -0.5.
    matrix = np.column_stack([linear, centre - linear @ middle + linear @ [0.5, 0.5] - 0.5])
    if scale < 0.6:  # bilinear sampling alone would skip pixels
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.35 / scale), np.uint8)
    target = (int(canvas[0]), int(canvas[1]))
    pixels = cv2.warpAffine(image, matrix, target, flags=cv2.INTER_LINEAR, borderValue=_border(image, rng))
    ids = cv2.warpAffine(compact(labels), matrix, target, flags=cv2.INTER_NEAREST)
    return np.array(np.rot90(pixels, turns), np.uint8), np.array(np.rot90(ids, turns), np.uint8)


def _border(image: UInt8, rng: np.random.Generator) -> tuple[float, ...]:
    return tuple(image.reshape(-1, 3).mean(0)) if rng.random() < 0.5 else (124.0, 116.0, 104.0)


def _mosaic(parts: list[Drawn], half: int) -> Drawn:
    """Four pictures of at most `half` by `half` pixels as the quarters of one."""
    image, labels = np.full((2 * half, 2 * half, 3), 116, np.uint8), np.zeros((2 * half, 2 * half), np.uint8)
    last = 0
    for index, (each, ids) in enumerate(parts):
        y, x = half * (index // 2), half * (index % 2)
        ids = compact(ids, MOST_IDS - last)
        image[y : y + ids.shape[0], x : x + ids.shape[1]] = each
        labels[y : y + ids.shape[0], x : x + ids.shape[1]] = np.where(ids > 0, ids + last, 0)
        last += int(ids.max())
    return image, labels


def compact(labels: Labels, most: int = MOST_IDS) -> UInt8:
    """The ids as 1, 2, 3 and on; those after the first `most` become background."""
    known = np.flatnonzero(np.bincount(labels.ravel(), minlength=2)[1:])[: max(0, most)] + 1
    table = np.zeros(int(labels.max()) + 1, np.uint8)
    table[known] = np.arange(1, len(known) + 1)
    return np.asarray(table[labels], np.uint8)


def paste(image: UInt8, labels: UInt8, other: UInt8, ids: Labels, rng: np.random.Generator) -> Drawn:
    """A thing of another picture, cut out by its mask, on top of this one, with a soft shadow (copy-paste: Ghiasi et al., CVPR 2021).

    Now and then it takes the colours of what it lies on, so that only its texture and its outline tell it apart.
    """
    counts = np.bincount(ids.ravel(), minlength=2)
    large = np.flatnonzero(counts[1:] >= 200) + 1
    labels = compact(labels)
    if not len(large) or labels.max() >= MOST_IDS:
        return image, labels
    mask = (ids == rng.choice(large)).astype(np.float32)
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    height, width = labels.shape
    extent = max(np.ptp(xs), np.ptp(ys)) + 1
    scale = float(np.clip(min(height, width) * np.exp(rng.uniform(np.log(0.12), np.log(0.8))) / extent, 0.2, 3))
    turn, flip = rng.normal(0, 20), -1 if rng.random() < 0.5 else 1
    matrix = cv2.getRotationMatrix2D((0, 0), turn, scale) @ np.diag([flip, 1, 1])
    target = rng.uniform(0.05, 0.95, 2) * (width, height)
    matrix[:, 2] = target - matrix[:, :2] @ [xs.mean(), (ys[0] + ys[-1]) / 2]
    thing = cv2.warpAffine(other, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT).astype(np.float32)
    alpha = np.asarray(cv2.warpAffine(cv2.GaussianBlur(mask, (0, 0), 0.7), matrix, (width, height), flags=cv2.INTER_LINEAR), np.float32)
    inside = alpha > 0.5
    if inside.sum() < 60:
        return image, labels
    under = image.astype(np.float32)
    if rng.random() < 0.3:
        thing = _in_colours_of(thing, under, inside, float(rng.uniform(0.5, 1)))
    if rng.random() < 0.6:
        under *= 1 - _shadow(alpha, extent * scale, rng)[..., None]
    mixed = under + (thing - under) * alpha[..., None]
    return np.clip(mixed, 0, 255).astype(np.uint8), compact(np.where(inside, np.uint8(labels.max() + 1), labels).astype(np.uint8))


def _shadow(alpha: npt.NDArray[np.float32], extent: float, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    dx, dy = rng.normal(0, 0.06 * extent, 2)
    moved = cv2.warpAffine(alpha, np.array([[1, 0, dx], [0, 1, dy]]), alpha.shape[::-1])
    return np.asarray(cv2.GaussianBlur(moved, (0, 0), max(1.0, 0.05 * extent)) * rng.uniform(0.2, 0.6), np.float32)


def _in_colours_of(
    thing: npt.NDArray[np.float32], under: npt.NDArray[np.float32], inside: npt.NDArray[np.bool_], share: float
) -> npt.NDArray[np.float32]:
    """Mean and deviation of each channel moved towards those of what it covers."""
    own, other = thing[inside], under[inside]
    gain = np.clip((other.std(0) + 4) / (own.std(0) + 4), 0.4, 2.5)
    moved = (thing - own.mean(0)) * gain + other.mean(0)
    return np.asarray(thing + share * (moved - thing), np.float32)


def recolour(image: UInt8, rng: np.random.Generator) -> UInt8:
    """Another camera, in another light: gain, gamma, white balance, saturation, shading, blur, noise, JPEG, each at times."""
    x = image.astype(np.float32)
    if rng.random() < 0.8:
        x = x * rng.uniform(0.6, 1.4) * np.exp(rng.normal(0, 0.07, 3)) + rng.uniform(-20, 20)
    if rng.random() < 0.3:
        x = 255 * (np.clip(x, 0, 255) / 255) ** np.exp(rng.normal(0, 0.3))
    if rng.random() < 0.5:
        grey = x.mean(2, keepdims=True)
        x = grey + (x - grey) * (0.0 if rng.random() < 0.2 else rng.uniform(0.3, 1.6))
    if rng.random() < 0.2:
        x *= _shading(image.shape[:2], rng)[..., None]
    if rng.random() < 0.05:
        x = x[..., rng.permutation(3)]
    if rng.random() < 0.2:
        x = np.asarray(cv2.GaussianBlur(x, (0, 0), rng.uniform(0.4, 1.8)), np.float32)
    if rng.random() < 0.2:
        x += rng.standard_normal(x.shape, np.float32) * np.float32(rng.uniform(2, 18))
    pixels = np.clip(x, 0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        done, packed = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 75))])
        pixels = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8) if done else pixels
    return np.ascontiguousarray(pixels)


def _shading(size: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """A smooth field of light, from half to full."""
    coarse = rng.uniform(0.5, 1.1, (3, 3)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC), np.float32)
