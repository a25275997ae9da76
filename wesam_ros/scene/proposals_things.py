"""Features that tell a thing from a bulge of the table, a wall, or furniture beyond it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wesam_ros.scene.proposals_pairs import Pieces
from wesam_ros.scene.proposals_relief import Raised

Float = npt.NDArray[np.float32]

FEATURES = ("area", "size", "contact", "edge", "lowest", "highest", "prominence", "distinct")
REACH = 5
"""Half-resolution pixels from a piece to what it stands on."""


def features(found: Raised, pieces: Pieces, ids: npt.NDArray[np.int64]) -> Float:
    """(k, 8) FEATURES of k things, whose number each of n pieces has in `ids` (n,)."""
    standing, around, edge = _borders(found, pieces.labels, len(pieces))
    rows = []
    for k in range(int(ids.max()) + 1):
        own = ids == k
        area = float(pieces.areas[own].sum())
        side = np.sqrt(area)
        share = pieces.areas[own] / area
        rows.append(
            (
                np.log(area),
                np.log(side * pieces.spacing * float((pieces.centers[own, 2] * share).sum())),
                standing[own].sum() / max(1.0, around[own].sum()),
                min(edge[own].sum() / side, 5.0),
                10 * min(pieces.heights[own, 0].min(), 0.2),
                10 * min(pieces.heights[own, 1].max(), 0.3),
                np.log(max(0.5, float((pieces.prominence[own] * share).sum()))),
                float((pieces.distinct[own] * share).sum()),
            )
        )
    return np.array(rows, np.float32).reshape(-1, len(FEATURES))


def _borders(found: Raised, labels: npt.NDArray[np.int32], n: int) -> tuple[Float, Float, Float]:
    """(n,) each, of pieces: pixels next to which the surface begins without a step, pixels next to what does not rise, and pixels at the
    image's edge."""
    standing, around = np.zeros(n + 1, np.float32), np.zeros(n + 1, np.float32)
    h, w = labels.shape
    unit = np.maximum(found.noise, np.float32(0.002))
    for dy, dx in ((0, REACH), (REACH, 0), (0, -REACH), (-REACH, 0)):
        own = slice(max(0, -dy), h - max(0, dy)), slice(max(0, -dx), w - max(0, dx))
        next_to = slice(max(0, dy), h - max(0, -dy)), slice(max(0, dx), w - max(0, -dx))
        out = (labels[own] > 0) & (labels[next_to] == 0)
        mine = labels[own][out]
        apart = np.linalg.norm(found.points[own][out] - found.points[next_to][out], axis=1)
        near = apart < 3 * REACH * found.spacing * found.depth[own][out] + 5 * unit[own][out]
        around += np.bincount(mine, minlength=n + 1)
        standing += np.bincount(mine[near & found.surface[next_to][out]], minlength=n + 1)
    rim = np.concatenate([labels[:3].ravel(), labels[-3:].ravel(), labels[:, :3].ravel(), labels[:, -3:].ravel()])
    return standing[1:], around[1:], np.bincount(rim, minlength=n + 1)[1:].astype(np.float32)
