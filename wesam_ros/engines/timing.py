"""Engines timed side by side: each in a process of its own, all of them alive, frame by frame in turns.

Whatever else the machine does meets all alike. The processes are those of wesam_ros.engines.contender.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from wesam_ros.engines import CHOICES
from wesam_ros.engines.contender import REFERENCE, REFERENCE_HALF, REFERENCE_KEPT
from wesam_ros.engines.engine import EngineError

WARM_UP = 2
"""Frames of each engine and number of boxes that do not count."""

Times = dict["Contender", list[tuple[float, float]]]
"""Milliseconds and peak of memory in MB of each frame, by contender."""


class Contender:
    """The process of one engine (contender.py).

    Raises:
        EngineError: the engine cannot be made here, or its process ended.
    """

    def __init__(self, name: str, words: Sequence[str], stack: ExitStack) -> None:
        self.name = name
        self._process = stack.enter_context(process_of("wesam_ros.engines.contender", ["--name", name, *words], stdin=subprocess.PIPE))
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


def contenders(stack: ExitStack, words: Sequence[str], say: Callable[[str], object]) -> list[Contender]:
    """SamPredictor first, as it comes, and with memory kept; every engine that is present. Those that are not are named.

    On a GPU, where memory is kept as it is, SamPredictor's second row is in half precision.
    """
    on_gpu = any(word.startswith("cuda") for word in words)
    found = [Contender(name, words, stack) for name in (REFERENCE, REFERENCE_HALF if on_gpu else REFERENCE_KEPT)]
    for name in CHOICES:
        if name != "auto":
            try:
                found.append(Contender(name, words, stack))
            except EngineError as error:
                say(f"not measured: {name}: {error}")
    for each in found:
        say(f"{each.about['engine']} {each.about['version']}, {each.about['precision']}")
    return found


def measure(contenders: Sequence[Contender], count: int, repeats: int, progress: Callable[[int], object]) -> Times:
    """Milliseconds and peak of memory of each frame, in turns."""
    times: Times = {each: [] for each in contenders}
    for turn in range(WARM_UP + repeats):
        for each in contenders:
            if turn == WARM_UP:
                each.again()
            found = each.segment(count)
            if turn >= WARM_UP:
                times[each].append(found)
        progress(max(0, turn + 1 - WARM_UP))
    return times


def rows_of(times: Times, common: dict[str, Any]) -> list[dict[str, Any]]:
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


def table_of(rows: Sequence[dict[str, Any]], times: Times) -> str:
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


@contextmanager
def process_of(module: str, words: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A module, by its whole name, in a process of its own, which is ended with the context."""
    command = [sys.executable, "-m", module, *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()
