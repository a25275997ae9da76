"""Masks that are served: what model, depth, prompts and the other objects say of each pixel, weighed and summed at the image's resolution.

Each witness gives log-odds that a pixel is on an object, positive where it is, 0 where it is silent (reliability.py). Objects share pixels
by the highest sum. Depth counts for an object only where the mask that it leads to fits the prompt; else the model's own mask stands.
In a stream the sums are averaged over the frames in which the picture has not changed (tracks.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from wesam_ros.data.frames import Frame
from wesam_ros.sam.masks import Masks
from wesam_ros.sam.prompts import Prompt, Prompts
from wesam_ros.scene import REFINE_CHOICES
from wesam_ros.scene.colour import colour_log_odds
from wesam_ros.scene.depth_reader import DepthReader
from wesam_ros.scene.reading import Reading, looked_up, read
from wesam_ros.scene.reliability import RELIABILITY
from wesam_ros.scene.relief import DEEP
from wesam_ros.scene.tracks import Lost, Tracker
from wesam_ros.scene.windows import within

MODEL, WITH_DEPTH, WITH_COLOUR = "model", "model+depth", "model+colour"
TRACK = "track"
"""Added to the source of an object that was not detected, but asked for by its mask of the frames before."""
WORSE = 0.3
"""By how much worse than the model's mask a mask made with depth may fit its prompt."""
SMALLER = 2.0
"""Log-odds of a thing's pixels, against a thing e times as large that claims them, too, without depth."""
LEARNT = np.float32(0.7)
"""Weight, beside depth, of the logits of a model that has learnt from depth: it repeats what depth says, and is surer than it was. Chosen
on simulated tables of the domain camera, between 0.6 (87.1 mIoU, 85.5 boundary F) and 0.8 (87.3, 85.3); 1 gives 87.0 and 84.3."""
CLAIM = np.float32(20.0)
"""Log-odds with which the model's mask stands where depth is not believed."""
SCORE = (-0.01, 0.66, 0.38)
"""The score's constant and its slopes on the IoU that the sums expect and on the model's prediction: least squares on source scenes."""

Bool = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float32]


class Refiner:
    """Refines the masks of a stream of frames. Between them it keeps the support surface and the objects' tracks. One thread at a time.

    Args:
        stream: False for single pictures that have nothing to do with each other: their objects get no ids.
    """

    def __init__(self, *, stream: bool = True) -> None:
        self._depth = DepthReader()
        self._tracker = Tracker() if stream else None

    def forget_masks(self) -> None:
        """Forgets what the frames before said of their pixels, such as before another model serves. Ids are kept."""
        if self._tracker is not None:
            self._tracker.forget_masks()

    @property
    def ids(self) -> frozenset[int]:
        """Of all objects that are remembered."""
        return self._tracker.ids if self._tracker is not None else frozenset()

    def lost(self, frame: Frame, boxes: Float, most: int) -> list[Lost]:
        """Objects of the frames before that are in the next one, but not among its (n, 4) detected boxes (Tracker.lost)."""
        return self._tracker.lost(frame, boxes, most) if self._tracker is not None and most else []

    def refine(
        self,
        frame: Frame,
        prompts: Prompts,
        masks: Masks,
        choice: str = "all",
        classes: Sequence[str] = (),
        carried: Sequence[int] = (),
    ) -> Masks:
        """The masks to serve, from the model's for the same prompts; `sources` says what each was made of.

        Args:
            frame: image, depth and camera. Its labels are not read.
            prompts: of n objects.
            masks: the model's.
            choice: the witnesses to take, of REFINE_CHOICES.
            classes: the detector's, of each object; () where it gave none.
            carried: ids of the last objects, which are from `lost`. Those that are not there after all are left out.

        Raises:
            ValueError: there is no such choice.
        """
        if choice not in REFINE_CHOICES:
            raise ValueError(f"refine must be one of {', '.join(REFINE_CHOICES)}, but got {choice!r}")
        classes = classes or ("",) * len(masks)
        if choice == "off" or not len(masks):
            return _there(replace(masks, sources=(MODEL,) * len(masks)), self._ids_of(frame, masks, classes, carried), carried)
        weighed = weigh(frame, prompts, masks.low_res, self._depth, choice, learnt=masks.adapted)
        reading, sums, shared, sources = weighed.reading, weighed.sums, weighed.shared, weighed.sources
        if self._tracker is None:
            return _assembled(shared, sums, sources, reading, masks)
        ids = self._tracker.match(frame, reading.windows, shared, classes, carried)
        sums = [each if number else np.full_like(each, -CLAIM) for number, each in zip(ids, sums, strict=True)]
        if choice == "all":
            sums = [self._tracker.average(index, each, reading.windows[index]) for index, each in enumerate(sums)]
        if choice == "all" or not all(ids):
            shared = _shared(sums, reading)
        self._tracker.keep(frame, reading.windows, sums, shared, classes)
        return _there(_assembled(shared, sums, sources, reading, masks), tuple(ids), carried)

    def _ids_of(self, frame: Frame, masks: Masks, classes: Sequence[str], carried: Sequence[int]) -> tuple[int, ...]:
        """Ids of masks that are served as they are."""
        if self._tracker is None:
            return ()
        windows = [crop if crop[0].start < crop[0].stop else (slice(0, 1), slice(0, 1)) for crop in masks.crops]
        cut = [mask[window] for mask, window in zip(masks.masks, windows, strict=True)]
        ids = self._tracker.match(frame, windows, cut, classes, carried)
        self._tracker.keep(frame, windows, [np.where(each, CLAIM, -CLAIM) for each in cut], cut, classes)
        return tuple(ids)


@dataclass(frozen=True, eq=False)
class Weighed:
    """All witnesses' findings about n objects of one frame, added up.

    Attributes:
        reading: what each witness says, and the windows in which each object can be.
        sums: log-odds (h, w) of each object in its window.
        shared: (h, w) bool likewise: its mask.
        sources: what each mask was made of.
    """

    reading: Reading
    sums: list[Float]
    shared: list[Bool]
    sources: list[str]


def weigh(frame: Frame, prompts: Prompts, low_res: Float, depth: DepthReader, choice: str, *, learnt: bool = False) -> Weighed:
    """The sums of all witnesses about n >= 1 objects of a frame.

    Args:
        frame: image, depth and camera. Its labels are not read.
        prompts: of the objects.
        low_res: (n, h, w) the model's logits.
        depth: reads the frame's depth.
        choice: the witnesses to take, of REFINE_CHOICES but "off".
        learnt: an adapter had a part in the logits.
    """
    if learnt and choice != "boxes" and frame.depth is not None:
        low_res = LEARNT * low_res
    reading = read(frame, prompts, low_res, depth if choice != "boxes" else None)
    believed = reading.believed or (False,) * len(prompts)
    sums = [log_odds(reading, prompts, index, with_depth=each) for index, each in enumerate(believed)]
    sources = [WITH_DEPTH if each else MODEL for each in believed]
    if choice == "all":
        _add_colour(sums, sources, frame, prompts, reading)
    shared = _shared(sums, reading)
    doubted = _doubted(shared, believed, prompts, reading)
    for index in doubted:
        model = log_odds(reading, prompts, index, with_depth=False)
        sums[index], sources[index] = np.where(model > 0, CLAIM, -CLAIM), MODEL
    return Weighed(reading, sums, _shared(sums, reading) if doubted else shared, sources)


def _doubted(shared: Sequence[Bool], believed: Sequence[bool], prompts: Prompts, reading: Reading) -> list[int]:
    """Objects whose masks with depth fit their prompts worse than the model's do."""
    return [
        index
        for index, each in enumerate(prompts.objects)
        if believed[index] and _fit(shared[index], each, reading, index) < _fit(reading.logits[index] > 0, each, reading, index) - WORSE
    ]


def log_odds(reading: Reading, prompts: Prompts, index: int, *, with_depth: bool) -> Float:
    """(h, w) in an object's window: the sum of all witnesses."""
    weights = RELIABILITY[_form(prompts.objects[index]), with_depth]
    total = weights.of_model(reading.logits[index], reading.others[index])
    inside = reading.inside[index]
    if inside is not None:
        total += weights.of_prompt(inside)
    from_depth = looked_up(reading, index, np.array(weights.depth, np.float32)) if with_depth else None
    if from_depth is None:
        return total
    total += from_depth
    if reading.has_deep and reading.relief is not None:
        deep = reading.relief.kinds[within(reading.windows[index], reading.relief.around)] == DEEP
        np.copyto(total, log_odds(reading, prompts, index, with_depth=False), where=deep)
    return total


def _add_colour(sums: list[Float], sources: list[str], frame: Frame, prompts: Prompts, reading: Reading) -> None:
    """Adds what colour says to the sums of objects that depth says nothing about, and to their sources."""
    asked = [index for index, source in enumerate(sources) if source == MODEL]
    found = colour_log_odds(frame.image, [reading.windows[each] for each in asked], [sums[each] for each in asked])
    for index, colour in zip(asked, found, strict=True):
        sums[index] += np.float32(RELIABILITY[_form(prompts.objects[index]), False].colour) * colour
        sources[index] = WITH_COLOUR


def _form(prompt: Prompt) -> str:
    return "box" if prompt.box is not None else "mask" if prompt.mask is not None else "point"


def _shared(sums: Sequence[Float], reading: Reading) -> list[Bool]:
    """Masks (h, w) in their windows: each pixel is the object's with the highest sum, of those above 0.

    Without depth smaller things have an advantage: they lie before or in larger ones, and the model gives their pixels to both.
    """
    smaller = SMALLER if reading.relief is None else 0.0
    offers = [np.where(each > 0, each - np.float32(smaller * np.log(each.size)), -np.inf) for each in sums]
    height = max(each[0].stop for each in reading.windows)
    width = max(each[1].stop for each in reading.windows)
    best = np.full((height, width), -np.inf, np.float32)
    for own, window in zip(offers, reading.windows, strict=True):
        np.maximum(best[window], own, out=best[window])
    return [(total > 0) & (own >= best[window]) for total, own, window in zip(sums, offers, reading.windows, strict=True)]


def _fit(mask: Bool, prompt: Prompt, reading: Reading, index: int) -> float:
    """Fit in [0, 1] of a mask (h, w) in its window to its prompt: IoU with a coarse mask, else of boxes; share of points that are right."""
    window = reading.windows[index]
    corner = np.array([window[1].start, window[0].start])
    fits: list[float] = []
    if prompt.mask is not None:
        coarse = prompt.mask[window]
        fits.append(float(np.count_nonzero(mask & coarse)) / max(1, int(np.count_nonzero(mask | coarse))))
    elif prompt.box is not None:
        fits.append(_box_fit(mask, prompt.box - np.tile(corner, 2)))
    if len(prompt.points):
        columns, rows = np.clip(prompt.points.astype(int) - corner, 0, np.array(mask.T.shape) - 1).T
        fits.append(float((mask[rows, columns] == (prompt.point_labels == 1)).mean()))
    return min(fits)


def _box_fit(mask: Bool, box: npt.NDArray[np.float64]) -> float:
    """IoU of a mask's tight box with a box, both in pixels of the window."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0.0
    tight = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    overlap = float(np.clip(np.minimum(tight[2:], box[2:]) - np.maximum(tight[:2], box[:2]), 0, None).prod())
    return overlap / max(1e-6, float((tight[2:] - tight[:2]).prod() + (box[2:] - box[:2]).prod()) - overlap)


def _assembled(shared: Sequence[Bool], sums: Sequence[Float], sources: Sequence[str], reading: Reading, masks: Masks) -> Masks:
    """The masks in the image, with their scores."""
    whole = np.zeros(masks.masks.shape, bool)
    scores = np.zeros(len(shared), np.float32)
    for index, (mask, total, window) in enumerate(zip(shared, sums, reading.windows, strict=True)):
        whole[index][window] = mask
        scores[index] = _score(mask, total, float(masks.scores[index]))
    return Masks(whole, scores, masks.low_res, tuple(reading.windows), tuple(sources), adapted=masks.adapted)


def _there(masks: Masks, ids: tuple[int, ...], carried: Sequence[int]) -> Masks:
    """The masks of n objects with their ids, the last ones marked as carried, without those whose id is 0."""
    start = len(masks) - len(carried)
    sources = (*masks.sources[:start], *(f"{each}+{TRACK}" for each in masks.sources[start:]))
    found = replace(masks, sources=sources, track_ids=ids)
    return found if all(ids) else found.select(np.flatnonzero(ids))


def _score(mask: Bool, total: Float, predicted: float) -> float:
    """Predicted IoU in [0, 1] of a mask (h, w) from its pixels' log-odds, and from the model's own prediction for its mask."""
    sparse, odds = mask[::2, ::2], total[::2, ::2]
    share = 1 / (1 + np.exp(-np.clip(odds, -CLAIM, CLAIM)))
    inside = float(share[sparse].sum())
    expected = inside / max(1e-6, np.count_nonzero(sparse) + float(share.sum()) - inside)
    return float(np.clip(SCORE[0] + SCORE[1] * expected + SCORE[2] * np.clip(predicted, 0, 1), 0, 1))
