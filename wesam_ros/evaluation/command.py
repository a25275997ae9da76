"""`wesam evaluate`: data sets or recordings x prompts x methods x seeds, as tables; goes on where it was interrupted."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import product
from pathlib import Path
from typing import Any

from wesam_ros import __version__
from wesam_ros.baselines.method import METHODS, method
from wesam_ros.data.datasets.registry import DATASETS
from wesam_ros.evaluation.protocol import KINDS, NOISES, OTHER_FRAMES, Fold, Source, dataset, recording, simulated, tables
from wesam_ros.machine import processor, worker_pool
from wesam_ros.sam.lora import write_atomically

SOURCE_TABLES = range(900, 908)
"""Tables of the source domain that forgetting is measured on, OTHER_FRAMES of each; pretraining uses others."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's options to `parser`."""
    names = ", ".join(DATASETS)
    parser.add_argument("data", nargs="+", help=f"sim:DOMAIN, NAME:FOLDER, NAME/SPLIT:FOLDER (of {names}), or a labelled recording")
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
    parser.add_argument("--no-source", action="store_true", help="do not measure forgetting, which needs the simulator")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each (default: %(default)s)")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder for rows.jsonl, method.json, tables and report of this call and of earlier ones",
    )
    parser.epilog = "methods: " + "; ".join(f"{name}: {entry.text}" for name, entry in METHODS.items())


def run(args: argparse.Namespace) -> int:
    """Runs what is not done yet, then writes the tables of all that is done; returns the exit status."""
    if args.steps < 1 or args.workers < 1:
        raise ValueError(f"--steps and --workers must be at least 1, but got {args.steps} and {args.workers}")
    for name in args.methods:
        method(name)  # an unknown one is an error now, not in hours
    args.out.mkdir(parents=True, exist_ok=True)
    setting = Setting(args.model, args.checkpoint, args.steps, not args.no_source, args.limit)
    _check_same(args.out / "setting.json", setting)
    book = args.out / "rows.jsonl"
    done = _read(args.out)
    todo = [cell for cell in _cells(args) if _key(cell) not in done]
    print(f"{len(done)} cells are done, {len(todo)} to do", flush=True)
    with book.open("a", encoding="utf-8") as file:
        for count, row in enumerate(_results(setting, todo, args.workers), 1):
            done[_key(row)] = row
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(f"{count}/{len(todo)}  {' '.join(map(str, _key(row)))}: mIoU {100 * row['miou']:.1f}", flush=True)
    asked = dict.fromkeys(_key(cell) for cell in _cells(args))
    _write(args.out, [done[key] for key in (*asked, *(key for key in done if key not in asked))])
    return 0


@dataclass(frozen=True)
class Setting:
    """What all cells share."""

    model: str
    checkpoint: Path | None
    steps: int
    forgetting: bool
    limit: int


def _check_same(file: Path, setting: Setting) -> None:
    """Notes the setting beside the rows; ValueError where the rows that are there were made with another one."""
    now = {name: value if isinstance(value, int) else str(value) for name, value in vars(setting).items()}
    if not file.exists():
        if (rows := file.with_name("method.json")).exists():
            raise ValueError(f"{rows} is there, but {file.name} is not, which says how its rows were made; put it beside them")
        write_atomically(file, (json.dumps(now) + "\n").encode())
    before = json.loads(file.read_text(encoding="utf-8"))
    changed = [f"{name} was {before.get(name)!r} and is now {value!r}" for name, value in now.items() if before.get(name) != value]
    if changed:
        raise ValueError(f"{file.parent} holds rows of another setting: {', '.join(changed)}; give the same, or another --out")


KEYS = ("dataset", "domain", "fold", "prompt", "prompt_noise", "method", "seed")
"""What makes two rows the same cell, wherever the data lie."""


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEYS)


def _cells(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Cells in the order of the tables; a data set's folds are known before it is read."""
    for data in args.data:
        source = source_of(data, args.limit)
        for fold, noise, prompt, name, seed in product(range(source.folds), args.noise, args.prompts, args.methods, args.seeds):
            key = (source.dataset, source.domain, fold, prompt, noise, name, seed)
            yield {"data": data, **dict(zip(KEYS, key, strict=True))}


def _read(out: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Finished cells: of rows.jsonl, and those that only method.json has, without curves and pictures, as where only that was kept.

    A last line that a kill has cut is left out, and done again.
    """
    table, book = out / "method.json", out / "rows.jsonl"
    done = {_key(row): row for row in (json.loads(table.read_text(encoding="utf-8")) if table.exists() else ())}
    whole = ""
    for line in book.read_text(encoding="utf-8").splitlines() if book.exists() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        done[_key(row)] = row
        whole += line + "\n"
    if book.exists():
        book.write_text(whole, encoding="utf-8")
    return done


def _results(setting: Setting, todo: Sequence[dict[str, Any]], workers: int) -> Iterator[dict[str, Any]]:
    if workers == 1:
        yield from (_result(setting, cell) for cell in todo)
        return
    with worker_pool(workers) as pool:
        for future in as_completed([pool.submit(_result, setting, cell) for cell in todo]):
            yield future.result()


def _result(setting: Setting, wanted: dict[str, Any]) -> dict[str, Any]:
    """One finished row; runs in a worker, which keeps model and frames for its next cell."""
    import torch

    from wesam_ros.evaluation.evaluate import Cell, run_cell

    torch.set_num_threads(1)
    folds = _folds(wanted["data"], setting.limit)
    cell = Cell(**{name: wanted[name] for name in KEYS})
    label = " ".join(map(str, _key(wanted)))
    sam = _model(setting.model, setting.checkpoint)
    scenes = _scenes() if setting.forgetting else ()
    row = run_cell(sam, cell, folds[cell.fold], scenes, setting.steps, lambda text: print(f"  {label}: {text}", flush=True))
    return {**row.flat(), "model": setting.model, "machine": processor(), "wesam_ros": __version__}


def source_of(data: str, limit: int) -> Source:
    """The data set that an argument names.

    Raises:
        ValueError: it names none.
    """
    kind, _, rest = data.partition(":")
    name, _, split = kind.partition("/")
    if kind == "sim":
        return simulated(rest)
    if name in DATASETS and rest:
        return dataset(name, Path(rest), split, limit)
    if Path(data).exists():
        return recording(Path(data))
    raise ValueError(f"data must be sim:DOMAIN, NAME:FOLDER with a name of {', '.join(DATASETS)}, or a recording, but got {data!r}")


@lru_cache(maxsize=1)  # frames are large
def _folds(data: str, limit: int) -> list[Fold]:
    return source_of(data, limit).load()


@cache
def _scenes() -> Any:
    return tables("source", SOURCE_TABLES, OTHER_FRAMES)


@cache
def _model(name: str, checkpoint: Path | None) -> Any:
    from wesam_ros.sam.checkpoints import load_sam

    return load_sam(name, checkpoint)


def _write(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    from wesam_ros.evaluation.tables import as_csv, as_html, as_markdown

    kept = [{name: value for name, value in row.items() if name not in ("curve", "picture")} for row in rows]
    for name, text in (
        ("method.json", json.dumps(kept, indent=1) + "\n"),
        ("method.csv", as_csv(rows)),
        ("method.md", as_markdown(rows)),
        ("method.html", as_html(rows, "Adaptation methods compared")),
    ):
        write_atomically(out / name, text.encode())
        print(out / name)
