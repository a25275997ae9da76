"""`wesam benchmark`: every engine that is present against segment_anything.SamPredictor, with the same weights and in the same run.

SamPredictor is there as it comes, which all ratios are to, and once more with freed memory kept, as the segmenter node keeps it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from wesam_ros.commands import common
from wesam_ros.engines.timing import contenders, measure, process_of, rows_of, table_of
from wesam_ros.files import write_atomically
from wesam_ros.machine import OPENVINO, cores, processor

BOXES = (1, 5, 10, 20, 100)
TRAINER = "wesam_ros.evaluation.trainer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's options to `parser`."""
    common.add_model_options(parser)
    parser.add_argument(
        "--boxes", type=int, nargs="+", default=list(BOXES), metavar="N", help="numbers of objects (default: 1 5 10 20 100)"
    )
    parser.add_argument("--repeats", type=int, default=100, metavar="N", help="frames of each engine and number (default: %(default)s)")
    common.add_threads(parser, ", of each engine; they compute in turns")
    parser.add_argument(
        "--training-beside", action="store_true", help="measure once more while a process trains, with half as many threads"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the figures, a list of rows")


def run(args: argparse.Namespace) -> int:
    """Measures; returns the exit status."""
    if args.repeats < 1 or min(args.boxes) < 1:
        raise ValueError(f"repeats and boxes must be at least 1, but got {args.repeats} and {min(args.boxes)}")
    threads, name = args.threads or cores(), common.device_of(args)
    model = ["--model", args.model, "--device", args.device if args.device.startswith(OPENVINO) else name]
    if args.checkpoint:
        model += ["--checkpoint", str(args.checkpoint.resolve())]
    device = f"cpu ({processor()})" if name == "cpu" else _gpu(name)
    _say(f"{args.model} on {device}; threads: {threads}; 640 x 480 pixels, from the image to the masks in it, {args.repeats} times each")
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        timed = contenders(stack, [*model, "--threads", str(threads)], _say)
        for beside in (False, True) if args.training_beside else (False,):
            if beside:
                stack.enter_context(_training([*model, "--threads", str(max(1, threads // 2))]))
            for count in sorted(args.boxes):
                label = f"{count} boxes{', training beside' if beside else ''}"
                times = measure(timed, count, args.repeats, partial(_progress, label, args.repeats))
                _clear()
                common_to_all = {"device": device, "model": args.model, "threads": threads, "boxes": count, "training_beside": beside}
                rows += rows_of(times, common_to_all)
                _write(args.json, rows)
                _say(table_of(rows[-len(times) :], times))
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


def _write(path: Path | None, rows: Sequence[dict[str, Any]]) -> None:
    """After each number of boxes, so that an interrupted run leaves what it has."""
    if path is not None:
        write_atomically(path.expanduser(), ("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n").encode())


def _progress(label: str, total: int, done: int) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{label}: {done} of {total}", end="", file=sys.stderr, flush=True)


def _clear() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


@contextmanager
def _training(words: Sequence[str]) -> Iterator[None]:
    """A process that trains (TRAINER), from its first step on."""
    with process_of(TRAINER, words) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise ValueError(f"the process that trains ended with status {process.wait()}; what it printed is above")
        yield
        if process.poll() is not None:
            raise ValueError(f"the process that trains ended with status {process.returncode}: what was measured beside it does not count")


def _gpu(device: str) -> str:
    import torch

    if not torch.cuda.is_available():
        raise ValueError(f"device must be cpu where torch {torch.__version__} finds no GPU, but got {device!r}")
    return f"{device} ({torch.cuda.get_device_name(device)})"
