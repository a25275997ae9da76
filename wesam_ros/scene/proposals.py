"""Proposals: boxes of the things in a frame that nobody asked for. No detector is needed.

With depth: what rises over the support surface (proposals_relief.py) is cut into pieces at steps and creases (proposals_pieces.py). A small
learned score says of each pair of pieces whether they are of one thing, from depth, colour and the model's masks of both
(proposals_pairs.py, proposals_model.py, proposals_score.py). Things that are none, such as a wall, are left out (proposals_things.py).
Without depth: masks of a grid of points, filtered (proposals_grid.py), which takes many times as long.

The masks that are served are made of these boxes as of a detector's.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.data.frames import Frame
from wesam_ros.scene.plane import Plane
from wesam_ros.scene.proposals_grid import grid_boxes
from wesam_ros.scene.proposals_limits import Limits
from wesam_ros.scene.proposals_model import Coverage, Decode, coverage
from wesam_ros.scene.proposals_pairs import Pieces, bridges, describe, neighbours
from wesam_ros.scene.proposals_pieces import bends, cut_pieces
from wesam_ros.scene.proposals_relief import Raised, find_raised
from wesam_ros.scene.proposals_score import joined, scores
from wesam_ros.scene.proposals_things import features

Float = npt.NDArray[np.float32]

MOST = 0.6
DEPTH, GRID = "depth", "grid"
"""Proposals were made from depth, with the model or without, or from a grid of points."""


@dataclass(frozen=True, eq=False)
class Proposals:
    """The things that a frame has.

    Attributes:
        boxes: (n, 4) x0 y0 x1 y1 in pixels of the image.
        scores: (n,) from 0 to 1, that it is a thing.
        way: what they were made from, DEPTH or GRID.
        labels: (h, w) uint16 at half resolution, the pixels by which depth knows each, i + 1 for box i; None without depth.
    """

    boxes: Float
    scores: Float
    way: str
    labels: npt.NDArray[np.uint16] | None = None

    def missing_from(self, boxes: Float) -> Proposals:
        """The proposals that are not in any of `boxes` (n, 4), such as a detector's, and hold none of them.

        A proposal and a box are of one thing where they share MOST of the smaller one's area.
        """
        low, high = np.maximum(self.boxes[:, None, :2], boxes[None, :, :2]), np.minimum(self.boxes[:, None, 2:], boxes[None, :, 2:])
        shared = np.clip(high - low, 0, None).prod(-1)
        areas = [np.prod(each[:, 2:] - each[:, :2], axis=1) for each in (self.boxes, boxes)]
        smaller = np.maximum(np.minimum(areas[0][:, None], areas[1][None]), 1e-6)
        free = np.flatnonzero(~(shared > MOST * smaller).any(1))
        return Proposals(self.boxes[free], self.scores[free], self.way)


class Proposer:
    """Finds the things in a stream of frames, and keeps the support surface between them. One thread at a time.

    Args:
        limits: which things are proposed.
        seed: of the search for the surface.
    """

    def __init__(self, limits: Limits | None = None, seed: int = 0) -> None:
        self.limits = limits or Limits()
        self._rng = np.random.default_rng(seed)
        self._plane: Plane | None = None

    def propose(self, frame: Frame, decode: Decode | None) -> Proposals:
        """The things in a frame.

        Args:
            frame: image, depth and camera. Its labels and detections are not read.
            decode: the model's masks of prompts in this image; None asks depth and colour alone.

        Raises:
            ValueError: there is neither a model nor a depth that shows a surface.
        """
        found = None
        if frame.depth is not None and frame.camera is not None:
            found = find_raised(frame.depth, frame.camera, self._rng, self._plane)
        if found is None:
            if decode is None:
                raise ValueError("without the model proposals need depth with a support surface; give depth and camera, or a model")
            boxes, certain = grid_boxes(frame.size, decode, self.limits.least_pixels, self.limits.inside(frame.size), self.limits.most)
            return Proposals(boxes, certain, GRID)
        self._plane = found.plane
        return self._of_depth(frame, found, decode)

    def _of_depth(self, frame: Frame, found: Raised, decode: Decode | None) -> Proposals:
        fine, coarse = bends(found)
        labels = cut_pieces(found, (fine, coarse))
        none = Proposals(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), DEPTH, np.zeros(labels.shape, np.uint16))
        if not labels.any():
            return none
        lab = half_lab(frame.image)
        pieces = describe(found, labels, lab)
        ids = things(frame, found, np.maximum(fine, coarse), pieces, lab, decode)
        certain = 1 / (1 + np.exp(-scores()["things"](features(found, pieces, ids))))
        kept = [k for k in np.argsort(-np.bincount(ids, pieces.areas)) if certain[k] > 0.5 and self._fits(k, ids, pieces, frame.size)]
        kept = kept[: self.limits.most]
        if not kept:
            return none
        boxes = [np.concatenate([pieces.boxes[ids == k, :2].min(0), pieces.boxes[ids == k, 2:].max(0)]) for k in kept]
        number = np.zeros(int(ids.max()) + 1, np.uint16)
        number[kept] = np.arange(1, len(kept) + 1)
        shown = np.concatenate([np.zeros(1, np.uint16), number[ids]])[labels]
        limit = np.tile(np.array(frame.size[::-1], np.float32), 2)
        return Proposals(np.minimum(np.stack(boxes), limit), certain[kept].astype(np.float32), DEPTH, shown)

    def _fits(self, k: int, ids: npt.NDArray[np.int64], pieces: Pieces, size: tuple[int, int]) -> bool:
        """True for a thing that keeps to the limits."""
        own, limits = ids == k, self.limits
        if 4 * pieces.areas[own].sum() < limits.least_pixels or not limits.heights[0] <= pieces.heights[own, 1].max() <= limits.heights[1]:
            return False
        if limits.region is None:
            return True
        mask = np.isin(pieces.labels, np.flatnonzero(own) + 1)
        return bool(limits.inside(size)[mask].mean() > 0.5)


def things(frame: Frame, found: Raised, bend: Float, pieces: Pieces, lab: Float, decode: Decode | None) -> npt.NDArray[np.int64]:
    """(n,) the number of each piece's thing, from 0 on."""
    pairs, near, nearer = neighbours(found, bend, pieces, lab)
    over, apart = bridges(pieces, pairs, nearer)
    names = ("neighbours", "bridges")
    if decode is not None:
        covered = coverage(found, pieces, frame.size, decode, np.unique(np.concatenate([pairs.ravel(), over.ravel()])))
        near, apart = with_model(near, pairs, covered), with_model(apart, over, covered)
    else:
        names = ("neighbours by depth", "bridges by depth")
    first, second = (scores()[name] for name in names)
    weights = np.concatenate([np.exp(near[:, 5]), np.ones(len(over), np.float32)])
    return joined(len(pieces), np.concatenate([pairs, over]), np.concatenate([first(near), second(apart)]), weights)


def with_model(features: Float, pairs: npt.NDArray[np.int64], covered: Coverage) -> Float:
    """Features of pairs with what the model says of them."""
    return np.concatenate([features, covered.of_pairs(pairs)], 1)


def half_lab(image: npt.NDArray[np.uint8]) -> Float:
    """(h, w, 3) float32 Lab of an image (H, W, 3), at half resolution, rounded up."""
    size = -(-image.shape[1] // 2), -(-image.shape[0] // 2)
    return np.asarray(cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB), np.float32)
