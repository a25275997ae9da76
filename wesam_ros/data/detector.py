"""A simulated object detector: the boxes of true masks with the faults that a real one has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from wesam_ros.data.boxes import boxes_of_labels
from wesam_ros.data.detections import Detections
from wesam_ros.data.frames import Frame

SMALLEST = 4.0
"""Pixels; jitter makes no side shorter than this, unless the mask's own box is."""


def simulate_detections(
    labels: npt.NDArray[np.uint16], rng: np.random.Generator, *, jitter: float = 0.05, miss: float = 0.1, false: float = 0.1
) -> Detections:
    """Boxes as a class-agnostic detector would give them for one image.

    Args:
        labels: (H, W) true instance ids, 0 = background.
        rng: the source of all chance.
        jitter: each edge moves by up to this fraction of the box's side, uniformly; 0 to 0.5.
        miss: probability that an object gets no box.
        false: expected number of boxes with nothing in particular in them, per true object; they have the size of some object's box.

    Returns:
        detections clipped to the image: "obj<instance>" for objects, scores 0.6 to 1, in order of instance; then "false<k>", k from 0,
        scores 0.3 to 0.8. With jitter, miss and false 0, the tight boxes of the masks.

    Raises:
        ValueError: a fraction outside its range.
    """
    for name, value, most in (("jitter", jitter, 0.5), ("miss", miss, 1.0), ("false", false, np.inf)):
        if not 0 <= value <= most:
            raise ValueError(f"{name} must be between 0 and {most}, but got {value}")
    height, width = labels.shape
    ids, tight = boxes_of_labels(labels)
    n = len(ids)
    side = np.tile(tight[:, 2:] - tight[:, :2], 2)
    moved = tight + rng.uniform(-jitter, jitter, (n, 4)) * side
    for axis, limit in ((0, width), (1, height)):
        room = np.minimum(SMALLEST, side[:, axis])
        moved[:, axis] = np.clip(moved[:, axis], 0, limit - room)
        moved[:, axis + 2] = np.clip(moved[:, axis + 2], moved[:, axis] + room, limit)
    seen = rng.random(n) >= miss
    found_scores = rng.uniform(0.6, 1.0, n)[seen]
    extra = int(rng.poisson(false * n)) if n else 0
    size = side[rng.integers(0, n, extra), :2] if extra else np.zeros((0, 2))
    corner = rng.random((extra, 2)) * (np.array([width, height]) - size)
    boxes = np.concatenate([moved[seen], np.concatenate([corner, corner + size], 1)]).astype(np.float32)
    names = [f"obj{i}" for i in ids[seen]] + [f"false{k}" for k in range(extra)]
    scores = np.concatenate([found_scores, rng.uniform(0.3, 0.8, extra)]).astype(np.float32)
    return Detections(boxes=boxes, ids=tuple(names), classes=("object",) * len(names), scores=scores)


def with_detections(frames: Iterable[Frame], seed: int, *, jitter: float, miss: float, false_boxes: float) -> Iterator[Frame]:
    """Frames with the boxes of a simulated detector, made from their labels; the same seed gives the same boxes."""
    rng = np.random.default_rng(seed)
    for frame in frames:
        if frame.labels is None:
            raise ValueError(f"frame with stamp {frame.stamp_ns} ns has no labels to make boxes from")
        yield replace(frame, detections=simulate_detections(frame.labels, rng, jitter=jitter, miss=miss, false=false_boxes))
