"""Small charts as inline SVG, for reports that need nothing from the net. Colours are CSS variables of the page (light and dark)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

Values = Sequence[float] | npt.NDArray[np.float64]

LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 44  # margins of the plot in the units of the viewBox


@dataclass(frozen=True)
class Line:
    """One curve: its legend, points, and the CSS variable of its colour; NaN in y breaks it. `faint` draws dots without a legend."""

    name: str
    x: Values
    y: Values
    colour: str
    faint: bool = False
    step: bool = False


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) inside [low, high], about `count` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((factor * power for factor in (1, 2, 5, 10)), key=lambda s: abs(s - raw))
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _number(value: float, step: float) -> str:
    if value and (abs(value) < 1e-3 or abs(value) >= 1e5):
        return f"{value:.0e}"
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    return f"{value:.{min(digits, 4)}f}"


class Plot:
    """Axes of one chart: maps data to the viewBox and collects SVG elements; `svg()` gives the whole."""

    def __init__(self, size: tuple[int, int], x_range: tuple[float, float], y_range: tuple[float, float], left: int = LEFT) -> None:
        self.width, self.height, self.left = *size, left
        self.x_range, self.y_range = x_range, y_range
        self.parts: list[str] = []

    def x(self, value: float) -> float:
        """The place of a value on the horizontal axis."""
        low, high = self.x_range
        return self.left + (value - low) / ((high - low) or 1) * (self.width - self.left - RIGHT)

    def y(self, value: float) -> float:
        """The place of a value on the vertical axis."""
        low, high = self.y_range
        return self.height - BOTTOM - (value - low) / ((high - low) or 1) * (self.height - TOP - BOTTOM)

    def text(self, x: float, y: float, words: str, anchor: str = "middle", extra: str = "") -> None:
        """Adds words at a place."""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {extra}>{escape(words)}</text>')

    def rule(self, x0: float, y0: float, x1: float, y1: float, kind: str) -> None:
        """Adds a straight line of a CSS class."""
        self.parts.append(f'<line class="{kind}" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>')

    def x_axis(self, label: str, ticks: Sequence[float] | None = None) -> None:
        """Adds the horizontal axis with ticks, round numbers by default."""
        base = self.height - BOTTOM
        ticks = nice_ticks(*self.x_range, count=8 if self.width > 400 else 4) if ticks is None else ticks
        step = ticks[1] - ticks[0] if len(ticks) > 1 else 1
        for tick in ticks:
            self.rule(self.x(tick), base, self.x(tick), base + 5, "axis")
            self.text(self.x(tick), base + 18, _number(tick, step))
        self.rule(self.left, base, self.width - RIGHT, base, "axis")
        self.text((self.left + self.width - RIGHT) / 2, self.height - 6, label, extra='class="label"')

    def y_axis(self, label: str) -> None:
        """Adds a grid with numbers for the vertical axis."""
        ticks = nice_ticks(*self.y_range, count=5 if self.height > 200 else 3)
        step = ticks[1] - ticks[0] if len(ticks) > 1 else 1
        for tick in ticks:
            self.rule(self.left, self.y(tick), self.width - RIGHT, self.y(tick), "grid")
            self.text(self.left - 8, self.y(tick) + 4, _number(tick, step), "end")
        middle = (TOP + self.height - BOTTOM) / 2
        self.text(16, middle, label, extra=f'class="label" transform="rotate(-90 16 {middle:.1f})"')

    def curve(self, line: Line) -> None:
        """Adds a line, or its dots where it is faint."""
        points = [(self.x(x), self.y(y)) if math.isfinite(y) else None for x, y in zip(line.x, line.y, strict=True)]
        if line.faint:
            dots = "".join(f'<circle cx="{p[0]:.1f}" cy="{p[1]:.1f}" r="2"/>' for p in points if p)
            self.parts.append(f'<g fill="var(--{line.colour})" opacity="0.3">{dots}</g>')
            return
        path, pen_down = "", False
        for point in points:
            if point is None:
                pen_down = False
                continue
            if pen_down and line.step:
                path += f"H{point[0]:.1f}V{point[1]:.1f}"
            else:
                path += f"{'L' if pen_down else 'M'}{point[0]:.1f} {point[1]:.1f}"
            pen_down = True
        self.parts.append(f'<path class="curve" style="stroke:var(--{line.colour})" d="{path}"/>')

    def svg(self, description: str) -> str:
        """The chart as an SVG element."""
        head = f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(description, quote=True)}">'
        return head + "".join(self.parts) + "</svg>"


def legend(entries: Mapping[str, str]) -> str:
    """HTML legend: name to CSS variable of the colour."""
    keys = "".join(f'<span><i style="background:var(--{colour})"></i>{escape(name)}</span>' for name, colour in entries.items())
    return f'<p class="legend">{keys}</p>'


def line_chart(
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    *,
    size: tuple[int, int] = (860, 320),
    y_range: tuple[float, float] | None = None,
    band: tuple[float, float, str] | None = None,
) -> str:
    """Curves with axes, a legend where there is more than one, and a captioned `band` between two x values."""
    xs = [float(x) for line in lines for x in line.x] or [0.0, 1.0]
    ys = [float(y) for line in lines for y in line.y if math.isfinite(y)] or [0.0, 1.0]
    if y_range is None:
        constant = max(ys) - min(ys) <= 1e-6 * max(abs(y) for y in ys)
        slack = (abs(max(ys)) * 0.1 or 1.0) if constant else (max(ys) - min(ys)) * 0.06
        y_range = (0.0 if min(ys) >= 0 and min(ys) < max(ys) / 2 else min(ys) - slack, max(ys) + slack)
    plot = Plot(size, (min(xs), max(max(xs), min(xs) + 1)), y_range)
    if band:
        left, right = plot.x(band[0]), plot.x(band[1])
        plot.parts.append(f'<rect class="band" x="{left:.1f}" y="{TOP}" width="{right - left:.1f}" height="{size[1] - TOP - BOTTOM}"/>')
        plot.text(right - 6, TOP + 14, band[2], "end")
    plot.y_axis(y_label)
    for line in lines:
        plot.curve(line)
    plot.x_axis(x_label)
    named = {line.name: line.colour for line in lines if not line.faint}
    return plot.svg(f"{y_label} over {x_label}") + (legend(named) if len(named) > 1 else "")


def event_chart(rows: Mapping[str, tuple[Sequence[float], str]], x_label: str, x_range: tuple[float, float], width: int = 860) -> str:
    """A row of ticks per kind of event: name to (x values, CSS variable); each row says how many there were."""
    height = TOP + 26 * max(len(rows), 1) + BOTTOM
    plot = Plot((width, height), x_range, (0, 1), left=210)
    for index, (name, (values, colour)) in enumerate(rows.items()):
        y = TOP + 26 * index
        plot.text(plot.left - 10, y + 17, f"{name}: {len(values)}", "end")
        plot.rule(plot.left, y + 24, width - RIGHT, y + 24, "grid")
        ticks = "".join(f"M{plot.x(value):.1f} {y + 4}v16" for value in values)
        plot.parts.append(f'<path class="event" style="stroke:var(--{colour})" d="{ticks}"/>')
    plot.x_axis(x_label)
    return plot.svg(f"kinds of frames over {x_label}")


def histogram(values: Values, x_label: str, lines: Mapping[str, float], bins: int = 40) -> str:
    """Counts of values with captioned vertical lines; what lies beyond 1.5 times the largest line goes into the last bar."""
    data = np.asarray([v for v in values if math.isfinite(v)], np.float64)
    if not len(data):
        return '<p class="none">no values</p>'
    top = min(float(data.max()), 1.5 * max(lines.values(), default=float(data.max())))
    low = min(float(data.min()), *lines.values()) if lines else float(data.min())
    margin = max((top - low) * 0.08, top * 0.01, 1e-6)
    counts, edges = np.histogram(np.clip(data, None, top), bins, (max(low - margin, 0.0), top + margin))
    plot = Plot((860, 260), (float(edges[0]), float(edges[-1])), (0, float(counts.max()) * 1.25))
    plot.y_axis("frames")
    for count, x0, x1 in zip(counts, edges[:-1], edges[1:], strict=True):
        if count:
            left, high = plot.x(float(x0)), plot.y(float(count))
            width = plot.x(float(x1)) - left - 1
            plot.parts.append(f'<rect class="bar" x="{left:.1f}" y="{high:.1f}" width="{width:.1f}" height="{plot.y(0) - high:.1f}"/>')
    for index, (name, value) in enumerate(lines.items()):
        plot.rule(plot.x(value), TOP, plot.x(value), plot.y(0), "mark")
        near_end = plot.x(value) > 660
        plot.text(plot.x(value) + (-5 if near_end else 5), TOP + 12 + 15 * index, name, "end" if near_end else "start")
    plot.x_axis(x_label)
    return plot.svg(f"histogram of {x_label}")
