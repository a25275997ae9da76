"""Transforms between frames at a time, from /tf and /tf_static. Pure numpy: tf2_ros is not to be had without a ROS install."""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from wesam_ros.data.rotations import rotation_matrix

Float = npt.NDArray[np.float64]

KEPT_NS = 10 * 10**9
"""Transforms of the last ten seconds are kept, as tf2 does."""
MAX_DEPTH = 100
"""No tree of frames is deeper; more means that it has a loop."""


class TransformError(LookupError):
    """A transform that cannot be had: the message says which and why."""


class TransformBuffer:
    """The tree of frames, as tf2's buffer has it: a frame has one parent; static transforms hold for ever, others are interpolated.

    Messages are added in one thread, looked up in others.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._parents: dict[str, str] = {}
        self._static: dict[str, tuple[Float, Float]] = {}
        self._moving: dict[str, list[tuple[int, Float, Float]]] = {}

    def add(self, transforms: Iterable[Any], *, static: bool) -> None:
        """Takes geometry_msgs/TransformStamped messages; those with values that are not finite or a quaternion of length 0 are ignored."""
        with self._changed:
            for each in transforms:
                t, q = each.transform.translation, each.transform.rotation
                translation, rotation = np.array([t.x, t.y, t.z]), np.array([q.x, q.y, q.z, q.w])
                with np.errstate(over="ignore"):
                    length = float(np.linalg.norm(rotation))
                if not np.isfinite(translation).all() or not np.isfinite(length) or length < 1e-6:
                    continue
                child = each.child_frame_id.lstrip("/")
                self._parents[child] = each.header.frame_id.lstrip("/")
                if static:
                    self._static[child] = (translation, rotation / length)
                else:
                    stamp = each.header.stamp.sec * 10**9 + each.header.stamp.nanosec
                    self._insert(child, (stamp, translation, rotation / length))
            self._changed.notify_all()

    def lookup(self, target: str, source: str, stamp: int, timeout: float = 0.0) -> Float:
        """(4, 4) that takes points from `source` to `target` at `stamp` (nanoseconds), waiting up to `timeout` seconds for it.

        Raises:
            TransformError: a frame is unknown, the two are not connected, or the stamp is not covered.
        """
        end = time.monotonic() + timeout
        with self._changed:
            while True:
                try:
                    to_root, root = self._to_root(source.lstrip("/"), stamp)
                    other, other_root = self._to_root(target.lstrip("/"), stamp)
                    if root != other_root:
                        raise TransformError(f"{source} and {target} are not connected: their roots are {root} and {other_root}")
                    return np.asarray(np.linalg.inv(other) @ to_root)
                except TransformError:
                    left = end - time.monotonic()
                    if left <= 0:
                        raise
                    self._changed.wait(left)

    def _insert(self, child: str, entry: tuple[int, Float, Float]) -> None:
        track = self._moving.setdefault(child, [])
        if track and entry[0] < track[-1][0] - KEPT_NS:
            track.clear()  # the clock went back, as where a recording starts again; else the old ones would push out all new ones
        bisect.insort(track, entry, key=lambda kept: kept[0])
        newest = track[-1][0]
        del track[: bisect.bisect_left(track, newest - KEPT_NS, key=lambda kept: kept[0])]

    def _to_root(self, frame: str, stamp: int) -> tuple[Float, str]:
        if frame not in self._parents and frame not in self._parents.values():
            raise TransformError(f"frame {frame!r} is not in TF; start what publishes it")
        matrix = np.eye(4)
        for _ in range(MAX_DEPTH):
            if frame not in self._parents:
                return matrix, frame
            matrix = self._to_parent(frame, stamp) @ matrix
            frame = self._parents[frame]
        raise TransformError(f"the frames above {frame!r} form a loop")

    def _to_parent(self, child: str, stamp: int) -> Float:
        if child in self._static:
            return _matrix(*self._static[child])
        track = self._moving[child]
        after = bisect.bisect_left(track, stamp, key=lambda kept: kept[0])
        if after < len(track) and track[after][0] == stamp:
            return _matrix(*track[after][1:])
        if after in (0, len(track)):
            side = "before" if after == 0 else "after"
            raise TransformError(f"the image's stamp lies {side} all transforms of frame {child!r}; check the clocks")
        (t0, translation0, rotation0), (t1, translation1, rotation1) = track[after - 1], track[after]
        part = (stamp - t0) / (t1 - t0)
        return _matrix(translation0 + part * (translation1 - translation0), _slerp(rotation0, rotation1, part))


def _slerp(q0: Float, q1: Float, part: float) -> Float:
    """The rotation at `part` of the way between two unit quaternions, the short way round (Shoemake, SIGGRAPH 1985)."""
    cosine = float(q0 @ q1)
    if cosine < 0:
        q1, cosine = -q1, -cosine
    if cosine > 0.9995:  # so close that the sine below would lose its digits
        mixed = q0 + part * (q1 - q0)
        return np.asarray(mixed / np.linalg.norm(mixed))
    angle = np.arccos(cosine)
    return np.asarray((np.sin((1 - part) * angle) * q0 + np.sin(part * angle) * q1) / np.sin(angle))


def _matrix(translation: Float, rotation: Float) -> Float:
    """(4, 4) of a translation and a unit quaternion x y z w."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_matrix(*rotation)
    matrix[:3, 3] = translation
    return matrix
