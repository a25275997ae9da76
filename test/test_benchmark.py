"""`wesam benchmark`: the rows it writes, and a short run from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wesam_ros import cli
from wesam_ros.engines import contender, timing
from wesam_ros.engines.contender import boxes
from wesam_ros.engines.parity import scene
from wesam_ros.sam import Prompts

KEYS = [
    "device",
    "model",
    "threads",
    "engine",
    "precision",
    "boxes",
    "ms_p50",
    "ms_p95",
    "ms_p99",
    "ratio_to_sampredictor",
    "peak_mb",
    "training_beside",
]


class Fake(timing.Contender):
    """Takes as many milliseconds as there are boxes, times a factor, and twice as many in every fourth frame."""

    def __init__(self, name: str, factor: float) -> None:  # no process
        self.about = {"engine": name, "precision": "float32"}
        self.factor, self.frames, self.forgotten = factor, 0, 0

    def segment(self, count: int) -> tuple[float, float]:
        self.frames += 1
        return self.factor * count * (2 if self.frames % 4 == 0 else 1), 100.0 + self.frames

    def again(self) -> None:
        self.forgotten = self.frames


def test_rows() -> None:
    slow, fast = Fake("SamPredictor", 3), Fake("fast", 1)
    times = timing.measure([slow, fast], 5, 8, lambda done: None)
    assert slow.forgotten == fast.forgotten == timing.WARM_UP
    first, second = timing.rows_of(times, {"device": "cpu", "model": "tiny", "threads": 2, "boxes": 5, "training_beside": True})
    assert list(first) == list(second) == KEYS
    assert (first["ms_p50"], first["ratio_to_sampredictor"]) == (15.0, 1.0)
    assert (second["ms_p50"], second["ms_p99"], second["ratio_to_sampredictor"], second["peak_mb"]) == (5.0, 10.0, 3.0, 110.0)
    table = timing.table_of([first, second], times)
    assert "5 boxes with training beside" in table
    assert "160.00" in table  # frames per second: 8 frames in 6 x 5 + 2 x 10 ms


def test_boxes_are_valid_and_differ() -> None:
    image, _ = scene()
    found = boxes(100)
    Prompts.from_boxes(found, image.shape[:2])
    assert len(np.unique(found, axis=0)) == 100


def test_a_short_run(random_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Processes of their own for SamPredictor twice, torch, an engine that is not there, and training."""
    monkeypatch.setattr(timing, "CHOICES", ("auto", "torch", "abacus"))
    words = ["benchmark", "--checkpoint", str(random_tiny), "--boxes", "2", "--repeats", "1", "--threads", "1", "--training-beside"]
    assert cli.main([*words, "--json", str(tmp_path / "out" / "rows.json")]) == 0
    rows: list[dict[str, Any]] = json.loads((tmp_path / "out" / "rows.json").read_text())
    assert [(row["engine"], row["boxes"], row["training_beside"]) for row in rows] == [
        ("SamPredictor", 2, False),
        ("SamPredictor, memory kept", 2, False),
        ("torch", 2, False),
        ("SamPredictor", 2, True),
        ("SamPredictor, memory kept", 2, True),
        ("torch", 2, True),
    ]
    for row in rows:
        assert list(row) == KEYS
        assert row["device"].startswith("cpu (")
        assert 0 < row["ms_p50"] <= row["ms_p95"] <= row["ms_p99"]
        assert 100 < row["peak_mb"] < 10_000
    shown = capfd.readouterr().out
    assert "not measured: abacus: engine must be one of" in shown
    assert "frames/s" in shown
    assert "SamPredictor, memory kept, float32" in shown
    assert rows[0]["ratio_to_sampredictor"] == 1


@pytest.mark.parametrize(("name", "kept"), [("SamPredictor", False), ("SamPredictor, memory kept", True), ("torch", True)])
def test_only_the_plain_reference_gives_memory_back(name: str, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(contender, "keep_freed_memory", lambda: calls.append(name))
    words = ["--name", name, "--model", "tiny", "--device", "cpu", "--threads", "1", "--checkpoint", str(tmp_path / "none.pth")]
    assert contender.main(words) == 0
    assert calls == [name] * kept


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(["--repeats", "0"], "repeats and boxes must be at least 1"), (["--checkpoint", "none.pth"], "there is no checkpoint file")],
)
def test_what_cannot_be_measured_is_one_sentence(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["benchmark", *words]) == 2
    assert sentence in capsys.readouterr().err
