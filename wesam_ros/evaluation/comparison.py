"""A comparison: data sets or recordings x prompts x methods x seeds. It goes on where it was interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice, product
from pathlib import Path
from typing import Any

import torch

from wesam_ros import __version__
from wesam_ros.data.datasets.coco_c import KINDS as CORRUPTIONS
from wesam_ros.data.datasets.registry import DATASETS
from wesam_ros.data.frames import Frame
from wesam_ros.evaluation.cells import Cell, run_cell
from wesam_ros.evaluation.rows import KEYS, book_of, check_same, key_of, read_rows, row_as_json, write_tables
from wesam_ros.evaluation.splits import OTHER_FRAMES, Fold, Source, dataset, recording, simulated, tables
from wesam_ros.machine import processor, worker_pool
from wesam_ros.methods.registry import method
from wesam_ros.sam.checkpoints import load_sam

SOURCE_TABLES = range(900, 908)
"""Tables of the source domain that forgetting is measured on, OTHER_FRAMES of each; pretraining uses others."""


@dataclass(frozen=True)
class Wanted:
    """The cells to run: every combination of these.

    Attributes:
        data: sim:DOMAIN, NAME:FOLDER, NAME/SPLIT:FOLDER, or a labelled recording; coco-c:FOLDER is all of its splits.
        methods: of wesam_ros.methods.registry.
        prompts: of prompts.KINDS.
        noise: of prompts.NOISES.
        seeds: of everything that is drawn.
    """

    data: tuple[str, ...]
    methods: tuple[str, ...]
    prompts: tuple[str, ...]
    noise: tuple[str, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Setting:
    """The setting that all cells share.

    Attributes:
        model, checkpoint: as of load_sam.
        steps: training steps over a stream, evenly spread.
        forgetting: whether to score on the source domain as well, which needs the simulator.
        limit: most frames of a data set's split.
        topics: of recordings, those that were named, by role.
        home: a data set that is scored on instead of the source domain, "" for the source domain. Of each fold, its frames to score on;
            nothing where a cell adapts to it.
    """

    model: str
    checkpoint: Path | None
    steps: int
    forgetting: bool
    limit: int
    topics: tuple[tuple[str, str], ...] = ()
    home: str = ""

    def noted(self) -> dict[str, Any]:
        """The values that setting.json holds."""
        values: dict[str, Any] = {name: value if isinstance(value, int) else str(value) for name, value in vars(self).items()}
        return values | {"topics": dict(self.topics)}


def compare(
    wanted: Wanted,
    setting: Setting,
    out: Path,
    workers: int,
    device: str,
    say: Callable[[str], object],
    shard: tuple[int, int] = (1, 1),
) -> None:
    """Runs the cells that the folder does not have yet, then writes the tables of all that it has.

    Args:
        wanted: the cells.
        setting: shared by all of them.
        out: folder of rows.jsonl, method.json, tables and report, of this call and of earlier ones.
        workers: processes of one thread each.
        device: torch device.
        say: told what is done.
        shard: i of n: every n-th cell from the i-th on, while calls on this or other machines do the others, in the same folder.

    Raises:
        ValueError: an unknown method or data set, or rows of another setting in the folder.
    """
    for name in wanted.methods:
        method(name)  # an unknown one is an error now, not in hours
    places = [each for data in wanted.data for each in expanded(data)]
    if setting.home:
        source_of(setting.home, setting).load()
    sources = [source_of(data, setting) for data in places]
    for data, source in zip(places, sources, strict=True):
        if source.dataset in DATASETS:  # so is a folder that is not what it was said to be; simulating takes long, and cannot fail
            _folds(data, setting)
    out.mkdir(parents=True, exist_ok=True)
    check_same(out / "setting.json", setting.noted(), sources)
    cells = list(_cells(wanted, places, sources))
    book_file = book_of(out, shard)
    done = read_rows(out, book_file)
    todo = [cell for cell in cells[shard[0] - 1 :: shard[1]] if key_of(cell) not in done]
    say(f"{len(done)} cells are done, {len(todo)} to do")
    try:
        with book_file.open("a", encoding="utf-8") as book:
            for count, row in enumerate(_results(setting, todo, workers, device), 1):
                book.write(row_as_json(row) + "\n")
                book.flush()
                say(f"{count}/{len(todo)}  {' '.join(map(str, key_of(row)))}: mIoU {100 * row['miou']:.1f}")
    finally:  # where a cell has failed, or Ctrl-C came, the tables are of the others; and of what other shards have done meanwhile
        done = read_rows(out, book_file)
        asked = dict.fromkeys(map(key_of, cells))
        for file in write_tables(out, [done[key] for key in (*asked, *(key for key in done if key not in asked)) if key in done]):
            say(str(file))


def _cells(wanted: Wanted, places: Sequence[str], sources: Sequence[Source]) -> Iterator[dict[str, Any]]:
    """Cells in the order of the tables; a data set's folds are known before it is read."""
    for data, source in zip(places, sources, strict=True):
        for fold, noise, prompt, name, seed in product(range(source.folds), wanted.noise, wanted.prompts, wanted.methods, wanted.seeds):
            key = (source.dataset, source.domain, fold, prompt, noise, name, seed)
            yield {"data": data, **dict(zip(KEYS, key, strict=True))}


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
    torch.set_num_threads(1)
    folds = _folds(wanted["data"], setting)
    cell = Cell(**{name: wanted[name] for name in KEYS})
    label = " ".join(map(str, key_of(wanted)))
    sam = _model(setting.model, setting.checkpoint, device)
    scenes = _forgettable(wanted["data"], cell.fold, setting) if setting.forgetting else ()
    row = run_cell(sam, cell, folds[cell.fold], scenes, setting.steps, lambda text: print(f"  {label}: {text}", flush=True))
    machine = processor() if sam.device.type == "cpu" else torch.cuda.get_device_name(sam.device)
    noted = {"notes": list(folds[cell.fold].notes)} if folds[cell.fold].notes else {}
    return {**row.flat(), "model": setting.model, "machine": machine, "wesam_ros": __version__, **noted}


def expanded(data: str) -> list[str]:
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


def _forgettable(data: str, fold: int, setting: Setting) -> Sequence[Frame]:
    """The frames that forgetting is measured on, which no cell of this fold adapts to."""
    if not setting.home:
        return _scenes()
    folds = _home(setting)
    return () if data == setting.home else folds[fold % len(folds)].test


@cache
def _scenes() -> tuple[Frame, ...]:
    return tables("source", SOURCE_TABLES, OTHER_FRAMES)


@cache
def _home(setting: Setting) -> list[Fold]:
    return source_of(setting.home, setting).load()


@cache
def _model(name: str, checkpoint: Path | None, device: str) -> Any:
    return load_sam(name, checkpoint, device)
