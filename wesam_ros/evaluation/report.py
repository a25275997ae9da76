"""The result of one run over a stream: a summary for machines, and one HTML file for people that needs nothing from the net."""

from __future__ import annotations

import base64
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wesam_ros.data.codecs import encode_jpeg
from wesam_ros.drawing import charts
from wesam_ros.drawing.charts import Line
from wesam_ros.drawing.overlay import draw_labels, draw_outlines
from wesam_ros.evaluation.metrics import mean_iou
from wesam_ros.evaluation.page import html_page

LOSS_COLOURS = ("adapted", "frozen", "good", "bad", "third", "fourth")


@dataclass(frozen=True)
class FrameRecord:
    """One frame of the stream, predicted before it was learnt from.

    Attributes:
        stamp_ns: time of the image in nanoseconds.
        iou_frozen, iou_adapted: IoU per scored instance of the frozen model's own masks and of the served ones, which are the adapting
            model's, refined; in [0, 1], empty without labels.
        iou_refined: likewise of the frozen model's masks, refined.
        missed, false: true instances without a detection, detections without a true instance.
        latency_ms: from the image's arrival to its masks in the adapting segmenter.
        adapter_version: of the adapter that the masks were made with, 0 = none.
        accepted, reason: whether the adapter node trained on the frame, and why not.
        losses: loss terms by name of the steps after this frame; empty where there was none.
    """

    stamp_ns: int
    iou_frozen: Sequence[float] = ()
    iou_adapted: Sequence[float] = ()
    missed: int = 0
    false: int = 0
    latency_ms: float = math.nan
    adapter_version: int = 0
    accepted: bool = False
    reason: str = ""
    losses: Mapping[str, float] = field(default_factory=dict)
    iou_refined: Sequence[float] = ()

    @property
    def gain(self) -> float:
        """The served masks' IoU on this frame less that of the frozen model's own; NaN where nothing was scored."""
        return mean_iou([self.iou_adapted]) - mean_iou([self.iou_frozen])


@dataclass(frozen=True)
class Picture:
    """A frame to show. Label images are (H, W) uint16, 0 = background; the same id is the same object in `frozen` and `adapted`."""

    frame: int
    caption: str
    image: npt.NDArray[np.uint8]
    frozen: npt.NDArray[np.uint16]
    adapted: npt.NDArray[np.uint16]
    truth: npt.NDArray[np.uint16] | None = None


@dataclass(frozen=True)
class RunRecord:
    """A run over one stream. `facts` are rows of the report's first table (recording, model, device, ...)."""

    title: str
    seed: int
    frames: Sequence[FrameRecord]
    pictures: Sequence[Picture] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


def last_third(frames: Sequence[FrameRecord]) -> Sequence[FrameRecord]:
    """The last third of the stream, by number of frames, rounded up."""
    return frames[2 * len(frames) // 3 :]


def summary(record: RunRecord) -> dict[str, Any]:
    """Figures of a run, ready for JSON; mIoU from 0 to 1 (`mean_iou`), None where nothing was scored or measured."""
    frames, end = record.frames, last_third(record.frames)
    latencies = [f.latency_ms for f in frames if math.isfinite(f.latency_ms)]
    scored = sum(len(f.iou_adapted) for f in frames)
    missed = sum(f.missed for f in frames)
    return {
        "frames": len(frames),
        "miou_frozen": _finite(mean_iou([f.iou_frozen for f in frames])),
        "miou_frozen_refined": _finite(mean_iou([f.iou_refined for f in frames])),
        "miou_adapted": _finite(mean_iou([f.iou_adapted for f in frames])),
        "miou_frozen_last_third": _finite(mean_iou([f.iou_frozen for f in end])),
        "miou_frozen_refined_last_third": _finite(mean_iou([f.iou_refined for f in end])),
        "miou_adapted_last_third": _finite(mean_iou([f.iou_adapted for f in end])),
        "adapter_versions": len({f.adapter_version for f in frames if f.adapter_version > 0}),
        "latency_ms_p50": _finite(float(np.percentile(latencies, 50))) if latencies else None,
        "latency_ms_p99": _finite(float(np.percentile(latencies, 99))) if latencies else None,
        "seed": record.seed,
        "frames_scored": sum(bool(len(f.iou_adapted)) for f in frames),
        "instances_scored": scored,
        "detector_recall": _finite(scored / (scored + missed)) if scored + missed else None,
        "false_boxes": sum(f.false for f in frames),
        "frames_accepted": sum(f.accepted for f in frames),
        "frames_rejected": dict(sorted(Counter(f.reason or "unknown" for f in frames if not f.accepted).items())),
    }


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def chosen_frames(frames: Sequence[FrameRecord], each: int = 2) -> list[tuple[int, str]]:
    """The frames to show, each once and with a caption: the `each` best gains and worst losses, the first and the last scored frame."""
    scored = [i for i, f in enumerate(frames) if math.isfinite(f.gain)]
    by_gain = sorted(scored, key=lambda i: (frames[i].gain, i))
    captions: dict[int, str] = {}
    for index in by_gain[::-1][:each]:
        captions.setdefault(index, "Best gain" if frames[index].gain > 0 else "Smallest loss")
    for index in by_gain[:each]:
        captions.setdefault(index, "Worst loss" if frames[index].gain < 0 else "Smallest gain")
    for index, caption in ((scored[0], "First frame"), (scored[-1], "Last frame")) if scored else ():
        captions.setdefault(index, caption)
    return list(captions.items())


def write_report(record: RunRecord, folder: Path) -> dict[str, Any]:
    """Write `report.html` and `summary.json` into a folder, each complete or not at all; returns the summary."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = summary(record)
    for name, text in (("report.html", report_html(record)), ("summary.json", json.dumps(figures, indent=2) + "\n")):
        partial = folder / f".{name}.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(folder / name)
    return figures


def report_html(record: RunRecord) -> str:
    """The whole report as one HTML page: charts as inline SVG, pictures as data URIs, no scripts."""
    sections = [
        f"<h1>{escape(record.title)}</h1>",
        _headline(summary(record)),
        _tables(record),
        "<h2>Masks over the stream</h2>",
        _quality(record.frames),
        "<h2>What was learnt from</h2>",
        _learning(record.frames),
        "<h2>Losses</h2>",
        _losses(record.frames),
        "<h2>Latency</h2>",
        _latency(record.frames),
        "<h2>Pictures</h2>",
        "".join(_figure(picture, record.frames[picture.frame]) for picture in record.pictures) or '<p class="none">no pictures</p>',
    ]
    return html_page(record.title, sections)


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _headline(figures: Mapping[str, Any]) -> str:
    before, after = figures["miou_frozen_last_third"], figures["miou_adapted_last_third"]
    if before is None:
        return '<p class="lead">The recording has no true labels, so masks were not scored.</p>'
    change = 100 * (after - before)
    return (
        f'<p class="lead">Over the last third of the stream the served masks reach <b>{_points(after)}</b> mIoU, '
        f"the frozen model's own {_points(before)}: <b>{change:+.1f} points</b>, without a label.</p>"
    )


def _tables(record: RunRecord) -> str:
    s = summary(record)
    scores = "".join(
        f"<tr><th>{name}</th><td>{_points(a)}</td><td>{_points(refined)}</td><td>{_points(b)}</td>"
        f"<td>{'-' if a is None else f'{100 * (b - a):+.1f}'}</td></tr>"
        for name, a, refined, b in (
            ("whole stream", s["miou_frozen"], s["miou_frozen_refined"], s["miou_adapted"]),
            ("last third", s["miou_frozen_last_third"], s["miou_frozen_refined_last_third"], s["miou_adapted_last_third"]),
        )
    )
    latency = "-" if s["latency_ms_p50"] is None else f"{s['latency_ms_p50']:.0f} ms median, {s['latency_ms_p99']:.0f} ms at 99 %"
    recall = "-" if s["detector_recall"] is None else f"{100 * s['detector_recall']:.1f} %"
    rows = {
        **record.facts,
        "frames": f"{s['frames']} ({s['frames_scored']} scored, {s['instances_scored']} instances)",
        "detector": f"found {recall} of the true objects, {s['false_boxes']} false boxes",
        "frames trained on": f"{s['frames_accepted']} of {s['frames']}",
        "adapter versions": str(s["adapter_versions"]),
        "latency": latency,
        "seed": str(s["seed"]),
    }
    facts = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows.items())
    return (
        '<div class="columns"><table class="scores"><caption>mIoU in percent</caption>'
        "<thead><tr><th></th><th>frozen</th><th>frozen, refined</th><th>served</th><th>gain</th></tr></thead>"
        f"<tbody>{scores}</tbody></table>"
        f"<table><caption>The run</caption><tbody>{facts}</tbody></table></div>"
    )


def _window(count: int) -> int:
    return min(max(count // 10, 5), 50)


def _running_mean(values: Sequence[float], window: int) -> list[float]:
    """Mean of the last `window` finite values up to each position; NaN before the first."""
    means: list[float] = []
    recent: list[float] = []
    for value in values:
        recent = [*recent, value][-window:] if math.isfinite(value) else recent
        means.append(float(np.mean(recent)) if recent else math.nan)
    return means


def _quality(frames: Sequence[FrameRecord]) -> str:
    x = list(range(1, len(frames) + 1))
    window = _window(len(frames))
    frozen = [100 * mean_iou([f.iou_frozen]) for f in frames]
    refined, adapted = ([100 * mean_iou([getattr(f, name)]) for f in frames] for name in ("iou_refined", "iou_adapted"))
    versions = [f.adapter_version for f in frames]
    values = [value for value in (*frozen, *adapted) if math.isfinite(value)]
    if not values:
        return '<p class="none">not scored</p>'
    start = len(frames) - len(last_third(frames)) + 1
    chart = charts.line_chart(
        [
            Line("", x, frozen, "frozen", faint=True),
            Line("", x, adapted, "adapted", faint=True),
            Line("frozen model", x, _running_mean(frozen, window), "frozen"),
            Line("frozen model, refined", x, _running_mean(refined, window), "third"),
            Line("served", x, _running_mean(adapted, window), "adapted"),
        ],
        "frame",
        "mIoU in %",
        y_range=(10 * math.floor(min(values) / 10), 10 * math.ceil(max(values) / 10 + 1e-9)),
        band=(start, len(frames), "last third"),
    )
    steps = charts.line_chart([Line("", x, versions, "adapted", step=True)], "frame", "version", size=(860, 150))
    return (
        f"<p>Each frame is predicted before it is learnt from. Lines: mean of the last {window} frames; dots: single frames.</p>{chart}"
        f"<h3>Adapter in use</h3>{steps}"
    )


def _learning(frames: Sequence[FrameRecord]) -> str:
    rows: dict[str, tuple[Sequence[float], str]] = {"accepted": ([i + 1 for i, f in enumerate(frames) if f.accepted], "good")}
    for reason, _ in Counter(f.reason or "unknown" for f in frames if not f.accepted).most_common():
        rows[f"rejected, {reason}"] = ([i + 1 for i, f in enumerate(frames) if not f.accepted and (f.reason or "unknown") == reason], "bad")
    return charts.event_chart(rows, "frame", (1, max(len(frames), 2)))


def _losses(frames: Sequence[FrameRecord]) -> str:
    names = list(dict.fromkeys(name for f in frames for name in f.losses))
    if not names:
        return '<p class="none">no training step was made</p>'
    window = _window(len(frames))
    plots = []
    for index, name in enumerate(names):
        at = [i + 1 for i, f in enumerate(frames) if name in f.losses]
        values = [f.losses[name] for f in frames if name in f.losses]
        colour = LOSS_COLOURS[index % len(LOSS_COLOURS)]
        lines = [Line("", at, values, colour, faint=True), Line(name, at, _running_mean(values, window), colour)]
        plots.append(f"<div><h3>{escape(name)}</h3>{charts.line_chart(lines, 'frame', 'loss', size=(410, 200))}</div>")
    return f'<p>Lines: mean of the last {window} frames with a step.</p><div class="grid">{"".join(plots)}</div>'


def _latency(frames: Sequence[FrameRecord]) -> str:
    values = [f.latency_ms for f in frames if math.isfinite(f.latency_ms)]
    if not values:
        return '<p class="none">not measured</p>'
    marks = {f"{name} {np.percentile(values, p):.1f} ms": float(np.percentile(values, p)) for name, p in (("median", 50), ("99 %", 99))}
    return f"<p>From the image's arrival to its masks.</p>{charts.histogram(values, 'latency in ms', marks)}"


def _figure(picture: Picture, frame: FrameRecord) -> str:
    cells = []
    for name, labels, iou in (("frozen", picture.frozen, frame.iou_frozen), ("served", picture.adapted, frame.iou_adapted)):
        drawn = draw_labels(picture.image, labels)
        if picture.truth is not None:
            drawn = draw_outlines(drawn, picture.truth)
        data = base64.b64encode(encode_jpeg(drawn, 88)).decode("ascii")
        score = f", mIoU {100 * mean_iou([iou]):.1f}" if len(iou) else ""
        cells.append(f'<div><img src="data:image/jpeg;base64,{data}" alt="masks: {name}"><span>{name}{score}</span></div>')
    gain = f": {100 * frame.gain:+.1f} points" if math.isfinite(frame.gain) else ""
    truth = " White: true outlines." if picture.truth is not None else ""
    return (
        f"<figure><figcaption><b>{escape(picture.caption)}</b>, frame {picture.frame + 1}{gain}, adapter version {frame.adapter_version}."
        f'{truth}</figcaption><div class="pair">{"".join(cells)}</div></figure>'
    )
