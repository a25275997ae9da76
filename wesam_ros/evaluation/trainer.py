"""A process that trains an adapter on the frame of the parity gate until it is ended: the load beside a segmenter on a robot."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.learner import Learner
from wesam_ros.data.frames import Frame
from wesam_ros.engines.parity import scene
from wesam_ros.sam import load_sam


def main(words: Sequence[str] | None = None) -> int:
    """Says "training" after the first step, and goes on until the process is ended."""
    parser = argparse.ArgumentParser()
    for option in ("--model", "--device"):
        parser.add_argument(option, required=True)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args(words)
    torch.set_num_threads(args.threads)
    learner = Learner(load_sam(args.model, args.checkpoint, args.device), AdaptationConfig(), seed=0)
    image, prompts = scene()
    while learner.step() is None:
        learner.observe(Frame(image), prompts)
    print("training", flush=True)
    while True:
        learner.step()


if __name__ == "__main__":
    raise SystemExit(main())
