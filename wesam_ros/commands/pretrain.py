"""`wesam pretrain`: real pictures and simulated scenes, the training, and the weights with their scores."""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict
from pathlib import Path

import cv2
import torch

from wesam_ros.options import options
from wesam_ros.pretraining.packing import pack
from wesam_ros.pretraining.sources import Mixture, Pictures, read_folders, split
from wesam_ros.pretraining.training import PretrainConfig, train

HELD_OUT_SEED = 1_000_000
"""Held-out sequences have seeds from here on; training sequences count from 0."""
HELD_OUT_SEQUENCES = 20
PACKED_SIDE, PACKED_QUALITY, PACKED_MOST = 384, 72, 600
"""Of pictures to be carried: pixels on the longer side, JPEG quality, and most of a source."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's options to `parser`."""
    parser.add_argument("--out", type=Path, default=Path("out/pretrain"), help="folder for checkpoint, weights and results")
    parser.add_argument("--pictures", type=Path, help="folder of real pictures: SET/images/NAME.jpg, SET/masks/NAME.png")
    parser.add_argument("--scenes", type=Path, help="folder where simulated scenes are kept (default: OUT/scenes)")
    parser.add_argument("--sequences", type=int, default=200, help="simulated source sequences to train on (default: %(default)s)")
    parser.add_argument("--architecture", default="tiny", help="of the model (default: %(default)s)")
    parser.add_argument("--trunk", type=Path, help="efficientnet-lite2-9656183e.pth, ImageNet weights to start from")
    parser.add_argument("--device", default="cpu", help="of torch (default: %(default)s)")
    parser.add_argument("--makers", type=int, default=1, help="threads that make samples (default: %(default)s)")
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help="stop after so long and write the weights without a score (default: never)",
    )
    parser.add_argument("--pack", type=Path, help="write what is trained on into this folder, small enough to be carried; no training")
    parser.add_argument("--publish", action="store_true", help="write the weights as they are in the checkpoint; no training")
    parser.add_argument("--earlier", type=Path, help="weights of an earlier model, of which what fits is taken over")
    for each in options(PretrainConfig):
        parser.add_argument(
            f"--{each.name.replace('_', '-')}", type=each.type, default=each.default, help=f"{each.doc} (default: {each.default})"
        )


def run(args: argparse.Namespace) -> int:
    """Trains, or continues where it was interrupted; at the end writes weights and card into the folder, named after the model."""
    from wesam_ros.pretraining.card import publish, weights_file, write_weights
    from wesam_ros.pretraining.scenes import load_scenes
    from wesam_ros.pretraining.start import build, freeze

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    config = PretrainConfig(**{each.name: getattr(args, each.name) for each in options(PretrainConfig)})
    scenes = args.scenes or args.out / "scenes"
    checkpoint = args.out / "checkpoint.pt"
    if args.pack is not None:
        size = pack(mixture(args.pictures, scenes, args.sequences), args.pack, PACKED_SIDE, PACKED_QUALITY, PACKED_MOST)
        print(f"packed {size / 2**20:.1f} MiB into {args.pack}")
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.publish:
        sam = build(args.architecture, config.seed, args.trunk, args.earlier).to(args.device)
        freeze(sam, config.frozen_stages)
        sources = mixture(args.pictures, scenes, args.sequences)
        averaged = train(sam, sources, config, checkpoint, makers=args.makers, minutes=args.minutes)
        if args.minutes < math.inf:
            write_weights(averaged.state_dict(), weights_file(args.out, args.architecture))
            return 0
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    held_out = load_scenes(scenes, "source", range(HELD_OUT_SEED, HELD_OUT_SEED + HELD_OUT_SEQUENCES))
    publish(state["averaged"], args.out, args.architecture, {"steps": state["step"], "config": asdict(config)}, held_out)
    return 0


def mixture(pictures: Path | None, scenes: Path, sequences: int) -> Mixture:
    """The mixture that is trained on: the pictures of each set that are not held out, and simulated scenes.

    Raises:
        DatasetError: there are no pictures in the folder.
    """
    from wesam_ros.pretraining.scenes import load_scenes

    sources: list[tuple[str, Pictures]] = []
    if pictures is not None:
        sources += [(name, split(folder)[0]) for name, folder in read_folders(pictures).items()]
    if sequences:
        sources.append(("simulated", load_scenes(scenes, "source", range(sequences))))
    return Mixture(tuple(sources))
