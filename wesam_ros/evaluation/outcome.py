"""The outcome of a run of `wesam adapt`, of one process or of several, as its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from wesam_ros.data.recordings.reports import ReadingReport
from wesam_ros.evaluation.plan import Plan
from wesam_ros.evaluation.report import FrameRecord, Picture, RunRecord, chosen_frames, write_report

Pictures = tuple[npt.NDArray[Any], ...]


@dataclass(frozen=True, eq=False)
class Outcome:
    """Everything that the report needs of one process.

    Attributes:
        bags: its recordings.
        records: of its requests.
        shown: pictures of some of them, by their place: image, labels of frozen and adapted model, true labels.
        rejected: objects that could not be used, by source and reason.
        left_out: messages that could not be used, by topic's role and reason.
        lost: sentences on them.
        seconds: wall-clock time.
    """

    bags: tuple[Path, ...]
    records: list[FrameRecord]
    shown: Mapping[int, Pictures]
    rejected: Counter[str]
    left_out: Counter[tuple[str, str]]
    lost: tuple[str, ...]
    seconds: float


def merged(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcome of all processes: one after another, each with its records."""
    records: list[FrameRecord] = []
    shown: dict[int, Pictures] = {}
    rejected, left_out = Counter[str](), Counter[tuple[str, str]]()
    for each in outcomes:
        shown |= {len(records) + index: pictures for index, pictures in each.shown.items()}
        records += each.records
        rejected += each.rejected
        left_out += each.left_out
    bags = tuple(bag for each in outcomes for bag in each.bags)
    lost = tuple(dict.fromkeys(sentence for each in outcomes for sentence in each.lost))
    return Outcome(bags, records, shown, rejected, left_out, lost, max(each.seconds for each in outcomes))


def write_outcome(outcome: Outcome, plan: Plan, facts: Mapping[str, str]) -> dict[str, Any]:
    """Writes the report of a run into its folder; returns its summary.

    Args:
        outcome: of all processes.
        plan: of any of them.
        facts: further rows for the report's table about the run.

    Raises:
        ValueError: nothing was asked for in any frame.
    """
    if not outcome.records:
        lost = "; ".join(["", *outcome.lost])
        raise ValueError(f"no image that can be used has detections or prompts of its stamp, so nothing was learnt{lost}")
    captions = dict(chosen_frames(outcome.records))
    pictures = [Picture(index, captions[index], *shown) for index, shown in sorted(outcome.shown.items()) if index in captions]
    rows = {
        "Recordings": ", ".join(bag.name for bag in outcome.bags),
        "Model": plan.model,
        "Started from": plan.adapter.name if plan.adapter is not None else "the frozen model",
        "Training steps per frame": str(plan.steps_per_frame),
        **facts,
        "Objects rejected": ", ".join(f"{count} {name}" for name, count in sorted(outcome.rejected.items())) or "none",
        "Messages left out": ReadingReport(left_out=outcome.left_out).counted() or "none",
        "Took": f"{outcome.seconds:.0f} s",
    }
    record = RunRecord(", ".join(bag.stem for bag in outcome.bags), plan.seed, outcome.records, pictures, rows)
    return write_report(record, plan.out)
