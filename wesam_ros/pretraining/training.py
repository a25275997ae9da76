"""The training itself: steps on whole pictures of three sizes, one thread, to be interrupted and gone on with at any time.

The rate is constant after the warm-up and falls to zero over the last steps only, so that a run can be made longer as long as it has not
come to them (Hu et al., 2024, call it warm-up, stable, decay). Averaged weights are what is kept.
"""

from __future__ import annotations

import math
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from wesam_ros.options import option, validate
from wesam_ros.pretraining.losses import batch_loss
from wesam_ros.pretraining.samples import FORMS, Batch, draw_batch
from wesam_ros.pretraining.sources import Mixture

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

SIDES = {256: 8, 384: 4, 512: 2}
"""Canvases in pixels, and the pictures a step that take about the same time on them."""
EARLY, LATE = (0.15, 0.35, 0.5), (0.0, 0.35, 0.65)
"""Shares of the steps on each canvas: before the rate falls, and while it does, when small things are learnt."""
SAVE_SECONDS = 600.0
AHEAD = 2
"""Batches, per thread that makes them, that are made while a step is computed."""


@dataclass(frozen=True)
class PretrainConfig:
    """Length and pace of the training."""

    seed: int = option(0, "seed of new weights and of samples", minimum=0)
    steps: int = option(20000, "steps in all; may be changed between two parts of a run that has not come to the last ones", minimum=1)
    last: int = option(2500, "steps at the end in which the rate falls to zero", minimum=1)
    warm_up: int = option(200, "steps of linear warm-up", minimum=1)
    batch: int = option(1, "times as many pictures a step as SIDES has, for a GPU", minimum=1)
    prompts: int = option(8, "most prompted things a picture", minimum=1)
    lr: float = option(7e-4, "learning rate of all but the trunk", minimum=0.0)
    trunk_share: float = option(0.12, "learning rate of the trunk and of the finer features, as a share of that", minimum=0.0)
    frozen_stages: int = option(3, "stages of the trunk that stay as they are", minimum=0, maximum=7)
    weight_decay: float = option(0.05, "weight decay of the transformers' matrices", minimum=0.0)
    ema: float = option(0.998, "decay of the averaged weights, which are the ones kept", minimum=0.0, maximum=1.0)

    def __post_init__(self) -> None:
        validate(self)


def make_batch(mixture: Mixture, config: PretrainConfig, step: int) -> Batch:
    """The samples of one step, the same for the same seed."""
    rng = np.random.default_rng([config.seed, step])
    late = step >= config.steps - config.last
    side = int(rng.choice(list(SIDES), p=LATE if late else EARLY))
    return draw_batch(mixture, side, config.batch * SIDES[side], config.prompts, rng)


def learning_rate(config: PretrainConfig, step: int) -> float:
    """Share of the full rate at a step: linear warm-up, constant, and at last 1 - sqrt down to zero (Hägele et al., 2024)."""
    rising = min(1.0, (step + 1) / config.warm_up)
    fall = max(0.0, (step - (config.steps - config.last)) / config.last)
    return rising * max(0.0, 1 - float(np.sqrt(fall)))


def make_optimizers(sam: Sam, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al., 2024) for the matrices of the transformers, which takes about half of AdamW's steps; AdamW for all else."""
    hidden = {
        id(p)
        for part in (sam.image_encoder.blocks, sam.mask_decoder.transformer)
        for name, p in part.named_parameters()
        if p.ndim == 2 and "rel_pos" not in name
    }
    # The finer features come from the trunk's, which are several times as large as the tokens.
    trunk = {id(p) for part in (sam.image_encoder.trunk, sam.image_encoder.fine) for p in part.parameters()}
    trained = [p for p in sam.parameters() if p.requires_grad]
    others = [p for p in trained if id(p) not in hidden | trunk]
    groups = [
        {"params": others, "share": 1.0},
        {"params": [p for p in trained if id(p) in trunk], "share": config.trunk_share},
    ]
    matrices = [{"params": [p for p in trained if id(p) in hidden], "share": 1.0}]
    return [
        torch.optim.Muon(matrices, lr=config.lr, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([group for group in groups if group["params"]], lr=config.lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


class Run:
    """The state of one training run: weights, averaged weights, optimizers, step. `path` is where it is kept, and continued from."""

    def __init__(self, sam: Sam, config: PretrainConfig, path: Path) -> None:
        self.sam, self.averaged, self.config, self.path = sam, deepcopy(sam), config, path
        self.optimizers = make_optimizers(sam, config)
        self.step = 0
        if path.is_file():
            state = torch.load(path, map_location=sam.device, weights_only=True)
            self.sam.load_state_dict(state["model"])
            self.averaged.load_state_dict(state["averaged"])
            for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(kept)
            self.step = state["step"]

    def save(self, path: Path | None = None) -> None:
        """Keeps the state in `path`; an interrupted save leaves the one before."""
        path = path or self.path
        state = {
            "model": self.sam.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def advance(self, batch: Batch) -> tuple[float, float]:
        """One step; returns the loss and the mean IoU."""
        share = learning_rate(self.config, self.step)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = self.config.lr * share * group["share"]
        loss, iou = batch_loss(self.sam, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.sam.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        decay = min(self.config.ema, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.averaged.parameters()), list(self.sam.parameters()), 1 - decay)
        self.step += 1
        return float(loss.detach()), iou


def train(sam: Sam, mixture: Mixture, config: PretrainConfig, path: Path, *, makers: int = 1, minutes: float = math.inf) -> Sam:
    """Trains `sam` in place, continuing from `path` where it exists and saving there; returns the averaged model.

    The state before the rate begins to fall is kept beside it, as "constant": from there a run can be made longer.

    Args:
        sam: the model, with what is to be trained requiring gradients.
        mixture: what is trained on.
        config: how.
        path: of the checkpoint.
        makers: threads that make batches.
        minutes: after which it stops, with all saved.
    """
    run = Run(sam, config, path)
    log = _Log(config, run.step)
    began = saved = time.monotonic()
    with ThreadPoolExecutor(makers) as ahead:
        coming: deque[Future[Batch]] = deque()
        while run.step < config.steps and time.monotonic() - began < 60 * minutes:
            while len(coming) < AHEAD * makers:
                coming.append(ahead.submit(make_batch, mixture, config, run.step + len(coming)))
            if run.step == config.steps - config.last:
                run.save(path.with_stem(f"{path.stem}_constant"))
            batch = coming.popleft().result()
            log.add(run.step, batch, *run.advance(batch))
            if time.monotonic() - saved >= SAVE_SECONDS:
                run.save()
                saved = time.monotonic()
        run.save()
        ahead.shutdown(cancel_futures=True)
    return run.averaged


class _Log:
    """Prints running means every 50 steps."""

    def __init__(self, config: PretrainConfig, first: int) -> None:
        self.config, self.first, self.began = config, first, time.monotonic()
        self.means: dict[str, float] = {}
        if first:
            print(f"continuing from step {first}", flush=True)

    def add(self, step: int, batch: Batch, loss: float, iou: float) -> None:
        for name, value in (("loss", loss), (batch.request.form, iou), (str(batch.side), loss)):
            self.means[name] = 0.97 * self.means.get(name, value) + 0.03 * value
        done = step + 1
        if done % 50 == 0:
            pace = (time.monotonic() - self.began) / (done - self.first)
            names = ("loss", *map(str, SIDES), *FORMS)
            text = "  ".join(f"{name} {self.means[name]:.3f}" for name in names if name in self.means)
            print(f"step {done}/{self.config.steps}  {text}  {pace:.2f} s a step", flush=True)
