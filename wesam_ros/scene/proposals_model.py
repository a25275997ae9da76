"""The model as a witness of pieces: how much of each piece its masks of the other pieces cover."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.sam.masks import Masks
from wesam_ros.sam.preprocessing import resized_size
from wesam_ros.sam.prompts import Prompt, Prompts
from wesam_ros.scene.proposals_pairs import Pieces
from wesam_ros.scene.proposals_relief import Raised

Float = npt.NDArray[np.float32]
Decode = Callable[[Prompts], Masks]
"""The model's masks of prompts in one image."""


@dataclass(frozen=True, eq=False)
class Coverage:
    """Mean probability, less a half, that the masks of one piece's prompts have on another piece; nearer to 0 where a mask is on the table.

    Attributes:
        of_box: (n, n) of the box of the piece of each row, on the piece of each column.
        of_points: likewise, of three points on it.
        scores: (n,) the model's own prediction of the IoU of the boxes' masks.
    """

    of_box: Float
    of_points: Float
    scores: Float

    def of_pairs(self, pairs: npt.NDArray[np.int64]) -> Float:
        """(m, 5) of pairs (m, 2), the lower and the higher of both ways: boxes, points; and the lower score."""
        i, j = pairs.T
        ways = [np.sort(np.stack([each[i, j], each[j, i]], 1), 1) for each in (self.of_box, self.of_points)]
        return np.concatenate([*ways, np.minimum(self.scores[i], self.scores[j])[:, None]], 1).astype(np.float32)


def coverage(found: Raised, pieces: Pieces, size: tuple[int, int], decode: Decode, asked: npt.NDArray[np.int64]) -> Coverage:
    """The coverage of n pieces of an image of `size` (H, W); the model is asked about those of the indices `asked`, and others have 0."""
    n, count = len(pieces), len(asked)
    result = Coverage(np.zeros((n, n), np.float32), np.zeros((n, n), np.float32), np.zeros(n, np.float32))
    if not count:
        return result
    objects = [Prompt(box=pieces.boxes[each]) for each in asked]
    objects += [Prompt(points=pieces.points[each], point_labels=np.ones(len(pieces.points[each]), np.int64)) for each in asked]
    masks = decode(Prompts(size, tuple(objects)))
    share = (_shares(masks.low_res, pieces, size) - 0.5) * (1 - _on_surface(masks.low_res, found, size)[:, None])
    result.of_box[asked], result.of_points[asked], result.scores[asked] = share[:count], share[count:], masks.scores[:count]
    return result


def _shares(low_res: Float, pieces: Pieces, size: tuple[int, int]) -> Float:
    """(k, n) mean probability that masks with logits (k, s, s) have on the pixels of n pieces."""
    side = low_res.shape[1]
    grid = resized_size(size, side)
    y, x = np.nonzero(pieces.labels)
    order = np.argsort(pieces.labels[y, x], kind="stable")
    y, x = y[order], x[order]
    starts = np.searchsorted(pieces.labels[y, x], np.arange(1, len(pieces) + 1))
    rows = np.minimum((2 * y + 1) * grid[0] // size[0], grid[0] - 1)
    columns = np.minimum((2 * x + 1) * grid[1] // size[1], grid[1] - 1)
    values = low_res.reshape(len(low_res), -1)[:, rows * side + columns]
    probabilities = 1 / (1 + np.exp(-np.clip(values, -15, 15)))
    return np.asarray(np.add.reduceat(probabilities, starts, axis=1) / pieces.areas[None], np.float32)


def _on_surface(low_res: Float, found: Raised, size: tuple[int, int]) -> Float:
    """(k,) share of each mask that lies on the surface."""
    grid = resized_size(size, low_res.shape[1])
    surface = cv2.resize(found.surface.astype(np.float32), grid[::-1], interpolation=cv2.INTER_AREA)
    inside = low_res[:, : grid[0], : grid[1]] > 0
    return np.asarray((inside * surface).sum((1, 2)) / np.maximum(1, inside.sum((1, 2))), np.float32)
