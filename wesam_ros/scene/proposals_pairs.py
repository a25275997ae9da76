"""Whether two pieces are of one thing: what depth, colour and the model say of each pair of neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.scene.proposals_relief import Raised

Float = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]

GAP = 4
"""Half-resolution pixels between two pieces that are still neighbours: at a step some are of neither."""
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
        points[k] = _inner_points(labels[y0:y1, x0:x1] == k + 1) + (2 * x0, 2 * y0)
        limits[k] = np.percentile(heights[pixels], (10, 90))
        prominence[k] = float((heights[pixels] / noise[pixels]).mean())
        centers[k] = places[pixels].mean(0)
        spread = places[pixels] - centers[k]
        normals[k] = np.linalg.eigh(np.einsum("ni,nj->ij", spread, spread))[1][:, 0]
        counts = np.bincount(bins[pixels], minlength=256)
        histograms[k] = np.sqrt(counts / counts.sum())
        colours[k] = lab.reshape(-1, 3)[pixels].mean(0)
    counts = np.bincount(bins[found.surface.ravel()], minlength=256)
    distinct = 1 - histograms @ np.sqrt(counts / max(1, counts.sum())).astype(np.float32)
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


def neighbours(found: Raised, bend: Float, pieces: Pieces, lab: Float) -> tuple[npt.NDArray[np.int64], Float]:
    """Pairs (m, 2) of neighbouring pieces, the first index the lower one, and what depth and colour say of each: FEATURES up to "lift"."""
    n = len(pieces)
    keys, values = [], []
    labels = pieces.labels
    noise = np.maximum(found.noise, np.float32(0.002))
    for dy, dx in ((0, GAP), (GAP, 0), (3, 3), (3, -3)):
        rows = slice(0, labels.shape[0] - dy), slice(dy, None)
        columns = (slice(0, labels.shape[1] - dx), slice(dx, None)) if dx >= 0 else (slice(-dx, None), slice(0, dx))
        a, b = (rows[0], columns[0]), (rows[1], columns[1])
        both = (labels[a] != labels[b]) & (labels[a] > 0) & (labels[b] > 0)
        if not both.any():
            continue
        la, lb = labels[a][both] - 1, labels[b][both] - 1
        za, zb = found.depth[a][both], found.depth[b][both]
        keys.append(np.minimum(la, lb).astype(np.int64) * n + np.maximum(la, lb))
        apart = np.linalg.norm(found.points[a][both] - found.points[b][both], axis=1)
        unit = np.maximum(noise[a][both], noise[b][both])
        # how much farther apart than pixels of one slanted surface
        usual = np.hypot(dy, dx) * found.spacing * np.minimum(za, zb)
        nearer = np.where(la < lb, zb - za, za - zb)  # metres that the first one is nearer
        step = np.maximum(apart - 1.5 * usual, 0)
        middle = np.maximum(np.minimum(bend[a][both], 8), np.minimum(bend[b][both], 8))
        contrast = np.linalg.norm(lab[a][both] - lab[b][both], axis=1)
        values.append(np.stack([step, step > 5 * unit, middle, contrast, nearer], 1))
    if not keys:
        return np.zeros((0, 2), np.int64), np.zeros((0, 11), np.float32), np.zeros(0, np.float32)
    key, value = np.concatenate(keys), np.concatenate(values)
    unique, inverse, counts = np.unique(key, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(inverse, value[:, k], len(unique)) for k in range(value.shape[1])], 1) / counts[:, None]
    kept = counts >= 6
    unique, sums, counts = unique[kept], sums[kept], counts[kept]
    pairs = np.stack([unique // n, unique % n], 1)
    i, j = pairs.T
    total = np.bincount(np.concatenate([i, j]), np.concatenate([counts, counts]), n)
    sides = np.sqrt(pieces.areas)
    smaller = np.minimum(sides[i], sides[j])
    colour = np.linalg.norm(pieces.colours[i] - pieces.colours[j], axis=1)
    alike = np.einsum("ni,ni->n", pieces.histograms[i], pieces.histograms[j])
    distinct = np.minimum(pieces.distinct[i], pieces.distinct[j])
    features = np.stack(
        [
            np.log1p(sums[:, 0] * 100),
            sums[:, 1],
            np.log1p(sums[:, 2]),
            np.log1p(sums[:, 3]),
            np.log1p(colour) * distinct,
            np.minimum(counts / (4 * smaller), 3),
            counts / np.maximum(1, np.minimum(total[i], total[j])),
            np.log(smaller),
            np.minimum(np.maximum(pieces.heights[i, 0], pieces.heights[j, 0]), 0.2) * 10,
            alike * distinct,
            (1 - alike) * distinct,
        ],
        1,
    )
    return pairs, features.astype(np.float32), np.where(sums[:, 1] > 0.3, sums[:, 4], 0)


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
    distinct = np.minimum(pieces.distinct[i], pieces.distinct[j])
    alike = np.einsum("ni,ni->n", pieces.histograms[i], pieces.histograms[j])
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
            np.exp(-np.abs(pieces.heights[i, 1] - pieces.heights[j, 1]) / 0.006),
            np.exp(-np.abs(pieces.heights[i, 0] - pieces.heights[j, 0]) / 0.006),
            np.log(np.linalg.norm(pieces.centers[i] - pieces.centers[j], axis=1) / (metres[i] + metres[j])),
            np.log(np.minimum(sides[i], sides[j])),
            np.abs(np.log(sides[i] / sides[j])),
        ],
        1,
    )
    return np.stack([i, j], 1), features.astype(np.float32)
