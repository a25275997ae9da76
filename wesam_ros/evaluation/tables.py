"""The comparison's rows as tables, as the WeSAM paper prints them: Markdown, CSV, and a page of HTML that needs nothing from the net."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from wesam_ros.drawing import charts
from wesam_ros.drawing.charts import Line
from wesam_ros.evaluation.page import html_page
from wesam_ros.methods.registry import METHODS

Rows = Sequence[Mapping[str, Any]]
COLUMNS = (
    *("dataset", "domain", "fold", "prompt", "prompt_noise", "method", "seed"),
    *("miou", "boundary_f", "miou_refined", "boundary_f_refined", "miou_no_depth", "boundary_f_no_depth"),
    *("source_miou", "prequential", "prequential_last_third", "seconds_per_step", "steps"),
)
LEAST_GAP = 0.005
COLOURS = ("frozen", "adapted", "good", "bad", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


def as_csv(rows: Rows) -> str:
    """All tables, one after another: its title, its header, its lines, and an empty one."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for title, (header, lines) in grids(rows).items():
        writer.writerows([[title], header, *lines, []])
    return text.getvalue()


def rows_as_csv(rows: Rows) -> str:
    """All rows, a line each, without the curves."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def mean_and_spread(rows: Rows, key: str = "miou") -> tuple[float, float]:
    """Mean over seeds of the means over folds, and the standard deviation over seeds (0 with one); NaN without rows."""
    seeds: dict[int, list[float]] = {}
    for row in rows:
        seeds.setdefault(row["seed"], []).append(row.get(key, math.nan))
    means = [float(np.mean(values)) for values in seeds.values()]
    if not means:
        return math.nan, math.nan
    return float(np.mean(means)), float(np.std(means, ddof=1)) if len(means) > 1 else 0.0


def gap_closed(rows: Rows, method: str) -> float:
    """(method - frozen) / (supervised - frozen) of rows of one data set and prompt, as means over seeds.

    NaN where one of them is missing, or where labels gain less than LEAST_GAP: then there is nothing to close.
    """
    return _closed(*(mean_and_spread(_of(rows, method=name))[0] for name in ("frozen", method, "supervised")))


def _closed(frozen: float, own: float, ceiling: float) -> float:
    return (own - frozen) / (ceiling - frozen) if ceiling - frozen >= LEAST_GAP else math.nan


def _of(rows: Rows, **wanted: Any) -> Rows:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def _seen(rows: Rows, key: str) -> list[Any]:
    return list(dict.fromkeys(row[key] for row in rows))


def _methods(rows: Rows) -> list[str]:
    """In the order of METHODS, however the rows came; settings of one stay together."""
    order = list(METHODS)
    return sorted(_seen(rows, "method"), key=lambda text: order.index(text.partition(":")[0]))


def grids(rows: Rows) -> dict[str, tuple[list[str], list[list[str]]]]:
    """The tables by title: a header and lines of cells, ready to be printed."""
    tables: dict[str, tuple[list[str], list[list[str]]]] = {}
    for noise in _seen(rows, "prompt_noise"):
        part = _of(rows, prompt_noise=noise)
        places = list(dict.fromkeys((row["dataset"], row["domain"], row["prompt"]) for row in part))
        cells = {place: _of(part, dataset=place[0], domain=place[1], prompt=place[2]) for place in places}
        tables[f"{noise} prompts: mean over domains, in points of mIoU; gap closed in percent, where labels gain"] = _summary(part)
        domains = [domain for _, domain in dict.fromkeys((dataset, domain) for dataset, domain, _ in places)]
        header = [
            "method",
            *(f"{domain if domains.count(domain) == 1 else f'{dataset} {domain}'} {prompt}" for dataset, domain, prompt in places),
        ]
        for title, entry in (
            ("mIoU in percent, on frames never adapted to", _score),
            ("gap closed between frozen and supervised, in percent", _gap),
            ("boundary F-measure in percent", lambda rows, method: _score(rows, method, "boundary_f")),
            ("mIoU in percent of masks as served, refined with depth", lambda rows, method: _score(rows, method, "miou_refined")),
            ("boundary F-measure in percent, as served", lambda rows, method: _score(rows, method, "boundary_f_refined")),
            ("mIoU in percent, as served without depth", lambda rows, method: _score(rows, method, "miou_no_depth")),
            ("boundary F-measure in percent, as served without depth", lambda rows, method: _score(rows, method, "boundary_f_no_depth")),
            ("mIoU in percent on the source domain, after adapting", lambda rows, method: _score(rows, method, "source_miou")),
            ("mIoU in percent over the stream, predicted before learnt from", lambda rows, method: _score(rows, method, "prequential")),
        ):
            lines = [[method, *(entry(cells[place], method) for place in places)] for method in _methods(part)]
            tables[f"{noise} prompts: {title}"] = (header, lines)
        tables[f"{noise} prompts: adapted with one kind, tested with another; mIoU in percent, mean over domains"] = _crossed(part)
    return tables


def _score(rows: Rows, method: str, key: str = "miou") -> str:
    mean, spread = mean_and_spread(_of(rows, method=method), key)
    if math.isnan(mean):
        return "-"
    return f"{100 * mean:.1f}" + (f" ± {100 * spread:.1f}" if len(_seen(_of(rows, method=method), "seed")) > 1 else "")


def _gap(rows: Rows, method: str) -> str:
    closed = gap_closed(rows, method)
    return "-" if math.isnan(closed) else f"{100 * closed:.0f}"


def _summary(rows: Rows) -> tuple[list[str], list[list[str]]]:
    """mIoU and gain on frozen per kind of prompt, of the methods' means over the domains that frozen and the method have; gap closed of the
    means over those of them where there is a gap.
    """
    prompts = _seen(rows, "prompt")
    lines = []
    for method in _methods(rows):
        line = [method]
        for prompt in prompts:
            places = dict.fromkeys((row["dataset"], row["domain"]) for row in rows)
            parts = [_of(rows, dataset=dataset, domain=domain, prompt=prompt) for dataset, domain in places]
            means = [[mean_and_spread(_of(part, method=name))[0] for name in ("frozen", method, "supervised")] for part in parts]
            nothing = [[math.nan] * 3]
            floor, own, _ = np.mean([each for each in means if not math.isnan(each[0] + each[1])] or nothing, axis=0)
            closed = _closed(*np.mean([each for each in means if not math.isnan(_closed(*each))] or nothing, axis=0))
            figures = ((own, ".1f"), (own - floor, "+.1f"), (closed, ".0f"))
            line += ["-" if math.isnan(value) else format(100 * value, style) for value, style in figures]
        lines.append(line)
    return ["method", *(f"{prompt} {figure}" for prompt in prompts for figure in ("mIoU", "gain", "gap closed"))], lines


def _crossed(rows: Rows) -> tuple[list[str], list[list[str]]]:
    kinds = list(dict.fromkeys(kind for row in rows for kind in row["cross"]))
    lines = []
    for method in _methods(rows):
        for prompt in _seen(rows, "prompt"):
            domains: dict[tuple[str, str], list[Mapping[str, float]]] = {}
            for row in _of(rows, method=method, prompt=prompt):
                domains.setdefault((row["dataset"], row["domain"]), []).append(row["cross"])
            means = [
                np.mean([np.mean([each[kind] for each in part]) for part in domains.values()]) if domains else math.nan for kind in kinds
            ]
            lines.append([method, prompt, *("-" if math.isnan(mean) else f"{100 * mean:.1f}" for mean in means)])
    return ["method", "adapted with", *(f"tested with {kind}" for kind in kinds)], lines


def as_markdown(rows: Rows) -> str:
    """All tables."""
    parts = []
    for title, (header, lines) in grids(rows).items():
        body = [header, ["---"] * len(header), *lines]
        parts.append(f"### {title[0].upper()}{title[1:]}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in body) + "\n")
    if notes := notes_of(rows):
        parts.append("### Notes on the data\n\n" + "\n".join(f"- {note}" for note in notes) + "\n")
    return "\n".join(parts)


def notes_of(rows: Rows) -> list[str]:
    """Sentences on what was left out of each data set, or taken otherwise than it stands there; they begin with its name."""
    found = (f"{row['dataset']} {row['domain']}: {note}" for row in rows for note in row.get("notes", ()))
    return list(dict.fromkeys(found))


def as_html(rows: Rows, title: str) -> str:
    """All tables, the curves over the streams and a picture of every method's masks, as one page."""
    sections = [f"<h1>{escape(title)}</h1>"]
    for name, (header, lines) in grids(rows).items():
        head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
        sections.append(f"<h2>{escape(name[0].upper() + name[1:])}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    if notes := notes_of(rows):
        sections.append("<h2>Notes on the data</h2><ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>")
    places = _first_rows(rows)
    sections.append("<h2>Over the streams</h2><p>mIoU in percent, mean of the last 8 frames, first seed; predicted before learnt from.</p>")
    sections.extend(_curves(place, methods) for place, methods in places.items())
    sections.append("<h2>Masks</h2><p>On one frame that was never adapted to, first seed. White: outlines of the true masks.</p>")
    sections.extend(_pictures(place, methods) for place, methods in places.items())
    return html_page(title, sections)


def _first_rows(rows: Rows) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Each stream by its name, with the first seed's row of each method."""
    first: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        place = f"{row['dataset']}, {row['domain']}, {row['prompt']}, {row['prompt_noise']}, fold {row['fold']}"
        first.setdefault(place, {}).setdefault(row["method"], row)
    return first


def _curves(place: str, methods: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    for index, (method, row) in enumerate(methods.items()):
        values = np.array([math.nan if value is None else 100 * value for value in row.get("curve", ())])
        smooth = [float(np.nanmean(w)) if np.isfinite(w := values[max(0, i - 7) : i + 1]).any() else math.nan for i in range(len(values))]
        lines.append(Line(method, list(range(1, len(values) + 1)), smooth, COLOURS[index % len(COLOURS)]))
    if not any(math.isfinite(value) for line in lines for value in line.y):
        return ""
    return f"<h3>{escape(place)}</h3>{charts.line_chart(lines, 'frame', 'mIoU in %')}"


def _pictures(place: str, methods: Mapping[str, Mapping[str, Any]]) -> str:
    cells = [
        f'<div><img src="data:image/jpeg;base64,{row["picture"]}" alt="masks of {escape(method)}"><span>{escape(method)}</span></div>'
        for method, row in methods.items()
        if row.get("picture")
    ]
    return f'<figure><figcaption>{escape(place)}</figcaption><div class="pair">{"".join(cells)}</div></figure>' if cells else ""
