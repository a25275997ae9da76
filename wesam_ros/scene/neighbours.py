"""Things that rise from the support surface, told apart: an object's own pixels, and those of neighbours with or without a prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.scene.support import Support

LEEWAY = 2
"""Pixels of the grid by which a thing may leave its allowed region: what rises beyond that is of another one."""

Bool = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float32]


def unprompted_pixels(support: Support, allowed: Bool, centers: Bool, size: tuple[int, int]) -> Bool:
    """(h, w) bool: pixels of things without a prompt that rise from the surface, also within an object's allowed region.

    Such a thing is known by its part that lies in no allowed region. From there, and from the objects' centers, all that rises is flooded,
    and where things meet there is a step in height (watershed, Meyer, 1992).

    Args:
        support: the support surface, and heights above it.
        allowed: (h, w) bool, the allowed region of any object.
        centers: (h, w) bool, the center of any object.
        size: h and w of the image on the grid, without the padding.
    """
    rows, columns = slice(size[0]), slice(size[1])
    kinds = np.zeros(allowed.shape, np.int32)
    kinds[~support.raised], kinds[support.raised & ~_grown(allowed, LEEWAY)], kinds[support.raised & centers] = 1, 2, 3
    millimetres = np.clip(support.height * 1000, 0, 255).astype(np.uint8)
    framed = np.pad(kinds[rows, columns], 1, "edge")  # the outermost pixels are left out
    cv2.watershed(cv2.merge([np.pad(millimetres[rows, columns], 1, "edge")] * 3), framed)
    kinds[rows, columns] = framed[1:-1, 1:-1]
    others = kinds == 2
    border = (kinds == -1) & _grown(others, 1)  # it may be of either side
    return np.asarray(support.raised & (others | border))


def _grown(mask: Bool, pixels: int) -> Bool:
    """The mask (h, w), and what is so near to it along each axis."""
    side = 2 * pixels + 1
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0)


def pieces_at_points(raised: Bool, points: Sequence[Float], labels: Sequence[npt.NDArray[np.int64]]) -> tuple[list[Bool], list[Bool]]:
    """For each object, of the connected pieces that rise from the surface: those without a point on it, and its candidates.

    A piece that holds points of several objects is of all of them: they touch. One that holds a point off the object, but no other
    object's, is partly of something without a prompt, so that it is no object's candidate.

    Args:
        raised: (h, w) bool, pixels that rise from the surface.
        points: of each object (k, 2) x y in pixels of the grid.
        labels: of each object (k,) 1 on the object, 0 not on it.
    """
    _, pieces = cv2.connectedComponents(raised.astype(np.uint8), connectivity=8)

    def under(index: int, label: int) -> set[int]:
        columns, rows = np.minimum(points[index][labels[index] == label].astype(int), raised.shape[0] - 1).T
        return set(pieces[rows, columns].tolist()) - {0}

    on, off = ([under(index, label) for index in range(len(points))] for label in (1, 0))
    holders = Counter(piece for each in on for piece in each)
    own = [each - {piece for piece in denied if holders[piece] < 2} for each, denied in zip(on, off, strict=True)]
    return [raised & ~np.isin(pieces, [*each]) for each in on], [np.isin(pieces, [*each]) for each in own]
