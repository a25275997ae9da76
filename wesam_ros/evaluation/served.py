"""Scores of masks as they are served: refined with what a frame says, with its depth as it is, without it, or with a bad one."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from wesam_ros.data.frames import Frame
from wesam_ros.engines.engine import Engine
from wesam_ros.evaluation.bad_depth import with_depth
from wesam_ros.evaluation.metrics import boundary_f, mask_iou, mean_iou
from wesam_ros.evaluation.prompts import Prompted, draw
from wesam_ros.sam.adapter import Adapter
from wesam_ros.scene.refiner import Refiner


class Scores:
    """IoU and boundary F of the masks of prompts that are of something, frame by frame."""

    def __init__(self) -> None:
        self._ious: list[list[float]] = []
        self._edges: list[list[float]] = []

    def add(self, masks: npt.NDArray[np.bool_], seen: Prompted) -> None:
        """Scores the masks (n, H, W) of a frame's n prompts."""
        assert seen.masks is not None
        true = seen.masks.any((1, 2))
        self._ious.append([float(each) for each in mask_iou(masks[true], seen.masks[true], seen.void)])
        self._edges.append([float(each) for each in boundary_f(masks[true], seen.masks[true], void=seen.void)])

    @property
    def miou(self) -> float:
        """From 0 to 1; NaN where nothing was scored."""
        return mean_iou(self._ious)

    @property
    def boundary_f(self) -> float:
        """Within 2 pixels, likewise."""
        return mean_iou(self._edges)


def score_served(
    engine: Engine, frames: Sequence[Frame], adapter: Adapter | None, prompt: str, noise: str, depths: Sequence[str], seed: int
) -> dict[str, tuple[Scores, float]]:
    """Scores, and the median processor time of refining in ms, of an adapter's masks, by the depth that they are refined with.

    Args:
        engine: with the model.
        frames: labelled ones.
        adapter: None is the frozen model.
        prompt: of prompts.KINDS.
        noise: of prompts.NOISES, or "small" and "large": boxes a fifth too small or too large.
        depths: as of bad_depth.with_depth; "off" for masks that are not refined.
        seed: of prompts and bad depth.
    """
    scores = {depth: Scores() for depth in depths}
    took: dict[str, list[float]] = {depth: [] for depth in depths}
    refiners = {depth: Refiner(stream=False) for depth in depths}
    for index, frame in enumerate(frames):
        seen = draw(frame, prompt, noise, np.random.default_rng([seed, index]))
        if not len(seen.prompts):
            continue
        found = engine.segment(frame.image, seen.prompts, adapter)
        for depth in depths:
            shown = with_depth(seen.frame, "full" if depth == "off" else depth, np.random.default_rng([seed, index, 1]))
            began = time.thread_time()
            refined = refiners[depth].refine(shown, seen.prompts, found, "off" if depth == "off" else "all")
            took[depth].append(1e3 * (time.thread_time() - began))
            scores[depth].add(refined.masks, seen)
    return {depth: (each, float(np.median(took[depth] or [0.0]))) for depth, each in scores.items()}
