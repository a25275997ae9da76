"""`wesam benchmark`: every engine that is present against segment_anything.SamPredictor, with the same weights and in the same run.

SamPredictor is there as it comes, which all ratios are to, and once more with freed memory kept, as the segmenter node keeps it.
Each has a process of its own, all of them stay alive, and they take turns frame by frame: whatever else the machine does meets all alike.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from wesam_ros.engines import CHOICES
from wesam_ros.engines.contender import REFERENCE, REFERENCE_KEPT
from wesam_ros.engines.engine import EngineError
from wesam_ros.files import write_atomically
from wesam_ros.machine import cores, processor
from wesam_ros.sam.architectures import ARCHITECTURES

BOXES = (1, 5, 10, 20, 100)
WARM_UP = 2
"""Frames of each engine and number of boxes that do not count."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's options to `parser`."""
    parser.add_argument("--model", default="tiny", choices=tuple(ARCHITECTURES), help="default: %(default)s")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="its checkpoint (default: the package's weights, tiny only)")
    parser.add_argument("--device", default="cpu", help="such as cpu or cuda (default: %(default)s)")
    parser.add_argument(
        "--boxes", type=int, nargs="+", default=list(BOXES), metavar="N", help="numbers of objects (default: 1 5 10 20 100)"
    )
    parser.add_argument("--repeats", type=int, default=100, metavar="N", help="frames of each engine and number (default: %(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="of each engine, which compute in turns (default: the cores)")
    parser.add_argument(
        "--training-beside", action="store_true", help="measure once more while a process trains, with half as many threads"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the figures, a list of rows")


def run(args: argparse.Namespace) -> int:
    """Measures; returns the exit status."""
    if args.repeats < 1 or min(args.boxes) < 1:
        raise ValueError(f"repeats and boxes must be at least 1, but got {args.repeats} and {min(args.boxes)}")
    threads = args.threads or cores()
    model = ["--model", args.model, "--device", args.device]
    if args.checkpoint:
        model += ["--checkpoint", str(args.checkpoint.expanduser().resolve())]
    device = f"cpu ({processor()})" if args.device == "cpu" else _gpu(args.device)
    print(
        f"{args.model} on {device}; threads: {threads}; 640 x 480 pixels, from the image to the masks in it, {args.repeats} times each",
        flush=True,
    )
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        contenders = _contenders(stack, [*model, "--threads", str(threads)])
        for beside in (False, True) if args.training_beside else (False,):
            if beside:
                stack.enter_context(_training([*model, "--threads", str(max(1, threads // 2))]))
            for count in sorted(args.boxes):
                times = _measure(contenders, count, args.repeats, beside)
                common = {"device": device, "model": args.model, "threads": threads, "boxes": count, "training_beside": beside}
                rows += _rows(times, common)
                _write(args.json, rows)
                print(_table(rows[-len(times) :], times), flush=True)
    return 0


class Contender:
    """The process of one engine (contender.py).

    Raises:
        EngineError: the engine cannot be made here, or its process ended.
    """

    def __init__(self, name: str, words: Sequence[str], stack: ExitStack) -> None:
        self.name = name
        self._process = stack.enter_context(_process("contender", ["--name", name, *words], stdin=subprocess.PIPE))
        self.about = self._answer()
        if "missing" in self.about:
            raise EngineError(self.about["missing"])

    def segment(self, count: int) -> tuple[float, float]:
        """Milliseconds of one frame, and the peak of memory in MB so far."""
        answer = self._ask(str(count))
        return answer["ms"], answer["peak_mb"]

    def again(self) -> None:
        """Has the peak of memory counted from here."""
        self._ask("again")

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer will be missing
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EngineError(f"the process of {self.name} ended with status {self._process.wait()}; what it printed is above")
        return dict(json.loads(line))


def _contenders(stack: ExitStack, words: Sequence[str]) -> list[Contender]:
    """SamPredictor first, as it comes and with memory kept, and every engine that is present; those that are not are named."""
    found = [Contender(name, words, stack) for name in (REFERENCE, REFERENCE_KEPT)]
    for name in CHOICES:
        if name != "auto":
            try:
                found.append(Contender(name, words, stack))
            except EngineError as error:
                print(f"not measured: {name}: {error}", flush=True)
    for each in found:
        print(f"{each.about['engine']} {each.about['version']}, {each.about['precision']}", flush=True)
    return found


def _measure(contenders: Sequence[Contender], count: int, repeats: int, beside: bool) -> dict[Contender, list[tuple[float, float]]]:
    """Milliseconds and peak of memory of each frame, in turns."""
    times: dict[Contender, list[tuple[float, float]]] = {each: [] for each in contenders}
    for turn in range(WARM_UP + repeats):
        for each in contenders:
            if turn == WARM_UP:
                each.again()
            found = each.segment(count)
            if turn >= WARM_UP:
                times[each].append(found)
        _progress(f"{count} boxes{', training beside' if beside else ''}: {max(0, turn + 1 - WARM_UP)} of {repeats}")
    _progress("")
    return times


def _rows(times: dict[Contender, list[tuple[float, float]]], common: dict[str, Any]) -> list[dict[str, Any]]:
    """A row per contender; the ratio is the median of SamPredictor as it comes by its own: how many times as fast it is."""
    reference = float(np.median([ms for ms, _ in next(iter(times.values()))]))
    rows = []
    for each, values in times.items():
        p50, p95, p99 = (float(np.percentile([ms for ms, _ in values], q)) for q in (50, 95, 99))
        rows.append(
            {
                "device": common["device"],
                "model": common["model"],
                "threads": common["threads"],
                "engine": each.about["engine"],
                "precision": each.about["precision"],
                "boxes": common["boxes"],
                "ms_p50": round(p50, 3),
                "ms_p95": round(p95, 3),
                "ms_p99": round(p99, 3),
                "ratio_to_sampredictor": round(reference / p50, 3),
                "peak_mb": round(max(mb for _, mb in values), 1),
                "training_beside": common["training_beside"],
            }
        )
    return rows


def _table(rows: Sequence[dict[str, Any]], times: dict[Contender, list[tuple[float, float]]]) -> str:
    """Rows of one number of boxes as text, with frames per second (one after another) beside what they hold."""
    training = " with training beside" if rows[0]["training_beside"] else ""
    head = f"\n{str(rows[0]['boxes']) + ' boxes' + training:36}" + "".join(f"{name:>10}" for name in _COLUMNS)
    lines = [head]
    for row, values in zip(rows, times.values(), strict=True):
        rate = 1e3 / float(np.mean([ms for ms, _ in values]))
        cells = (row["ms_p50"], row["ms_p95"], row["ms_p99"], rate, row["ratio_to_sampredictor"], row["peak_mb"])
        name = f"{row['engine']}, {row['precision']}"
        lines.append(f"{name:36}" + "".join(f"{cell:10.2f}" for cell in cells))
    return "\n".join(lines)


_COLUMNS = ("p50 ms", "p95 ms", "p99 ms", "frames/s", "ratio", "peak MB")


def _write(path: Path | None, rows: Sequence[dict[str, Any]]) -> None:
    """After each number of boxes, so that an interrupted run leaves what it has."""
    if path is not None:
        write_atomically(path.expanduser(), ("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n").encode())


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


@contextmanager
def _training(words: Sequence[str]) -> Iterator[None]:
    """A process that trains (trainer.py), from its first step on."""
    with _process("trainer", words) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise ValueError(f"the process that trains ended with status {process.wait()}; what it printed is above")
        yield
        if process.poll() is not None:
            raise ValueError(f"the process that trains ended with status {process.returncode}: what was measured beside it does not count")


@contextmanager
def _process(module: str, words: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A module of this package in a process of its own, which is ended with the context."""
    command = [sys.executable, "-m", f"wesam_ros.benchmarking.{module}", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def _gpu(device: str) -> str:
    import torch

    if not torch.cuda.is_available():
        raise ValueError(f"device must be cpu where torch {torch.__version__} finds no GPU, but got {device!r}")
    return f"{device} ({torch.cuda.get_device_name(device)})"
