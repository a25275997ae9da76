"""`wesam pretrain`: simulate, train, score on held-out scenes, and write the weights with their model card."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from wesam_ros.options import options
from wesam_ros.pretraining.run import pretrain
from wesam_ros.pretraining.training import PretrainConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's options to `parser`."""
    parser.add_argument("--out", type=Path, default=Path("out/pretrain"), help="folder for scenes, checkpoint, weights and results")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes, of one thread each (default: all cores)")
    for each in options(PretrainConfig):
        parser.add_argument(
            f"--{each.name.replace('_', '-')}", type=each.type, default=each.default, help=f"{each.doc} (default: {each.default})"
        )


def run(args: argparse.Namespace) -> int:
    """Trains, or continues where it was interrupted; returns the exit status."""
    config = PretrainConfig(**{each.name: getattr(args, each.name) for each in options(PretrainConfig)})
    pretrain(config, args.out, args.workers)
    return 0
