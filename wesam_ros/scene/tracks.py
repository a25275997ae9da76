"""Stable ids of objects from frame to frame, and what earlier frames said of their pixels.

Each track carries its object's log-odds by image motion to the next frame. Objects are matched to tracks by the IoU of masks and of boxes
(Kuhn, 1955; scipy's assignment; tracks_matching.py). What is left was moved: it is matched by colours and size, if nothing else looks like
it. The log-odds of a pixel are the running mean over the frames in which the picture there has not changed: noise fades, and news counts at
once. An object that was not detected can be asked for by its carried mask (`lost`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wesam_ros.data.boxes import box_iou
from wesam_ros.data.frames import Frame
from wesam_ros.sam.upscaling import Rectangle
from wesam_ros.scene.motion import Flow, Motion
from wesam_ros.scene.tracks_matching import SAME_BOX, Seen, Track, box_of, colours_of, mask_iou, matched, share_within
from wesam_ros.scene.tracks_places import pixel_of, point_of
from wesam_ros.scene.windows import moved_to

MOST_FRAMES = 8.0
"""Frames of which the running mean is, at most."""
FORGOTTEN = 0.01
"""Frames that a mask counts for which is to match its object, but to have no say in the next mask."""
KEPT_FRAMES = 60
"""Frames for which a track is kept without an object."""
NEWS = np.float32(0.25)
"""Weight of a frame in an object's colours: a mask of what covers it does not change them at once."""
SMALLER, UNCOVERED = 0.98, 0.5
"""Factor by which an object's size may fall from frame to frame, as the camera goes away, and share of it from which on a mask is whole."""
LEAST_KNOWN = 0.5
"""Share of a mask whose picture must not have changed for the object to be asked for again where it was not detected."""
SEEN = 2
"""Frames in which an object must have been detected for that: a detector's false boxes are rarely at one place twice."""
WITHIN, SETTLED = 0.8, 6
"""Share of its box in another's from which on it must have been detected in so many frames: a false box upon a thing would cut that."""
CONFIRMED = 0.5
"""IoU of the carried mask and the one that it leads to, below which the object is not served."""

Bool = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Lost:
    """A track whose object was not detected in the frame at hand, but is there still, as far as its pixels tell.

    Attributes:
        id: the track's.
        class_id: the detector's, of the last frame in which it was detected.
        box: (4,) x0 y0 x1 y1 around its carried mask, in pixels.
    """

    id: int
    class_id: str
    box: npt.NDArray[np.float32]


class Tracker:
    """The tracks of one stream. For each frame `lost`, where its objects are wanted, then `match`, then `keep`. One thread at a time."""

    def __init__(self) -> None:
        self._motion = Motion()
        self._flow: Flow | None = None
        self._stepped = False
        self._tracks: list[Track] = []
        self._objects: list[Track | None] = []
        self._detected = 0
        self._next = 1

    @property
    def ids(self) -> frozenset[int]:
        """Of all tracks that are kept."""
        return frozenset(track.id for track in self._tracks)

    def lost(self, frame: Frame, boxes: npt.NDArray[np.float32], most: int) -> list[Lost]:
        """Objects that none of the next frame's (n, 4) detected boxes is around, although their pixels have not changed.

        Args:
            frame: image, and as far as there are depth, camera and pose.
            boxes: x0 y0 x1 y1 in pixels.
            most: frames in succession for which an object may be asked for so; nor for more than it was detected in.
        """
        self._step(frame)
        if self._flow is None or self._flow.cut:
            return []
        found = []
        for track in self._tracks:
            mask = track.mask
            if track.seen < SEEN or track.missed >= min(most, track.seen) or np.count_nonzero(mask) < LEAST_KNOWN * max(1, track.area):
                continue
            box = box_of(mask, track.window)
            if len(boxes) and box_iou(box[None], boxes).max() >= SAME_BOX:
                continue
            if track.seen >= SETTLED or max((share_within(box, each) for each in boxes), default=0.0) < WITHIN:
                found.append(Lost(track.id, track.class_id, box))
        return found

    def match(
        self,
        frame: Frame,
        windows: Sequence[Rectangle],
        masks: Sequence[Bool],
        classes: Sequence[str],
        carried: Sequence[int] = (),
    ) -> list[int]:
        """Ids of n objects in the next frame; 0 for one of `carried` that is not there, or was detected after all.

        Args:
            frame: image, and as far as there are depth, camera and pose.
            windows: rows and columns of each object.
            masks: of each object in its window, (h, w), not yet shared out nor averaged.
            classes: the detector's, "" where it gave none.
            carried: tracks of the last objects, which were not detected, but are from `lost`.
        """
        self._step(frame)
        self._detected = count = len(windows) - len(carried)
        objects = [
            Seen(window, mask, name, colours_of(frame.image, window, mask), box_of(mask, window))
            for window, mask, name in zip(windows[:count], masks[:count], classes[:count], strict=True)
        ]
        cut = self._flow is None or self._flow.cut
        pairs, agreeing = matched(self._tracks, objects, moved=cut, posed=frame.pose is not None)
        self._objects = [self._tracks[pairs[row]] if row in pairs else self._begin(each) for row, each in enumerate(objects)]
        for row in pairs.keys() - agreeing:  # it is known by its place or colours: its masks of before are of something else, or elsewhere
            self._tracks[pairs[row]].frames = np.zeros_like(self._tracks[pairs[row]].frames)
        free = {track.id: track for track in self._tracks if track not in self._objects}
        for row, number in enumerate(carried, count):
            lost = free.get(number)
            there = lost is not None and mask_iou(lost.mask, lost.window, masks[row], windows[row]) >= CONFIRMED
            self._objects.append(lost if there else None)
        return [track.id if track is not None else 0 for track in self._objects]

    def forget_masks(self) -> None:
        """Forgets the log-odds of all tracks' pixels, and keeps their ids, places and colours."""
        for track in self._tracks:
            track.frames = np.minimum(track.frames, np.float32(FORGOTTEN))

    def average(self, index: int, odds: Float, window: Rectangle) -> Float:
        """(h, w) the mean log-odds of an object in its window, over this frame and those before in which the picture was the same."""
        track = self._objects[index]
        if track is None:
            return odds
        before, frames = (moved_to(each, track.window, window) for each in (track.odds, track.frames))
        return np.asarray((odds + frames * before) / (frames + 1), np.float32)

    def keep(
        self,
        frame: Frame,
        windows: Sequence[Rectangle],
        odds: Sequence[Float],
        masks: Sequence[Bool],
        classes: Sequence[str],
    ) -> None:
        """Keeps the frame's averaged log-odds and masks for the next one.

        Args:
            frame: image, and as far as there are depth, camera and pose.
            windows: of the objects, as in `match`.
            odds: averaged, (h, w) each.
            masks: as they are served, (h, w) each.
            classes: as in `match`.
        """
        for each in self._tracks:
            each.missed += 1
        for index, track in enumerate(self._objects):
            if track is None:
                continue
            window = windows[index]
            frames = moved_to(track.frames, track.window, window)
            track.window, track.odds, track.frames = window, odds[index], np.minimum(frames + 1, MOST_FRAMES)
            if index < self._detected:
                track.class_id, track.missed, track.seen = classes[index] or track.class_id, 0, track.seen + 1
            _describe(track, frame, window, masks[index])
        self._tracks = [track for track in self._tracks if track.missed <= KEPT_FRAMES]
        self._stepped = False

    def _step(self, frame: Frame) -> None:
        """Moves all tracks to the next frame, once."""
        if self._stepped:
            return
        self._flow, self._stepped = self._motion.step(frame.image), True
        for track in self._tracks:
            _carry(track, self._flow, frame)

    def _begin(self, seen: Seen) -> Track:
        none = np.zeros(seen.mask.shape, np.float32)
        track = Track(self._next, seen.class_id, seen.window, none, none, seen.colours, 0, seen.box)
        self._next += 1
        self._tracks.append(track)
        return track


def _describe(track: Track, frame: Frame, window: Rectangle, mask: Bool) -> None:
    """Area, place and colours of a track's newest mask (h, w); place and colours stay those of before where it is covered."""
    track.area = int(mask.sum()) or track.area
    track.size = max(track.area, SMALLER * track.size)
    if track.area >= UNCOVERED * track.size and mask.any():
        track.place, track.point = box_of(mask, window), point_of(frame, window, mask)
        track.pixel = pixel_of(frame, track.point) if track.point is not None else None
        news = colours_of(frame.image, window, mask) ** 2
        track.colours = np.sqrt(track.colours**2 + NEWS * (news - track.colours**2)) if track.seen > 1 else np.sqrt(news)


def _carry(track: Track, flow: Flow | None, frame: Frame) -> None:
    """Moves a track to the next frame."""
    _move_place(track, flow, frame)
    if flow is None:
        track.frames = np.zeros_like(track.frames)
        return
    window = flow.move(track.window)
    frames = flow.carry(track.frames, track.window, window)
    # A mean of log-odds is carried as a product with its weight, so that the border of what is known does not pull it to 0.
    weighted = flow.carry(track.odds * track.frames, track.window, window)
    track.odds = np.asarray(weighted / np.maximum(frames, np.float32(1e-3)), np.float32)
    track.frames, track.window = np.where(frames < FORGOTTEN / 2, np.float32(0), frames), window


def _move_place(track: Track, flow: Flow | None, frame: Frame) -> None:
    """Moves a track's place as its fixed point moves in the image, or, where that is unknown, as most of the picture does."""
    pixel = pixel_of(frame, track.point) if track.point is not None else None
    if pixel is not None and track.pixel is not None:
        track.place = np.asarray(track.place + np.tile(pixel - track.pixel, 2), np.float32)
    elif flow is not None:
        corners = track.place.reshape(2, 2) @ flow.camera[:, :2].T + flow.camera[:, 2]
        track.place = np.concatenate([corners.min(0), corners.max(0)]).astype(np.float32)
    track.pixel = pixel
