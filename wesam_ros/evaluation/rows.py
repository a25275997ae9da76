"""The rows of a comparison in their folder: read, noted one by one, and written as tables."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wesam_ros.evaluation.splits import Source
from wesam_ros.evaluation.tables import as_csv, as_html, as_markdown, rows_as_csv
from wesam_ros.files import write_atomically

KEYS = ("dataset", "domain", "fold", "prompt", "prompt_noise", "method", "seed")
"""Columns that two rows of the same cell share, wherever the data lie."""


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """The values of KEYS."""
    return tuple(row[name] for name in KEYS)


def check_same(file: Path, setting: Mapping[str, Any], sources: Sequence[Source]) -> None:
    """Notes the setting beside the rows, and where data of one's own lie.

    Raises:
        ValueError: the rows were made with another setting, or would be.
    """
    before = now = dict(setting)
    if file.exists():
        before = {"topics": {}, "home": ""} | _loaded(file)
    else:
        for rows in (file.with_name("method.json"), *sorted(file.parent.glob("rows*.jsonl"))):
            if rows.exists():
                raise ValueError(f"{rows} is there, but {file.name} is not, which says how its rows were made; put it beside them")
    places: dict[str, str] = dict(before.get("places", {}))
    changed = [f"{name} was {before.get(name)!r} and is now {value!r}" for name, value in now.items() if before.get(name) != value]
    for source in sources:
        if source.place and places.setdefault(name := f"{source.dataset} {source.domain}", source.place) != source.place:
            changed.append(f"{name} was {places[name]!r} and is now {source.place!r}")
    if changed:
        raise ValueError(f"{file.parent} holds rows of another setting: {', '.join(changed)}; give the same, or another --out")
    wanted = now | ({"places": places} if places else {})
    if not file.exists() or wanted != before:
        write_atomically(file, (json.dumps(wanted) + "\n").encode())


def book_of(out: Path, shard: tuple[int, int] = (1, 1)) -> Path:
    """The file that a process notes its rows in, the `shard` i of n; each has its own, so that none writes into another's."""
    return out / ("rows.jsonl" if shard == (1, 1) else f"rows_{shard[0]}_of_{shard[1]}.jsonl")


def read_rows(out: Path, book: Path | None = None) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Finished cells: of all processes' books, and those that only method.json has, without curves and pictures, as where only that was
    kept.

    A last line that a kill has cut is left out, and done again; of `book`, which nobody else writes into, it is removed.
    """
    table = out / "method.json"
    done = {key_of(row): row for row in map(_from_json, _loaded(table) if table.exists() else ())}
    for each in sorted(out.glob("rows*.jsonl")):
        found, whole = each.read_text(encoding="utf-8"), ""
        for line in found.splitlines():
            try:
                row = _from_json(json.loads(line))
            except json.JSONDecodeError:
                continue
            done[key_of(row)] = row
            whole += line + "\n"
        if each == book and whole != found:
            write_atomically(each, whole.encode())
    return done


def _loaded(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} is damaged ({error}); put back an earlier one, or give another --out") from error


REFINED = ("miou_refined", "boundary_f_refined", "miou_no_depth", "boundary_f_no_depth")
"""Not in the rows of versions before 0.2."""
FIGURES = ("miou", "boundary_f", *REFINED, "source_miou", "prequential", "prequential_last_third")


def row_as_json(row: dict[str, Any]) -> str:
    """A row; figures of which there are none, NaN here, are null there."""

    def strict(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: strict(each) for name, each in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(strict(row))


def _from_json(row: dict[str, Any]) -> dict[str, Any]:
    def number(value: float | None) -> float:
        return math.nan if value is None else value

    figures = {name: number(row[name] if name not in REFINED else row.get(name)) for name in FIGURES}
    name = "frozen" if row["method"] == "direct" else row["method"]  # its name up to version 0.1
    return {**row, "method": name, **figures, "cross": {kind: number(value) for kind, value in row["cross"].items()}}


def write_tables(out: Path, rows: Sequence[dict[str, Any]]) -> Iterator[Path]:
    """Writes rows and tables into a folder; yields each file."""
    kept = [{name: value for name, value in row.items() if name not in ("curve", "picture")} for row in rows]
    for name, text in (
        ("method.json", json.dumps([json.loads(row_as_json(row)) for row in kept], indent=1) + "\n"),
        ("rows.csv", rows_as_csv(rows)),
        ("method.csv", as_csv(rows)),
        ("method.md", as_markdown(rows)),
        ("method.html", as_html(rows, "Adaptation methods compared")),
    ):
        write_atomically(out / name, text.encode())
        yield out / name
