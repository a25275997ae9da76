"""Frozen: the frozen model, not adapted. The floor of every table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from wesam_ros.data.frames import Frame
from wesam_ros.sam.adapter import Adapter
from wesam_ros.sam.prompts import Prompts

if TYPE_CHECKING:
    from segment_anything.modeling import Sam


class Frozen:
    """Learns nothing and serves the frozen model."""

    def __init__(self, sam: Sam, seed: int, lr: float | None = None) -> None:
        """Takes what all methods take, and needs none of it."""

    def observe(self, frame: Frame, prompts: Prompts, masks: npt.NDArray[np.bool_] | None) -> None:
        """Does nothing.

        Raises:
            ValueError: true masks were given; only Supervised may see them.
        """
        if masks is not None:
            raise ValueError(f"Frozen adapts without labels, but got {len(masks)} true masks; give None")

    def step(self) -> float | None:
        """None: there is nothing to learn."""
        return None

    @property
    def adapter(self) -> Adapter | None:
        """None: the frozen model."""
        return None
