"""Attacks: faults of a robot's camera and detector, as changes to a stream of frames. Adaptation must not be harmed by them.

Each attack takes a stream and gives one, frame by frame, and changes the frames whose index is in `during`. The same seed gives the same
stream. Labels, which are for scoring only, follow where pixels move or vanish.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import cv2
import numpy as np

from wesam_ros.data.boxes import box_of_mask
from wesam_ros.data.detections import Detections
from wesam_ros.data.frames import Frame

Attack = Callable[[Iterable[Frame], range, np.random.Generator], Iterator[Frame]]

WRONG_SHARE = 0.3
SHIFT = (0.05, 0.04)
"""By which boxes, or depth, are off: shares of the image's width and height."""
SKIN = (198, 150, 122)
STANDING = ("image", "depth", "labels", "void", "detections")
"""The fields of a frame that are the same when it repeats: all but its stamp."""


def _each(change: Callable[[Frame, np.random.Generator], Frame]) -> Attack:
    """The attack that changes each frame by itself."""

    def attack(frames: Iterable[Frame], during: range, rng: np.random.Generator) -> Iterator[Frame]:
        for index, frame in enumerate(frames):
            yield change(frame, rng) if index in during else frame

    attack.__doc__ = change.__doc__
    return attack


def _boxes(frame: Frame) -> Detections:
    return frame.detections if frame.detections is not None else Detections(np.zeros((0, 4), np.float32))


def _wrong_boxes(frame: Frame, rng: np.random.Generator) -> Frame:
    """Three boxes in ten are anywhere in the image, in their size."""
    found = _boxes(frame)
    boxes = found.boxes.copy()
    for row in np.flatnonzero(rng.random(len(boxes)) < WRONG_SHARE):
        side = boxes[row, 2:] - boxes[row, :2]
        corner = rng.random(2) * np.maximum((frame.size[1], frame.size[0]) - side, 0)
        boxes[row] = np.concatenate([corner, corner + side])
    return replace(frame, detections=replace(found, boxes=boxes))


def _shifted_boxes(frame: Frame, rng: np.random.Generator) -> Frame:
    """All boxes are off in the same direction, as with a detector on another camera."""
    found, (height, width) = _boxes(frame), frame.size
    moved = found.boxes + np.tile((SHIFT[0] * width, SHIFT[1] * height), 2)
    return replace(frame, detections=replace(found, boxes=np.clip(moved, 0, (width, height, width, height)).astype(np.float32)))


def _one_box(frame: Frame, rng: np.random.Generator) -> Frame:
    """The detector knows one of the things: the box nearest to the middle of the image is left."""
    found = _boxes(frame)
    away = found.boxes[:, :2] + found.boxes[:, 2:] - np.array(frame.size[::-1], np.float32)
    left = np.argsort((away**2).sum(1), kind="stable")[:1]
    ids, classes = (tuple(each[row] for row in left) for each in (found.ids, found.classes))
    return replace(frame, detections=Detections(found.boxes[left], ids, classes, found.scores[left]))


def _no_boxes(frame: Frame, rng: np.random.Generator) -> Frame:
    """The detector finds nothing any more."""
    return replace(frame, detections=Detections(np.zeros((0, 4), np.float32)))


def _covered(frame: Frame, rng: np.random.Generator) -> Frame:
    """A cover before the camera: dark noise, no depth, nothing to be seen; the detector goes on with the boxes that it tracked."""
    image = np.clip(rng.normal(8, 3, frame.image.shape), 0, 255).astype(np.uint8)
    depth = None if frame.depth is None else np.zeros_like(frame.depth)
    labels = None if frame.labels is None else np.zeros_like(frame.labels)
    return replace(frame, image=image, depth=depth, labels=labels)


def _saturated(frame: Frame, rng: np.random.Generator) -> Frame:
    """Three times the light: much of the image is white."""
    return replace(frame, image=np.clip(frame.image.astype(np.float32) * 3 + 40, 0, 255).astype(np.uint8))


def _flipped(frame: Frame, rng: np.random.Generator) -> Frame:
    """The camera is mounted upside down; the detector sees what it sees."""

    def turned(plane: np.ndarray | None) -> np.ndarray | None:
        return None if plane is None else np.ascontiguousarray(plane[::-1, ::-1])

    found, (height, width) = _boxes(frame), frame.size
    boxes = np.array((width, height, width, height), np.float32) - found.boxes[:, [2, 3, 0, 1]]
    camera = frame.camera
    if camera is not None:  # centres of pixels are whole numbers
        camera = camera.copy()
        camera[0, 2], camera[1, 2] = width - 1 - camera[0, 2], height - 1 - camera[1, 2]
    return replace(
        frame,
        image=np.ascontiguousarray(frame.image[::-1, ::-1]),
        depth=turned(frame.depth),
        labels=turned(frame.labels),
        void=turned(frame.void),
        camera=camera,
        detections=replace(found, boxes=boxes),
    )


def _hand(frame: Frame, rng: np.random.Generator) -> Frame:
    """A hand with its forearm reaches in from the bottom, before everything else; half of the time the detector boxes it, too."""
    height, width = frame.size
    palm = np.array([rng.uniform(0.25, 0.75) * width, rng.uniform(0.3, 0.7) * height])
    thick = int(0.11 * width)
    mask = np.zeros(frame.size, np.uint8)
    elbow = (int(palm[0] + rng.uniform(-0.2, 0.2) * width), height + thick)
    cv2.line(mask, (int(palm[0]), int(palm[1])), elbow, 1, thick)
    for angle in np.linspace(-0.7, 0.7, 5) + rng.normal(0, 0.05):
        tip = palm + 0.16 * height * np.array([np.sin(angle), -np.cos(angle)])
        cv2.line(mask, (int(palm[0]), int(palm[1])), (int(tip[0]), int(tip[1])), 1, max(1, thick // 4))
    on = mask > 0
    shade = rng.normal(0, 4, (*frame.size, 1)) + np.linspace(-15, 15, width)[None, :, None]
    image = np.where(on[..., None], np.clip(np.array(SKIN) + shade, 0, 255), frame.image).astype(np.uint8)
    depth, labels, found = frame.depth, frame.labels, _boxes(frame)
    if depth is not None:
        measured = depth[depth > 0]
        nearest = float(np.percentile(measured, 1)) if measured.size else 0.6
        depth = np.where(on, np.float32(0.85 * nearest), depth).astype(np.float32)
    if labels is not None:
        labels = np.where(on, 0, labels).astype(np.uint16)
    if rng.random() < 0.5:
        found = Detections(
            np.concatenate([found.boxes, box_of_mask(on)[None].astype(np.float32)]),
            (*found.ids, "hand"),
            (*found.classes, "object"),
            np.append(found.scores, np.float32(0.5)),
        )
    return replace(frame, image=image, depth=depth, labels=labels, detections=found)


def _depth_missing(frame: Frame, rng: np.random.Generator) -> Frame:
    """The depth camera gives no images."""
    return replace(frame, depth=None)


def _depth_shifted(frame: Frame, rng: np.random.Generator) -> Frame:
    """Depth is not registered to colour."""
    if frame.depth is None:
        return frame
    dx, dy = round(SHIFT[0] * frame.size[1]), round(SHIFT[1] * frame.size[0])
    moved = np.zeros_like(frame.depth)
    moved[dy:, dx:] = frame.depth[: frame.size[0] - dy, : frame.size[1] - dx]
    return replace(frame, depth=moved)


def _depth_in_millimetres(frame: Frame, rng: np.random.Generator) -> Frame:
    """Millimetres are published as if they were metres."""
    return frame if frame.depth is None else replace(frame, depth=frame.depth * np.float32(1000))


def same_frame(frames: Iterable[Frame], during: range, rng: np.random.Generator) -> Iterator[Frame]:
    """The same image, depth and boxes again and again, with new stamps."""
    return _standing(frames, during, STANDING)


def frozen_camera(frames: Iterable[Frame], during: range, rng: np.random.Generator) -> Iterator[Frame]:
    """Image and depth stand still, while a detector on another camera goes on: its boxes no longer belong to the image."""
    return _standing(frames, during, STANDING[:-1])


def _standing(frames: Iterable[Frame], during: range, names: tuple[str, ...]) -> Iterator[Frame]:
    """Of the frames in `during`, the fields `names` are those of the first."""
    first: Frame | None = None
    for index, frame in enumerate(frames):
        if index not in during:
            yield frame
            continue
        first = first or frame
        yield replace(frame, **{name: getattr(first, name) for name in names})


def scene_change(other: Iterable[Frame]) -> Attack:
    """The attack that shows another scene, the frames of `other`, and then the first one again, which has gone on meanwhile."""

    def attack(frames: Iterable[Frame], during: range, rng: np.random.Generator) -> Iterator[Frame]:
        others = iter(other)
        for index, frame in enumerate(frames):
            yield replace(next(others), stamp_ns=frame.stamp_ns) if index in during else frame

    return attack


def untouched(frames: Iterable[Frame], during: range, rng: np.random.Generator) -> Iterator[Frame]:
    """No attack: what adaptation does on this stream anyway."""
    yield from frames


ATTACKS: dict[str, Attack] = {
    "none": untouched,
    "wrong boxes": _each(_wrong_boxes),
    "shifted boxes": _each(_shifted_boxes),
    "one box": _each(_one_box),
    "detector dies": _each(_no_boxes),
    "camera covered": _each(_covered),
    "camera frozen": frozen_camera,
    "camera saturated": _each(_saturated),
    "camera flipped": _each(_flipped),
    "hand in view": _each(_hand),
    "same frame": same_frame,
    "depth missing": _each(_depth_missing),
    "depth shifted": _each(_depth_shifted),
    "depth in millimetres": _each(_depth_in_millimetres),
}
"""By name; `scene_change` needs another stream, and so is made by who has one."""
