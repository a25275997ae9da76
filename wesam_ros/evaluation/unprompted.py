"""Scores of a segmentation whose objects were asked for by nobody: overlap and boundary precision, recall and F-measure.

As Dave, Tokmakov and Ramanan (Towards Segmenting Anything That Moves, 2019) and Xie et al. (The Best of Both Modes, CoRL 2019; UOIS-Net-3D)
define them: found and true objects are paired so that the sum of their F-measures is highest (Kuhn, 1955; scipy's assignment). Precision is
the share of all found pixels that lie on the paired object, recall the share of all true pixels that are found by the paired one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

TOLERANCE = 0.003
"""Of the image's diagonal, within which an outline is right: 3 pixels, rounded up, at 640 x 480."""
WELL_FOUND = 0.75
"""The F-measure from which on an object counts as found well."""

Bool = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class UnpromptedScore:
    """Scores in [0, 1] of one image, or means over images.

    Attributes:
        overlap_p, overlap_r, overlap_f: precision, recall and F-measure of the objects' pixels.
        boundary_p, boundary_r, boundary_f: likewise of the pixels of their outlines.
        above_75: share of the true objects whose paired one has an F-measure of at least 0.75.
        true, found: number of objects.
    """

    overlap_p: float
    overlap_r: float
    overlap_f: float
    boundary_p: float
    boundary_r: float
    boundary_f: float
    above_75: float
    true: float
    found: float


def score_unprompted(found: Labels, true: Labels) -> UnpromptedScore:
    """Scores a label image (H, W) of found objects against one of true objects; 0 = none of them in both.

    Where there is neither, all scores are 1; where there is one of both only, they are 0.

    Raises:
        ValueError: the images differ in size.
    """
    if found.shape != true.shape:
        raise ValueError(f"label images must have one size, but got {found.shape} and {true.shape}")
    own, theirs = (np.unique(each[each > 0]) for each in (found, true))
    if not len(own) or not len(theirs):
        right = float(len(own) == len(theirs))
        return UnpromptedScore(right, right, right, right, right, right, right, len(theirs), len(own))
    rows, columns = np.searchsorted(own, found), np.searchsorted(theirs, true)
    both = (found > 0) & (true > 0)
    shared = np.bincount(rows[both] * len(theirs) + columns[both], minlength=len(own) * len(theirs)).reshape(len(own), -1)
    sizes, true_sizes = np.bincount(rows[found > 0], minlength=len(own)), np.bincount(columns[true > 0], minlength=len(theirs))
    f = 2 * shared / (sizes[:, None] + true_sizes[None])  # the harmonic mean of shared / sizes and shared / true_sizes
    pairs = [(i, j) for i, j in zip(*linear_sum_assignment(-f), strict=True) if shared[i, j]]
    overlap = sum(shared[i, j] for i, j in pairs)
    edges, true_edges = ([_outline(image == each) for each in ids] for image, ids in ((found, own), (true, theirs)))
    disk = _disk(int(np.ceil(TOLERANCE * np.hypot(*true.shape))))
    near = sum(np.count_nonzero(edges[i] & _dilated(true_edges[j], disk)) for i, j in pairs)
    reached = sum(np.count_nonzero(_dilated(edges[i], disk) & true_edges[j]) for i, j in pairs)
    return UnpromptedScore(
        *_with_f(overlap / sizes.sum(), overlap / true_sizes.sum()),
        *_with_f(near / max(1, sum(map(np.count_nonzero, edges))), reached / max(1, sum(map(np.count_nonzero, true_edges)))),
        above_75=sum(f[i, j] >= WELL_FOUND for i, j in pairs) / len(theirs),
        true=len(theirs),
        found=len(own),
    )


def mean_score(scores: Iterable[UnpromptedScore]) -> UnpromptedScore:
    """The means over images; `above_75` is of all objects of all images, and NaN where there is none.

    Raises:
        ValueError: there is no image.
    """
    table = list(scores)
    if not table:
        raise ValueError("there is no image to score; give one at least")
    names = [name for name in UnpromptedScore.__dataclass_fields__ if name != "above_75"]
    means = {name: float(np.mean([getattr(each, name) for each in table])) for name in names}
    true = sum(each.true for each in table)
    return UnpromptedScore(**means, above_75=sum(each.above_75 * each.true for each in table) / true if true else float("nan"))


def _with_f(precision: float, recall: float) -> tuple[float, float, float]:
    f = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return float(precision), float(recall), float(f)


def _outline(mask: Bool) -> Bool:
    """(H, W): pixels whose right, lower, or lower right neighbour is on the other side (Martin's seg2bmap); not where the image ends."""
    edge = np.zeros_like(mask)
    edge[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
    edge[:-1] |= mask[:-1] ^ mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edge


def _disk(radius: int) -> npt.NDArray[np.uint8]:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(x**2 + y**2 <= radius**2, np.uint8)


def _dilated(mask: Bool, disk: npt.NDArray[np.uint8]) -> Bool:
    return np.asarray(cv2.dilate(mask.view(np.uint8), disk) > 0)
