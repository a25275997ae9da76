"""`wesam doctor` as a user runs it, where neither ROS, ONNX Runtime, OpenVINO nor TensorRT is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wesam_ros.commands import doctor

SCRIPT = """
import sys
sys.modules.update(dict.fromkeys(("rclpy", "onnxruntime", "openvino", "tensorrt")))
from wesam_ros import cli
for engine in ("auto", "tensorrt"):
    print("status", cli.main(["doctor", "--model", "tiny", "--device", "cpu", "--runs", "2", "--engine", engine]))
"""


def test_doctor_says_what_serves_and_why_not_the_others(tmp_path: Path) -> None:
    environment = {**os.environ, "WESAM_CACHE": str(tmp_path), "ROS_DISTRO": "jazzy"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    auto, named = done.stdout.split("status 0\n")
    for shown in (
        "TensorRT: cannot be imported",
        "ROS: jazzy, rclpy not found",
        "model: tiny on cpu",
        "tiny serves: it ships with the package",
        "ms from the image to all masks (median of 2",
    ):
        assert shown in auto
    engines = {part.split(",")[0]: part for part in auto.split("\n\n")[1:6]}
    assert "engine: torch" in engines["torch"]
    assert "does not serve: compiled serves models on cuda" in engines["compiled"]
    assert "does not serve: onnxruntime not installed; install the extra" in engines["onnxruntime"]
    assert "does not serve: openvino cannot be imported" in engines["openvino"]
    assert "does not serve: tensorrt cannot be imported" in engines["tensorrt"]
    assert "With engine:=auto serves:\n  torch" in auto
    assert "not onnxruntime: onnxruntime cannot be imported" in auto
    assert "With engine:=tensorrt serves:\n  none: tensorrt cannot be imported" in named
    assert "report all of this output" in named
    assert named.endswith("status 1\n")


def test_an_exception_of_a_library_is_what_doctor_says(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AttributeError("no attribute 'execute_async_v3'")

    monkeypatch.setattr("wesam_ros.engines.selection.create_engine", fail)
    doctor._examine("tensorrt", object(), 1, "cpu")
    assert capsys.readouterr().out == "  does not serve: AttributeError: no attribute 'execute_async_v3'\n"


GIB = 2**30


@pytest.mark.parametrize(
    ("model", "device", "gib", "told", "untold"),
    [
        (
            "tiny",
            "cpu",
            16,
            ["weights/tiny.md", "download mobile_sam.pt", "--model vit_t", "model:=vit_t checkpoint:=/path/to/mobile_sam.pt"],
            "vit_b",
        ),
        ("tiny", "cpu", 2, ["cpu has 2 GiB, too little"], "download"),
        ("tiny", "cuda:1", 12, ["cuda:1 has 12 GiB", "download sam_vit_b_01ec64.pth", "--model vit_b"], "mobile_sam"),
        ("tiny", "cuda", 6, ["download mobile_sam.pt"], "vit_b"),
        ("vit_b", "cpu", 64, ["vit_b serves, sam_vit_b_01ec64.pth of Segment Anything"], "download"),
    ],
)
def test_the_better_model_that_the_machine_can_carry(model: str, device: str, gib: int, told: list[str], untold: str) -> None:
    sentence = doctor.advice(model, device, gib * GIB)
    assert all(part in sentence for part in told) and untold not in sentence, sentence
