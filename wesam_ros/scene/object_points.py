"""Depth pixels that an object's box may rest on: one piece in space, without flying pixels and without the surface it stands on."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

JUMP = 0.015
"""Metres of depth between neighbours, at a distance of one metre, over which two pixels are not connected."""
PIECES = 8
"""An object is looked for in at most as many pieces; what is left then are single pixels."""
PIECE = 0.05
"""Share of the largest piece that another needs to count: an occluder cuts an object in parts, and noise leaves crumbs."""
BESIDE = 0.02
"""Metres by which the median depth of such a part may lie outside of the largest one's range."""
_AROUND = np.ones((3, 3), np.uint8)


def one_piece(mask: Bool, depth: Float32, step: int = 1) -> Bool:
    """The pixels of a mask (h, w) that are connected in depth with the most of them.

    Holes of a pixel or two are bridged. Parts that an occluder cuts off stay, if they lie in the depth range of the largest one.

    Args:
        mask: (h, w), pixels with a depth.
        depth: (h, w) metres.
        step: pixels of the image from one of these to the next.

    Returns:
        (h, w), the pixels that stay; the mask itself where nothing is connected.
    """
    shown = np.where(mask, depth, np.float32(0))
    bridged = cv2.dilate(shown, _AROUND)
    closed = bridged <= 0
    np.copyto(bridged, shown, where=mask)
    values = shown[mask]
    jump = JUMP * step * float(np.partition(values, len(values) // 2)[len(values) // 2])
    # floodFill's own mask has a border of one pixel, and is closed where it is not 0.
    state = np.ones((mask.shape[0] + 2, mask.shape[1] + 2), np.uint8)
    state[1:-1, 1:-1] = closed
    inner, pieces, left, most = state[1:-1, 1:-1], [], mask, 0
    for number in range(2, PIECES + 2):
        seeds = np.flatnonzero(left)
        if not len(seeds) or len(seeds) < PIECE * most:
            break
        v, u = divmod(int(seeds[len(seeds) // 2]), mask.shape[1])
        cv2.floodFill(bridged, state, (u, v), 0, jump, jump, cv2.FLOODFILL_MASK_ONLY | 4 | number << 8)
        rest = left & (inner != number)
        size = len(seeds) - int(np.count_nonzero(rest))
        pieces.append((size, number))
        left, most = rest, max(most, size)
    return mask if len(pieces) == 1 and not left.any() else _together(mask, depth, inner, pieces)


def _together(mask: Bool, depth: Float32, inner: npt.NDArray[np.uint8], pieces: list[tuple[int, int]]) -> Bool:
    """The largest piece, and the others that lie in its range of depth; `inner` has the pieces' numbers."""
    most, largest = max(pieces)
    kept = mask & (inner == largest)
    ranked = np.sort(depth[kept])
    low, high = ranked[len(ranked) // 100], ranked[-1 - len(ranked) // 100]
    for size, number in pieces:
        if number != largest and size >= PIECE * most:
            part = mask & (inner == number)
            if low - BESIDE <= np.median(depth[part]) <= high + BESIDE:
                kept |= part
    return np.asarray(kept)
