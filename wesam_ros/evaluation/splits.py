"""Splits of data sets, recordings and simulated domains: streams to adapt to, and other frames to score on.

Adaptation and scoring never share a sequence, where the data set has sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wesam_ros.data.datasets.files import DatasetError
from wesam_ros.data.datasets.registry import DATASETS
from wesam_ros.data.frames import Frame

STREAM_TABLES, OTHER_TABLES, OBJECTS = 15, 12, 10
"""Of a simulated domain: tables one after another to adapt to, others to score on, and things put on each, one at a time."""
STREAM_FRAMES, OTHER_FRAMES = (3, 5, 8, 10), (4, 7, 10)
"""Frames of a table that are taken, counted from 1; there is one after each thing. Few of many tables: those of one table are alike."""


@dataclass(frozen=True, eq=False)
class Fold:
    """One way to use a data set: `adapt` is the stream, `test` what it is scored on.

    `notes` are sentences on what was left out of it, or is taken otherwise than it stands there.
    """

    adapt: Sequence[Frame]
    test: Sequence[Frame]
    notes: tuple[str, ...] = ()


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
    apart = bool(not split and earlier and later and not entry.own)

    def load() -> list[Fold]:
        if apart:
            try:
                parts = entry.read(folder, earlier), entry.read(folder, later)
                notes = tuple(dict.fromkeys(note for frames in parts for note in frames.notes))
                adapt, test = (_some(frames, range(len(frames)), limit) for frames in parts)
                return [Fold(adapt, test, notes)]
            except DatasetError as error:
                raise DatasetError(
                    f"{error}. For halves of the split {entry.default!r} alone give {name}/{entry.default}:{folder}"
                ) from error
        frames = entry.read(folder, split or entry.default)
        first, second = (_some(frames, half, limit) for half in halves(frames.scenes))
        return [Fold(first, second, frames.notes), Fold(second, first, frames.notes)]

    if entry.own:
        return Source(name, folder.resolve().name, 1 if apart else 2, load, str(folder.resolve()))
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
        from wesam_ros.data.recordings.reports import ReadingReport
        from wesam_ros.data.recordings.topics import NO_TOPIC

        found = find_topics(path, {**topics, "detections": NO_TOPIC, "prompts": NO_TOPIC})
        report = ReadingReport()
        messages = read_bag(path, topics=found, labels=True, detections_required=False, report=report)
        frames = tuple(frame for frame in messages if frame.labels is not None)
        if not frames:
            raise ValueError(f"{path} has no frame with true labels; only labelled recordings can be scored")
        cut = 2 * len(frames) // 3
        return [Fold(frames[:cut], frames[cut:], tuple(report.sentences()))]

    return Source("recording", path.stem, 1, load, str(path.resolve()))
