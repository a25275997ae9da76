"""A replay scored: the masks that the graph served, held against the frozen model's and, only here, against the recording's true labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from wesam_ros.data.frames import Frame
from wesam_ros.data.recordings.reports import ReadingReport
from wesam_ros.data.recordings.requests import requests_of
from wesam_ros.engines.engine import Engine
from wesam_ros.engines.segmentation import EncodedImage
from wesam_ros.evaluation.metrics import boxes_to_score, score_frame
from wesam_ros.evaluation.report import FrameRecord, Picture, chosen_frames
from wesam_ros.sam.masks import Masks
from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene import CARRY_FRAMES
from wesam_ros.scene.carrying import Carrying


@dataclass(frozen=True, eq=False)
class Served:
    """The segmenter's masks of one request: `ids` are of the n objects that it asked for. Objects that were carried are left out."""

    ids: tuple[str, ...]
    masks: Masks
    adapter_version: int
    latency_ms: float


@dataclass(frozen=True)
class Learnt:
    """The adapter node's status after one request: whether it was learnt from, why not, and the losses by name."""

    accepted: bool
    reason: str
    losses: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Compared:
    """The masks of one request from the graph, and from the frozen model, as they are and refined, for the same prompts of n objects."""

    frame: Frame
    prompts: Prompts
    served: Served
    learnt: Learnt | None
    frozen: Masks
    refined: Masks


@dataclass
class ReplayAccount:
    """The account of a replay: messages and objects that were no use, and requests that were not answered.

    Attributes:
        reading: messages left out of the recording, by the rules that the nodes have for live ones.
        objects: objects rejected, by "<input>.<reason>".
        unanswered: requests of images that can be used, but have no masks.
    """

    reading: ReadingReport = field(default_factory=ReadingReport)
    objects: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0

    def facts(self) -> dict[str, str]:
        """Rows of the report."""
        objects = ", ".join(f"{count} {name}" for name, count in sorted(self.objects.items()))
        return {"Objects rejected": objects or "none", "Messages left out": self.reading.counted() or "none"}


def compare(
    frames: Iterable[Frame],
    served_at: Callable[[int, tuple[int, int]], Sequence[Served]],
    learnt_at: Callable[[int], Sequence[Learnt]],
    engine: Engine,
    limit: int,
    account: ReplayAccount,
    detections_size: str = "",
) -> Iterator[Compared]:
    """For each request of the recording that was answered: its masks, and those of the same engine without an adapter.

    An answer without objects to a request that has some is a node's in lock step that could not segment the frame: it counts as none.

    Args:
        frames: of the recording, with true labels if it has them; `account` has what could not be read of them.
        served_at: gives what the segmenter published for a stamp in nanoseconds and an image of (H, W), in the order in which it came.
        learnt_at: gives what the adapter node published for a stamp, likewise.
        engine: with the model that the segmenter has.
        limit: the segmenter's max_boxes.
        account: takes what the recording could not give, and the requests that were not answered.
        detections_size: the segmenter's.

    Raises:
        ValueError: the graph answered with other objects than the recording asks for.
    """
    carrying = Carrying()
    for frame in frames:
        served, learnt = list(served_at(frame.stamp_ns, frame.size)), list(learnt_at(frame.stamp_ns))
        for source, request in requests_of(frame, detections_size):
            request = request.best(limit)
            account.objects.update(f"{source}.{reason}" for reason, _ in request.rejected)
            place = next((i for i, each in enumerate(served) if each.ids == request.detections.ids), None)
            # Of detections and prompts for one image the statuses come in this order, unless one was lost.
            status = learnt.pop(0) if learnt else None
            if place is not None:
                decode = partial(EncodedImage(frame.image, None).segment, engine)
                frozen = decode(request.prompts)
                most = 0 if source == "prompts" else CARRY_FRAMES  # as in the segmenter
                _, refined = carrying.serve(frame, request, decode, frames=most, limit=limit)
                yield Compared(frame, request.prompts, served.pop(place), status, frozen, refined.select(range(len(frozen))))
            else:
                account.unanswered += 1
        if any(each.ids for each in served):
            raise ValueError(f"an answer to the frame with stamp {frame.stamp_ns} ns has other objects than the recording asks for")


def record_of(compared: Compared) -> FrameRecord:
    """The report's row for one request; without true labels its IoU is empty."""
    served, learnt, labels = compared.served, compared.learnt, compared.frame.labels
    boxes = boxes_to_score(compared.prompts, labels) if labels is not None else None
    adapted, frozen, refined = (
        score_frame(each.masks, boxes, labels) if labels is not None and boxes is not None else None
        for each in (served.masks, compared.frozen, compared.refined)
    )
    return FrameRecord(
        stamp_ns=compared.frame.stamp_ns,
        iou_frozen=frozen.iou.tolist() if frozen is not None else (),
        iou_adapted=adapted.iou.tolist() if adapted is not None else (),
        iou_refined=refined.iou.tolist() if refined is not None else (),
        missed=adapted.missed if adapted is not None else 0,
        false=adapted.false if adapted is not None else 0,
        latency_ms=served.latency_ms,
        adapter_version=served.adapter_version,
        accepted=learnt is not None and learnt.accepted,
        reason=learnt.reason if learnt is not None else "not seen",
        losses=learnt.losses if learnt is not None else {},
    )


def pictures_of(records: Sequence[FrameRecord], compare_again: Callable[[], Iterator[Compared]]) -> list[Picture]:
    """Pictures of the frames worth showing: best and worst gains, first and last; without labels the first, middle and last frame."""
    captions = dict(chosen_frames(records)) or {0: "First frame", len(records) // 2: "Middle", len(records) - 1: "Last frame"}
    pictures = []
    for index, each in enumerate(compare_again()):
        if index in captions:
            label_images = each.frozen.label_image(), each.served.masks.label_image()
            pictures.append(Picture(index, captions[index], each.frame.image, *label_images, each.frame.labels))
        if index >= max(captions):
            break
    return pictures
