"""Supervised: LoRA on true masks, the ceiling of every table, and the only method that is given them.

    loss = 20 focal + dice, per object, against the true mask (adaptation/losses.py)

The weights are WeSAM's, whose paper calls this row Supervised. Learning rate and warm-up are ours: with the paper's 1e-4 the ceiling
would be lower than what labels can buy in as many steps, and every gap closed larger than it is; on development tables a strong view
bought more than a weak one (docs/method.md). Objects without a true mask (false prompts) are left out: a model's masks of them
are not scored.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wesam_ros.adaptation.losses import dice_loss, focal_loss
from wesam_ros.adaptation.replay_buffer import BufferedFrame
from wesam_ros.data.frames import Frame
from wesam_ros.methods.base import SHARED, TrainedMethod, on_image
from wesam_ros.sam.preprocessing import mask_to_low_res
from wesam_ros.sam.prompts import Prompts

FOCAL = 20.0


@dataclass(frozen=True, eq=False)
class LabelledFrame(BufferedFrame):
    """A buffered frame with the truth.

    Attributes:
        truth: (n, h, w) float32 in {0, 1}, the objects' true masks on the image's part of the decoder's grid.
    """

    truth: Tensor = field(kw_only=True)


def supervised_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """The loss (n,) of logits (n, h, w) against true masks (n, h, w) in {0, 1}."""
    return FOCAL * focal_loss(logits, truth, torch.ones_like(truth[0])) + dice_loss(logits.sigmoid(), truth)


class Supervised(TrainedMethod):
    """Training on true masks."""

    lr = SHARED.lr
    warm_up = SHARED.warm_up

    def observe(self, frame: Frame, prompts: Prompts, masks: npt.NDArray[np.bool_] | None) -> None:
        """Takes a frame into the replay buffer, with the true masks (n, H, W) of the prompted objects, empty for false prompts.

        Raises:
            ValueError: there are no masks, or they are not one per prompt of the image's size.
        """
        expected = (len(prompts), *prompts.size)
        if masks is None or masks.shape != expected or masks.dtype != np.bool_:
            got = "none" if masks is None else f"{masks.shape} {masks.dtype}"
            raise ValueError(f"Supervised needs the true masks of the prompted objects, {expected} bool, but got {got}")
        chosen = np.array([i for i in self.learnable(prompts) if masks[i].any()], np.int64)
        if not len(chosen):
            return
        buffered = self.buffered(frame, prompts.select(chosen))
        side, grid = self.sam.image_encoder.img_size, self.sam.prompt_encoder.mask_input_size[0]
        truth = on_image(torch.cat([mask_to_low_res(masks[i], side, grid, 1.0) for i in chosen]) > 0, prompts.size).float()
        self.replay_buffer.add(LabelledFrame(**{**vars(buffered), "truth": truth.to(buffered.anchor_logits.device)}))

    def loss(self, frame: BufferedFrame, chosen: Tensor) -> Tensor:
        assert isinstance(frame, LabelledFrame)
        views = self.views(frame)
        (prediction,) = self.predict(frame, chosen, [views.strong], views.is_mirrored, self.low_rank)
        return supervised_loss(prediction.logits, frame.truth[chosen]).mean()
