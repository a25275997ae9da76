"""The methods to compare, by name, and how to make each, with its own settings or others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.data.frames import Frame
from wesam_ros.methods.dept import DePT
from wesam_ros.methods.frozen import Frozen
from wesam_ros.methods.ours import Ours
from wesam_ros.methods.published import Published
from wesam_ros.methods.shot import Shot
from wesam_ros.methods.soft_teacher import SoftTeacher
from wesam_ros.methods.supervised import Supervised
from wesam_ros.methods.tent import Tent
from wesam_ros.methods.tribe import Tribe
from wesam_ros.methods.wdass import Wdass
from wesam_ros.options import overrides
from wesam_ros.sam.adapter import Adapter
from wesam_ros.sam.prompts import Prompts

if TYPE_CHECKING:
    from segment_anything.modeling import Sam


class Method(Protocol):
    """An adaptation method over a stream."""

    def observe(self, frame: Frame, prompts: Prompts, masks: npt.NDArray[np.bool_] | None) -> None:
        """Takes a frame to learn from.

        Args:
            frame: its image is used, its labels never are.
            prompts: of n objects, in pixels of the image.
            masks: (n, H, W) the objects' true masks, for Supervised; None for all others.

        Raises:
            ValueError: masks for a method that may not see them, or none for Supervised.
        """

    def step(self) -> float | None:
        """One training step on what was observed: its loss; None while there is nothing to learn from."""

    @property
    def adapter(self) -> Adapter | None:
        """The adapter that is served now; None is the frozen model."""


class Make(Protocol):
    """Makes a method for a model from load_sam; `lr` None is the method's own learning rate."""

    def __call__(self, sam: Sam, seed: int, lr: float | None = None) -> Method: ...


@dataclass(frozen=True)
class Entry:
    """A method to choose: how it is made, what it is in one line, and whether it is given true masks."""

    make: Make
    text: str
    supervised: bool = False

    def __call__(self, sam: Sam, seed: int, lr: float | None = None) -> Method:
        """Makes the method."""
        return self.make(sam, seed, lr)


METHODS: dict[str, Entry] = {
    "frozen": Entry(Frozen, "the frozen model"),
    "tent": Entry(Tent, "TENT: entropy minimisation (Wang et al., ICLR 2021)"),
    "shot": Entry(Shot, "SHOT: information maximisation and centroid pseudo-labels (Liang et al., ICML 2020)"),
    "soft_teacher": Entry(SoftTeacher, "Soft Teacher: mean teacher, pseudo-labels weighted by confidence (Xu et al., ICCV 2021)"),
    "tribe": Entry(Tribe, "TRIBE: anchored, balanced self-training (Su et al., AAAI 2024)"),
    "dept": Entry(DePT, "DePT: mean teacher, pseudo-labels refined by a memory bank (Gao et al., 2022)"),
    "wdass": Entry(Wdass, "WDASS: weak labels and prototype contrast (Das et al., CVPR 2023)"),
    "wesam": Entry(Published, "WeSAM as published (Zhang et al., CVPR 2024)"),
    "ours": Entry(Ours, "this project's method"),
    "supervised": Entry(Supervised, "LoRA on true masks: the ceiling", supervised=True),
}
"""Every method by its name, in the order of the tables."""


def method(text: str) -> Entry:
    """The method that a text names: NAME, or NAME:SETTING=VALUE,... where it has other settings than its own.

    Ours takes every option of AdaptationConfig ("ours:depth=0,lr=0.001"), the others `lr`.

    Raises:
        ValueError: there is no such method or setting, or the value is out of range.
    """
    name, separator, given = text.partition(":")
    if name not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, but got {text!r}")
    entry = METHODS[name]
    if not separator:
        return entry
    try:
        values = overrides(AdaptationConfig, given.split(","))
    except ValueError as error:
        raise ValueError(f"method {text!r}: {error}") from None
    if name == "ours":
        config = AdaptationConfig(**values)
        return replace(entry, make=lambda sam, seed, lr=None: Ours(sam, seed, lr, config))
    if name == "frozen" or set(values) != {"lr"}:
        takes = "no settings" if name == "frozen" else "only lr as a setting"
        raise ValueError(f"{name} takes {takes}, but got {text!r}")
    return replace(entry, make=lambda sam, seed, lr=None: entry(sam, seed, values["lr"] if lr is None else lr))
