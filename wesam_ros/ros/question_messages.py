"""Questions to a person between values and messages."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import numpy as np
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from wesam_ros.data.boxes import box_of_mask
from wesam_ros.data.codecs import CodecError, encode_jpeg
from wesam_ros.data.messages import image_of, stamp_of
from wesam_ros.msg import Question, Questions
from wesam_ros.ros.objects import mask_message
from wesam_ros.srv import AnswerQuestion
from wesam_ros.web.values import Asked, Asking, SeenFrame, SeenObject

if TYPE_CHECKING:  # with it comes torch, which the page does without
    from wesam_ros.adaptation import questions

MARGIN = 0.5
"""Share of the object's sides that is shown around it."""


def question_message(question: questions.Question) -> Question:
    """A question with the part of the image around box and mask."""
    left, top, right, bottom = box_of_mask(question.mask).tolist()
    mask_box, box = np.array([left, top, right, bottom], np.float32), question.box
    corners = np.minimum(mask_box[:2], box[:2]), np.maximum(mask_box[2:], box[2:])
    margin = MARGIN * (corners[1] - corners[0]) + 8
    height, width = question.mask.shape
    x0, y0 = np.floor(np.clip(corners[0] - margin, 0, (width - 1, height - 1))).astype(int).tolist()
    x1, y1 = np.ceil(np.clip(corners[1] + margin, 1, (width, height))).astype(int).tolist()
    header = Header()
    header.stamp.sec, header.stamp.nanosec = divmod(question.stamp_ns, 10**9)
    crop = np.ascontiguousarray(question.image[y0:y1, x0:x1])
    return Question(
        id=question.id,
        class_id=question.class_id,
        score=question.score,
        value=question.value,
        box=question.box,
        mask=mask_message(question.mask, (slice(top, bottom), slice(left, right))),
        image=CompressedImage(header=header, format="rgb8; jpeg compressed bgr8", data=array("B", encode_jpeg(crop))),
        x=x0,
        y=y0,
    )


def asking_of(message: Questions) -> Asking | None:
    """The questions of a learner as the page shows them; None where a message is not of an adapter node."""
    try:
        waiting = tuple(_asked_of(each) for each in message.questions)
    except (CodecError, ValueError):
        return None
    return Asking(waiting, message.answers, message.enabled)


def _asked_of(message: Question) -> Asked:
    """A question, all in pixels of the part that is shown."""
    pixels = image_of(message.image)
    mask = message.mask
    cut = np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width) > 0
    x0, y0, x1, y1 = (float(value) for value in message.box)
    box = (x0 - message.x, y0 - message.y, x1 - message.x, y1 - message.y)
    thing = SeenObject("", message.class_id, message.score, "model", 0, box, cut, (mask.x - message.x, mask.y - message.y))
    frame = SeenFrame(stamp_of(message.image.header), pixels, [thing], 0, "", 0.0)
    return Asked(message.id, frame, (message.x, message.y))


def answer_request(asked: Asked | None, kind: str, found: SeenObject | None) -> AnswerQuestion.Request:
    """An answer; `found` has the right mask in pixels of the part that was shown."""
    request = AnswerQuestion.Request(id=asked.id if asked is not None else 0, answer=kind)
    if asked is not None and found is not None:
        height, width = found.mask.shape
        request.mask = mask_message(found.mask, (slice(0, height), slice(0, width)))
        request.mask.x, request.mask.y = found.corner[0] + asked.corner[0], found.corner[1] + asked.corner[1]
    return request
