"""Ours: the learner that the adapter node runs, as one of the methods to compare; described in docs/method.md."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.learner import Learner
from wesam_ros.data.frames import Frame
from wesam_ros.sam.adapter import Adapter
from wesam_ros.sam.prompts import Prompts

if TYPE_CHECKING:
    from segment_anything.modeling import Sam


class Ours:
    """Serves the adapters that the guard admits, as on a robot."""

    def __init__(self, sam: Sam, seed: int, lr: float | None = None, config: AdaptationConfig | None = None) -> None:
        """Starts from an untrained adapter; `lr` overrules that of `config`."""
        config = config or AdaptationConfig()
        self.learner = Learner(sam, config if lr is None else replace(config, lr=lr), seed)

    def observe(self, frame: Frame, prompts: Prompts, masks: npt.NDArray[np.bool_] | None) -> None:
        """Takes a frame into the replay buffer.

        Raises:
            ValueError: true masks were given; only Supervised may see them.
        """
        if masks is not None:
            raise ValueError(f"Ours adapts without labels, but got {len(masks)} true masks; give None")
        self.learner.observe(frame, prompts)

    def step(self) -> float | None:
        """One training step, and every so often a proposal to the guard."""
        result = self.learner.step()
        if result is None:
            return None
        self.learner.propose()
        return result.losses["total"]

    @property
    def adapter(self) -> Adapter | None:
        """The adapter that was published last; None before the guard has admitted one."""
        return self.learner.adapter if self.learner.adapter.version else None
