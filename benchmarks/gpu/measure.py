"""Parity, times, training and memory of the engines on a GPU; one JSON file, and a part that fails says why in it.

Models but `tiny` have random weights, drawn by seed 0: for parity and times they will do. Each part is a process of its own, which ends
when the time is over; what it had measured until then is kept. Parts, in this order, for each model:

- parity: least IoU of each engine's masks with torch's, frozen and with an adapter, on the parity gate's frame;
- times: `wesam benchmark`, every engine against SamPredictor in float32 and in half precision; `compiled` has CUDA graphs; with
  `tiny` once more while a process trains, and where CUDA's multi-process service is installed, once more under it;
- step: a training step against WeSAM's published recipe (benchmarks/adaptation/step.py);
- memory: training goes on after the GPU had no memory left for it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from wesam_ros import __version__
from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.learner import Learner
from wesam_ros.data.frames import Frame
from wesam_ros.engines import CHOICES
from wesam_ros.engines.export import random_adapter
from wesam_ros.engines.parity import agreement, scene
from wesam_ros.engines.selection import create_engine
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.files import write_json
from wesam_ros.machine import processor, resolve_device
from wesam_ros.sam import load_sam
from wesam_ros.sam.architectures import ARCHITECTURES

ROOT = Path(__file__).parents[2]
MODELS = ("tiny", "vit_b", "vit_t", "sam2.1_hiera_tiny")
PARTS = ("parity", "times", "step", "memory")
MPS = "nvidia-cuda-mps-control"
SHARE = 0.01
"""Of the GPU's memory, that training is left with."""


def parity(model: str, checkpoint: Path | None, device: str) -> list[dict[str, Any]]:
    """A row for each engine, frozen and with an adapter; the reason where there is none."""
    sam, rows = load_sam(model, checkpoint, device), list[dict[str, Any]]()
    image, prompts = scene()
    for name in (each for each in CHOICES if each not in ("auto", "torch")):
        try:
            engine = create_engine(sam, name, lambda _: None, device=device).engine
        except (ValueError, OSError) as error:
            rows.append({"engine": name, "missing": str(error)})
            continue
        for adapter in (None, random_adapter(sam, 4, 0)):
            found = agreement(TorchEngine(sam).segment(image, prompts, adapter), engine.segment(image, prompts, adapter))
            figures = {"least_iou": round(float(found.iou.min()), 5), "logits_differ_by": found.logits}
            rows.append({"engine": str(engine.capabilities), "adapter": adapter is not None, **figures})
        engine.close()
    return rows


def memory(model: str, checkpoint: Path | None, device: str) -> dict[str, Any]:
    """Steps before the memory was gone, the error meanwhile, and steps after it was there again."""
    if not device.startswith("cuda"):
        return {"missing": f"{device} has no memory of its own"}
    learner = Learner(load_sam(model, checkpoint, device), AdaptationConfig(), seed=0)
    image, prompts = scene()
    while learner.step() is None:
        learner.observe(Frame(image), prompts)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(SHARE)
    failed = ""
    try:
        learner.step()
    except torch.cuda.OutOfMemoryError as error:
        failed = str(error).splitlines()[0]
    torch.cuda.set_per_process_memory_fraction(1.0)
    result = learner.step()
    finite = bool(learner.trainer.is_finite and result is not None and math.isfinite(result.losses["total"]))
    return {"error": failed or "none: a step fits into that share", "share": SHARE, "goes_on": finite}


@contextmanager
def multi_process_service() -> Iterator[None]:
    """CUDA's multi-process service, for processes that are started within."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        subprocess.run([MPS, "-d"], check=True)
        try:
            yield
        finally:
            subprocess.run([MPS], input="quit\n", text=True, check=False)
            del os.environ["CUDA_MPS_PIPE_DIRECTORY"], os.environ["CUDA_MPS_LOG_DIRECTORY"]


class Parts:
    """Runs commands until the time is over; each writes a JSON file, which becomes a part of the result."""

    def __init__(self, folder: Path, seconds: float, out: Path) -> None:
        self.folder, self.end, self.out = folder, time.monotonic() + seconds, out
        self.result: dict[str, Any] = {}

    def run(self, name: str, words: Sequence[str]) -> None:
        """A command with `--json FILE` after it; what it wrote, and the end of what it printed where it failed."""
        file, left = self.folder / "part.json", self.end - time.monotonic()
        file.unlink(missing_ok=True)
        began, failed = time.monotonic(), "no time was left" if left < 1 else ""
        if not failed:
            try:
                done = subprocess.run([sys.executable, *words, "--json", str(file)], cwd=ROOT, capture_output=True, text=True, timeout=left)
                failed = "" if done.returncode == 0 else "; ".join(done.stderr.strip().splitlines()[-3:])
            except subprocess.TimeoutExpired:
                failed = "the time was over"
        part: dict[str, Any] = {"seconds": round(time.monotonic() - began, 1)} | ({"failed": failed} if failed else {})
        if file.exists():
            part["figures"] = json.loads(file.read_text(encoding="utf-8"))
        self.result[name] = part
        print(f"{name}: {failed or 'done'}, {part['seconds']} s", flush=True)
        write_json(self.out, self.result)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=tuple(ARCHITECTURES), default=MODELS, help=f"default: {' '.join(MODELS)}")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help=f"parts (default: {' '.join(PARTS)})")
    parser.add_argument("--device", default="cuda", help="torch device (default: %(default)s)")
    parser.add_argument("--boxes", nargs="+", default=["1", "10", "100"], help="default: 1 10 100")
    parser.add_argument("--repeats", default="30", help="frames of each engine and number of boxes (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=470.0, help="after which it ends (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write (default: benchmarks/results/gpu_NAME.json)")
    parser.add_argument("--part", nargs=2, metavar=("PART", "CHECKPOINT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part is not None:
        parts: dict[str, Callable[[str, Path | None, str], Any]] = {"parity": parity, "memory": memory}
        write_json(args.json, parts[args.part[0]](args.models[0], Path(args.part[1]) if args.part[1] else None, args.device))
        return 0
    device = resolve_device(args.device)
    name = torch.cuda.get_device_name() if device.startswith("cuda") else "cpu"
    out = args.json or ROOT / "benchmarks" / "results" / f"gpu_{re.sub(r'[^a-z0-9]+', '_', name.lower())}.json"
    with tempfile.TemporaryDirectory() as folder:
        _measure(args, device, Parts(Path(folder), args.seconds, out), name)
    return 0


def _measure(args: argparse.Namespace, device: str, parts: Parts, name: str) -> None:
    parts.result["machine"] = {"device": name, "processor": processor(), "torch": torch.__version__, "wesam_ros": __version__}
    for model in args.models:
        checkpoint = _random(model, parts.folder) if model != "tiny" else ""
        words = ["--model", model, "--device", device]
        weights = ["--checkpoint", checkpoint] if checkpoint else []
        timed = ["-m", "wesam_ros.cli", "benchmark", *words, *weights, "--boxes", *args.boxes, "--repeats", args.repeats]
        itself = ["benchmarks/gpu/measure.py", "--models", model, "--device", device]
        step = ["benchmarks/adaptation/step.py", *words, "--frames", "2", "--steps", "2", "--methods", "ours", "published"]
        commands = {
            "parity": [*itself, "--part", "parity", checkpoint],
            "times": [*timed, *(["--training-beside"] if model == "tiny" else [])],
            "step": [*step, *(["--random"] if model != "tiny" else [])],
            "memory": [*itself, "--part", "memory", checkpoint],
        }
        for each in args.only:
            parts.run(f"{each} {model}", commands[each])
            if each == "times" and model == "tiny" and shutil.which(MPS):
                with multi_process_service():
                    parts.run("times tiny, multi-process service", commands[each])


def _random(model: str, folder: Path) -> str:
    torch.manual_seed(0)
    file = folder / f"{model}.pth"
    torch.save(ARCHITECTURES[model].build().state_dict(), file)
    return str(file)


if __name__ == "__main__":
    raise SystemExit(main())
