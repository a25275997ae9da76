"""`wesam evaluate`: data sets or recordings x prompts x methods x seeds, as tables; goes on where it was interrupted."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice, product
from pathlib import Path
from typing import Any

from wesam_ros import __version__
from wesam_ros.data.datasets.coco_c import KINDS as CORRUPTIONS
from wesam_ros.data.datasets.registry import DATASETS
from wesam_ros.data.recordings.topics import add_topic_options, named_topics
from wesam_ros.evaluation.protocol import KINDS, NOISES, OTHER_FRAMES, Fold, Source, dataset, recording, simulated, tables
from wesam_ros.files import write_atomically
from wesam_ros.machine import processor, worker_pool
from wesam_ros.methods.registry import METHODS, method

SOURCE_TABLES = range(900, 908)
"""Tables of the source domain that forgetting is measured on, OTHER_FRAMES of each; pretraining uses others."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's options to `parser`."""
    names = ", ".join(DATASETS)
    parser.add_argument(
        "data",
        nargs="+",
        help=f"sim:DOMAIN, NAME:FOLDER, NAME/SPLIT:FOLDER (of {names}), or a labelled recording; coco-c:FOLDER is all of its 15 splits",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        default=["direct", "wesam", "ours", "supervised"],
        metavar="METHOD",
        help="names as below, with other settings as NAME:SETTING=VALUE,... (default: direct wesam ours supervised)",
    )
    parser.add_argument("--prompts", nargs="+", default=list(KINDS), choices=KINDS, metavar="KIND", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--noise", nargs="+", default=["clean"], choices=NOISES, metavar="NOISE", help=f"of {', '.join(NOISES)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED")
    parser.add_argument("--steps", type=int, default=180, help="training steps over a stream, evenly spread (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=128, help="most frames of a data set's split (default: %(default)s)")
    parser.add_argument("--model", default="tiny", help="default: %(default)s")
    parser.add_argument("--checkpoint", type=Path, help="of the model; tiny has its own")
    add_topic_options(parser, ("image", "depth", "camera_info", "labels"))
    parser.add_argument("--device", default="cpu", help="such as cpu or cuda (default: %(default)s)")
    parser.add_argument("--no-source", action="store_true", help="do not measure forgetting, which needs the simulator")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each (default: %(default)s)")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder for rows.jsonl, method.json, tables and report of this call and of earlier ones",
    )
    methods = "; ".join(f"{name}: {entry.text}" for name, entry in METHODS.items())
    sets = "; ".join(f"{name}: {entry.description}" for name, entry in DATASETS.items())
    parser.epilog = f"methods: {methods}. Data sets: {sets}."


def run(args: argparse.Namespace) -> int:
    """Runs what is not done yet, then writes the tables of all that is done; returns the exit status."""
    if min(args.steps, args.workers, args.limit) < 1:
        raise ValueError(f"--steps, --workers and --limit must be at least 1, but got {args.steps}, {args.workers} and {args.limit}")
    for name in args.methods:
        method(name)  # an unknown one is an error now, not in hours
    args.data = [each for data in args.data for each in _expanded(data)]
    topics = tuple(named_topics(args).items())
    setting = Setting(args.model, args.checkpoint, args.steps, not args.no_source, args.limit, topics)
    sources = [source_of(data, setting) for data in args.data]
    for data, source in zip(args.data, sources, strict=True):
        if source.dataset in DATASETS:  # so is a folder that is not what it was said to be; simulating takes long, and cannot fail
            _folds(data, setting)
    args.out.mkdir(parents=True, exist_ok=True)
    _check_same(args.out / "setting.json", setting, sources)
    done = _read(args.out)
    todo = [cell for cell in _cells(args, setting) if _key(cell) not in done]
    print(f"{len(done)} cells are done, {len(todo)} to do", flush=True)
    try:
        with (args.out / "rows.jsonl").open("a", encoding="utf-8") as book:
            for count, row in enumerate(_results(setting, todo, args.workers, args.device), 1):
                done[_key(row)] = row
                book.write(_as_json(row) + "\n")
                book.flush()
                print(f"{count}/{len(todo)}  {' '.join(map(str, _key(row)))}: mIoU {100 * row['miou']:.1f}", flush=True)
    finally:  # where a cell has failed, or Ctrl-C came, the tables are of the others
        asked = dict.fromkeys(_key(cell) for cell in _cells(args, setting))
        _write(args.out, [done[key] for key in (*asked, *(key for key in done if key not in asked)) if key in done])
    return 0


@dataclass(frozen=True)
class Setting:
    """What all cells share."""

    model: str
    checkpoint: Path | None
    steps: int
    forgetting: bool
    limit: int
    topics: tuple[tuple[str, str], ...] = ()  # of recordings, those that were named, by role


def _check_same(file: Path, setting: Setting, sources: Sequence[Source]) -> None:
    """Notes the setting beside the rows, and where data of one's own lie; ValueError where rows were made, or would be, of another one."""
    now: dict[str, Any] = {name: value if isinstance(value, int) else str(value) for name, value in vars(setting).items()}
    now["topics"] = dict(setting.topics)
    before = now
    if file.exists():
        before = {"topics": {}} | _loaded(file)
    else:
        for rows in (file.with_name("method.json"), file.with_name("rows.jsonl")):
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


KEYS = ("dataset", "domain", "fold", "prompt", "prompt_noise", "method", "seed")
"""What makes two rows the same cell, wherever the data lie."""


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEYS)


def _cells(args: argparse.Namespace, setting: Setting) -> Iterator[dict[str, Any]]:
    """Cells in the order of the tables; a data set's folds are known before it is read."""
    for data in args.data:
        source = source_of(data, setting)
        for fold, noise, prompt, name, seed in product(range(source.folds), args.noise, args.prompts, args.methods, args.seeds):
            key = (source.dataset, source.domain, fold, prompt, noise, name, seed)
            yield {"data": data, **dict(zip(KEYS, key, strict=True))}


def _read(out: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Finished cells: of rows.jsonl, and those that only method.json has, without curves and pictures, as where only that was kept.

    A last line that a kill has cut is left out, and done again.
    """
    table, book = out / "method.json", out / "rows.jsonl"
    done = {_key(row): row for row in map(_from_json, _loaded(table) if table.exists() else ())}
    found = book.read_text(encoding="utf-8") if book.exists() else ""
    whole = ""
    for line in found.splitlines():
        try:
            row = _from_json(json.loads(line))
        except json.JSONDecodeError:
            continue
        done[_key(row)] = row
        whole += line + "\n"
    if whole != found:
        write_atomically(book, whole.encode())
    return done


def _loaded(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} is damaged ({error}); put back an earlier one, or give another --out") from error


FIGURES = ("miou", "boundary_f", "source_miou", "prequential", "prequential_last_third")


def _as_json(row: dict[str, Any]) -> str:
    """A row; figures of which there are none, NaN here, are null there."""

    def strict(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: strict(each) for name, each in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(strict(row))


def _from_json(row: dict[str, Any]) -> dict[str, Any]:
    def number(value: float | None) -> float:
        return math.nan if value is None else value

    figures = {name: number(row[name]) for name in FIGURES}
    return {**row, **figures, "cross": {kind: number(value) for kind, value in row["cross"].items()}}


def _results(setting: Setting, todo: Sequence[dict[str, Any]], workers: int, device: str) -> Iterator[dict[str, Any]]:
    if workers == 1:
        yield from (_result(setting, cell, device) for cell in todo)
        return
    with worker_pool(workers) as pool:
        waiting = iter(todo)
        running = {pool.submit(_result, setting, cell, device) for cell in islice(waiting, workers)}
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(_result, setting, cell, device) for cell in islice(waiting, len(finished))}
            yield from (future.result() for future in finished)


def _result(setting: Setting, wanted: dict[str, Any], device: str) -> dict[str, Any]:
    """One finished row; runs in a worker, which keeps model and frames for its next cell."""
    import torch

    from wesam_ros.evaluation.evaluate import Cell, run_cell

    torch.set_num_threads(1)
    folds = _folds(wanted["data"], setting)
    cell = Cell(**{name: wanted[name] for name in KEYS})
    label = " ".join(map(str, _key(wanted)))
    sam = _model(setting.model, setting.checkpoint, device)
    scenes = _scenes() if setting.forgetting else ()
    row = run_cell(sam, cell, folds[cell.fold], scenes, setting.steps, lambda text: print(f"  {label}: {text}", flush=True))
    machine = processor() if sam.device.type == "cpu" else torch.cuda.get_device_name(sam.device)
    return {**row.flat(), "model": setting.model, "machine": machine, "wesam_ros": __version__}


def _expanded(data: str) -> list[str]:
    """The data sets that an argument stands for: of COCO-C without a split, each kind of corruption."""
    name, _, folder = data.partition(":")
    return [f"coco-c/{kind}:{folder}" for kind in CORRUPTIONS] if name == "coco-c" and folder else [data]


def source_of(data: str, setting: Setting) -> Source:
    """The data set that an argument names.

    Raises:
        ValueError: it names none.
    """
    kind, _, rest = data.partition(":")
    name, _, split = kind.partition("/")
    if kind == "sim":
        return simulated(rest)
    if name in DATASETS and rest:
        return dataset(name, Path(rest), split, setting.limit)
    if Path(data).exists():
        return recording(Path(data), dict(setting.topics))
    raise ValueError(f"data must be sim:DOMAIN, NAME:FOLDER with a name of {', '.join(DATASETS)}, or a recording, but got {data!r}")


@lru_cache(maxsize=1)  # frames are large
def _folds(data: str, setting: Setting) -> list[Fold]:
    return source_of(data, setting).load()


@cache
def _scenes() -> Any:
    return tables("source", SOURCE_TABLES, OTHER_FRAMES)


@cache
def _model(name: str, checkpoint: Path | None, device: str) -> Any:
    from wesam_ros.sam.checkpoints import load_sam

    return load_sam(name, checkpoint, device)


def _write(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    from wesam_ros.evaluation.tables import as_csv, as_html, as_markdown, rows_as_csv

    kept = [{name: value for name, value in row.items() if name not in ("curve", "picture")} for row in rows]
    for name, text in (
        ("method.json", json.dumps([json.loads(_as_json(row)) for row in kept], indent=1) + "\n"),
        ("rows.csv", rows_as_csv(rows)),
        ("method.csv", as_csv(rows)),
        ("method.md", as_markdown(rows)),
        ("method.html", as_html(rows, "Adaptation methods compared")),
    ):
        write_atomically(out / name, text.encode())
        print(out / name)
