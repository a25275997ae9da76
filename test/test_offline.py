"""`wesam adapt`: the same adapter whether or not the run was stopped or killed on its way."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from wesam_ros import cli, offline
from wesam_ros.data.bags import write_bag
from wesam_ros.data.frames import Detections, Frame, boxes_of_labels
from wesam_ros.sam.architectures import build_tiny

FRAMES = 5


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recording of two rectangles on noise, and a checkpoint of `tiny` with random weights."""
    folder = tmp_path_factory.mktemp("offline")
    rng = np.random.default_rng(0)
    frames = []
    for i in range(FRAMES):
        labels = np.zeros((60, 80), np.uint16)
        labels[5:30, 5 + 4 * i : 30 + 4 * i], labels[35:58, 20:60] = 1, 2
        image = (np.array([60, 150, 220])[labels] + rng.integers(0, 30, labels.shape)).astype(np.uint8)
        frames.append(
            Frame(np.repeat(image[..., None], 3, 2), detections=Detections(boxes_of_labels(labels)[1]), labels=labels, stamp_ns=i + 1)
        )
    write_bag(folder / "bag.mcap", frames)
    torch.manual_seed(0)
    save_file({name: value.contiguous() for name, value in build_tiny().state_dict().items()}, folder / "tiny.safetensors")
    return folder / "bag.mcap", folder / "tiny.safetensors"


def _adapt(files: tuple[Path, Path], out: Path, *more: str) -> int:
    command = ["adapt", str(files[0]), "--checkpoint", str(files[1]), "--out", str(out), "--steps-per-frame", "1", "--save-every", "2"]
    for setting in ("publish_every=1", "held_back=2", "judges=1", "tolerance=1.0", "agreement=0", "fit=0"):
        command += ["--set", setting]
    return cli.main([*command, *more])


@pytest.fixture(scope="module")
def whole(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    assert _adapt(files, out) == 0
    return out


def test_adapter_and_report(whole: Path) -> None:
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["frames"] == summary["frames_accepted"] == FRAMES
    assert summary["adapter_versions"] >= 1 and 0 <= summary["miou_adapted"] <= 1
    assert (whole / "report.html").read_text().count("<figure>") >= 2


@pytest.mark.parametrize("end", ["killed", "stopped"])
def test_an_interrupted_run_goes_on_to_the_same_adapter(
    end: str, files: tuple[Path, Path], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the third frame, it has the state of the second; stopped by Ctrl-C there, of the third."""
    take = offline.Adaptation._take

    def interrupt(self: Any, frame: Frame) -> None:
        take(self, frame)
        if self._seen == 3:
            if end == "killed":
                raise RuntimeError("killed")
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(offline.Adaptation, "_take", interrupt)
        if end == "killed":
            with pytest.raises(RuntimeError, match="killed"):
                _adapt(files, tmp_path)
        else:
            assert _adapt(files, tmp_path) == 130
    assert torch.load(tmp_path / "state.pt", weights_only=True)["seen"] == (2 if end == "killed" else 3)
    assert _adapt(files, tmp_path) == 0
    assert (tmp_path / "adapter.safetensors").read_bytes() == (whole / "adapter.safetensors").read_bytes()
    assert json.loads((tmp_path / "summary.json").read_text()) == json.loads((whole / "summary.json").read_text())


def test_a_state_of_another_run_is_refused(
    files: tuple[Path, Path], whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _adapt(files, whole, "--set", "lr=0.1") == 2
    assert "of a run with other method" in capsys.readouterr().err
    (tmp_path / "state.pt").write_bytes(b"garbage")
    assert _adapt(files, tmp_path) == 2
    assert "remove it to start anew" in capsys.readouterr().err
