"""`wesam pretrain`: simulate, train, score on held-out scenes, and write the weights with their model card."""

from __future__ import annotations

import argparse
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed
from torch.multiprocessing.spawn import spawn

from wesam_ros.options import options
from wesam_ros.pretraining.training import PretrainConfig, train

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

HELD_OUT_SEED = 1_000_000
"""Held-out sequences have seeds from here on; training sequences count from config.seed * 10,000."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's options to `parser`."""
    parser.add_argument("--out", type=Path, default=Path("out/pretrain"), help="folder for scenes, checkpoint, weights and results")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes, of one thread each (default: all cores)")
    for each in options(PretrainConfig):
        parser.add_argument(
            f"--{each.name.replace('_', '-')}", type=each.type, default=each.default, help=f"{each.doc} (default: {each.default})"
        )


def run(args: argparse.Namespace) -> int:
    """Trains, or continues where it was interrupted, and writes `tiny.safetensors` and `tiny.json` into the folder."""
    from wesam_ros.pretraining.card import publish
    from wesam_ros.pretraining.scenes import load_scenes

    config = PretrainConfig(**{each.name: getattr(args, each.name) for each in options(PretrainConfig)})
    load_scenes(args.out / "scenes", "source", _training_seeds(config), workers=args.workers)
    held_out = load_scenes(args.out / "scenes", "source", range(HELD_OUT_SEED, HELD_OUT_SEED + config.held_out), workers=args.workers)
    if args.workers > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        spawn(_worker, (args.workers, port, config, args.out), nprocs=args.workers)
    else:
        _worker(0, 1, 0, config, args.out)
    publish(args.out, config, held_out)
    return 0


def _training_seeds(config: PretrainConfig) -> range:
    return range(config.seed * 10_000, config.seed * 10_000 + config.sequences)


def _worker(rank: int, workers: int, port: int, config: PretrainConfig, out: Path) -> None:
    from wesam_ros.pretraining.scenes import load_scenes

    torch.set_num_threads(1)
    if workers > 1:
        torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=workers)
    scenes = load_scenes(out / "scenes", "source", _training_seeds(config))
    averaged = train(_untrained(config.seed), scenes, config, out / "checkpoint.pt", rank, workers)
    if rank == 0:
        torch.save(averaged.state_dict(), out / "averaged.pt")
    if workers > 1:
        torch.distributed.destroy_process_group()


def _untrained(seed: int) -> Sam:
    from wesam_ros.sam.architectures import build_tiny

    torch.manual_seed(seed)
    sam = build_tiny().train()
    for table in [p for name, p in sam.image_encoder.named_parameters() if name.endswith("pos_embed") or "rel_pos" in name]:
        torch.nn.init.trunc_normal_(table, std=0.02)
    return sam
