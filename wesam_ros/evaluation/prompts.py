"""Prompts drawn from the truth, as a detector or a hasty person would give them.

A method gets what a robot would have: frames without labels, and such prompts. Only the supervised ceiling is handed true masks as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from wesam_ros.data.boxes import box_of_mask
from wesam_ros.data.frames import Frame
from wesam_ros.data.weak_labels import coarse_mask, points_prompt
from wesam_ros.sam.prompts import Prompt, Prompts

KINDS = ("box", "point", "mask")
NOISES = ("clean", "detector")
SCALES = {"small": 0.8, "large": 1.2}
"""Further noises: boxes a fifth too small or too large, for scoring only."""
MISSED, INVENTED, JITTER = 0.1, 0.1, 0.1
"""The detector: share of objects without a prompt, false prompts per object, and how far, as a share of its extent, a prompt is off."""
POSITIVE, NEGATIVE = 5, 5
"""Points an object, as in WeSAM's protocol."""

Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Prompted:
    """A frame with the prompts that ask for objects in it: one request of a stream.

    Attributes:
        frame: the frame. Where it has labels, they are for scoring only.
        prompts: of n objects.
        masks: (n, H, W) bool, true masks, empty where a prompt is false; None where they are not known.
        void: (H, W) bool, pixels that are not scored, or None.
        source: the input that the prompts came on, such as "detections"; "" where there is only one.
    """

    frame: Frame
    prompts: Prompts
    masks: Bool | None = None
    void: Bool | None = None
    source: str = ""


def draw(frame: Frame, kind: str, noise: str, rng: np.random.Generator) -> Prompted:
    """The prompts of one kind for a labelled frame; "clean" or as the simulated detector gives them.

    Raises:
        ValueError: the frame has no labels, or the kind or noise is unknown.
    """
    if frame.labels is None:
        raise ValueError(f"the frame with stamp {frame.stamp_ns} of {frame.sequence or 'a recording'} has no labels to draw prompts from")
    if kind not in KINDS or noise not in (*NOISES, *SCALES):
        noises = ", ".join((*NOISES, *SCALES))
        raise ValueError(f"kind must be one of {', '.join(KINDS)} and noise one of {noises}, but got {kind!r} and {noise!r}")
    labels = frame.labels
    objects: list[Prompt] = []
    masks: list[Bool] = []
    for instance in np.unique(labels[labels > 0]):
        mask = labels == instance
        if noise == "detector":
            if rng.random() >= MISSED:
                objects.append(_prompt(_moved(mask, rng, JITTER) if kind != "box" else mask, kind, rng, JITTER))
                masks.append(mask)
            for _ in range(int(rng.poisson(INVENTED))):
                objects.append(_prompt(_moved(mask, rng, None), kind, rng, 0.0))
                masks.append(np.zeros_like(mask))
        else:
            objects.append(_prompt(mask, kind, rng, 0.0, SCALES.get(noise, 1.0)))
            masks.append(mask)
    size = (labels.shape[0], labels.shape[1])
    stack = np.stack(masks) if masks else np.zeros((0, *size), bool)
    return Prompted(
        replace(frame, labels=None, detections=None, prompted=None, void=None), Prompts(size, tuple(objects)), stack, frame.void
    )


def _prompt(mask: Bool, kind: str, rng: np.random.Generator, jitter: float, scale: float = 1.0) -> Prompt:
    if kind == "point":
        return points_prompt(mask, rng, POSITIVE, NEGATIVE)
    if kind == "mask":
        return Prompt(mask=coarse_mask(mask, rng))
    height, width = mask.shape
    tight = box_of_mask(mask).astype(np.float32)
    sides = np.tile(tight[2:] - tight[:2], 2)
    grown = (scale - 1) / 2 * sides * (-1, -1, 1, 1)
    box = np.clip(tight + grown + rng.uniform(-jitter, jitter, 4) * sides, 0, (width, height, width, height)).astype(np.float32)
    return Prompt(box=box if (box[2:] - box[:2]).min() >= 1 else tight)


def _moved(mask: Bool, rng: np.random.Generator, share: float | None) -> Bool:
    """The mask shifted by up to a share of its extent, or to any place in the image; what leaves the image is cut, but never all of it."""
    height, width = mask.shape
    ys, xs = np.nonzero(mask)
    if share is None:
        dx, dy = rng.integers(-xs.min(), width - xs.max()), rng.integers(-ys.min(), height - ys.max())
    else:
        furthest = share * np.array([np.ptp(xs) + 1, np.ptp(ys) + 1])
        dx, dy = np.round(rng.uniform(-furthest, furthest)).astype(int)
    x, y = xs + dx, ys + dy
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    moved = np.zeros_like(mask)
    moved[y[inside], x[inside]] = True
    return moved if moved.any() else mask
