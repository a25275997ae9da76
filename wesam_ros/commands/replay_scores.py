"""What the graph answered to a recording, held against the frozen model and, only here, against the recording's true labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wesam_ros.data.frames import Frame
from wesam_ros.data.recordings.bags import read_bag
from wesam_ros.data.recordings.requests import requests_of
from wesam_ros.data.recordings.topics import BagTopics
from wesam_ros.engines.engine import Engine
from wesam_ros.engines.segmentation import segment
from wesam_ros.evaluation.metrics import boxes_to_score, score_frame
from wesam_ros.evaluation.report import FrameRecord, Picture, chosen_frames
from wesam_ros.msg import AdaptationStatus, ObjectArray
from wesam_ros.ros.objects import mask_of
from wesam_ros.sam.masks import Masks
from wesam_ros.sam.prompts import Prompts


@dataclass(frozen=True, eq=False)
class Compared:
    """The masks of one request from the graph and from the frozen model, for the same prompts of n objects; `answer` is the graph's."""

    frame: Frame
    prompts: Prompts
    answer: ObjectArray
    status: AdaptationStatus | None
    adapted: Masks
    frozen: Masks


def compare(
    bag: Path,
    topics: BagTopics,
    answers: Mapping[int, Sequence[ObjectArray]],
    statuses: Mapping[int, Sequence[AdaptationStatus]],
    engine: Engine,
    limit: int,
) -> Iterator[Compared]:
    """For each request of the recording that was answered: its masks, and those of the same engine without an adapter.

    Args:
        bag: the recording.
        topics: its topics; true labels are read if it has a topic for them.
        answers: what the segmenter published, by stamp in nanoseconds, in the order in which it came.
        statuses: what the adapter node published, likewise.
        engine: with the model that the segmenter has.
        limit: the segmenter's max_boxes.

    Raises:
        ValueError: the graph answered with other objects than the recording asks for.
    """
    for frame in read_bag(bag, topics=topics, labels=bool(topics.labels)):
        left = list(answers.get(frame.stamp_ns, ()))
        said = list(statuses.get(frame.stamp_ns, ()))
        for _, request in requests_of(frame):
            request = request.best(limit)
            place = next((i for i, each in enumerate(left) if tuple(o.id for o in each.objects) == request.detections.ids), None)
            status = said.pop(0) if said else None  # of detections and prompts for one image they come in this order, unless one was lost
            if place is not None:
                frozen = segment(engine, frame.image, request.prompts, None)
                answer = left.pop(place)
                yield Compared(frame, request.prompts, answer, status, masks_of(answer, frame.size), frozen)
        if left:
            raise ValueError(f"an answer to the frame with stamp {frame.stamp_ns} ns has other objects than the recording asks for")


def masks_of(answer: ObjectArray, size: tuple[int, int]) -> Masks:
    """The masks of a message for an image of `size` (H, W); it does not carry the low-resolution logits, which are (n, 0, 0) here."""
    masks = np.zeros((len(answer.objects), *size), bool)
    for row, each in enumerate(answer.objects):
        masks[row] = mask_of(each.mask, size)
    return Masks(masks, np.array([each.score for each in answer.objects], np.float32), np.zeros((len(masks), 0, 0), np.float32))


def record_of(compared: Compared) -> FrameRecord:
    """The report's row for one request; without true labels its IoU is empty."""
    answer, status = compared.answer, compared.status
    losses = dict(zip(status.loss_names, status.losses, strict=True)) if status is not None else {}
    labels = compared.frame.labels
    boxes = boxes_to_score(compared.prompts, labels) if labels is not None else None
    adapted, frozen = (
        score_frame(each.masks, boxes, labels) if labels is not None and boxes is not None else None
        for each in (compared.adapted, compared.frozen)
    )
    return FrameRecord(
        stamp_ns=compared.frame.stamp_ns,
        iou_frozen=frozen.iou.tolist() if frozen is not None else (),
        iou_adapted=adapted.iou.tolist() if adapted is not None else (),
        missed=adapted.missed if adapted is not None else 0,
        false=adapted.false if adapted is not None else 0,
        latency_ms=answer.latency_ms,
        adapter_version=answer.adapter_version,
        accepted=status is not None and status.accepted,
        reason=status.reason if status is not None else "not seen",
        losses=losses,
    )


def pictures_of(records: Sequence[FrameRecord], compare_again: Callable[[], Iterator[Compared]]) -> list[Picture]:
    """Pictures of the frames worth showing: best and worst gains, first and last; without labels the first, middle and last frame."""
    captions = dict(chosen_frames(records)) or {0: "First frame", len(records) // 2: "Middle", len(records) - 1: "Last frame"}
    pictures = []
    for index, each in enumerate(compare_again()):
        if index in captions:
            label_images = each.frozen.label_image(), each.adapted.label_image()
            pictures.append(Picture(index, captions[index], each.frame.image, *label_images, each.frame.labels))
        if index >= max(captions):
            break
    return pictures
