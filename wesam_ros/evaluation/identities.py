"""Ids over the frames of a stream, scored by TrackEval: IDF1 (Ristani et al., 2016), HOTA (Luiten et al., 2021) and switches.

Similarity is the IoU of masks. IDF1 and switches count pairs from an IoU of 0.5 on; HOTA is the mean over thresholds from 0.05 to 0.95.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from wesam_ros.data.detections import Detections
from wesam_ros.data.frames import Frame
from wesam_ros.data.requests import Request, request_of_detections
from wesam_ros.engines.engine import Engine
from wesam_ros.engines.segmentation import EncodedImage
from wesam_ros.sam.masks import Masks
from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene import CARRY_FRAMES
from wesam_ros.scene.carrying import Carrying
from wesam_ros.scene.proposals import Proposer

Labels = npt.NDArray[np.uint16]
Ask = Callable[[Frame, Callable[[Prompts], Masks]], Request]
"""The objects that are asked for in a frame, from a detector or from proposals, given the model."""


@dataclass(frozen=True)
class IdentityScore:
    """Scores of a stream.

    Attributes:
        idf1, hota: from 0 to 1.
        switches: how often a thing's id is another than where it was seen last.
        truths: true objects, counted in each frame.
    """

    idf1: float
    hota: float
    switches: int
    truths: int


@dataclass(frozen=True, eq=False)
class Moment:
    """One frame: m true ids, n served ids, and (m, n) IoU of their masks."""

    true: npt.NDArray[np.int64]
    served: npt.NDArray[np.int64]
    iou: npt.NDArray[np.float64]


def serve_stream(frames: Iterable[Frame], ask: Ask, engine: Engine, most: int = CARRY_FRAMES) -> list[Moment]:
    """Serves a stream of labelled frames with the frozen model, as the segmenter does.

    Args:
        frames: with labels, which are for scoring only.
        ask: says what is asked for; it gets frames without labels.
        engine: with the model.
        most: frames for which an object is carried that is not asked for.
    """
    carrying, moments = Carrying(), []
    for frame in frames:
        assert frame.labels is not None
        seen = replace(frame, labels=None)
        decode = partial(EncodedImage(frame.image, None).segment, engine)
        _, masks = carrying.serve(seen, ask(seen, decode), decode, frames=most)
        moments.append(moment_of(frame.labels, masks.label_image(), np.array(masks.track_ids, np.int64)))
    return moments


def moment_of(labels: Labels, found: Labels, track_ids: npt.NDArray[np.int64]) -> Moment:
    """The moment of true labels (H, W) and served ones, i + 1 being of `track_ids[i]`. Objects without a pixel are left out."""
    true, served = (np.unique(each[each > 0]).astype(np.int64) for each in (labels, found))
    counts = np.zeros((int(labels.max()) + 1, int(found.max()) + 1), np.int64)
    np.add.at(counts, (labels.ravel(), found.ravel()), 1)
    shared = counts[true][:, served]
    union = counts.sum(1)[true][:, None] + counts.sum(0)[served][None] - shared
    return Moment(true, track_ids[served - 1], shared / union)


def score_identities(moments: list[Moment]) -> IdentityScore:
    """The scores of one stream.

    Raises:
        ImportError: trackeval is not installed.
    """
    from trackeval.metrics import CLEAR, HOTA, Identity

    true, served = (np.unique(np.concatenate([getattr(each, name) for each in moments])) for name in ("true", "served"))
    truths = sum(len(each.true) for each in moments)
    data = {
        "num_timesteps": len(moments),
        "gt_ids": [np.searchsorted(true, each.true) for each in moments],
        "tracker_ids": [np.searchsorted(served, each.served) for each in moments],
        "similarity_scores": [each.iou for each in moments],
        "num_gt_ids": len(true),
        "num_tracker_ids": len(served),
        "num_gt_dets": truths,
        "num_tracker_dets": sum(len(each.served) for each in moments),
    }
    quiet = {"PRINT_CONFIG": False}
    idf1 = float(Identity(quiet).eval_sequence(data)["IDF1"])
    hota = float(np.mean(HOTA().eval_sequence(data)["HOTA"]))
    return IdentityScore(idf1, hota, int(CLEAR(quiet).eval_sequence(data)["IDSW"]), truths)


def from_proposals() -> Ask:
    """Asks for everything in each frame, without a detector."""
    proposer = Proposer()

    def ask(frame: Frame, decode: Callable[[Prompts], Masks]) -> Request:
        found = proposer.propose(frame, decode)
        return request_of_detections(Detections(found.boxes, scores=found.scores), frame.size)

    return ask


def from_detections(frame: Frame, decode: Callable[[Prompts], Masks]) -> Request:
    """Asks for what the frame's detections are of."""
    if frame.detections is None:
        raise ValueError(f"the frame with stamp {frame.stamp_ns} of {frame.sequence or 'a recording'} has no detections")
    return request_of_detections(frame.detections, frame.size)
