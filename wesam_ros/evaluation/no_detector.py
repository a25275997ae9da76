"""Segmentation without a detector, scored: proposals as they are served, of depth alone, of the model alone, and Euclidean clusters.

Ways: `proposals`, boxes from depth and the model, then masks as served; `depth`, proposals without the model, and the pixels by which depth
knows them; `model`, a grid of points without depth, then masks as served without it; `clusters`, Euclidean clusters above the plane.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from wesam_ros.data.frames import Frame
from wesam_ros.engines.engine import Engine
from wesam_ros.evaluation.clusters import euclidean_clusters
from wesam_ros.evaluation.unprompted import UnpromptedScore, mean_score, score_unprompted
from wesam_ros.sam.adapter import Adapter
from wesam_ros.sam.masks import Masks
from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene.proposals import Proposer
from wesam_ros.scene.proposals_relief import find_raised
from wesam_ros.scene.refiner import Refiner

Labels = npt.NDArray[np.uint16]
WAYS = ("proposals", "depth", "model", "clusters")


def segment_all(frame: Frame, engine: Engine, adapter: Adapter | None, proposer: Proposer) -> tuple[Labels, float]:
    """The label image (H, W) of all things as they are served, and ms of processor time that proposing took beside the model."""
    embedding = engine.encode(frame.image, adapter)
    inside = 0.0

    def decode(prompts: Prompts) -> Masks:
        nonlocal inside
        began = time.thread_time()
        masks = engine.decode(embedding, prompts)
        inside += time.thread_time() - began
        return masks

    began = time.thread_time()
    found = proposer.propose(frame, decode)
    took = time.thread_time() - began - inside
    prompts = Prompts.from_boxes(found.boxes, frame.size)
    if not len(prompts):
        return np.zeros(frame.size, np.uint16), 1e3 * took
    return Refiner(stream=False).refine(frame, prompts, decode(prompts)).label_image(), 1e3 * took


def _with_model(frame: Frame, engine: Engine, adapter: Adapter | None) -> tuple[Labels, float]:
    return segment_all(frame, engine, adapter, Proposer())


def _model_alone(frame: Frame, engine: Engine, adapter: Adapter | None) -> tuple[Labels, float]:
    return segment_all(replace(frame, depth=None), engine, adapter, Proposer())


def _depth_alone(frame: Frame, engine: Engine, adapter: Adapter | None) -> tuple[Labels, float]:
    began = time.thread_time()
    try:
        found = Proposer().propose(frame, None)
    except ValueError:  # no surface
        return np.zeros(frame.size, np.uint16), 1e3 * (time.thread_time() - began)
    assert found.labels is not None
    return _enlarged(found.labels, frame.size), 1e3 * (time.thread_time() - began)


def _clusters(frame: Frame, engine: Engine, adapter: Adapter | None) -> tuple[Labels, float]:
    assert frame.depth is not None and frame.camera is not None
    began = time.thread_time()
    found = find_raised(frame.depth, frame.camera, np.random.default_rng(0))
    labels = euclidean_clusters(found) if found is not None else np.zeros((1, 1), np.uint16)
    took = 1e3 * (time.thread_time() - began)
    return (_enlarged(labels, frame.size) if found is not None else np.zeros(frame.size, np.uint16)), took


def _enlarged(labels: Labels, size: tuple[int, int]) -> Labels:
    return np.repeat(np.repeat(labels, 2, 0), 2, 1)[: size[0], : size[1]]


_BY_WAY: dict[str, Callable[[Frame, Engine, Adapter | None], tuple[Labels, float]]] = {
    "proposals": _with_model,
    "depth": _depth_alone,
    "model": _model_alone,
    "clusters": _clusters,
}


def rows_of(name: str, frames: Sequence[Frame], engine: Engine, ways: Sequence[str] = WAYS) -> Iterator[dict[str, str | float]]:
    """A row of figures of the frozen model for each way, of a data set of a name."""
    for way in ways:
        found, milliseconds = score_way(way, frames, engine)
        figures = {key: round(value, 4) for key, value in vars(found).items()}
        yield {"data": name, "way": way, "frames": len(frames), **figures, "ms": round(milliseconds, 1)}


def score_way(way: str, frames: Sequence[Frame], engine: Engine, adapter: Adapter | None = None) -> tuple[UnpromptedScore, float]:
    """Mean scores of a way over labelled frames, and the median ms of one thread for a frame beside the model.

    Raises:
        ValueError: there is no such way, or a frame has no labels, or no depth for a way that needs it.
    """
    if way not in _BY_WAY:
        raise ValueError(f"way must be one of {', '.join(WAYS)}, but got {way!r}")
    scores, took = [], []
    for frame in frames:
        if frame.labels is None:
            raise ValueError(f"the frame with stamp {frame.stamp_ns} of {frame.sequence or 'a recording'} has no labels to score with")
        if way in ("depth", "clusters") and (frame.depth is None or frame.camera is None):
            raise ValueError(f"the way {way} needs depth and camera, which the frame with stamp {frame.stamp_ns} has not")
        labels, milliseconds = _BY_WAY[way](replace(frame, labels=None, detections=None, prompted=None), engine, adapter)
        if frame.void is not None:
            labels = np.where(frame.void, np.uint16(0), labels)
        scores.append(score_unprompted(labels, frame.labels))
        took.append(milliseconds)
    return mean_score(scores), float(np.median(took))
