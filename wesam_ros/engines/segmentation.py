"""The model on one frame, the same in the segmenter node and where its results are compared with the frozen model's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wesam_ros.engines.engine import Embedding, Engine
from wesam_ros.sam.adapter import Adapter
from wesam_ros.sam.masks import Masks
from wesam_ros.sam.prompts import Prompts

CHUNK = 32
"""Objects decoded at once: upscaling needs 4 MB per object for an input side of 1024."""


class EncodedImage:
    """An image that is encoded once, when it is first asked for masks, however often that is; again only where another engine goes on.

    Args:
        image: (H, W, 3) uint8 RGB.
        adapter: of the model, or None for the frozen one.
    """

    def __init__(self, image: npt.NDArray[np.uint8], adapter: Adapter | None) -> None:
        self._image, self._adapter = image, adapter
        self._engine: Engine | None = None
        self._embedding: Embedding | None = None

    def segment(self, engine: Engine, prompts: Prompts) -> Masks:
        """Masks of n objects; where n is 0, nothing is encoded."""
        if not len(prompts):
            return Masks(np.zeros((0, *prompts.size), bool), np.zeros(0, np.float32), np.zeros((0, 0, 0), np.float32))
        if self._embedding is None or self._engine is not engine:
            self._embedding, self._engine = engine.encode(self._image, self._adapter), engine
        embedding, rows = self._embedding, np.arange(len(prompts))
        parts = [engine.decode(embedding, prompts.select(rows[i : i + CHUNK])) for i in range(0, len(rows), CHUNK)]
        if len(parts) == 1:
            return parts[0]
        masks, scores, low_res = (np.concatenate([getattr(part, name) for part in parts]) for name in ("masks", "scores", "low_res"))
        within = tuple(each for part in parts for each in part.within)
        return Masks(masks, scores, low_res, within, adapted=embedding.adapted)


def segment(engine: Engine, image: npt.NDArray[np.uint8], prompts: Prompts, adapter: Adapter | None) -> Masks:
    """Masks of n objects in an (H, W, 3) uint8 RGB image; the image is encoded once, and not at all where n is 0."""
    return EncodedImage(image, adapter).segment(engine, prompts)
