"""Pieces: what rises, cut at steps and at concave creases of the depth. A thing may be several pieces; a piece is rarely of two things."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.scene.proposals_relief import Raised

Bool = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]

SCALES = ((3, 3), (5, 7))
"""Half-resolution pixels of the window over which inverse depth is averaged, and to each side of it to the neighbours compared with."""
CREASE = 1.0
SIGMAS = 4.0
"""A pixel is a barrier where its bend is as large as CREASE times the depth's noise, and so many times the median bend of the surface."""
STEP, LEAST_NOISE, JUMPED = 4.0, 0.002, 100.0
"""Times the noise, in metres of which no less than LEAST_NOISE, by which a pixel lies behind a neighbour that is another thing's."""
GROWN = 12
LEAST_SEED = 8
LEAST_PIECE = 20
"""Half-resolution pixels of the smallest piece."""


def bends(found: Raised) -> tuple[Float, Float]:
    """(h, w) float32 for each scale: how far a pixel lies behind the chord between its neighbours on opposite sides; from 1 on a crease.

    In inverse depth planes are linear in the image, so that a plane has no bend, however it is tilted. Chords over a step do not count.
    """
    known = found.depth > 0
    inverse = np.zeros_like(found.depth)
    np.divide(1, found.depth, out=inverse, where=known)
    metres = found.depth**2  # of a step of inverse depth
    noise = np.maximum(found.noise, np.float32(LEAST_NOISE))
    far = STEP * noise
    jump = np.asarray(((cv2.dilate(inverse, np.ones((3, 3), np.uint8)) - inverse) * metres > far) & known)
    results = []
    for window, span in SCALES:
        weight = cv2.blur(known.astype(np.float32), (window, window))
        smooth: Float = np.asarray(cv2.blur(inverse, (window, window)) / np.maximum(weight, 1e-6), np.float32)
        smooth[~known] = 0
        bend = np.zeros_like(smooth)
        limit = far * 2 / np.maximum(metres, np.float32(0.01))
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
            step = span if dx == 0 or dy == 0 else max(1, round(span / 1.4))
            before, after = _shifted(smooth, -dy * step, -dx * step), _shifted(smooth, dy * step, dx * step)
            each = (before + after) / 2 - smooth
            each[(before == 0) | (after == 0) | (np.abs(before - after) > limit)] = 0
            np.maximum(bend, each, out=bend)
        bend *= metres / noise
        flat = bend[found.surface][::7]
        bend /= max(CREASE, SIGMAS * float(np.median(flat)))
        bend[jump] = JUMPED
        bend[~known] = 0
        results.append(np.asarray(bend, np.float32))
    return results[0], results[1]


def _shifted(values: Float, dy: int, dx: int) -> Float:
    out = np.zeros_like(values)
    h, w = values.shape
    out[max(0, -dy) : h - max(0, dy), max(0, -dx) : w - max(0, dx)] = values[max(0, dy) : h - max(0, -dy), max(0, dx) : w - max(0, -dx)]
    return out


def cut_pieces(found: Raised, bend: tuple[Float, Float]) -> Labels:
    """(h, w) int32: 0 = not raised, else the number of the piece, from 1; of the bends of both scales."""
    fine, coarse = bend
    kernel = np.ones((3, 3), np.uint8)
    marks = np.zeros(found.raised.shape, np.int32)
    frees = [found.raised & (np.maximum(fine, coarse) < 1), found.raised & (fine < 1), found.raised & (fine < JUMPED), found.raised]
    for free, eroded in zip(frees, (True, True, False, False), strict=True):
        seeds = cv2.erode(free.view(np.uint8), kernel) if eroded else free.view(np.uint8)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(seeds, connectivity=4)
        new = stats[:, cv2.CC_STAT_AREA] >= (LEAST_SEED if eroded else LEAST_PIECE)
        new[0] = False
        new[np.unique(labels[marks > 0])] = False
        added = new[labels]
        marks[added] = labels[added] + int(marks.max())
    if not marks.any():
        return marks
    return _numbered(_grown(marks, found.raised & (fine < JUMPED)))


def _grown(marks: Labels, inside: Bool) -> Labels:
    """Marks that have grown into the unmarked pixels that are inside, to the nearest mark, as far as GROWN pixels."""
    marks = np.where(inside, marks, 0)
    for _ in range(GROWN):
        grown = cv2.dilate(marks.astype(np.float32), cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))).astype(np.int32)
        free = inside & (marks == 0) & (grown > 0)
        if not free.any():
            break
        marks[free] = grown[free]
    return marks


def _numbered(labels: Labels) -> Labels:
    """The labels from 1 on without gaps, and without the smallest pieces."""
    counts = np.bincount(labels.ravel())
    kept = counts >= LEAST_PIECE
    kept[0] = False
    number = np.cumsum(kept) * kept
    return np.asarray(number[labels], np.int32)
