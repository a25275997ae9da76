"""The curves of the page, as SVG with the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from wesam_ros.drawing.charts import Line, Plot, legend
from wesam_ros.web.history import History, Learnt, Version

SIZE = (460, 200)
MOST = 240
"""Points of a curve: longer ones are thinned out."""
ROWS, LONGEST_NAME = 6, 18
"""Rows of the chart of outcomes, and characters of a row's name."""
COLOURS = ("third", "fourth", "fifth", "sixth", "seventh")


def scores_chart(history: History, now: float) -> str:
    """Validation scores of candidates, of the published adapter and of the frozen model, with a mark for each published version."""
    judged = [each for each in list(history.learnt) if math.isfinite(each.candidate)]
    x = _minutes([each.at for each in judged], now)
    lines = [
        Line("candidate", x, [each.candidate for each in judged], "bad", faint=True),
        Line("served", x, [each.published for each in judged], "adapted"),
        Line("frozen", x, [each.frozen for each in judged], "frozen"),
    ]
    return _chart(lines, "validation score", history.versions, now)


def losses_chart(history: History, now: float) -> str:
    """The terms of the loss of each frame's last training step."""
    trained = _thinned([each for each in list(history.learnt) if each.losses])
    names = list(dict.fromkeys(name for each in trained for name in each.losses))[: len(COLOURS)]
    x = _minutes([each.at for each in trained], now)
    lines = [
        Line(name, x, [each.losses.get(name, math.nan) for each in trained], colour) for name, colour in zip(names, COLOURS, strict=False)
    ]
    return _chart(lines, "loss", (), now)


def latency_chart(history: History, now: float) -> str:
    """Milliseconds from a picture's arrival to its masks."""
    points = _thinned(list(history.latencies))
    return _chart([Line("latency", _minutes([at for at, _ in points], now), [value for _, value in points], "third")], "ms", (), now)


def outcomes_chart(history: History, now: float) -> str:
    """A row of ticks for the frames that were taken, and one for each reason for which others were not."""
    rows: dict[str, list[float]] = {"taken": []}
    for each in list(history.learnt):
        name = each.reason[:LONGEST_NAME] or ("taken" if each.accepted else "rejected")
        rows.setdefault(name if name in rows or len(rows) < ROWS else "others", []).append((each.at - now) / 60)
    if not any(rows.values()):
        return ""
    first = min(-0.5, *(times[0] for times in rows.values() if times))
    plot = Plot((SIZE[0], 24 * len(rows) + 58), (first, 0.0), (0, 1), left=130)
    for n, (name, times) in enumerate(rows.items()):
        y = 14 + 24 * n
        plot.text(plot.left - 8, y + 14, f"{name.replace('_', ' ')}: {len(times)}", "end")
        ticks = "".join(f"M{x:.0f} {y + 3}v14" for x in dict.fromkeys(round(plot.x(value)) for value in times))
        plot.parts.append(f'<path class="event" style="stroke:var(--{"good" if name == "taken" else "bad"})" d="{ticks}"/>')
    plot.x_axis("minutes before now", _ticks(first))
    return plot.svg("frames that were taken or not over the last minutes: " + ", ".join(f"{name} {len(x)}" for name, x in rows.items()))


def _minutes(times: Sequence[float], now: float) -> list[float]:
    return [(each - now) / 60 for each in times]


def _thinned(points: Sequence[Learnt] | Sequence[tuple[float, float]]) -> list:  # type: ignore[type-arg]
    return list(points[:: max(1, math.ceil(len(points) / MOST))])


def _chart(lines: Sequence[Line], y_label: str, versions: Sequence[Version], now: float) -> str:
    """A chart over the last minutes; "" without points."""
    xs = [x for line in lines for x in line.x]
    ys = [y for line in lines for y in line.y if math.isfinite(y)]
    if not ys:
        return ""
    low, high = min(ys), max(ys)
    slack = max((high - low) * 0.1, abs(high) * 0.02, 1e-3)
    plot = Plot(SIZE, (min(min(xs), -0.5), 0.0), (max(low - slack, 0.0) if low >= 0 else low - slack, high + slack), left=54)
    plot.y_axis(y_label)
    for line in lines:
        plot.curve(line)
    marked: list[float] = []
    for each in versions:
        x = plot.x((each.at - now) / 60)
        if x < plot.left or any(abs(x - other) < 24 for other in marked):
            continue
        marked.append(x)
        plot.rule(x, 14, x, SIZE[1] - 44, "mark")
        near_end = x > SIZE[0] - 50
        plot.text(x - 3 if near_end else x + 3, 24, f"v{each.number}", "end" if near_end else "start")
    plot.x_axis("minutes before now", _ticks(plot.x_range[0]))
    named = {line.name: line.colour for line in lines}
    return plot.svg(f"{y_label} over the last minutes; last value {ys[-1]:.3g}") + (legend(named) if len(named) > 1 else "")


def _ticks(first: float) -> list[float]:
    """Whole minutes, or halves, from the first point on, about five of them."""
    step = next((each for each in (0.1, 0.5, 1, 2, 5, 10, 30, 60) if -first / each <= 6), 120)
    return [0.0 - step * n for n in range(int(-first / step), -1, -1)]
