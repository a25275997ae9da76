"""The tensors that train: low-rank adapter, optimizer and warm-up."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.replay_buffer import BufferedFrame, TeacherPrediction
from wesam_ros.adaptation.step import StepResult, training_step
from wesam_ros.adaptation.together import ALONE, Together
from wesam_ros.sam.adapter import Adapter

if TYPE_CHECKING:
    from segment_anything.modeling import Sam


class Trainer:
    """Trains an adapter's tensors with Adam. Settings are an argument of each method: they may change between two steps.

    Attributes:
        low_rank: a (r, I) and b (O, r), which train.
        optimizer: of these tensors.
        steps_since_restore: what the warm-up counts by.
    """

    def __init__(self, sam: Sam, adapter: Adapter, config: AdaptationConfig, together: Together = ALONE) -> None:
        self.sam, self._together = sam, together
        self.restore(adapter, config)

    def restore(self, adapter: Adapter, config: AdaptationConfig) -> None:
        """Trains on from `adapter` with a fresh optimizer. What is served of an adapter is a share of what was trained: see `candidate`."""
        self._begin((adapter.a, adapter.b / config.strength), config)
        self.steps_since_restore = 0

    def _begin(self, low_rank: tuple[Tensor, Tensor], config: AdaptationConfig) -> None:
        a, b = (tensor.detach().clone().to(self.sam.device).requires_grad_() for tensor in low_rank)
        self.low_rank = (a, b)
        self.optimizer = torch.optim.Adam(self.low_rank, lr=config.lr, weight_decay=config.weight_decay)

    def candidate(self, config: AdaptationConfig) -> tuple[Tensor, Tensor]:
        """The tensors that would be served: weights between the frozen model's and the trained ones.

        They are surer than either, and forget less (WiSE-FT: Wortsman et al., CVPR 2022, eq. 1). For W + BA that is a scaled B.
        """
        a, b = (tensor.detach() for tensor in self.low_rank)
        return a, b * config.strength

    @property
    def is_finite(self) -> bool:
        """False once a weight has become NaN or infinite."""
        return all(bool(torch.isfinite(tensor).all()) for tensor in self.low_rank)

    def step(
        self,
        frame: BufferedFrame,
        teacher_predictions: MutableMapping[BufferedFrame, TeacherPrediction],
        bank: Tensor,
        config: AdaptationConfig,
        rng: np.random.Generator,
        now: int,
    ) -> StepResult:
        """One training step on a frame; arguments as in `training_step`."""
        self._schedule(config)
        return training_step(self.sam, self.low_rank, self.optimizer, frame, teacher_predictions, bank, config, rng, now, self._together)

    def follow(self, config: AdaptationConfig) -> bool:
        """Takes part in a step of the other processes, without a frame of its own; False if none of them has one."""
        self.optimizer.zero_grad(set_to_none=True)
        if not self._together.average_gradients(self.low_rank, counts=False):
            return False
        self._schedule(config)
        self.optimizer.step()
        return True

    def _schedule(self, config: AdaptationConfig) -> None:
        """Counts a step, and gives the optimizer its rates."""
        self.steps_since_restore += 1
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr * min(1.0, self.steps_since_restore / config.warm_up)
            group["weight_decay"] = config.weight_decay

    def state_dict(self) -> dict[str, Any]:
        """The tensors, the optimizer's state, and the steps since the last restore."""
        return {
            "low_rank": [tensor.detach().cpu().clone() for tensor in self.low_rank],
            "optimizer": self.optimizer.state_dict(),
            "steps_since_restore": self.steps_since_restore,
        }

    def load_state_dict(self, state: dict[str, Any], config: AdaptationConfig) -> None:
        """Trains on exactly as the trainer would have that `state` is of."""
        a, b = state["low_rank"]
        self._begin((a, b), config)
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps_since_restore = state["steps_since_restore"]
