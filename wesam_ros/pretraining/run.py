"""The whole pretraining: simulate, train in one process or several, score on held-out scenes, write the weights."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed
from torch.multiprocessing.spawn import spawn

from wesam_ros.pretraining.card import publish
from wesam_ros.pretraining.scenes import load_scenes
from wesam_ros.pretraining.training import PretrainConfig, train
from wesam_ros.sam.architectures import build_tiny

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

HELD_OUT_SEED = 1_000_000
"""Held-out sequences have seeds from here on; training sequences count from config.seed * 10,000."""


def pretrain(config: PretrainConfig, out: Path, workers: int) -> None:
    """Trains, or continues where it was interrupted, and writes `tiny.safetensors` and `tiny.json` into a folder.

    Args:
        config: of scenes and training.
        out: folder for scenes, checkpoint, weights and results.
        workers: processes of one thread each.
    """
    load_scenes(out / "scenes", "source", _training_seeds(config), workers=workers)
    held_out = load_scenes(out / "scenes", "source", range(HELD_OUT_SEED, HELD_OUT_SEED + config.held_out), workers=workers)
    if workers > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        spawn(_worker, (workers, port, config, out), nprocs=workers)
    else:
        _worker(0, 1, 0, config, out)
    publish(out, config, held_out)


def _training_seeds(config: PretrainConfig) -> range:
    return range(config.seed * 10_000, config.seed * 10_000 + config.sequences)


def _worker(rank: int, workers: int, port: int, config: PretrainConfig, out: Path) -> None:
    torch.set_num_threads(1)
    if workers > 1:
        torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=workers)
    scenes = load_scenes(out / "scenes", "source", _training_seeds(config))
    averaged = train(untrained(config.seed), scenes, config, out / "checkpoint.pt", rank, workers)
    if rank == 0:
        torch.save(averaged.state_dict(), out / "averaged.pt")
    if workers > 1:
        torch.distributed.destroy_process_group()


def untrained(seed: int) -> Sam:
    """`tiny` with first weights, whose position tables are drawn as well."""
    torch.manual_seed(seed)
    sam = build_tiny().train()
    for table in [p for name, p in sam.image_encoder.named_parameters() if name.endswith("pos_embed") or "rel_pos" in name]:
        torch.nn.init.trunc_normal_(table, std=0.02)
    return sam
