"""Labelled streams that attacks and benchmarks run on: recordings over and over, or tables of simulated domains one after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import numpy as np

from wesam_ros.data.datasets.osd import read_osd
from wesam_ros.data.detector import simulate_detections
from wesam_ros.data.frames import Frame
from wesam_ros.data.recordings.bags import read_bag
from wesam_ros.sam.prompts import Prompts


def labelled_stream(source: str, seed: int) -> Iterator[Frame]:
    """Endless labelled frames with detections and growing stamps.

    Args:
        source: a labelled recording, which is repeated, or sim:DOMAIN,..., tables of these domains in turn (needs the extra `sim`).
        seed: decides tables and detections; the same seed gives the same frames.
    """
    stamps = count(10**9, 10**8)
    rng = np.random.default_rng(seed)
    for turn in count():
        if source.startswith("sim:"):
            from wesam_ros.data.simulator import simulate

            domains = source.removeprefix("sim:").split(",")
            frames = simulate(domains[turn % len(domains)], 1000 * seed + turn, objects=16, views=8)
            frames = (replace(each, detections=simulate_detections(each.labels, rng)) for each in frames if each.labels is not None)
        else:
            frames = read_bag(Path(source), labels=True)
        yield from (replace(frame, stamp_ns=next(stamps)) for frame in frames)


def sampled_frames(source: str, seed: int, count: int, every: int) -> Iterator[Frame]:
    """Labelled frames with detections: `count` of a labelled stream, each `every`-th; of osd:FOLDER all, as each one is another scene."""
    if source.startswith("osd:"):
        rng = np.random.default_rng(seed)
        scenes = read_osd(Path(source.removeprefix("osd:")).expanduser())
        yield from (replace(each, detections=simulate_detections(each.labels, rng)) for each in scenes if each.labels is not None)
    else:
        yield from islice(labelled_stream(source, seed), 0, count * every, every)


def usable_prompts(frame: Frame) -> Prompts:
    """The usable boxes of a frame's detections, as the nodes take them; none without detections."""
    boxes = frame.detections.boxes if frame.detections is not None else np.zeros((0, 4), np.float32)
    return Prompts.usable_boxes(boxes, frame.size)


def random_share(prompts: Prompts, share: float, rng: np.random.Generator) -> Prompts:
    """A share of the prompts, drawn at random, in their order; one at least."""
    return prompts.select(np.sort(rng.choice(len(prompts), max(1, round(share * len(prompts))), replace=False)))
