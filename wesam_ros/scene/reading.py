"""Masks that are served: what model, depth, prompts and the other objects say of each pixel is summed, at the image's resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.data.frames import Frame
from wesam_ros.sam.prompts import Prompts
from wesam_ros.sam.upscaling import Rectangle, logits_within
from wesam_ros.scene.depth_reader import DepthReader
from wesam_ros.scene.registration import BELIEVED, BELIEVED_ALL, NOBODYS, agreement, nobodys, registered, thinned
from wesam_ros.scene.reliability import RELATIONS
from wesam_ros.scene.relief import BORDER, DEEP, FIRST, KINDS, ON_SURFACE, OTHERS, UNKNOWN, Relief, flood
from wesam_ros.scene.windows import around_all, depth_in_box, object_boxes, window_of, within

Bool = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float32]

NOWHERE = np.float32(-10.0)
"""The logit where an object has none."""
SURE, APART = 1.0, 1.0
"""A pixel is a seed of an object where its logit is so high, and by so much higher than any other object's."""
BYTE = 256
LEEWAY = 0.05
"""Share of a box's side beyond it within which what rises may still be of its object."""


@dataclass(frozen=True, eq=False)
class Reading:
    """Findings of the witnesses about n objects of a frame, before they are weighed.

    Attributes:
        windows: rows and columns in which each object can be.
        boxes: (n, 4) x0 y0 x1 y1 in pixels, around the prompts.
        logits: of each object, (h, w) in its window.
        others: likewise, the highest logit of any other object.
        inside: likewise, how deep in its box a pixel lies, as a share of its sides; None without a box.
        relief: of depth; None without depth, or without a surface.
        codes: (h, w) of the relief's pixels: mark of the flood, from BORDER on, times KINDS plus kind; uint8 where there are few objects.
        has_deep: whether any of them is deep in a hole.
        believed: (n,) bool, objects that depth is believed about.
    """

    windows: list[Rectangle]
    boxes: Float
    logits: list[Float]
    others: list[Float]
    inside: list[Float | None]
    relief: Relief | None = None
    codes: npt.NDArray[np.uint8] | npt.NDArray[np.int64] | None = None
    has_deep: bool = False
    believed: tuple[bool, ...] = ()


def read(frame: Frame, prompts: Prompts, low_res: Float, reader: DepthReader | None) -> Reading:
    """Reads what model, prompts and depth say of n >= 1 objects.

    Args:
        frame: image, depth and camera.
        prompts: of the objects.
        low_res: (n, h, w) the decoder's logits.
        reader: of depth; None leaves it out.
    """
    size, side = prompts.size, 4 * low_res.shape[1]
    boxes = object_boxes(prompts, low_res, side)
    windows = [window_of(box, size) for box in boxes]
    logits = [logits_within(each, window, size, side) for each, window in zip(low_res, windows, strict=True)]
    around = around_all(windows)
    parts = [within(each, around) for each in windows]
    first, second = _best_two(logits, parts, _shape(around))
    others = [np.where(own >= first[part], second[part], first[part]) for own, part in zip(logits, parts, strict=True)]
    inside = [
        depth_in_box(box, window) if each.box is not None else None
        for each, box, window in zip(prompts.objects, boxes, windows, strict=True)
    ]
    found = reader.read(frame, boxes, around) if reader is not None else None
    if found is None:
        return Reading(windows, boxes, logits, others, inside)
    found = thinned(registered(found, first, frame.image), first)
    agreed = [agreement(found, own, window) for own, window in zip(logits, windows, strict=True)]
    in_boxes = _any_box(boxes, around)
    if np.mean(agreed) < BELIEVED_ALL and nobodys(found, first, in_boxes) > NOBODYS:
        return Reading(windows, boxes, logits, others, inside)
    half = flood(found, frame.image, _seeds(first, second, logits, parts), in_boxes)
    few = (len(prompts) + FIRST - BORDER) * KINDS <= BYTE
    marks = ((half - BORDER) * KINDS).astype(np.uint8 if few else np.int64)
    codes = np.repeat(np.repeat(marks, 2, 0), 2, 1)[: found.kinds.shape[0], : found.kinds.shape[1]] + found.kinds
    has_deep = bool((found.kinds == DEEP).any())
    return Reading(windows, boxes, logits, others, inside, found, codes, has_deep, tuple(each >= BELIEVED for each in agreed))


def _shape(around: Rectangle) -> tuple[int, int]:
    return around[0].stop - around[0].start, around[1].stop - around[1].start


def _best_two(logits: Sequence[Float], parts: Sequence[Rectangle], shape: tuple[int, int]) -> tuple[Float, Float]:
    """(h, w) the highest logit of any object, and the second highest."""
    first, second = np.full(shape, NOWHERE), np.full(shape, NOWHERE)
    for own, part in zip(logits, parts, strict=True):
        best, next_best = first[part], second[part]
        np.maximum(next_best, np.minimum(own, best), out=next_best)
        np.maximum(best, own, out=best)
    return first, second


def _seeds(first: Float, second: Float, logits: Sequence[Float], parts: Sequence[Rectangle]) -> npt.NDArray[np.int32]:
    """(h / 2, w / 2) UNKNOWN, or FIRST + i where object i has the highest logit, by far."""
    best = first[::2, ::2]
    sure = (best > SURE) & (best - second[::2, ::2] > APART)
    seeds = np.full(best.shape, UNKNOWN, np.int32)
    for index, (own, (rows, columns)) in enumerate(zip(logits, parts, strict=True)):
        half = slice(-(-rows.start // 2), -(-rows.stop // 2)), slice(-(-columns.start // 2), -(-columns.stop // 2))
        seeds[half][sure[half] & (own[rows.start % 2 :: 2, columns.start % 2 :: 2] >= best[half])] = FIRST + index
    return seeds


def _any_box(boxes: Float, around: Rectangle) -> Bool:
    """(h / 2, w / 2) bool: in any box, or a little beyond."""
    rows, columns = _shape(around)
    inside = np.zeros((-(-rows // 2), -(-columns // 2)), bool)
    corner = np.array((around[1].start, around[0].start), np.float32)
    for box in boxes:
        room = LEEWAY * (box[2:] - box[:2]) + 2
        left, top = np.maximum((box[:2] - corner - room) / 2, 0).astype(int)
        right, bottom = np.maximum((box[2:] - corner + room) / 2 + 1, 0).astype(int)
        inside[top:bottom, left:right] = True
    return inside


def relations(reading: Reading, index: int) -> npt.NDArray[np.int64]:
    """(n + FIRST - BORDER,) of each mark: its relation to an object, a place in reliability.RELATIONS."""
    relation = np.full(len(reading.windows) + FIRST - BORDER, RELATIONS.index("neighbour"))
    for mark, name in ((BORDER, "border"), (UNKNOWN, "border"), (ON_SURFACE, "surface"), (OTHERS, "others"), (FIRST + index, "own")):
        relation[mark - BORDER] = RELATIONS.index(name)
    return relation


def looked_up(reading: Reading, index: int, table: Float) -> Float | None:
    """(h, w) of an object's window: the entry of a table (KINDS, 5) for each pixel's kind and relation to it; None without depth."""
    if reading.relief is None or reading.codes is None:
        return None
    by_code = table.T[relations(reading, index)].ravel()
    codes = reading.codes[within(reading.windows[index], reading.relief.around)]
    if codes.dtype != np.uint8:
        return np.asarray(by_code[codes], np.float32)
    return np.asarray(cv2.LUT(codes, np.resize(by_code, BYTE)), np.float32)  # many times as fast
