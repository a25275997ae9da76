"""Annotations of one's own data sets: outlines of objects, drawn onto images whose size or turn may differ from the annotated one."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.data.datasets.coco_masks import decode_segmentation, polygon_mask
from wesam_ros.data.datasets.files import DatasetError, exif_turn, image_size, read_image, read_stored_image, stored_size
from wesam_ros.data.frames import Frame

log = logging.getLogger(__name__)

Size = tuple[int, int]
Bool = npt.NDArray[np.bool_]
Polygon = npt.NDArray[np.float64]
UNIT: Size = (1, 1)
"""The annotated size of coordinates that are shares of the image's width and height."""
LEAST_SIDE = 1.0
"""Pixels; an outline that is narrower and lower has no pixel for sure."""
OVERHANG = 0.05
"""Share of the image's side by which an outline may reach over it, as annotators draw."""
LEAST_OVERLAP = 0.5
"""Intersection over union of an outline's extent and its object's box, below which one of them is wrong."""
UPRIGHT, STORED, SCALED, DIFFERS = "upright", "stored", "scaled", "differs"


class Outline(NamedTuple):
    """One annotated object, in pixels of the annotated size.

    Attributes:
        polygons: (k, 2) x, y each, joined to one object.
        runs: COCO's run lengths, an object with size and counts; None where there are polygons, or just a box.
        box: x0, y0, x1, y1, where there is one.
    """

    polygons: tuple[Polygon, ...] = ()
    runs: Any = None
    box: tuple[float, float, float, float] | None = None


class Picture(NamedTuple):
    """An image and its annotations, not read yet.

    Attributes:
        name: of the frame.
        image: the file.
        outlines: of its objects; those that are just boxes become void.
        size: (H, W) that the annotator's tool saw; None = the image's own, `UNIT` for shares.
        sequence: the name by which frames belong together; "" = a sequence of its own.
    """

    name: str
    image: Path
    outlines: tuple[Outline, ...] = ()
    size: Size | None = None
    sequence: str = ""


@dataclass
class Account:
    """The account of a data set: what was left out or taken otherwise than it stands there, by reason, with the first example of each."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, example: object) -> None:
        """Counts one thing; `reason` is a sentence's end that holds for several, such as "images are missing"."""
        self.counts[reason] += 1
        self.first.setdefault(reason, str(example))

    def sentences(self) -> tuple[str, ...]:
        """A sentence for each reason."""
        return tuple(f"{count} {reason}; the first: {self.first[reason]}" for reason, count in self.counts.items())

    def tell(self, path: Path) -> tuple[str, ...]:
        """Logs the sentences, and returns them."""
        for sentence in self.sentences():
            log.warning("%s: %s", path, sentence)
        return self.sentences()


def fit(image: Path, size: Size | None) -> str:
    """The way in which annotations of a size lie on an image: upright as EXIF says, on the pixels as they are stored, scaled by one
    factor, or in no way that is known."""
    upright = image_size(image)
    if size in (None, UNIT, upright):
        return UPRIGHT
    if size == stored_size(image):
        return STORED
    return SCALED if _same_shape(size, upright) else DIFFERS


def usable(pictures: Sequence[Picture], account: Account, layout: str) -> list[Picture]:
    """The pictures whose image is there and lies under its annotations; the others are counted.

    Raises:
        DatasetError: none is left.
    """
    kept = []
    for each in pictures:
        if not each.image.is_file():
            account.add("images are missing, and left out", each.image)
            continue
        way = fit(each.image, each.size)
        if way == DIFFERS:
            account.add("images are left out, as they have another shape than was annotated", each.image)
            continue
        if way == UPRIGHT and exif_turn(each.image) > 1 and each.size in (None, stored_size(each.image)):
            account.add(
                "images are turned by EXIF so that the annotated size does not tell how they were annotated: upright is taken", each.image
            )
        if way == STORED:
            account.add("images were annotated as they are stored, without the turn of their EXIF, and are read so", each.image)
        if way == SCALED:
            account.add("images were annotated in another size; their annotations are scaled", each.image)
        kept.append(each._replace(outlines=tuple(fitting(each, way, account))))
    if not kept:
        raise DatasetError(f"there is no image that can be used: {'; '.join(account.sentences()) or 'none is listed'}; {layout}")
    return kept


def fitting(picture: Picture, way: str, account: Account) -> Iterator[Outline]:
    """Yields the outlines of a picture that lie in its image; of others the box, if there is one. What does not fit is counted."""
    size = stored_size(picture.image) if way == STORED else image_size(picture.image)
    annotated = picture.size or size
    for each in picture.outlines:
        bare = (Outline(box=each.box),) if each.box is not None else ()
        if each.runs is not None and not _same_shape(_size_of(each.runs), size):
            account.add("run lengths are for another shape than their image has, and left out", f"{_size_of(each.runs)} of {picture.image}")
            yield from bare
            continue
        corners = np.concatenate(each.polygons) if each.polygons else np.zeros((0, 2))
        if not len(corners):
            yield each
            continue
        drawn = _scaled(corners, annotated, size)
        if (drawn.max(0) <= 0).any() or (drawn.min(0) >= (size[1], size[0])).any() or (np.ptp(drawn, axis=0) < LEAST_SIDE).all():
            sentence = "outlines have no pixel of their image, and are left out: they may be shares of it, or of a larger one"
            account.add(sentence, f"one from {drawn.min(0).round(2).tolist()} to {drawn.max(0).round(2).tolist()} in {picture.image}")
            continue
        beyond = np.maximum(-drawn.min(0), drawn.max(0) - (size[1], size[0]))
        if (beyond > OVERHANG * np.array((size[1], size[0]))).any():
            account.add("outlines reach beyond their image, and are cut off at its border: they may be of another size", picture.image)
        if each.box is not None and _overlap((*corners.min(0), *corners.max(0)), each.box) < LEAST_OVERLAP:
            account.add("outlines lie elsewhere than the boxes of their objects", picture.image)
        yield each


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes x0 y0 x1 y1."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    whole = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return float(shared / whole) if whole > 0 else 1.0


def frame_of(picture: Picture) -> Frame:
    """The frame of a picture: objects by id from 1, smaller ones on top; a box without an outline is void where no object is.

    Raises:
        ValueError: an image or run lengths that do not fit.
    """
    way = fit(picture.image, picture.size)
    if way == DIFFERS:
        raise ValueError(f"annotations are for {picture.size} (height, width), but the image has {image_size(picture.image)}")
    image = read_stored_image(picture.image) if way == STORED else read_image(picture.image)
    size = (image.shape[0], image.shape[1])
    masks = [_mask(each, picture.size or size, size) for each in picture.outlines]
    labels = labels_of_masks([mask for mask in masks if mask is not None], size)
    void = np.zeros(size, bool)
    for mask, outline in zip(masks, picture.outlines, strict=True):
        if mask is None and outline.box is not None:
            x0, y0, x1, y1 = _scaled(np.array(outline.box).reshape(2, 2), picture.size or size, size).ravel()
            void[max(0, int(y0)) : max(0, int(np.ceil(y1))), max(0, int(x0)) : max(0, int(np.ceil(x1)))] = True
    void &= labels == 0
    return Frame(image=image, labels=labels, void=void if void.any() else None, sequence=picture.sequence or picture.name)


def labels_of_masks(masks: Sequence[Bool], size: Size) -> npt.NDArray[np.uint16]:
    """(H, W) ids from 1, in the order of the masks; where they overlap, the smaller one is on top."""
    labels = np.zeros(size, np.uint16)
    for index in sorted(range(len(masks)), key=lambda i: -np.count_nonzero(masks[i])):
        labels[masks[index]] = index + 1
    return labels


def _mask(outline: Outline, annotated: Size, size: Size) -> Bool | None:
    if outline.runs is not None:
        return _runs(outline.runs, size)
    if not outline.polygons:
        return None
    mask = np.zeros(size, bool)
    for polygon in outline.polygons:
        mask |= polygon_mask(_scaled(polygon, annotated, size), size)
    return mask


def _runs(runs: Any, size: Size) -> Bool:
    """Run lengths for the image's size, or for another one of its shape."""
    own = _size_of(runs)
    mask = decode_segmentation({"size": own, "counts": runs["counts"]}, own)
    if own == size:
        return mask
    if not _same_shape(own, size):
        raise ValueError(f"run lengths must be for the image's size {size}, but are for {own}")
    return np.asarray(cv2.resize(mask.astype(np.uint8), (size[1], size[0]), interpolation=cv2.INTER_NEAREST) > 0, np.bool_)


def _size_of(runs: Any) -> Size:
    return int(runs["size"][0]), int(runs["size"][1])


def _same_shape(first: Size, second: Size) -> bool:
    """True for two sizes of which one is the other scaled; whole sides may be off by one."""
    return abs(first[0] * second[1] - first[1] * second[0]) <= max(*first, *second)


def _scaled(points: Polygon, annotated: Size, size: Size) -> Polygon:
    """(k, 2) x, y from the annotated size to the image's."""
    return points if annotated == size else points * (size[1] / annotated[1], size[0] / annotated[0])
