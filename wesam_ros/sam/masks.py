"""Masks as values: the model's result for the objects of one image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks of n objects in one image, in the order of their prompts.

    Attributes:
        masks: (n, H, W) bool in the original image.
        scores: (n,) float32, the model's own prediction of each mask's IoU with the true one.
        low_res: (n, h, w) float32, the decoder's logits; they can be given back as mask input.
        within: rows and columns beyond which each mask is known to be empty; () where nothing is known.
        track_ids: of each object, the same in each frame of a stream (scene/tracks.py); () for single pictures.
        adapted: whether an adapter had a part in the logits.
        sources: the witnesses that each mask was made of, joined by "+", such as "model+depth"; () where it is the model's alone.
    """

    masks: npt.NDArray[np.bool_]
    scores: npt.NDArray[np.float32]
    low_res: npt.NDArray[np.float32]
    within: tuple[tuple[slice, slice], ...] = ()
    sources: tuple[str, ...] = ()
    track_ids: tuple[int, ...] = ()
    adapted: bool = False

    def __post_init__(self) -> None:
        if self.masks.ndim != 3 or self.masks.dtype != np.bool_:
            raise ValueError(f"masks must be (n, H, W) bool, but got shape {self.masks.shape} of {self.masks.dtype}")
        for name, rank in (("scores", 1), ("low_res", 3)):
            value = getattr(self, name)
            if value.ndim != rank or len(value) != len(self.masks):
                raise ValueError(f"{name} must have one entry per mask ({len(self.masks)}), but got shape {value.shape}")

    def __len__(self) -> int:
        return len(self.masks)

    def select(self, rows: npt.ArrayLike) -> Masks:
        """The masks of some of the objects, in the order of `rows` (k,)."""
        chosen = np.asarray(rows, np.int64)
        within = tuple(self.within[row] for row in chosen) if self.within else ()
        sources = tuple(self.sources[row] for row in chosen) if self.sources else ()
        track_ids = tuple(self.track_ids[row] for row in chosen) if self.track_ids else ()
        return Masks(self.masks[chosen], self.scores[chosen], self.low_res[chosen], within, sources, track_ids, self.adapted)

    @cached_property
    def crops(self) -> tuple[tuple[slice, slice], ...]:
        """Rows and columns of the rectangle that holds each mask, to work on no more than that for each; empty for none."""
        whole = slice(0, self.masks.shape[1]), slice(0, self.masks.shape[2])
        return tuple(_crop(mask, around) for mask, around in zip(self.masks, self.within or [whole] * len(self), strict=True))

    def label_image(self) -> npt.NDArray[np.uint16]:
        """(H, W) uint16: 0 = no object, i + 1 = object i. Where masks overlap the smaller object is on top: it would be lost below."""
        labels = np.zeros(self.masks.shape[1:], np.uint16)
        cut = [mask[crop] for mask, crop in zip(self.masks, self.crops, strict=True)]
        for index in np.argsort([-np.count_nonzero(mask) for mask in cut], kind="stable"):
            np.copyto(labels[self.crops[index]], np.uint16(index + 1), where=cut[index])
        return labels


def _crop(mask: npt.NDArray[np.bool_], around: tuple[slice, slice]) -> tuple[slice, slice]:
    """Rows and columns of the rectangle that holds a mask, which is empty beyond those of `around`."""
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask[around]).view(np.uint8))
    if not width:
        return slice(0, 0), slice(0, 0)
    top, left = around[0].start + y, around[1].start + x
    return slice(top, top + height), slice(left, left + width)
