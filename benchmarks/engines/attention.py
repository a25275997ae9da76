"""Savings of attention in pieces in the encoder on a CPU, against segment_anything's own: processor time, the kernel's share, and memory.

    source scripts/env.sh
    python benchmarks/engines/attention.py --json out/attention.json

Random weights, one thread. Each measurement has a process of its own, so that its memory is its own; the first pass does not count.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

import torch

from wesam_ros.machine import processor
from wesam_ros.sam.adapter import Adapter
from wesam_ros.sam.architectures import ARCHITECTURES
from wesam_ros.sam.attention import compute_in_pieces
from wesam_ros.sam.lora import prepare
from wesam_ros.sam.predictor import embed_images


def measure(model: str, in_pieces: bool, train: bool) -> dict[str, object]:
    """The second pass in this process: forward with an adapter, and backward if `train`."""
    torch.set_num_threads(1)
    sam = ARCHITECTURES[model].build().requires_grad_(False)
    prepare(sam)
    compute_in_pieces(sam, in_pieces)
    side = sam.image_encoder.img_size
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    a, b = (each.requires_grad_(train) for each in Adapter.untrained(sam, "random weights", 4, 0).low_rank)
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF)
        with torch.set_grad_enabled(train):
            embedding = embed_images(sam, pixels, (a, b))
        if train:
            embedding.square().sum().backward()
        after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "attention": "in pieces" if in_pieces else "as released",
        "passes": "forward and backward" if train else "forward",
        "user_s": round(after.ru_utime - before.ru_utime, 2),
        "kernel_s": round(after.ru_stime - before.ru_stime, 2),
        "peak_mb": round(after.ru_maxrss * 1024 / 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_b", help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--one", nargs=2, metavar=("PIECES", "TRAIN"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.model, args.one[0] == "1", args.one[1] == "1")))
        return
    rows = []
    for train in "01":
        for pieces in "01":
            words = [sys.executable, __file__, "--model", args.model, "--one", pieces, train]
            rows.append(json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1]))
            print(rows[-1], flush=True)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({"machine": processor(), "model": args.model, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
