"""One call of the model per frame, the same in the segmenter node and where its results are compared with the frozen model's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wesam_ros.engines.engine import Engine
from wesam_ros.sam.adapter import Adapter
from wesam_ros.sam.masks import Masks
from wesam_ros.sam.prompts import Prompts

CHUNK = 32
"""Objects decoded at once: upscaling needs 4 MB per object for an input side of 1024."""


def segment(engine: Engine, image: npt.NDArray[np.uint8], prompts: Prompts, adapter: Adapter | None) -> Masks:
    """Masks of n objects in an (H, W, 3) uint8 RGB image; the image is encoded once, and not at all where n is 0."""
    if not len(prompts):
        return Masks(np.zeros((0, *prompts.size), bool), np.zeros(0, np.float32), np.zeros((0, 0, 0), np.float32))
    embedding = engine.encode(image, adapter)
    rows = np.arange(len(prompts))
    parts = [engine.decode(embedding, prompts.select(rows[i : i + CHUNK])) for i in range(0, len(rows), CHUNK)]
    if len(parts) == 1:
        return parts[0]
    masks, scores, low_res = (np.concatenate([getattr(part, name) for part in parts]) for name in ("masks", "scores", "low_res"))
    return Masks(masks, scores, low_res, tuple(each for part in parts for each in part.within))
