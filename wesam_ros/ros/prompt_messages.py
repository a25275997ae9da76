"""Marks and objects between messages and the page's values."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

from wesam_ros.data.boxes import box_of_mask
from wesam_ros.data.messages import stamp_of
from wesam_ros.msg import AdaptationStatus, Object
from wesam_ros.msg import Prompt as PromptMessage
from wesam_ros.ros.objects import mask_message
from wesam_ros.web.history import Learnt
from wesam_ros.web.values import Marks, SeenObject


def prompt_message(marks: Marks, name: str) -> PromptMessage:
    """Marks as a message; `name` is its id."""
    message = PromptMessage(id=name, score=1.0)
    if marks.box is not None:
        message.has_box, message.box = True, np.array(marks.box, np.float32)
    message.points = array("f", [value for x, y, _ in marks.points for value in (x, y)])
    message.point_labels = array("B", [int(on) for *_, on in marks.points])
    if marks.mask is not None:
        x0, y0, x1, y1 = box_of_mask(marks.mask).tolist()
        message.mask = mask_message(marks.mask, (slice(y0, y1), slice(x0, x1)))
    return message


def seen_object(message: Object) -> SeenObject:
    """An object as the page shows it."""
    mask = message.mask
    pixels = np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width) > 0
    size = distance = None
    if message.has_3d:
        measured = message.box_size if message.box_points else message.extent
        size = measured.x, measured.y, measured.z
        distance = float(np.linalg.norm([message.centroid.x, message.centroid.y, message.centroid.z]))
    x0, y0, x1, y1 = map(float, message.box)
    return SeenObject(
        id=message.id,
        class_id=message.class_id,
        score=message.score,
        source=message.source,
        track_id=message.track_id,
        box=(x0, y0, x1, y1),
        mask=pixels,
        corner=(mask.x, mask.y),
        size=size,
        distance=distance,
    )


def learnt_of(message: AdaptationStatus, at: float) -> Learnt:
    """A status as the page shows it; `at` is when it came, in monotonic seconds."""
    losses: dict[str, Any] = dict(zip(message.loss_names, message.losses, strict=False))
    return Learnt(
        stamp=stamp_of(message.header),
        at=at,
        state=message.state,
        accepted=message.accepted,
        reason=message.reason,
        version=message.version,
        seen=message.frames_seen,
        took=message.frames_accepted,
        refused=message.frames_rejected,
        candidates_refused=message.candidates_rejected,
        proposal=message.proposal_reason,
        candidate=message.validation_score,
        published=message.validation_score_published,
        frozen=message.validation_score_frozen,
        losses=losses,
    )
