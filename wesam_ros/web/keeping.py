"""A person's mask on its way to the learner.

The nodes keep the newest images only. A person takes longer than that to click. So where the image has left them, the mask is looked for in
the newest one, with the mask as a coarse prompt, and sent with that image if it is still there.
"""

from __future__ import annotations

import asyncio
import itertools
import time

import numpy as np
import numpy.typing as npt

from wesam_ros.data.boxes import box_of_mask
from wesam_ros.web.history import Learnt
from wesam_ros.web.values import PERSON, Marks, Outcome, Robot, RobotError, SeenFrame, SeenObject

SAME = 0.7
"""IoU of a mask with the one found in the newest image from which on it is taken for the same thing at the same place."""
STATUS_SECONDS = 60.0
OTHER_SECONDS = 5.0
"""A second status for an image is waited for so long."""
POLL_SECONDS = 0.1
_numbers = itertools.count(1)


def whole_mask(each: SeenObject, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The (H, W) mask of an object in an image of `size`."""
    mask = np.zeros(size, bool)
    (x, y), (height, width) = each.corner, each.mask.shape
    mask[y : y + height, x : x + width] = each.mask
    return mask


def iou(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """Intersection over union of two masks (H, W); 1 where both are empty."""
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 1.0


def marks_of(mask: npt.NDArray[np.bool_]) -> Marks:
    """The marks that a mask is learnt from: its box, and itself as a coarse mask."""
    x0, y0, x1, y1 = map(float, box_of_mask(mask))
    return Marks(box=(x0, y0, x1, y1), mask=mask)


async def keep(robot: Robot, frame: SeenFrame, found: SeenObject) -> Outcome:
    """Sends a mask to the learner, and waits for what it makes of it.

    Args:
        robot: whose nodes learn.
        frame: the image in which the mask was drawn.
        found: the object with the mask.
    """
    if not found.mask.any():
        return Outcome(False, "there is no mask to keep")
    try:
        sent, mask = await _place(robot, frame, whole_mask(found, frame.size))
        before = len(_statuses(robot, sent.stamp))
        await robot.teach(sent, marks_of(mask), f"{PERSON}{next(_numbers)}")
    except RobotError as error:
        return Outcome(False, str(error))
    return await _answer(robot, sent.stamp, before)


async def _place(robot: Robot, frame: SeenFrame, mask: npt.NDArray[np.bool_]) -> tuple[SeenFrame, npt.NDArray[np.bool_]]:
    """The frame to send a mask with, and the mask in it. RobotError: the scene has changed."""
    if robot.is_recent(frame.stamp):
        return frame, mask
    newest = await asyncio.to_thread(robot.frame)
    if newest is None or newest.size != frame.size:
        raise RobotError("no picture comes any more; try again when it does")
    again = await robot.segment(newest, [marks_of(mask)])
    there = whole_mask(again[0], newest.size) if again else np.zeros_like(mask)
    if iou(there, mask) < SAME:
        raise RobotError("the scene has changed since this picture; go back to the live picture and click again")
    return newest, there


def _statuses(robot: Robot, stamp: int) -> list[Learnt]:
    return [each for each in list(robot.history.learnt) if each.stamp == stamp]


async def _answer(robot: Robot, stamp: int, before: int) -> Outcome:
    """The learner's answer to a frame, of which there were so many statuses `before`.

    The detector's request for the same image has a status, too, and may still be on its way, or have been dropped.
    """
    wanted, end = max(before + 1, 2), time.monotonic() + STATUS_SECONDS
    while time.monotonic() < end:
        found = _statuses(robot, stamp)
        if len(found) >= wanted or (len(found) > before and time.monotonic() - found[-1].at > OTHER_SECONDS):
            return _outcome(found[-1])
        await asyncio.sleep(POLL_SECONDS)
    return Outcome(False, f"the adapter node did not answer within {STATUS_SECONDS:g} s: is it running?")


def _outcome(status: Learnt) -> Outcome:
    if status.state == "paused":
        return Outcome(False, "learning is paused: nothing was learnt from it")
    return Outcome(status.accepted, "it is learnt from now" if status.accepted else f"the learner rejected it: {status.reason}")
