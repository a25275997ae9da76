"""One cell of the comparison: a method adapts to a stream with one kind of prompts, and is scored on frames that it never saw."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.data.codecs import encode_jpeg
from wesam_ros.data.frames import Frame
from wesam_ros.drawing.overlay import draw_outlines, draw_overlay
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.evaluation.metrics import mask_iou, mean_iou
from wesam_ros.evaluation.prequential import MethodOnStream, prequential
from wesam_ros.evaluation.prompts import KINDS, Prompted, draw
from wesam_ros.evaluation.served import Scores
from wesam_ros.evaluation.splits import Fold
from wesam_ros.methods.registry import method as method_of
from wesam_ros.sam.adapter import Adapter
from wesam_ros.scene.refiner import Refiner

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

PICTURE_WIDTH = 400
SCORING_SEED = 9
"""Prompts to score with are the same for all methods and seeds."""


@dataclass(frozen=True)
class Cell:
    """One row of the result without its figures. `fold` counts from 0."""

    dataset: str
    domain: str
    fold: int
    prompt: str
    prompt_noise: str
    method: str
    seed: int


@dataclass(frozen=True)
class Row:
    """A cell's figures. mIoU and boundary F from 0 to 1, on the fold's test frames, with clean prompts, after the whole stream.

    Attributes:
        cell: the row's key.
        miou: with prompts of the kind that was learnt from.
        boundary_f: likewise, within 2 pixels.
        miou_refined, boundary_f_refined: of the masks as they are served, refined with all witnesses.
        miou_no_depth, boundary_f_no_depth: of the masks as they are served where there is no depth.
        cross: mIoU with prompts of every kind, by kind.
        source_miou: mIoU on frames of the source domain, or of another data set that is not adapted to, with
            prompts of the kind learnt from: what was forgotten.
        prequential: mIoU over the stream, each frame predicted with its own prompts before it was learnt from.
        prequential_last_third: likewise over the last third.
        curve: the stream's frames, mIoU each; null where nothing was scored.
        seconds_per_step: mean wall-clock time of a training step; 0 where there was none.
        steps: how many there were.
        picture: the refined masks on the middle one of the test frames, with the truth's outlines in white, as a JPEG in base 64.
    """

    cell: Cell
    miou: float
    boundary_f: float
    miou_refined: float
    boundary_f_refined: float
    miou_no_depth: float
    boundary_f_no_depth: float
    cross: dict[str, float]
    source_miou: float
    prequential: float
    prequential_last_third: float
    seconds_per_step: float
    steps: int
    curve: list[float | None] = field(default_factory=list)
    picture: str = ""

    def flat(self) -> dict[str, object]:
        """The row as one dictionary, which JSON and tables have."""
        values = asdict(self)
        return {**values.pop("cell"), **values}


def run_cell(sam: Sam, cell: Cell, fold: Fold, source: Sequence[Frame], budget: int, progress: Callable[[str], None]) -> Row:
    """Adapts and scores.

    Args:
        sam: the frozen model; it is not changed.
        cell: the row to make.
        fold: of its data set.
        source: labelled frames of the source domain.
        budget: training steps over the stream, evenly spread: some after each frame.
        progress: told what is done, now and then.
    """
    engine, entry = TorchEngine(sam), method_of(cell.method)
    method = entry(sam, cell.seed)
    rng, count = np.random.default_rng([cell.seed, KINDS.index(cell.prompt)]), len(fold.adapt)
    requests = (draw(frame, cell.prompt, cell.prompt_noise, rng) for frame in fold.adapt)
    stream: list[list[float]] = []
    steps, seconds = 0, 0.0
    for turn in prequential(
        MethodOnStream(method, entry.supervised),
        requests,
        lambda index: budget * (index + 1) // count - budget * index // count,
        lambda request, adapter: _ious(engine, request, adapter),
    ):
        stream.append(turn.prediction)
        steps, seconds = steps + len(turn.steps), seconds + turn.seconds
        if turn.index % 16 == 15:
            progress(f"frame {turn.index + 1} of {count}")
    cross, served, picture = _on_test_frames(engine, fold.test, method.adapter, KINDS, cell.prompt)
    forgotten, _, _ = _on_test_frames(engine, source, method.adapter, (cell.prompt,), cell.prompt)
    curve = [mean_iou([each]) for each in stream]
    return Row(
        cell=cell,
        miou=cross[cell.prompt],
        boundary_f=served["off"].boundary_f,
        miou_refined=served["all"].miou,
        boundary_f_refined=served["all"].boundary_f,
        miou_no_depth=served["boxes"].miou,
        boundary_f_no_depth=served["boxes"].boundary_f,
        cross=cross,
        source_miou=forgotten[cell.prompt],
        prequential=mean_iou(stream),
        prequential_last_third=mean_iou(stream[2 * len(stream) // 3 :]),
        seconds_per_step=seconds / max(steps, 1),
        steps=steps,
        curve=[None if np.isnan(value) else round(value, 4) for value in curve],
        picture=picture,
    )


def _ious(engine: TorchEngine, seen: Prompted, adapter: Adapter | None) -> list[float]:
    """IoU of the masks of each prompt that is not a false one."""
    assert seen.masks is not None
    true = seen.masks.any((1, 2))
    if not true.any():
        return []
    masks = engine.segment(seen.frame.image, seen.prompts, adapter).masks
    return [float(value) for value in mask_iou(masks[true], seen.masks[true], seen.void)]


def _on_test_frames(
    engine: TorchEngine, frames: Sequence[Frame], adapter: Adapter | None, kinds: Sequence[str], learnt: str
) -> tuple[dict[str, float], dict[str, Scores], str]:
    """mIoU by kind of prompt; scores by the witnesses that refine, and a picture, with the kind that was learnt from.

    Each image is encoded once.
    """
    ious: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    refiner, served = Refiner(stream=False), {choice: Scores() for choice in ("off", "boxes", "all")}
    picture = ""
    for index, frame in enumerate(frames):
        embedding = engine.encode(frame.image, adapter)
        for kind in kinds:
            seen = draw(frame, kind, "clean", np.random.default_rng([SCORING_SEED, index, KINDS.index(kind)]))
            if not len(seen.prompts) or seen.masks is None:
                continue
            found = engine.decode(embedding, seen.prompts)
            ious[kind].append([float(value) for value in mask_iou(found.masks, seen.masks, seen.void)])
            if kind == learnt:
                for choice, scores in served.items():
                    refined = refiner.refine(seen.frame, seen.prompts, found, choice)
                    scores.add(refined.masks, seen)
                    if choice == "all" and index == len(frames) // 2:
                        picture = _picture(frame, refined.masks)
    return {kind: mean_iou(values) for kind, values in ious.items()}, served, picture


def _picture(frame: Frame, masks: npt.NDArray[np.bool_]) -> str:
    assert frame.labels is not None
    drawn = draw_outlines(draw_overlay(frame.image, masks, names=()), frame.labels)
    height, width = drawn.shape[:2]
    small = cv2.resize(drawn, (PICTURE_WIDTH, round(height * PICTURE_WIDTH / width)), interpolation=cv2.INTER_AREA)
    return base64.b64encode(encode_jpeg(small.astype(np.uint8), 80)).decode("ascii")
