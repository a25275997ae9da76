"""Pairs of pieces that may be of one thing, and what depth and colour say of each."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.scene.proposals_relief import Raised

Float = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]

GAP, LEAST_BORDER = 4, 6
"""Half-resolution pixels between two pieces that are still neighbours, since at a step some are of neither, and pairs of them at least."""
SLANTED, JUMP, LEAST_NOISE = 1.5, 5.0, 0.002
"""Two points are a step apart by what exceeds SLANTED times such pixels' distance, and jump by JUMP times the noise in metres."""
STEPPED, MOST_BENT = 0.3, 8.0
"""Share of a border with a jump from which on one piece lies behind the other, and the bend up to which one counts."""
LEVEL = 0.006
"""Metres by which heights of one thing's parts may differ."""
FEATURES = (
    "step",
    "jumps",
    "behind",
    "contrast",
    "colour",
    "border",
    "enclosed",
    "smaller",
    "lift",
    "alike",
    "unlike",
)
"""Of neighbours: the step between them in metres and how much of their border it is a step, the bend, the contrast and the colours there,
how long the border is, how small the smaller one is and how high the higher one lies, and how like their colours are."""
BRIDGE_FEATURES = ("off_low", "off_high", "parallel", "alike", "unlike", "top", "bottom", "apart", "smaller", "ratio")
"""Of two pieces behind a third: how far off each other's plane they lie, how parallel they are, how like their colours and heights are, how
far apart they are for their size, and their sizes."""
MODEL_FEATURES = ("box_low", "box_high", "point_low", "point_high", "score")
"""Of any pair: see Coverage.of_pairs."""


@dataclass(frozen=True, eq=False)
class Pieces:
    """The pieces of a frame, at half resolution.

    Attributes:
        labels: (h, w) int32, 0 = none, else 1 to n.
        boxes: (n, 4) x0 y0 x1 y1 in pixels of the image.
        points: (n, 3, 2) x y in pixels of the image, well within each piece.
        areas: (n,) pixels at half resolution.
        colours: (n, 3) mean Lab.
        histograms: (n, 256) square roots of the shares of colours.
        heights: (n, 2) metres above the surface of the lowest and the highest tenth.
        centers: (n, 3) metres, in the camera's frame.
        normals: (n, 3) unit normals of the plane through each piece's points.
        distinct: (n,) from 0 to 1, how much their colours differ from the surface's.
        prominence: (n,) mean height above the surface, in units of the depth's noise.
        spacing: metres from one pixel to the next at a distance of one metre.
    """

    labels: Labels
    boxes: Float
    points: Float
    areas: Float
    colours: Float
    histograms: Float
    heights: Float
    centers: Float
    normals: Float
    distinct: Float
    prominence: Float
    spacing: float

    def __len__(self) -> int:
        return len(self.boxes)


def describe(found: Raised, labels: Labels, lab: Float) -> Pieces:
    """The pieces of a label image (h, w), with the image's Lab colours (h, w, 3)."""
    n = int(labels.max())
    flat = labels.ravel()
    order = np.argsort(flat, kind="stable")
    starts = np.searchsorted(flat[order], np.arange(1, n + 2))
    boxes, points = np.zeros((n, 4), np.float32), np.zeros((n, 3, 2), np.float32)
    limits, centers, normals = np.zeros((n, 2), np.float32), np.zeros((n, 3), np.float32), np.zeros((n, 3), np.float32)
    width = labels.shape[1]
    heights, places, colours = found.height.ravel(), found.points.reshape(-1, 3), np.zeros((n, 3), np.float32)
    histograms, prominence = np.zeros((n, 256), np.float32), np.zeros(n, np.float32)
    noise = found.noise.ravel()
    levels = np.clip((lab[..., 1:] - 128) / 8 + 4, 0, 7).astype(np.int32)
    bins = ((levels[..., 0] * 8 + levels[..., 1]) * 4 + (lab[..., 0] / 64).astype(np.int32)).ravel()
    for k in range(n):
        pixels = order[starts[k] : starts[k + 1]]
        y, x = pixels // width, pixels % width
        x0, y0, x1, y1 = x.min(), y.min(), x.max() + 1, y.max() + 1
        boxes[k] = 2 * x0, 2 * y0, 2 * x1, 2 * y1
        points[k] = _inner_points(labels[y0:y1, x0:x1] == k + 1)
        points[k] += boxes[k, :2]
        limits[k] = np.percentile(heights[pixels], (10, 90))
        prominence[k] = float((heights[pixels] / noise[pixels]).mean())
        centers[k] = places[pixels].mean(0)
        spread = places[pixels] - centers[k]
        normals[k] = np.linalg.eigh(np.einsum("ni,nj->ij", spread, spread))[1][:, 0]
        counts = np.bincount(bins[pixels], minlength=256)
        histograms[k] = np.sqrt(counts / counts.sum())
        colours[k] = lab.reshape(-1, 3)[pixels].mean(0)
    counts = np.bincount(bins[found.surface.ravel()], minlength=256)
    distinct = 1 - np.einsum("nb,b->n", histograms, np.sqrt(counts / max(1, counts.sum())).astype(np.float32))
    return Pieces(
        labels,
        boxes,
        points,
        np.diff(starts).astype(np.float32),
        colours,
        histograms,
        limits,
        centers,
        normals,
        distinct,
        prominence,
        found.spacing,
    )


def _inner_points(mask: npt.NDArray[np.bool_]) -> Float:
    """(3, 2) x y in pixels of the image, from the mask's corner: the innermost one, and two far from it and each other."""
    inside = cv2.distanceTransform(cv2.copyMakeBorder(mask.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.nonzero(inside >= 0.5 * inside.max())
    first = int(inside[y, x].argmax())
    far = np.hypot(y - y[first], x - x[first])
    second = int(far.argmax())
    third = int(np.minimum(far, np.hypot(y - y[second], x - x[second])).argmax())
    chosen = [first, second, third]
    return (2 * np.stack([x[chosen], y[chosen]], 1) + 1).astype(np.float32)


def neighbours(found: Raised, bend: Float, pieces: Pieces, lab: Float) -> tuple[npt.NDArray[np.int64], Float, Float]:
    """Pairs of neighbouring pieces.

    Args:
        found: the relief.
        bend: (h, w) of its pixels, as of proposals_pieces.bends.
        pieces: of it.
        lab: (h, w, 3) the image's colours.

    Returns:
        (m, 2) indices, the lower one first; (m, 11) their FEATURES; and (m,) metres by which the first is nearer at a step, 0 without one.
    """
    n = len(pieces)
    keys, values = zip(*(_across(found, bend, pieces, lab, *offset) for offset in ((0, GAP), (GAP, 0), (3, 3), (3, -3))), strict=True)
    key, value = np.concatenate(keys), np.concatenate(values)
    unique, inverse, counts = np.unique(key, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(inverse, value[:, k], len(unique)) for k in range(value.shape[1])], 1) / counts[:, None]
    kept = counts >= LEAST_BORDER
    unique, sums, counts = unique[kept], sums[kept], counts[kept]
    i, j = unique // n, unique % n
    total = np.bincount(np.concatenate([i, j]), np.concatenate([counts, counts]), n)
    sides = np.sqrt(pieces.areas)
    smaller = np.minimum(sides[i], sides[j])
    alike, distinct = _likeness(pieces, i, j)
    features = (
        np.log1p(sums[:, 0] * 100),
        sums[:, 1],
        np.log1p(sums[:, 2]),
        np.log1p(sums[:, 3]),
        np.log1p(np.linalg.norm(pieces.colours[i] - pieces.colours[j], axis=1)) * distinct,
        np.minimum(counts / (4 * smaller), 3),
        counts / np.maximum(1, np.minimum(total[i], total[j])),
        np.log(smaller),
        np.minimum(np.maximum(pieces.heights[i, 0], pieces.heights[j, 0]), 0.2) * 10,
        alike * distinct,
        (1 - alike) * distinct,
    )
    nearer = np.where(sums[:, 1] > STEPPED, sums[:, 4], 0)
    return np.stack([i, j], 1), np.stack(features, 1).astype(np.float32), nearer.astype(np.float32)


def _across(
    found: Raised, bend: Float, pieces: Pieces, lab: Float, dy: int, dx: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Pairs of pixels of two pieces, one dy down and dx right of the other: (k,) number of the pair of pieces, and (k, 5) step in metres,
    whether it is one, bend, contrast, and metres by which the piece with the lower index is nearer."""
    labels, n = pieces.labels, len(pieces)
    one = slice(0, labels.shape[0] - dy), slice(max(0, -dx), labels.shape[1] - max(0, dx))
    other = slice(dy, None), slice(max(0, dx), labels.shape[1] - max(0, -dx))
    both = (labels[one] != labels[other]) & (labels[one] > 0) & (labels[other] > 0)
    first, second = labels[one][both] - 1, labels[other][both] - 1
    near, far = found.depth[one][both], found.depth[other][both]
    apart = np.linalg.norm(found.points[one][both] - found.points[other][both], axis=1)
    unit = np.maximum(np.maximum(found.noise[one][both], found.noise[other][both]), np.float32(LEAST_NOISE))
    step = np.maximum(apart - SLANTED * np.hypot(dy, dx) * found.spacing * np.minimum(near, far), 0)
    bent = np.minimum(np.maximum(bend[one][both], bend[other][both]), MOST_BENT)
    contrast = np.linalg.norm(lab[one][both] - lab[other][both], axis=1)
    key = np.minimum(first, second).astype(np.int64) * n + np.maximum(first, second)
    return key, np.stack([step, step > JUMP * unit, bent, contrast, np.where(first < second, far - near, near - far)], 1)


def _likeness(pieces: Pieces, i: npt.NDArray[np.int64], j: npt.NDArray[np.int64]) -> tuple[Float, Float]:
    """(m,) each, from 0 to 1: how alike the colours of two pieces are (Bhattacharyya), and how distinct both are from the surface."""
    return np.einsum("ni,ni->n", pieces.histograms[i], pieces.histograms[j]), np.minimum(pieces.distinct[i], pieces.distinct[j])


def bridges(pieces: Pieces, pairs: npt.NDArray[np.int64], nearer: Float) -> tuple[npt.NDArray[np.int64], Float]:
    """Pairs (m, 2) of pieces that are no neighbours, but both behind the same one, and what depth and colour say of each."""
    n = len(pieces)
    adjacent = np.zeros((n, n), bool)
    adjacent[tuple(pairs.T)] = True
    behind = np.zeros((n, n), bool)  # [k, i]: i is behind k
    i, j = pairs.T
    behind[i[nearer > 0], j[nearer > 0]] = True
    behind[j[nearer < 0], i[nearer < 0]] = True
    both = (behind.astype(np.int32).T @ behind.astype(np.int32)) > 0
    i, j = np.nonzero(np.triu(both & ~adjacent & ~adjacent.T, 1))
    alike, distinct = _likeness(pieces, i, j)
    off = [np.abs(np.einsum("ni,ni->n", pieces.centers[i] - pieces.centers[j], pieces.normals[k])) for k in (i, j)]
    sides = np.sqrt(pieces.areas)
    metres = sides * pieces.spacing * pieces.centers[:, 2]
    features = np.stack(
        [
            np.log1p(200 * np.minimum(*off)),
            np.log1p(200 * np.maximum(*off)),
            np.abs(np.einsum("ni,ni->n", pieces.normals[i], pieces.normals[j])),
            alike * distinct,
            (1 - alike) * distinct,
            np.exp(-np.abs(pieces.heights[i, 1] - pieces.heights[j, 1]) / LEVEL),
            np.exp(-np.abs(pieces.heights[i, 0] - pieces.heights[j, 0]) / LEVEL),
            np.log(np.linalg.norm(pieces.centers[i] - pieces.centers[j], axis=1) / (metres[i] + metres[j])),
            np.log(np.minimum(sides[i], sides[j])),
            np.abs(np.log(sides[i] / sides[j])),
        ],
        1,
    )
    return np.stack([i, j], 1), features.astype(np.float32)
