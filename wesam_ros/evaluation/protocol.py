"""What adaptation methods are compared on: streams to adapt to, other frames to score on, and the prompts of both, drawn from the truth.

A method gets what a robot would have: frames without labels, and prompts as a detector or a hasty person would give them. Only the
supervised ceiling is handed true masks as well. Adaptation and scoring never share a sequence, where the data set has sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wesam_ros.data.boxes import box_of_mask
from wesam_ros.data.datasets.files import DatasetError
from wesam_ros.data.datasets.registry import DATASETS
from wesam_ros.data.frames import Frame
from wesam_ros.data.weak_labels import coarse_mask, points_prompt
from wesam_ros.sam.prompts import Prompt, Prompts

KINDS = ("box", "point", "mask")
NOISES = ("clean", "detector")
MISSED, INVENTED, JITTER = 0.1, 0.1, 0.1
"""The detector: share of objects without a prompt, false prompts per object, and how far, as a share of its extent, a prompt is off."""
POSITIVE, NEGATIVE = 5, 5
"""Points an object, as in WeSAM's protocol."""
STREAM_TABLES, OTHER_TABLES, OBJECTS = 15, 12, 10
"""Of a simulated domain: tables one after another to adapt to, others to score on, and things put on each, one at a time."""
STREAM_FRAMES, OTHER_FRAMES = (3, 5, 8, 10), (4, 7, 10)
"""Which frames of a table are taken, counted from 1; there is one after each thing. Few of many tables: those of one table are alike."""

Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Prompted:
    """A frame as a method sees it, and what it is scored against.

    Attributes:
        frame: without labels, detections and recorded prompts.
        prompts: of n objects.
        masks: (n, H, W) bool, true masks; empty where a prompt is false.
        void: (H, W) bool, pixels that are not scored, or None.
    """

    frame: Frame
    prompts: Prompts
    masks: Bool
    void: Bool | None


@dataclass(frozen=True, eq=False)
class Fold:
    """One way to use a data set: `adapt` is the stream, `test` what it is scored on."""

    adapt: Sequence[Frame]
    test: Sequence[Frame]


@dataclass(frozen=True)
class Source:
    """A data set by name.

    Attributes:
        dataset: column of the tables; `domain` likewise.
        folds: how many `load` gives.
        load: reads it, or as much as tells whether it is there.
        place: where data of one's own lie, which the columns do not tell apart; "" for a published data set or the simulator.
    """

    dataset: str
    domain: str
    folds: int
    load: Callable[[], list[Fold]]
    place: str = ""


def draw(frame: Frame, kind: str, noise: str, rng: np.random.Generator) -> Prompted:
    """The prompts of one kind for a labelled frame; "clean" or as the simulated detector gives them.

    Raises:
        ValueError: the frame has no labels, or the kind or noise is unknown.
    """
    if frame.labels is None:
        raise ValueError(f"the frame with stamp {frame.stamp_ns} of {frame.sequence or 'a recording'} has no labels to draw prompts from")
    if kind not in KINDS or noise not in NOISES:
        raise ValueError(f"kind must be one of {', '.join(KINDS)} and noise one of {', '.join(NOISES)}, but got {kind!r} and {noise!r}")
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
            objects.append(_prompt(mask, kind, rng, 0.0))
            masks.append(mask)
    size = (labels.shape[0], labels.shape[1])
    stack = np.stack(masks) if masks else np.zeros((0, *size), bool)
    return Prompted(
        replace(frame, labels=None, detections=None, prompted=None, void=None), Prompts(size, tuple(objects)), stack, frame.void
    )


def _prompt(mask: Bool, kind: str, rng: np.random.Generator, jitter: float) -> Prompt:
    if kind == "point":
        return points_prompt(mask, rng, POSITIVE, NEGATIVE)
    if kind == "mask":
        return Prompt(mask=coarse_mask(mask, rng))
    height, width = mask.shape
    tight = box_of_mask(mask).astype(np.float32)
    sides = np.tile(tight[2:] - tight[:2], 2)
    box = np.clip(tight + rng.uniform(-jitter, jitter, 4) * sides, 0, (width, height, width, height)).astype(np.float32)
    return Prompt(box=box if (box[2:] - box[:2]).min() >= 1 else tight)


def _moved(mask: Bool, rng: np.random.Generator, share: float | None) -> Bool:
    """The mask shifted by up to a share of its extent, or to any place in the image; what leaves the image is cut, but never all of it."""
    height, width = mask.shape
    ys, xs = np.nonzero(mask)
    if share is None:
        dx, dy = rng.integers(-xs.min(), width - xs.max()), rng.integers(-ys.min(), height - ys.max())
    else:
        reach = share * np.array([np.ptp(xs) + 1, np.ptp(ys) + 1])
        dx, dy = np.round(rng.uniform(-reach, reach)).astype(int)
    x, y = xs + dx, ys + dy
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    moved = np.zeros_like(mask)
    moved[y[inside], x[inside]] = True
    return moved if moved.any() else mask


def simulated(domain: str, seed: int = 500) -> Source:
    """Tables of a simulator's domain to adapt to, one after another, and other tables of it to score on (needs the extra `sim`)."""

    stream = range(seed, seed + STREAM_TABLES)
    others = range(stream.stop, stream.stop + OTHER_TABLES)

    def load() -> list[Fold]:
        return [Fold(tables(domain, stream, STREAM_FRAMES), tables(domain, others, OTHER_FRAMES))]

    return Source("simulator", domain, 1, load)


def tables(domain: str, seeds: range, taken: Sequence[int]) -> tuple[Frame, ...]:
    """Frames of a domain's tables, the `taken` ones of each, counted from 1 (needs the extra `sim`)."""
    from wesam_ros.data.simulator import simulate

    each = (enumerate(simulate(domain, seed, objects=OBJECTS), 1) for seed in seeds)
    return tuple(frame for frames in each for number, frame in frames if number in taken)


def dataset(name: str, folder: Path, split: str, limit: int) -> Source:
    """A data set in its folder as downloaded (wesam_ros.data.datasets).

    Args:
        name: of DATASETS.
        folder: where it is.
        split: every other scene of this split to adapt to, the rest to score on, and the other way round; a single one is cut in the
            middle. "": the splits train and test (or val), one to adapt to and one to score on; where it has not got both, as with its
            default split.
        limit: the most frames of either.
    """
    entry = DATASETS[name]
    later = next((each for each in entry.splits if each.startswith(("test", "val"))), "")
    earlier = next((each for each in entry.splits if each.startswith("train")), "")
    apart = bool(not split and earlier and later)

    def load() -> list[Fold]:
        if apart:
            try:
                return [
                    Fold(*(_some(frames, range(len(frames)), limit) for frames in (entry.read(folder, earlier), entry.read(folder, later))))
                ]
            except DatasetError as error:
                raise DatasetError(
                    f"{error}. For halves of the split {entry.default!r} alone give {name}/{entry.default}:{folder}"
                ) from error
        frames = entry.read(folder, split or entry.default)
        first, second = (_some(frames, half, limit) for half in halves(frames.scenes))
        return [Fold(first, second), Fold(second, first)]

    if name == "folder":
        return Source(name, folder.resolve().name, 2, load, str(folder.resolve()))
    return Source(name, split or name, 1 if apart else 2, load)


def halves(scenes: Sequence[str]) -> tuple[list[int], list[int]]:
    """Indices of frames, from each one's scene: those of every other scene, and the others; of a single scene, its first half and the rest.

    Raises:
        DatasetError: there are fewer than two frames.
    """
    if len(scenes) < 2:
        raise DatasetError(f"halves need at least 2 frames, but there are {len(scenes)}; give more images")
    order = {scene: place for place, scene in enumerate(dict.fromkeys(scenes))}
    side = [order[scene] % 2 for scene in scenes] if len(order) > 1 else [2 * index // len(scenes) for index in range(len(scenes))]
    first, second = ([index for index, each in enumerate(side) if each == wanted] for wanted in (0, 1))
    return first, second


class Some(Sequence[Frame]):
    """Some frames of a sequence, each read when it is asked for."""

    def __init__(self, frames: Any, indices: Sequence[int]) -> None:
        self._frames, self._indices = frames, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Some(self._frames, self._indices[index])
        return self._frames[self._indices[index]]


def _some(frames: Any, indices: Sequence[int], limit: int) -> Some:
    """At most `limit` of the frames at the indices, evenly spread."""
    taken = np.unique(np.linspace(0, len(indices) - 1, min(limit, len(indices))).round().astype(int))
    return Some(frames, [indices[place] for place in taken])


def recording(path: Path, topics: Mapping[str, str]) -> Source:
    """A labelled recording: its first two thirds to adapt to, the rest to score on. One table, so scores are of the table learnt from.

    `topics` are those to be read, by role; others are found by their types (find_topics).
    """

    def load() -> list[Fold]:
        from wesam_ros.data.recordings.bags import find_topics, read_bag
        from wesam_ros.data.recordings.topics import NO_TOPIC

        found = find_topics(path, {**topics, "detections": NO_TOPIC, "prompts": NO_TOPIC})
        messages = read_bag(path, topics=found, labels=True, detections_required=False)
        frames = tuple(frame for frame in messages if frame.labels is not None)
        if not frames:
            raise ValueError(f"{path} has no frame with true labels; only labelled recordings can be scored")
        cut = 2 * len(frames) // 3
        return [Fold(frames[:cut], frames[cut:])]

    return Source("recording", path.stem, 1, load, str(path.resolve()))
