"""Training `tiny` from nothing, on two cores in hours.

Most steps see windows of 256 x 256 pixels of the model's 512 x 512 canvas, at true scale: eight times as many samples an hour as with
whole images, since the windows use a part of the position tables and attention is over a quarter of the tokens. Whole images follow.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wesam_ros.data.weak_labels import coarse_mask, jittered_box, points_prompt
from wesam_ros.options import option, validate
from wesam_ros.pretraining.scenes import Scenes, cut, instances
from wesam_ros.sam.predictor import COARSE_MASK_LOGIT
from wesam_ros.sam.preprocessing import mask_to_low_res, normalize

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

PATCH = 16
SAVE_EVERY = 100
"""Steps between two checkpoints."""
FORMS = ("box", "points", "click", "mask", "box and points")
FORM_SHARES = (0.6, 0.12, 0.08, 0.1, 0.1)


@dataclass(frozen=True)
class PretrainConfig:
    """Length and pace of the training. The shipped weights were made in stages, which `weights/tiny.json` lists."""

    seed: int = option(0, "seed of weights, scenes and samples", minimum=0)
    sequences: int = option(200, "simulated source sequences to train on", minimum=1)
    held_out: int = option(20, "further source sequences for the score, never trained on", minimum=1)
    window_steps: int = option(5000, "steps on windows of 256 x 256 pixels", minimum=0)
    image_steps: int = option(1500, "steps on whole images, after them", minimum=0)
    batch: int = option(16, "windows a step, over all workers; whole images: a quarter of it", minimum=4)
    prompts: int = option(10, "prompted instances an image", minimum=1)
    lr: float = option(1.5e-3, "peak learning rate", minimum=0.0)
    weight_decay: float = option(0.05, "weight decay of the transformers' matrices", minimum=0.0)
    warm_up: int = option(150, "steps of linear warm-up; cosine to zero follows", minimum=1)
    ema: float = option(0.998, "decay of the averaged weights, which are the ones kept", minimum=0.0, maximum=1.0)

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)
class Sample:
    """One prompted image: pixels (3, h, w) uint8, masks (n, h, w) bool, and the prompts of its n instances in one form, in its pixels."""

    pixels: Tensor
    masks: Tensor
    boxes: Tensor | None
    points: tuple[Tensor, Tensor] | None
    coarse: Tensor | None


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of one step with prompts of one form."""

    samples: tuple[Sample, ...]
    form: str
    origin: tuple[int, int]
    """Row and column of the window's first token on the canvas; (0, 0) for whole images."""


def make_batch(scenes: Scenes, config: PretrainConfig, step: int, side: int, rank: int = 0, workers: int = 1) -> Batch:
    """One worker's samples of one step, the same for the same seed: windows, or whole images once the window steps are over."""
    rng = np.random.default_rng([config.seed, step, rank])
    whole = step >= config.window_steps
    form = str(rng.choice(FORMS, p=FORM_SHARES))
    width, height = (side, side * 3 // 4) if whole else (side // 2, side // 2)
    free = 0 if whole else side // 2 // PATCH // 8  # windows begin where attention windows (8 tokens) do
    origin = (8 * int(rng.integers(free + 1)), 8 * int(rng.integers(free + 1)))
    positive, negative = int(rng.integers(1, 6)), int(rng.integers(0, 6))
    samples: list[Sample] = []
    while len(samples) < config.batch // workers // (4 if whole else 1):
        image, labels = cut(scenes, rng, width, height, float(rng.uniform(0.75, 1.3)))
        masks = list(instances(labels, rng, config.prompts, 120))
        if masks:
            samples.append(_prompted(image, np.stack(masks), form, (positive, negative), rng, side))
    return Batch(tuple(samples), form, origin)


def _prompted(image: Any, masks: Any, form: str, counts: tuple[int, int], rng: np.random.Generator, side: int) -> Sample:
    boxes = points = coarse = None
    if "box" in form:
        jitter = float(rng.choice([0.0, 0.0, 0.0, 0.05]))
        boxes = torch.from_numpy(np.stack([jittered_box(mask, rng, jitter) for mask in masks]))
    if "point" in form or form == "click":
        positive, negative = (1, 0) if form == "click" else counts
        each = [points_prompt(mask, rng, positive, negative) for mask in masks]
        if min(len(prompt.points) for prompt in each) < positive + negative:  # an object that fills its surroundings
            each = [points_prompt(mask, rng, positive, 0) for mask in masks]
        points = (torch.from_numpy(np.stack([p.points for p in each])), torch.from_numpy(np.stack([p.point_labels for p in each])))
    if form == "mask":
        # A window is a piece of the canvas, so its mask input keeps the canvas' scale: a quarter of its pixels.
        longest = max(masks.shape[1:])
        coarse = torch.stack([mask_to_low_res(coarse_mask(mask, rng), longest, longest // 4, COARSE_MASK_LOGIT) for mask in masks])
        coarse = coarse[..., : longest // 4, :]
    return Sample(torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(masks), boxes, points, coarse)


def encode(sam: Sam, pixels: Tensor, origin: tuple[int, int]) -> Tensor:
    """Embeddings of pixels (b, 3, s, s) that lie at `origin` (in tokens) on the canvas: with the position tables of just that part."""
    tokens = pixels.shape[-1] // PATCH
    encoder = sam.image_encoder
    grid = encoder.pos_embed.shape[1]
    row, column = origin
    part = {"pos_embed": encoder.pos_embed[:, row : row + tokens, column : column + tokens]}
    for name, value in encoder.named_parameters():
        if "rel_pos" in name and len(value) == 2 * grid - 1:
            part[name] = value[grid - tokens : grid + tokens - 1]
    embeddings: Tensor = torch.func.functional_call(encoder, part, (pixels,))
    return embeddings


def decode(sam: Sam, embedding: Tensor, sample: Sample, origin: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """All four masks' logits (n, 4, h, w) and predicted IoU (n, 4) of one sample, whose prompts are moved to its place on the canvas."""
    row, column = origin
    rows, columns = embedding.shape[-2:]
    shift = torch.tensor([column, row]) * PATCH
    points = None if sample.points is None else (sample.points[0] + shift, sample.points[1])
    boxes = None if sample.boxes is None else sample.boxes + shift.repeat(2)
    sparse, dense = sam.prompt_encoder(points=points, boxes=boxes, masks=sample.coarse)
    position = sam.prompt_encoder.get_dense_pe()[..., row : row + rows, column : column + columns]
    masks, iou = sam.mask_decoder.predict_masks(embedding, position, sparse, dense[..., :rows, :columns])
    return masks, iou


def mask_losses(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and true IoU per mask, both (n, k).

    Binary cross-entropy summed and divided by the object's area, so that small objects count as much as large ones, plus dice loss.

    Args:
        logits: (n, k, h, w).
        target: (n, h, w) in [0, 1], the share of each pixel that is the object.
    """
    wanted = target[:, None].expand_as(logits)
    area = wanted.sum((2, 3)).clamp_min(1)
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum((2, 3)) / area
    probability = logits.sigmoid()
    dice = 1 - (2 * (probability * wanted).sum((2, 3)) + 1) / (probability.sum((2, 3)) + wanted.sum((2, 3)) + 1)
    with torch.no_grad():
        found, true = logits > 0, wanted > 0.5
        iou = (found & true).sum((2, 3)) / (found | true).sum((2, 3)).clamp_min(1)
    return cross_entropy + dice, iou


def batch_loss(sam: Sam, batch: Batch) -> tuple[Tensor, float]:
    """The loss of a batch, and the mean IoU of the single-mask output."""
    pixels = torch.stack([sample.pixels for sample in batch.samples])
    height, width = pixels.shape[-2:]
    total, ious = torch.zeros(()), []
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = encode(sam, normalize(pixels, width), batch.origin)
        for embedding, sample in zip(embeddings, batch.samples, strict=True):
            logits, scores = decode(sam, embedding[None], sample, batch.origin)
            if batch.form != "click":  # only a single point is ambiguous: all else has the one mask that is served
                logits, scores = logits[:, :1], scores[:, :1]
            logits = functional.interpolate(logits.float(), scale_factor=2, mode="bilinear", align_corners=False)
            target = functional.avg_pool2d(sample.masks.float(), 2)
            losses, iou = mask_losses(logits[..., : height // 2, : width // 2], target)
            loss = losses[:, 0].mean() + functional.mse_loss(scores.float(), iou)
            if batch.form == "click":  # of the three further masks the best one learns (Kirillov et al., 2023)
                loss = loss + losses[:, 1:].min(1).values.mean()
            total = total + loss / len(batch.samples)
            ious.append(iou[:, 0].mean().item())
    return total, float(np.mean(ious))


def learning_rate(config: PretrainConfig, step: int) -> float:
    """Share of the peak rate at a step: linear warm-up, then cosine to zero over all steps."""
    last = config.window_steps + config.image_steps
    if step < config.warm_up:
        return (step + 1) / config.warm_up
    return 0.5 * (1 + float(np.cos(np.pi * (step - config.warm_up) / max(1, last - config.warm_up))))


def make_optimizers(sam: Sam, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al., 2024) for the matrices of the transformers, which takes about half of AdamW's steps; AdamW for all else."""
    hidden = {
        id(p)
        for part in (sam.image_encoder.blocks, sam.mask_decoder.transformer)
        for name, p in part.named_parameters()
        if p.ndim == 2 and "rel_pos" not in name
    }
    matrices = [p for p in sam.parameters() if id(p) in hidden]
    others = [p for p in sam.parameters() if id(p) not in hidden]
    return [
        torch.optim.Muon(matrices, lr=config.lr, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=config.lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


class Run:
    """The state of one training run: weights, averaged weights, optimizers, step. `path` is where it is kept, and continued from."""

    def __init__(self, sam: Sam, config: PretrainConfig, path: Path) -> None:
        self.sam, self.averaged, self.config, self.path = sam, deepcopy(sam), config, path
        self.optimizers = make_optimizers(sam, config)
        self.step = 0
        if path.is_file():
            state = torch.load(path, weights_only=True)
            self.sam.load_state_dict(state["model"])
            self.averaged.load_state_dict(state["averaged"])
            for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(kept)
            self.step = state["step"]

    def save(self) -> None:
        """Keeps the state in `path`; an interrupted save leaves the one before."""
        state = {
            "model": self.sam.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
        }
        torch.save(state, self.path.with_suffix(".part"))
        self.path.with_suffix(".part").replace(self.path)

    def advance(self, batch: Batch, workers: int) -> tuple[float, float]:
        """One step on this worker's batch, with gradients averaged over `workers`; returns loss and mean IoU."""
        share = learning_rate(self.config, self.step)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=False)
            for group in optimizer.param_groups:
                group["lr"] = self.config.lr * share
        loss, iou = batch_loss(self.sam, batch)
        loss.backward()
        gradients = [p.grad for p in self.sam.parameters() if p.grad is not None]
        if workers > 1:
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            torch.distributed.all_reduce(flat)
            for gradient, mean in zip(gradients, (flat / workers).split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(mean.view_as(gradient))
        torch.nn.utils.clip_grad_norm_(self.sam.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        decay = min(self.config.ema, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.averaged.parameters()), list(self.sam.parameters()), 1 - decay)
        self.step += 1
        return loss.item(), iou


def train(sam: Sam, scenes: Scenes, config: PretrainConfig, path: Path, rank: int = 0, workers: int = 1) -> Sam:
    """Trains `sam` in place, continuing from `path` where it exists and saving there every SAVE_EVERY steps; returns the averaged model.

    Args:
        sam: the model, with all parameters trainable and the same start in every worker.
        scenes: what is trained on.
        config: how.
        path: of the checkpoint.
        rank: this worker's number. A group of torch.distributed must exist where there are several.
        workers: how many processes share a batch; one thread each is faster on a CPU than one process of several threads.
    """
    run = Run(sam, config, path)
    for parameter in sam.parameters():
        parameter.grad = torch.zeros_like(parameter)  # so that all workers send the same: some parameters get none from some prompts
    last = config.window_steps + config.image_steps
    running: dict[str, float] = {}
    began, first = time.monotonic(), run.step
    if rank == 0 and first:
        print(f"continuing from step {first}", flush=True)
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(make_batch, scenes, config, first, 512, rank, workers)
        while run.step < last:
            batch = coming.result()
            coming = ahead.submit(make_batch, scenes, config, run.step + 1, 512, rank, workers)
            loss, iou = run.advance(batch, workers)
            running[batch.form] = 0.97 * running.get(batch.form, iou) + 0.03 * iou
            if rank == 0 and run.step % 50 == 0:
                pace = (time.monotonic() - began) / (run.step - first)
                scores = "  ".join(f"{form} {running[form]:.3f}" for form in FORMS if form in running)
                print(f"step {run.step}/{last}  loss {loss:.3f}  IoU: {scores}  {pace:.2f} s a step", flush=True)
            if rank == 0 and (run.step % SAVE_EVERY == 0 or run.step == last):
                run.save()
    return run.averaged
