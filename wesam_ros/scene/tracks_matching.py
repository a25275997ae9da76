"""Tracks, and which of a frame's objects is which track's: by masks and places, then by colours alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from wesam_ros.data.boxes import box_iou
from wesam_ros.sam.upscaling import Rectangle
from wesam_ros.scene.windows import overlap_of

LEAST_IOU = 0.2
"""IoU of the carried and the new mask from which on they may be one object."""
OTHER_CLASS = 0.3
"""By how much more they must overlap where the detector gives another class: a class may flip, an object rarely does."""
KNOWN = 0.3
"""Share of a carried mask whose picture has not changed, below which its colours have to agree, too."""
LEAST_BOX_IOU, SAME_BOX = 0.3, 0.5
"""IoU of the boxes of a thing that is covered, or was, from which on they may be one object, and from which on they are in two frames that
follow each other."""
WITHIN = 0.8
"""Share of an object's box in that of a thing of the frame before from which on it is what is left of the thing."""
PLACE_AND_COLOURS = 1.05
"""Sum of the IoU of the boxes and of the likeness of colours from which on a thing that was not seen for a while is the one that is."""
ALIKE, APART = 0.75, 0.08
"""Likeness of two objects' colours (Bhattacharyya's coefficient) from which on they may be one, and by how much the next best is less."""
LARGER = 2.0
"""By how many times the area of an object may change while it is not seen."""
SENIOR, LONG = 0.5, 5
"""Advantage of a track that was seen for long, in IoU, and frames that are long: a false box may have begun another at the same place."""
RECENT, ALIKE_NEAR, LARGER_NEAR = 5, 0.6, 4.0
"""Frames for which a track counts as just seen; likeness of an object near by from which on they may be one; and change of area."""
BINS = 256

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
        size: of its masks in pixels, as far as it was not covered.
        place: (4,) x0 y0 x1 y1 in pixels around its last mask that was not covered, moved by what the camera did since.
        point, pixel: (3,) of it in the fixed frame, metres, and (2,) where it is in the newest frame; None without the camera's pose.
        missed: frames since it was last detected.
        seen: frames in which it was detected.
    """

    id: int
    class_id: str
    window: Rectangle
    odds: Float
    frames: Float
    colours: Float
    area: int
    place: Float
    size: float = 0.0
    point: npt.NDArray[np.float64] | None = None
    pixel: npt.NDArray[np.float64] | None = None
    missed: int = 0
    seen: int = 0

    @property
    def mask(self) -> Bool:
        """(h, w) where it was and the picture has not changed."""
        return np.asarray((self.odds > 0) & (self.frames > 0))


@dataclass(frozen=True, eq=False)
class Seen:
    """An object of the newest frame: `mask` (h, w) in its window, the detector's class, or "", colours as a track's, and (4,) its box."""

    window: Rectangle
    mask: Bool
    class_id: str
    colours: Float
    box: Float


def matched(tracks: Sequence[Track], objects: Sequence[Seen], *, moved: bool, posed: bool) -> tuple[dict[int, int], frozenset[int]]:
    """For each object that has one, the index of its track; and the objects that have theirs by the mask, which agrees with those before.

    Args:
        tracks: carried to the objects' frame.
        objects: of one frame.
        moved: no pixel is where it was, as after a cut.
        posed: the places of the tracks are known from the camera's pose, also after a cut.
    """
    pairs: dict[int, int] = {}
    agreeing: set[int] = set()
    if posed or not moved:
        pairs, agreeing = _by_mask_and_place(tracks, objects, moved=moved)
    return pairs | _by_colour(tracks, objects, pairs), frozenset(agreeing)


def _by_mask_and_place(tracks: Sequence[Track], objects: Sequence[Seen], *, moved: bool) -> tuple[dict[int, int], set[int]]:
    """Tracks of objects, by the IoU of their masks and of their boxes; and the objects whose masks agree with their tracks'.

    What covers a thing changes its pixels, and the model may take it for the thing: then the place of its box has to do.
    """
    score, by_mask = np.zeros((len(objects), len(tracks))), np.zeros((len(objects), len(tracks)), bool)
    for column, track in enumerate(tracks):
        mask = track.mask
        sure = np.count_nonzero(mask) >= KNOWN * max(1, track.area)
        for row, seen in enumerate(objects):
            same = _may_be_of_one_class(seen, track)
            overlap = mask_iou(mask, track.window, seen.mask, seen.window) if not moved else 0.0
            if overlap > 0 and not sure:
                overlap *= float(_likeness(seen, track) > ALIKE)
            overlap -= 0.0 if same else OTHER_CLASS
            place = float(box_iou(seen.box[None], track.place[None])[0, 0])
            by_mask[row, column] = overlap >= LEAST_IOU
            if by_mask[row, column] or (same and track.area and _is_there(seen, track, place, moved=moved)):
                score[row, column] = overlap + place + SENIOR * min(1.0, track.seen / LONG)
    if not score.size:
        return {}, set()
    rows, columns = linear_sum_assignment(-score)
    pairs = {int(row): int(column) for row, column in zip(rows, columns, strict=True) if score[row, column]}
    return pairs, {row for row, column in pairs.items() if by_mask[row, column]}


def _is_there(seen: Seen, track: Track, place: float, *, moved: bool) -> bool:
    """True for an object at a track's place, of whose box it has the IoU `place`: what is left of it, or it comes to light again."""
    if place >= LEAST_BOX_IOU and place + _likeness(seen, track) >= PLACE_AND_COLOURS:
        return True
    return not track.missed and not moved and (place >= SAME_BOX or share_within(seen.box, track.place) >= WITHIN)


def _by_colour(tracks: Sequence[Track], objects: Sequence[Seen], taken: dict[int, int]) -> dict[int, int]:
    """Tracks of the objects without one: of the tracks without an object the only one of its class, colours and size.

    A thing that was just seen near by, such as one in a hand, may be covered in part.
    """
    likeness, enough = np.zeros((2, len(objects), len(tracks)))
    columns = [column for column in set(range(len(tracks))) - set(taken.values()) if tracks[column].area]
    for row in set(range(len(objects))) - set(taken):
        for column in columns:
            seen, track = objects[row], tracks[column]
            near = _is_near(seen, track)
            larger = LARGER_NEAR if near else LARGER
            fits = seen.class_id == track.class_id and track.size / larger <= np.count_nonzero(seen.mask) <= track.size * larger
            likeness[row, column] = _likeness(seen, track) if fits else 0.0
            enough[row, column] = ALIKE_NEAR if near else ALIKE
    pairs = {}
    for row in np.flatnonzero((likeness >= np.maximum(enough, 1e-6)).any(1)).tolist():
        column = int(likeness[row].argmax())
        others = max(np.delete(likeness[row], column).max(initial=0.0), np.delete(likeness[:, column], row).max(initial=0.0))
        if likeness[row, column] >= max(enough[row, column], others + APART):
            pairs[row] = column
    return pairs


def _is_near(seen: Seen, track: Track) -> bool:
    """True where a track was seen just before, and no farther away than a thing in a hand gets."""
    apart = np.hypot(*(seen.box[:2] + seen.box[2:] - track.place[:2] - track.place[2:])) / 2
    return track.missed <= RECENT and bool(apart <= (track.missed + 1) * np.sqrt(track.size))


def _may_be_of_one_class(seen: Seen, track: Track) -> bool:
    return not seen.class_id or not track.class_id or seen.class_id == track.class_id


def _likeness(seen: Seen, track: Track) -> float:
    return float((seen.colours * track.colours).sum())


def mask_iou(first: Bool, first_window: Rectangle, second: Bool, second_window: Rectangle) -> float:
    """IoU of two masks, each (h, w) in its window."""
    own, other = overlap_of(first_window, second_window)
    shared = int(np.count_nonzero(first[own] & second[other]))
    return shared / max(1, int(np.count_nonzero(first)) + int(np.count_nonzero(second)) - shared)


def box_of(mask: Bool, window: Rectangle) -> Float:
    """(4,) x0 y0 x1 y1 in pixels of the image around a mask (h, w) in its window; the window itself where the mask is empty."""
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    if not width:
        return np.array([window[1].start, window[0].start, window[1].stop, window[0].stop], np.float32)
    left, top = window[1].start + x, window[0].start + y
    return np.array([left, top, left + width, top + height], np.float32)


def share_within(box: Float, place: Float) -> float:
    """Share of a box x0 y0 x1 y1 that lies in another."""
    shared = np.clip(np.minimum(box[2:], place[2:]) - np.maximum(box[:2], place[:2]), 0, None).prod()
    return float(shared / max(float((box[2:] - box[:2]).prod()), 1e-6))


def colours_of(image: npt.NDArray[np.uint8], window: Rectangle, mask: Bool) -> Float:
    """(256,) square roots of the shares of a mask's pixels in bins of colour (Lab), of every second pixel of every second row."""
    step = 2 if mask.size > 400 else 1
    own = mask[::step, ::step]
    if not own.any():
        return np.zeros(BINS, np.float32)
    lab = cv2.cvtColor(np.ascontiguousarray(image[window][::step, ::step]), cv2.COLOR_RGB2LAB)[own]
    # Most things differ in hue more than in lightness, which changes with the place: fewer bins for it, and finer ones around grey.
    a, b = (np.clip((lab[:, axis].astype(int) - 128) // 8 + 4, 0, 7) for axis in (1, 2))
    counts = np.bincount((a * 8 + b) * 4 + lab[:, 0] // 64, minlength=BINS)
    return np.asarray(np.sqrt(counts / counts.sum()), np.float32)
