"""How long the engines take, against segment_anything.SamPredictor with torch and the same weights in the same run.

    source scripts/env.sh
    wesam export
    python benchmarks/engines.py --json out/engines.json

`tiny` on the CPU, the frame of the parity gate (640 x 480), 1, 5 and 20 boxes. What is compared takes turns, so that whatever else the
machine does meets all of them alike. encode is from the image to the embedding, decode from the boxes to the masks in the image.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wesam_ros.engines.engine import Engine
from wesam_ros.engines.export import random_adapter
from wesam_ros.engines.parity import scene
from wesam_ros.engines.selection import create_engine
from wesam_ros.sam import Prompts, load_sam

PACKAGES = ("wesam_ros", "torch", "numpy", "segment-anything", "onnx", "onnxruntime", "onnxscript")
REFERENCE = "SamPredictor"


def boxes(prompts: Prompts, count: int) -> np.ndarray:
    """(count, 4) boxes: those of the scene, again and again, each time a pixel further to the right and below."""
    known = np.array([each.box for each in prompts.objects if each.box is not None], np.float32)
    return np.stack([known[i % len(known)] + i // len(known) for i in range(count)]).clip(0, (640, 480, 640, 480))


def sam_predictor(sam: Any, image: np.ndarray, wanted: np.ndarray) -> dict[str, Callable[[], Any]]:
    """encode and decode as SamPredictor's documentation does them for boxes of a detector."""
    from segment_anything import SamPredictor  # after wesam_ros, which knows how to import it where torchvision is broken

    predictor = SamPredictor(sam)
    transformed = predictor.transform.apply_boxes_torch(torch.from_numpy(wanted), image.shape[:2])

    def decode() -> Any:
        masks, scores, low_res = predictor.predict_torch(None, None, transformed, multimask_output=False)
        return masks[:, 0].numpy(), scores[:, 0].numpy(), low_res

    return {"encode": lambda: predictor.set_image(image), "decode": decode}


def engine_calls(engine: Engine, image: np.ndarray, wanted: np.ndarray, adapter: Any) -> dict[str, Callable[[], Any]]:
    """encode and decode of an engine."""
    embeddings: list[Any] = []

    def encode() -> None:
        embeddings[:] = [engine.encode(image, adapter)]

    return {"encode": encode, "decode": lambda: engine.decode(embeddings[0], Prompts.from_boxes(wanted, image.shape[:2]))}


def measure(calls: dict[str, dict[str, Callable[[], Any]]], repeats: int) -> dict[tuple[str, str], list[float]]:
    """Milliseconds of each call, taking turns, after two turns that do not count."""
    times: dict[tuple[str, str], list[float]] = {}
    for turn in range(repeats + 2):
        for name, stages in calls.items():
            for stage, call in stages.items():
                began = time.perf_counter()
                call()
                if turn >= 2:
                    times.setdefault((name, stage), []).append((time.perf_counter() - began) * 1e3)
    for name, stages in calls.items():
        times[name, "both"] = [sum(pair) for pair in zip(*(times[name, stage] for stage in stages), strict=True)]
    return times


def rows(sam: Any, engines: dict[str, Engine], counts: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """One row per number of boxes, engine and stage; speed is how many times as fast as SamPredictor."""
    image, prompts = scene()
    adapter = random_adapter(sam, 4, 0)
    found = []
    for count in counts:
        wanted = boxes(prompts, count)
        calls = {REFERENCE: sam_predictor(sam, image, wanted)}
        calls |= {name: engine_calls(each, image, wanted, None) for name, each in engines.items()}
        calls |= {f"{name}, adapter": engine_calls(each, image, wanted, adapter) for name, each in engines.items()}
        with torch.inference_mode():
            times = measure(calls, repeats)
        for (name, stage), each in times.items():
            p50, p95, p99 = (round(float(np.percentile(each, q)), 3) for q in (50, 95, 99))
            ratio = round(float(np.median(times[REFERENCE, stage])) / p50, 3)
            found.append({"engine": name, "stage": stage, "boxes": count, "ms_p50": p50, "ms_p95": p95, "ms_p99": p99, "speed": ratio})
            print(f"{count:3} boxes  {name:22} {stage:7} p50 {p50:8.2f}  p95 {p95:8.2f}  p99 {p99:8.2f} ms  {ratio:5.2f} x")
    return found


def machine() -> dict[str, Any]:
    """Where the figures are from."""
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    return {
        "name": socket.gethostname(),
        "processor": cpu or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": [round(each, 2) for each in os.getloadavg()],
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--boxes", type=int, nargs="+", default=[1, 5, 20])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of the engines (default: the cores)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    about = machine()
    sam = load_sam("tiny")
    engines = {"torch": create_engine(sam, "torch").engine}
    selection = create_engine(sam, "auto", print)
    engines[selection.engine.capabilities.name] = selection.engine
    found = rows(sam, engines, args.boxes, args.repeats)
    result = {
        "machine": about,
        "versions": versions(),
        "model": "tiny",
        "device": "cpu",
        "precision": "float32",
        "threads": args.threads,
        "image": [480, 640],
        "repeats": args.repeats,
        "rows": found,
    }
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
