"""`benchmarks/gpu/run.sh`, which is made for a GPU, on the CPU and with little to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu" / "run.sh"


def _run(file: Path, *options: str) -> dict[str, Any]:
    words = [str(SCRIPT), "--models", "tiny", "--device", "cpu", "--json", str(file), *options]
    environment = {**os.environ, "PYTHON": sys.executable, "WESAM_CACHE": str(file.parent / "cache")}
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(file.read_text()))


def test_parts_of_one_model(tmp_path: Path) -> None:
    found = _run(tmp_path / "gpu.json", "--only", "parity", "step", "memory")
    assert "failed" not in json.dumps(found)
    rows = found["parity tiny"]["figures"]
    assert {"compiled", "tensorrt"} <= {row["engine"] for row in rows if "missing" in row}
    assert all(row["least_iou"] > 0.97 for row in rows if "missing" not in row) and any("least_iou" in row for row in rows)
    assert [row["method"] for row in found["step tiny"]["figures"]["rows"]] == ["ours", "published"]
    assert "no memory of its own" in found["memory tiny"]["figures"]["missing"]
    assert found["machine"]["device"] == "cpu"


def test_what_fails_and_what_has_no_time_is_told(tmp_path: Path) -> None:
    assert "boxes must be at least 1" in _run(tmp_path / "a.json", "--only", "times", "--boxes", "0")["times tiny"]["failed"]
    assert _run(tmp_path / "b.json", "--only", "times", "--seconds", "0")["times tiny"]["failed"] == "no time was left"
