"""Colour as a witness: log-odds that a pixel is on an object, from the colours on the object and around it.

Two comparisons, both filled by what is believed so far, pixel by pixel, so that colour corrects where an object's colours say otherwise:
histograms of all that is near the object, and means of each pixel's own neighbourhood, which draw the outline to the edge. Where object and
background have the same colours, or a colour is hardly seen, the log-odds are near 0: colour is silent by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.sam.upscaling import Rectangle

WEIGHT, WEIGHT_NEARBY = 0.66, 0.07
"""Slopes of the two comparisons' log-ratios: pixels have much in common with each other and with the prior, so that each counts for less
than one. A fifth below a logistic regression with the model's logits, on pictures held out of pretraining and simulated source scenes: this
costs 0.1 mIoU there, and a quarter fewer objects lose more than 2 points."""
MOST, MOST_NEARBY = 4.0, 3.0
"""Natural logarithms of the highest ratios that are believed."""
LEVELS = 16
"""Levels of each of red, green and blue in a histogram."""
LEAST_SEEN = 0.3
"""Pixels that each bin of the histograms has beforehand, on the object and off it in their overall shares: rare colours say little."""
SAMPLES = 128
"""Pixels of a region's longer side that fill the histograms, at most: every second, third, ... of a larger one."""
SMOOTHING = 150
"""A histogram's log-odds are averaged over a pixel to each side, or over one for so many pixels of the region's longer side."""
SIDE, RADIUS = 64, 5
"""Pixels of the longer side to which a region is reduced to compare neighbourhoods, and to each side of a pixel in its neighbourhood."""
NOISE = 6.0
"""Standard deviation of a channel, in grey levels, that any surface has."""
NEAR, MARGIN = 0.05, 0.05
"""The region of an object: where its prior has at least this probability, enlarged by this share of its sides. Farther off, other things
have its colours."""

ELLIPSE, OUTSIDE = 3.0, -20.0
"""Log-odds that an object is in the middle of its box, if nothing else is known; it is not outside."""
ROUNDS, BOOST = 4, 1.5
"""Times that colour is asked where there is nothing but a box, and how much more it counts than beside a model."""

Float = npt.NDArray[np.float32]
_OWN = 0.125
"""Share of a pixel's own weight that its bin has after smoothing."""


def colour_log_odds(image: npt.NDArray[np.uint8], windows: Sequence[Rectangle], prior: Sequence[Float]) -> list[Float]:
    """Log-odds of colour for each object in its window: positive on the object, 0 where colour does not know.

    They are added to the prior; the weights are measured for that sum.

    Args:
        image: (H, W, 3) uint8, RGB.
        windows: rows and columns where each of n objects can be, and some of what is around it.
        prior: of each object, (h, w) float32 in its window: log-odds by all else that is known, calibrated, and well below 0 where its
            prompt rules it out.

    Returns:
        n arrays (h, w) float32, at most `WEIGHT * MOST + WEIGHT_NEARBY * MOST_NEARBY` from 0.

    Raises:
        ValueError: a prior has not its window's size.
    """
    found = []
    for window, each in zip(windows, prior, strict=True):
        pixels = image[window]
        if pixels.shape[:2] != each.shape:
            raise ValueError(f"the prior must have its window's size {pixels.shape[:2]}, but has {each.shape}")
        log_odds = np.zeros(each.shape, np.float32)
        region = _region(each)
        if region is not None:
            log_odds[region] = _in_region(np.ascontiguousarray(pixels[region]), each[region])
        found.append(log_odds)
    return found


def log_odds_from_boxes(image: npt.NDArray[np.uint8], windows: Sequence[Rectangle], boxes: Float) -> list[Float]:
    """Log-odds of each object in its window by its box and colour alone, for objects whose model has nothing that fits the box.

    An ellipse in the box is the prior, and colour is asked several times, each time with what it has found.

    Args:
        image: (H, W, 3) uint8, RGB.
        windows: rows and columns around each of n boxes, with some of what is around it.
        boxes: (n, 4) x0 y0 x1 y1 in pixels of the image.

    Returns:
        n arrays (h, w) float32.
    """
    found = []
    for window, box in zip(windows, boxes, strict=True):
        prior = _ellipse(window, box)
        log_odds = prior
        for _ in range(ROUNDS):
            log_odds = prior + np.float32(BOOST) * colour_log_odds(image, [window], [log_odds])[0]
        found.append(log_odds)
    return found


def _ellipse(window: Rectangle, box: Float) -> Float:
    """Log-odds (h, w) in a window: highest in the middle of a box (4,), 0 on the ellipse in it, and far below outside of the box."""
    rows, columns = (np.arange(each.start, each.stop, dtype=np.float32) + np.float32(0.5) for each in window)
    y, x = (2 * (rows - box[1]) / max(box[3] - box[1], 1) - 1)[:, None], (2 * (columns - box[0]) / max(box[2] - box[0], 1) - 1)[None]
    prior = np.clip(ELLIPSE * (1 - np.hypot(x, y)), -2, 2)
    prior[np.maximum(np.abs(x), np.abs(y)) > 1] = OUTSIDE
    return np.asarray(prior, np.float32)


def _region(prior: Float) -> Rectangle | None:
    """The rows and columns in which an object may be by its prior (h, w), and some around; None where there are none, or nothing else."""
    possible = prior > np.log(NEAR / (1 - NEAR))
    spans = []
    for axis in (1, 0):
        inside = np.flatnonzero(possible.any(axis))
        if not len(inside):
            return None
        first, last = int(inside[0]), int(inside[-1]) + 1
        more = 3 + int(MARGIN * (last - first))
        spans.append(slice(max(0, first - more), min(possible.shape[1 - axis], last + more)))
    region = spans[0], spans[1]
    probability = _probability(prior[region][::4, ::4])
    return region if 0.001 < float(probability.mean()) < 0.999 else None


def _in_region(pixels: npt.NDArray[np.uint8], prior: Float) -> Float:
    """Log-odds (h, w) of a region's pixels (h, w, 3), with their prior (h, w)."""
    red, green, blue = (np.asarray(each, np.uint8) for each in cv2.split(pixels))
    bins = np.asarray(((red & 0xF0).astype(np.uint16) << 4) | (green & 0xF0) | (blue >> 4), np.uint16)
    longer = max(bins.shape)
    step = -(-longer // SAMPLES)
    table = _by_histograms(bins[::step, ::step], prior[::step, ::step])
    across = 2 * max(1, round(longer / SMOOTHING)) + 1
    log_odds = np.asarray(cv2.blur(table.take(bins), (across, across)), np.float32)
    return np.asarray(log_odds + _by_neighbourhood(pixels, prior + log_odds), np.float32)


def _by_histograms(bins: npt.NDArray[np.uint16], prior: Float) -> Float:
    """Log-odds (LEVELS ** 3,) of each colour, from the colours' bins and the prior of pixels, both (h, w).

    A pixel does not testify for itself: what it adds to both histograms is taken out, on average over the pixels of its bin.
    """
    count = LEVELS**3
    flat, on = bins.ravel(), _probability(prior.ravel())
    pixels = np.bincount(flat, minlength=count)
    histograms = np.empty((2, count), np.float32)
    histograms[0] = np.bincount(flat, on, count)
    histograms[1] = pixels - histograms[0]
    shares = histograms.sum(1, keepdims=True) / np.float32(len(flat))
    seen = _smooth(histograms.reshape(2, LEVELS, LEVELS, LEVELS)).reshape(2, count)
    seen -= histograms * (np.float32(_OWN) / np.maximum(pixels, 1).astype(np.float32))
    seen = np.maximum(seen, 0) + np.float32(LEAST_SEEN) * shares
    ratios = np.log(seen / shares)
    return np.asarray(np.clip(ratios[0] - ratios[1], -MOST, MOST) * np.float32(WEIGHT), np.float32)


def _by_neighbourhood(pixels: npt.NDArray[np.uint8], believed: Float) -> Float:
    """Log-odds (h, w): each pixel's colour (h, w, 3) against the mean colours on the object and off it around the pixel.

    A linear discriminant with one variance for both classes, weighed with `believed` log-odds (h, w). With p the share of the object, m the
    mean and c the covariance of colour and object, the classes' means are c / (p (1 - p)) apart, and m is on the line between them.
    """
    size = believed.shape[1], believed.shape[0]
    scale = min(1.0, SIDE / max(size))
    reduced = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    step = max(1, max(size) // (2 * SIDE))  # averaging all pixels of a large region would cost more than all the rest
    sampled = np.ascontiguousarray(pixels[::step, ::step])
    colour = np.asarray(cv2.resize(sampled, reduced, interpolation=cv2.INTER_AREA), np.float32)
    on = _probability(np.asarray(cv2.resize(believed, reduced, interpolation=cv2.INTER_LINEAR), np.float32))
    around = (2 * RADIUS + 1, 2 * RADIUS + 1)
    share, mean = cv2.blur(on, around), cv2.blur(colour, around)
    covariance = cv2.blur(colour * on[..., None], around) - mean * share[..., None]
    both = np.maximum(share * (1 - share), np.float32(1e-3))
    colour -= mean
    apart = np.einsum("ijk,ijk->ij", covariance, covariance) / both
    spread = cv2.blur(np.einsum("ijk,ijk->ij", colour, colour), around)
    variance = np.maximum(spread - apart, 0) / 3 + np.float32(NOISE**2)
    nearer = np.einsum("ijk,ijk->ij", colour, covariance) - (np.float32(0.5) - share) * apart
    most = np.float32(MOST_NEARBY) * both
    log_odds = 4 * np.clip(nearer / variance, -most, most) * np.float32(WEIGHT_NEARBY)  # 4: where half is object, it counts in full
    return np.asarray(cv2.resize(log_odds, size, interpolation=cv2.INTER_LINEAR), np.float32)


def _smooth(histograms: Float) -> Float:
    """Each bin takes half, and from its neighbours a quarter, along each of the last three axes."""
    for axis in (1, 2, 3):
        moved = np.moveaxis(histograms, axis, 0)
        mixed = moved * np.float32(0.5)
        mixed[1:] += moved[:-1] * np.float32(0.25)
        mixed[:-1] += moved[1:] * np.float32(0.25)
        histograms = np.moveaxis(mixed, 0, axis)
    return histograms


def _probability(log_odds: Float) -> Float:
    return np.asarray(1 / (1 + np.exp(-np.clip(log_odds, -30, 30))), np.float32)
