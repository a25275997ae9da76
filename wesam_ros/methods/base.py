"""The part that all methods but ours share, so that each one's own file is its loss: LoRA tensors, Adam with warm-up, replay buffer, views.

All train the same parameters on the same stream as ours: the rank 4 terms of sam/lora.py, frames of one buffer, at most as many
objects a step. Prompt encoder and mask decoder are frozen. None of them uses depth: none of their papers does.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from wesam_ros.adaptation.admission import large_enough
from wesam_ros.adaptation.buffering import make_buffered_frame
from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.predictions import Decode, Prediction, predict_views
from wesam_ros.adaptation.replay_buffer import BufferedFrame, ReplayBuffer
from wesam_ros.adaptation.views import Pixels, strong_view, weak_view
from wesam_ros.data.frames import Frame
from wesam_ros.sam.adapter import Adapter, base_hash
from wesam_ros.sam.decoder import decode_together
from wesam_ros.sam.preprocessing import resized_size, to_model_coordinates
from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene.constraints import gather_constraints, rough_boxes
from wesam_ros.scene.regions import box_pixels

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

LowRank = tuple[Tensor, Tensor]
SHARED = AdaptationConfig()
"""Rank, weight decay, precision, replay buffer and objects a step: ours, for all. No loss weight of it is used here."""
NEVER = sys.maxsize
SURROUNDINGS = 1.25
"""By how much an object's box is enlarged for its surroundings. An object fills some 60 to 80 % of its box, so about half of this."""

CELL = 4
"""Side of a cell of the embedding in pixels of the decoder's grid, in all SAM models."""


@dataclass(frozen=True, eq=False)
class Views:
    """A weak and a strong view of one frame (h, w, 3), both mirrored or not."""

    weak: Pixels
    strong: Pixels
    is_mirrored: bool


class TrainedMethod(ABC):
    """A method that trains a LoRA adapter on frames with prompts.

    Deterministic for a seed, in float32 on one thread of a CPU bit for bit.
    """

    lr: ClassVar[float] = 1e-4
    """WeSAM's paper adapts with Adam at this rate. Methods that gained more at another on development tables have that (docs/method.md)."""
    warm_up: ClassVar[int] = 20
    """Steps of linear warm-up."""

    def __init__(self, sam: Sam, seed: int, lr: float | None = None, config: AdaptationConfig = SHARED) -> None:
        """Starts from an untrained adapter.

        Args:
            sam: a model from load_sam; it is not changed.
            seed: of the adapter's first values, and of every draw.
            lr: learning rate; None for the method's own.
            config: what is shared with ours.
        """
        self.sam, self.config = sam, config
        self.rng = np.random.default_rng(seed)
        self.replay_buffer = ReplayBuffer(config.replay_frames, NEVER, self.rng)  # no validation frames: these methods have no guard
        a, b = (tensor.to(sam.device) for tensor in Adapter.untrained(sam, base_hash(sam), config.rank, seed).low_rank)
        self.low_rank: LowRank = (a.requires_grad_(), b.requires_grad_())
        self.rate = self.lr if lr is None else lr
        self.optimizer = torch.optim.Adam(self.low_rank, lr=self.rate, weight_decay=config.weight_decay)
        self.steps = 0

    def observe(self, frame: Frame, prompts: Prompts, masks: npt.NDArray[np.bool_] | None) -> None:
        """Takes a frame into the replay buffer, if it has an object to learn from.

        Raises:
            ValueError: true masks were given; only Supervised may see them.
        """
        if masks is not None:
            raise ValueError(f"{type(self).__name__} adapts without labels, but got {len(masks)} true masks; give None")
        chosen = self.learnable(prompts)
        if len(chosen):
            self.replay_buffer.add(self.buffered(frame, prompts.select(chosen)))

    def learnable(self, prompts: Prompts) -> npt.NDArray[np.int64]:
        """Indices of the objects that ours would learn from, too."""
        return np.flatnonzero(large_enough(prompts, self.config.least_side))

    def buffered(self, frame: Frame, prompts: Prompts) -> BufferedFrame:
        """The frame with n >= 1 objects and the anchor's prediction of them."""
        constraints = gather_constraints(prompts, None, self.sam.image_encoder.img_size, self.sam.prompt_encoder.mask_input_size[0])
        return make_buffered_frame(self.sam, frame, prompts, constraints, self.config.precision)

    def step(self) -> float | None:
        """One training step on a frame of the buffer: the loss, or None while there is none to learn from.

        A loss or gradient that is not finite is reported, and changes nothing.
        """
        frame = self.replay_buffer.draw(self.config.recent)
        if frame is None:
            return None
        count = min(self.config.objects, len(frame.prompts))
        chosen = torch.from_numpy(np.sort(self.rng.choice(len(frame.prompts), count, replace=False)))
        self.steps += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * min(1.0, self.steps / self.warm_up)
        loss = self.loss(frame, chosen)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if all(tensor.grad is not None and bool(torch.isfinite(tensor.grad).all()) for tensor in self.low_rank):
            self.optimizer.step()
            self.after_step()
        return float(loss.item())

    @property
    def adapter(self) -> Adapter | None:
        """The adapter as trained so far, with the number of steps as its version; None before the first."""
        if not self.steps:
            return None
        a, b = (tensor.detach().cpu().clone() for tensor in self.low_rank)
        return Adapter(a, b, base_hash(self.sam), self.steps)

    @abstractmethod
    def loss(self, frame: BufferedFrame, chosen: Tensor) -> Tensor:
        """The loss, a scalar, on the chosen (n,) objects of a frame of the buffer."""

    def after_step(self) -> None:  # noqa: B027, most methods have nothing to do here
        """A method's own work after the optimizer's step."""

    def views(self, frame: BufferedFrame) -> Views:
        """A weak and a strong view of the frame, as ours and WeSAM have them."""
        weak, is_mirrored = weak_view(frame.pixels, self.rng)
        return Views(weak, strong_view(weak, self.rng), is_mirrored)

    def predict(
        self,
        frame: BufferedFrame,
        chosen: Tensor,
        pixels: Sequence[Pixels],
        is_mirrored: bool,
        low_rank: LowRank | None,
        decode: Decode = decode_together,
    ) -> list[Prediction]:
        """Predictions of the model with `low_rank` (None: frozen) on views of a frame, on the part of the grids where the image is."""
        prompts = frame.prompts.select(chosen.numpy())
        predictions = predict_views(self.sam, low_rank, pixels, is_mirrored, prompts, self.config.precision, decode)
        return [
            Prediction(on_image(each.logits, prompts.size), each.scores, on_image(each.embedding, prompts.size)) for each in predictions
        ]


class MeanTeacherMethod(TrainedMethod):
    """A method whose teacher is the exponential moving average of the student's LoRA tensors (mean teacher: Tarvainen, Valpola, 2017).

    In the first steps the average is plain, as in the official code of Soft Teacher (MeanTeacher) and WDASS (ema_cls): the momentum is at
    most 1 - 1 / (steps + 1). The student is what is served.
    """

    momentum: ClassVar[float] = 0.999

    def __init__(self, sam: Sam, seed: int, lr: float | None = None, config: AdaptationConfig = SHARED) -> None:
        super().__init__(sam, seed, lr, config)
        a, b = (tensor.detach().clone() for tensor in self.low_rank)
        self.teacher: LowRank = (a, b)

    @torch.no_grad()
    def after_step(self) -> None:
        momentum = min(self.momentum, 1 - 1 / (self.steps + 1))
        for average, tensor in zip(self.teacher, self.low_rank, strict=True):
            average.lerp_(tensor, 1 - momentum)

    def teacher_and_student(self, frame: BufferedFrame, chosen: Tensor) -> tuple[Prediction, Prediction]:
        """The prediction of the average on the weak view, without gradient, and the student's on the strong one."""
        views = self.views(frame)
        with torch.no_grad():
            (teacher,) = self.predict(frame, chosen, [views.weak], views.is_mirrored, self.teacher)
        (student,) = self.predict(frame, chosen, [views.strong], views.is_mirrored, self.low_rank)
        return teacher, student


def on_image(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """The part of (..., s, s) model outputs where the image of `size` (H, W) is, without the padding right and below."""
    height, width = resized_size(size, grid.shape[-1])
    return grid[..., :height, :width]


def on_cells(maps: Tensor, embedding: Tensor) -> Tensor:
    """Means (n, h', w') of maps (n, h, w) over the cells of an embedding (c, h', w')."""
    return functional.interpolate(maps.float()[:, None], (embedding.shape[1], embedding.shape[2]), mode="area")[:, 0]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Means (n,) of values (n, h, w) under masks or weights (n, h, w), 0 under an empty one."""
    total = mask.sum((1, 2))
    return (values * mask).sum((1, 2)) / torch.where(total > 0, total, torch.ones_like(total))


def entropy(logits: Tensor) -> Tensor:
    """Entropy of each pixel's two classes in nats, of logits of any shape: softplus(z) - z sigmoid(z)."""
    return functional.softplus(logits) - logits * logits.sigmoid()


def surroundings(frame: BufferedFrame, chosen: Tensor) -> Tensor:
    """(n, h, w) bool: the chosen objects' boxes enlarged by SURROUNDINGS, on the image's part of the decoder's grid.

    The box is the prompt's, or its coarse mask's, or, where there are only points, that of the frozen model's mask and the positive points;
    at least two cells of the embedding wide.
    Methods that assume classes of one size, or compare like with like, look there: over the whole image nearly all is background.
    """
    grid = frame.anchor_logits.shape[-1]
    corners = rough_boxes(frame.prompts)[chosen.numpy()].reshape(-1, 2, 2)
    boxes = to_model_coordinates(corners, frame.prompts.size, grid).reshape(-1, 4)
    for row, index in enumerate(chosen.tolist()):
        prompt = frame.prompts.objects[index]
        if prompt.box is None and prompt.mask is None:
            ys, xs = np.nonzero(on_image(frame.anchor_logits[index] > 0, frame.prompts.size).cpu().numpy())
            on = to_model_coordinates(prompt.points[prompt.point_labels == 1], frame.prompts.size, grid)
            places = np.concatenate([np.stack([xs, ys], 1), np.stack([xs + 1, ys + 1], 1), on]).astype(np.float32)
            boxes[row] = np.r_[places.min(0), places.max(0)] if len(places) else (0, 0, grid, grid)
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, np.maximum((boxes[:, 2:] - boxes[:, :2]) / 2 * SURROUNDINGS, CELL)
    enlarged = torch.from_numpy(np.concatenate([middle - half, middle + half], 1)).to(frame.anchor_logits.device)
    return on_image(box_pixels(enlarged, (grid, grid)), frame.prompts.size)
