"""Colour as a witness: log-odds of each pixel from two colour histograms of its object's window, of the object and of what is around it.

Both histograms are filled by what is believed so far, pixel by pixel, so that colour corrects where the object's colours say otherwise. Where
object and background have the same colours, or a colour is hardly seen, the log-odds are 0: colour is silent by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.sam.upscaling import Rectangle

WEIGHT = 0.94
"""Slope of the ratio's logarithm: neighbouring pixels have much in common, so that each counts for less than one. Fitted by logistic
regression together with the model's logits, on held-out pictures and simulated source scenes (docs/method.md)."""
LEAST_SEEN = 0.3
"""Pixels of a colour that must be seen until they outweigh not knowing. Half of them are taken for the object where it fills half a window."""
MOST = 4.0
"""Natural logarithm of the highest ratio that is believed."""
SAMPLES = 128
"""Pixels of a window's longer side that fill the histograms, at most: every second, third, ... of a larger one."""
SMOOTHING = 150
"""Ratios are averaged over one pixel to each side, and over another one per so many pixels of a window's longer side: noise grows with it."""
NEAR = 0.05
"""Log-odds further below zero than this probability's are background that is too far away to be compared with."""
MARGIN = 0.05
"""Share of the near part's sides by which it is enlarged, to see some background."""
LEVELS = 16
"""Levels of each of red, green and blue."""

Float = npt.NDArray[np.float32]
_OWN = 0.125
"""Share of a pixel's own weight that the smoothed histogram has in its bin."""


def colour_log_odds(image: npt.NDArray[np.uint8], windows: Sequence[Rectangle], prior: Sequence[Float]) -> list[Float]:
    """Log-odds of colour, for each object in its window: positive on the object, 0 where colour does not know.

    They may be added to the prior, as if both were independent: `WEIGHT` is measured for that sum.

    Args:
        image: (H, W, 3) uint8, RGB.
        windows: rows and columns where each of n objects can be, and some of what is around it.
        prior: of each object, (h, w) float32 in its window: log-odds by everything else, well below zero where the prompt rules it out.

    Returns:
        n arrays (h, w) float32, at most `WEIGHT` times `MOST` from zero.

    Raises:
        ValueError: a prior has not its window's size.
    """
    found = []
    for window, each in zip(windows, prior, strict=True):
        pixels = image[window]
        if pixels.shape[:2] != each.shape:
            raise ValueError(f"the prior must have its window's size {pixels.shape[:2]}, but has {each.shape}")
        found.append(_in_window(pixels, each))
    return found


def _in_window(pixels: npt.NDArray[np.uint8], prior: Float) -> Float:
    """Log-odds (h, w) of a window's pixels (h, w, 3) and their prior (h, w)."""
    log_odds = np.zeros(prior.shape, np.float32)
    near = _near(prior)
    if near is None:
        return log_odds
    level = pixels[near] >> 4
    bins = (level[..., 0].astype(np.uint16) << 8) | (level[..., 1] << 4) | level[..., 2]
    longer = max(bins.shape)
    step = -(-longer // SAMPLES)
    table = _ratios(bins[::step, ::step], prior[near][::step, ::step])
    radius = max(1, round(longer / SMOOTHING))
    log_odds[near] = cv2.blur(table.take(bins), (2 * radius + 1, 2 * radius + 1))
    return log_odds


def _near(prior: Float) -> Rectangle | None:
    """The rows and columns in which an object may be by its prior (h, w), a little enlarged; None where it is nowhere."""
    possible = prior > np.log(NEAR / (1 - NEAR))
    spans = []
    for axis in (1, 0):
        inside = np.flatnonzero(possible.any(axis))
        if not len(inside):
            return None
        first, last = int(inside[0]), int(inside[-1]) + 1
        more = 3 + int(MARGIN * (last - first))
        spans.append(slice(max(0, first - more), min(possible.shape[1 - axis], last + more)))
    return spans[0], spans[1]


def _ratios(bins: npt.NDArray[np.uint16], prior: Float) -> Float:
    """Weighted logarithm (bins,) of how much likelier each colour is on the object than off it, by the bins of pixels and their prior (h, w).

    A pixel does not testify for itself: what it adds to both histograms is taken out, on average over the pixels of its colour.
    """
    count = LEVELS**3
    on = 1 / (1 + np.exp(-prior.ravel()))
    inside, total = float(on.sum()), float(on.size)
    if min(inside, total - inside) < 1:
        return np.zeros(count, np.float32)
    pixels = np.bincount(bins.ravel(), minlength=count)
    histograms = np.empty((2, count), np.float32)
    histograms[0] = np.bincount(bins.ravel(), on, count)
    histograms[1] = pixels - histograms[0]
    seen = _smooth(histograms.reshape(2, LEVELS, LEVELS, LEVELS)).reshape(2, count)
    seen -= histograms * (np.float32(_OWN) / np.maximum(pixels, 1).astype(np.float32))
    shares = np.array([[inside], [total - inside]], np.float32) / np.float32(total)
    seen = np.maximum(seen, 0) + np.float32(LEAST_SEEN) * shares
    ratios = np.log(seen / shares)
    return np.asarray(np.clip(ratios[0] - ratios[1], -MOST, MOST) * np.float32(WEIGHT), np.float32)


def _smooth(histograms: Float) -> Float:
    """Each bin takes half, and from its neighbours a quarter, along each of the last three axes."""
    for axis in (1, 2, 3):
        moved = np.moveaxis(histograms, axis, 0)
        mixed = moved * np.float32(0.5)
        mixed[1:] += moved[:-1] * np.float32(0.25)
        mixed[:-1] += moved[1:] * np.float32(0.25)
        histograms = np.moveaxis(mixed, 0, axis)
    return histograms
