"""Simulated sequences one after another, as one stream with stamps that go on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from wesam_ros.data.frames import Frame
from wesam_ros.data.simulator import simulate

SEQUENCE_PAUSE_NS = 2 * 10**9
SEEDS_PER_RECORDING = 1000


def simulated_frames(domain: str, seed: int, count: int, objects: int = 12, views: int = 1) -> Iterator[Frame]:
    """`count` frames of one stream: sequence after sequence, each on a new table, with stamps that go on.

    The recording of a seed uses the sequences from seed * 1000 on, so that different seeds share none.
    """
    start, made = 0, 0
    for sequence in range(SEEDS_PER_RECORDING):
        last = start
        for frame in simulate(domain, seed * SEEDS_PER_RECORDING + sequence, objects=objects, views=views):
            last = start + frame.stamp_ns
            yield replace(frame, stamp_ns=last)
            made += 1
            if made == count:
                return
        start = last + SEQUENCE_PAUSE_NS
    raise ValueError(f"frames must be at most {made} with {objects} objects and {views} views, but got {count}")
