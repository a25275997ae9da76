"""Stable ids of objects from frame to frame, and what earlier frames said of their pixels.

Each track carries its object's log-odds by image motion to the next frame. Objects are matched to tracks by the IoU of their masks
(Kuhn, 1955; scipy's assignment). What is left, such as a thing that was moved, is matched by colours and size where nothing else looks
like it. The log-odds of a pixel are the running mean over the frames in which the picture there has not changed: noise fades, and news
counts at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from wesam_ros.sam.upscaling import Rectangle
from wesam_ros.scene.motion import Flow, Motion
from wesam_ros.scene.windows import moved_to, overlap_of

MOST_FRAMES = 8.0
"""Frames of which the running mean is, at most."""
LEAST_IOU = 0.2
"""IoU of the carried and the new mask from which on they may be one object."""
OTHER_CLASS = 0.3
"""By how much more they must overlap where the detector gives another class: a class may flip, an object rarely does."""
KNOWN = 0.3
"""Share of a carried mask whose picture has not changed, below which its colours have to agree, too."""
ALIKE, APART = 0.75, 0.08
"""Likeness of two objects' colours (Bhattacharyya's coefficient) from which on they may be one, and by how much the next best is less."""
LARGER = 2.0
"""By how many times the area of an object may change while it is not seen."""
FORGOTTEN = 0.01
"""Frames that a mask counts for which is to match its object, but to have no say in the next mask."""
KEPT_FRAMES = 60
"""Frames for which a track is kept without an object."""
BINS = (8, 8, 4)

Bool = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float32]


@dataclass(eq=False)
class Track:
    """An object that was seen.

    Attributes:
        id: counts from 1 and is never given twice.
        class_id: the detector's, of the last frame in which it was detected.
        window: rows and columns of `odds` in the newest frame.
        odds: (h, w) log-odds that a pixel is on it; 0 where nothing is known.
        frames: (h, w) of how many frames they are the mean; 0 where nothing is known.
        colours: histogram of its pixels, whose squares sum to 1.
        area: of its last mask in pixels.
        missed: frames since it was last detected.
    """

    id: int
    class_id: str
    window: Rectangle
    odds: Float
    frames: Float
    colours: Float
    area: int
    missed: int = 0


class Tracker:
    """The tracks of one stream. For each frame `match`, then `keep`. One thread at a time."""

    def __init__(self) -> None:
        self._motion = Motion()
        self._tracks: list[Track] = []
        self._objects: list[Track | None] = []
        self._next = 1

    def match(self, image: npt.NDArray[np.uint8], windows: Sequence[Rectangle], masks: Sequence[Bool], classes: Sequence[str]) -> list[int]:
        """Ids of n objects in the next frame.

        Args:
            image: (H, W, 3) uint8.
            windows: rows and columns of each object.
            masks: of each object in its window, (h, w), not yet shared out nor averaged.
            classes: the detector's, "" where it gave none.
        """
        flow = self._motion.step(image)
        for track in self._tracks:
            _carry(track, flow)
        colours = [_colours(image, window, mask) for window, mask in zip(windows, masks, strict=True)]
        pairs = _by_overlap(self._tracks, windows, masks, classes, colours) if flow is not None and not flow.cut else {}
        pairs |= _by_colour(self._tracks, masks, classes, colours, pairs)
        self._objects = [self._tracks[pairs[index]] if index in pairs else None for index in range(len(windows))]
        for index, known in enumerate(self._objects):
            if known is None:
                none = np.zeros(masks[index].shape, np.float32)
                track = Track(self._next, classes[index], windows[index], none, none, colours[index], 0)
                self._next += 1
                self._tracks.append(track)
                self._objects[index] = track
        return [track.id for track in self._objects if track is not None]

    def forget_masks(self) -> None:
        """Forgets the log-odds of all tracks' pixels, and keeps their ids, places and colours."""
        for track in self._tracks:
            track.frames = np.minimum(track.frames, np.float32(FORGOTTEN))

    def average(self, index: int, odds: Float, window: Rectangle) -> Float:
        """(h, w) the mean log-odds of an object in its window, over this frame and those before in which the picture was the same."""
        track = self._objects[index]
        assert track is not None
        before, frames = (moved_to(each, track.window, window) for each in (track.odds, track.frames))
        return np.asarray((odds + frames * before) / (frames + 1), np.float32)

    def keep(
        self,
        image: npt.NDArray[np.uint8],
        windows: Sequence[Rectangle],
        odds: Sequence[Float],
        masks: Sequence[Bool],
        classes: Sequence[str],
    ) -> None:
        """Keeps the frame's averaged log-odds and masks for the next one.

        Args:
            image: (H, W, 3) uint8.
            windows: of the objects, as in `match`.
            odds: averaged, (h, w) each.
            masks: as they are served, (h, w) each.
            classes: as in `match`.
        """
        seen = set()
        for index, track in enumerate(self._objects):
            assert track is not None
            window = windows[index]
            frames = moved_to(track.frames, track.window, window)
            track.window, track.odds, track.frames = window, odds[index], np.minimum(frames + 1, MOST_FRAMES)
            track.class_id, track.missed = classes[index] or track.class_id, 0
            if masks[index].any():
                track.area, track.colours = int(masks[index].sum()), _colours(image, window, masks[index])
            seen.add(track.id)
        for track in self._tracks:
            track.missed += track.id not in seen
        self._tracks = [track for track in self._tracks if track.missed <= KEPT_FRAMES]


def _carry(track: Track, flow: Flow | None) -> None:
    """Moves a track to the next frame."""
    if flow is None:
        track.frames = np.zeros_like(track.frames)
        return
    window = flow.move(track.window)
    frames = flow.carry(track.frames, track.window, window)
    # A mean of log-odds is carried as a product with its weight, so that the border of what is known does not pull it to 0.
    weighted = flow.carry(track.odds * track.frames, track.window, window)
    track.odds = np.asarray(weighted / np.maximum(frames, np.float32(1e-3)), np.float32)
    track.frames, track.window = np.where(frames < FORGOTTEN / 2, np.float32(0), frames), window


def _by_overlap(
    tracks: Sequence[Track], windows: Sequence[Rectangle], masks: Sequence[Bool], classes: Sequence[str], colours: Sequence[Float]
) -> dict[int, int]:
    """Tracks of objects, by the IoU of their masks."""
    overlap = np.zeros((len(windows), len(tracks)))
    for column, track in enumerate(tracks):
        mask = (track.odds > 0) & (track.frames > 0)
        sure = np.count_nonzero(mask) >= KNOWN * max(1, track.area)
        for row, (window, own) in enumerate(zip(windows, masks, strict=True)):
            found = _iou(mask, track.window, own, window)
            if found > 0 and not sure:
                found *= float((colours[row] * track.colours).sum() > ALIKE)
            same = not classes[row] or not track.class_id or classes[row] == track.class_id
            overlap[row, column] = found - (0.0 if same else OTHER_CLASS)
    if not overlap.size:
        return {}
    rows, columns = linear_sum_assignment(-overlap)
    return {int(row): int(column) for row, column in zip(rows, columns, strict=True) if overlap[row, column] >= LEAST_IOU}


def _by_colour(
    tracks: Sequence[Track], masks: Sequence[Bool], classes: Sequence[str], colours: Sequence[Float], taken: dict[int, int]
) -> dict[int, int]:
    """Tracks of the objects without one: of the tracks without an object the only one of its class, colours and size."""
    rows = [row for row in range(len(masks)) if row not in taken]
    columns = [column for column in range(len(tracks)) if column not in taken.values() and tracks[column].area]
    if not rows or not columns:
        return {}
    likeness = np.zeros((len(rows), len(columns)))
    for i, row in enumerate(rows):
        area = np.count_nonzero(masks[row])
        for k, column in enumerate(columns):
            track = tracks[column]
            fits = classes[row] == track.class_id and track.area / LARGER <= area <= track.area * LARGER
            likeness[i, k] = float((colours[row] * track.colours).sum()) if fits else 0.0
    pairs = {}
    for i, row in enumerate(rows):
        k = int(likeness[i].argmax())
        others = max(np.delete(likeness[i], k).max(initial=0.0), np.delete(likeness[:, k], i).max(initial=0.0))
        if likeness[i, k] >= ALIKE and likeness[i, k] >= others + APART:
            pairs[row] = columns[k]
    return pairs


def _iou(first: Bool, first_window: Rectangle, second: Bool, second_window: Rectangle) -> float:
    """IoU of two masks, each (h, w) in its window."""
    own, other = overlap_of(first_window, second_window)
    shared = int(np.count_nonzero(first[own] & second[other]))
    return shared / max(1, int(np.count_nonzero(first)) + int(np.count_nonzero(second)) - shared)


def _colours(image: npt.NDArray[np.uint8], window: Rectangle, mask: Bool) -> Float:
    """(256,) square roots of the shares of a mask's pixels in bins of colour (Lab), of every second pixel of every second row."""
    step = 2 if mask.size > 400 else 1
    own = mask[::step, ::step]
    if not own.any():
        return np.zeros(int(np.prod(BINS)), np.float32)
    lab = cv2.cvtColor(np.ascontiguousarray(image[window][::step, ::step]), cv2.COLOR_RGB2LAB)[own]
    # Most things differ in hue more than in lightness, which changes with the place: fewer bins for it, and finer ones around grey.
    a, b = (np.clip((lab[:, axis].astype(int) - 128) // 8 + 4, 0, 7) for axis in (1, 2))
    counts = np.bincount((a * 8 + b) * 4 + lab[:, 0] // 64, minlength=256)
    return np.asarray(np.sqrt(counts / counts.sum()), np.float32)
