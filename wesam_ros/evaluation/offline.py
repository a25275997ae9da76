"""Adaptation to recordings without ROS, as `wesam adapt` does it. A run that was stopped or killed goes on where it was."""

from __future__ import annotations

import logging
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wesam_ros.adaptation.config import STEPS_PER_FRAME, AdaptationConfig
from wesam_ros.adaptation.learner import Learner
from wesam_ros.adaptation.state import pack, unpack, write
from wesam_ros.data.detection_grid import grid_of
from wesam_ros.data.detections import Detections
from wesam_ros.data.frames import Frame
from wesam_ros.data.recordings.bags import FrameMessages, conversion_of, find_topics, read_frame_messages
from wesam_ros.data.recordings.decoding import Conversion, usable_frame
from wesam_ros.data.recordings.reports import ReadingReport
from wesam_ros.data.recordings.requests import requests_of
from wesam_ros.data.recordings.topics import NO_TOPIC, REQUESTS, BagError, BagTopics
from wesam_ros.data.requests import Request, request_of_detections
from wesam_ros.data.stamps import SLOP_SECONDS
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.evaluation.metrics import boxes_to_score, score_frame
from wesam_ros.evaluation.prequential import LearnerOnStream, Turn, prequential
from wesam_ros.evaluation.prompts import Prompted
from wesam_ros.evaluation.report import FrameRecord, Picture, RunRecord, chosen_frames, write_report
from wesam_ros.sam.adapter import Adapter
from wesam_ros.sam.checkpoints import load_sam
from wesam_ros.scene.proposals import Proposer
from wesam_ros.scene.refiner import Refiner

log = logging.getLogger(__name__)

ADAPTER_FILE, STATE_FILE = "adapter.safetensors", "state.pt"
SAVE_SECONDS = 60.0
"""A state is saved at the latest so many seconds after the one before: ViT-B takes minutes for a few frames, and is killed all the same."""


@dataclass(frozen=True)
class Plan:
    """A run: what is learnt from, how, and where the results go.

    Attributes:
        bags: recordings, in the order in which they are learnt from.
        out: folder of the adapter, the state and the report.
        topics: the recordings' topics that were named, by role; others are found by their types.
        adapter: file of the adapter to start from; None is the frozen model.
        passes: how often the recordings are gone through.
        steps_per_frame: training steps after each request.
        save_every: frames between two saved states.
        sync_slop: seconds that the stamp of a depth may be off its image's.
        seed: of everything that is drawn.
        model, checkpoint, device: as of load_sam.
        detections_size: grid of the detections' boxes, as the nodes' parameter; "" is the image's.
        rectified: whether images are rectified, as the nodes' parameter.
        propose: of PROPOSE_CHOICES but "missing"; with "all" the recordings' detections and prompts are not read.
        config: options of the method.
    """

    bags: tuple[Path, ...]
    out: Path
    topics: Mapping[str, str] = field(default_factory=dict)
    adapter: Path | None = None
    passes: int = 1
    steps_per_frame: int = STEPS_PER_FRAME
    save_every: int = 50
    sync_slop: float = SLOP_SECONDS
    seed: int = 0
    model: str = "tiny"
    checkpoint: Path | None = None
    device: str = "cpu"
    detections_size: str = ""
    rectified: str = "auto"
    propose: str = "off"
    config: AdaptationConfig = field(default_factory=AdaptationConfig)

    def __post_init__(self) -> None:
        for name in ("passes", "steps_per_frame", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, but got {getattr(self, name)}")
        grid_of(self.detections_size)
        if self.propose not in ("off", "all"):
            raise ValueError(f"propose must be off or all, but got {self.propose!r}")

    @property
    def named_topics(self) -> dict[str, str]:
        """The topics that were named, by role; no request's where nothing has to be asked for."""
        return {**self.topics, **(dict.fromkeys(REQUESTS, NO_TOPIC) if self.propose == "all" else {})}


class OfflineRun:
    """A learner on recordings: how many frames it has seen, and what the report will say of them."""

    def __init__(self, plan: Plan, say: Callable[[str], object] = log.info) -> None:
        """Makes the learner, or takes up the one whose state is in the folder.

        Args:
            plan: the run.
            say: told how far it is, now and then.

        Raises:
            ValueError: a recording, adapter or state that cannot be used.
        """
        self.plan, self._say = plan, say
        self._topics = topics_of(plan)  # an error now, not in hours
        sam = load_sam(plan.model, plan.checkpoint, plan.device)
        start = Adapter.load(plan.adapter, for_sam=sam) if plan.adapter is not None else None
        self.learner = Learner(sam, plan.config, plan.seed, start)
        # Without tracks, so that a run which was interrupted has the figures of one that was not.
        self._engine, self._of_frozen, self._of_adapted = TorchEngine(sam), Refiner(stream=False), Refiner(stream=False)
        self._seen, self._seconds, self._saved = 0, 0.0, time.monotonic()
        self._rejected: Counter[str] = Counter()
        self._reading, self._decoding, self._proposer = ReadingReport(), ReadingReport(), Proposer()
        self._records: list[FrameRecord] = []
        self._shown: dict[int, tuple[Tensor, ...]] = {}
        self._setting = {
            "recordings": [str(bag) for bag in plan.bags],
            "topics": dict(plan.topics),
            "steps per frame": plan.steps_per_frame,
            "sync slop": plan.sync_slop,
            "rectified": plan.rectified,
            "start": str(plan.adapter or ""),
            "propose": plan.propose,
            "method": asdict(self.learner.config),
        }
        plan.out.mkdir(parents=True, exist_ok=True)
        if (plan.out / STATE_FILE).exists():
            self._load()
        self._subject = LearnerOnStream(self.learner)

    @property
    def learnt(self) -> bool:
        """True where something was asked for in a frame, so that there is something to report."""
        return bool(self._records)

    def run(self) -> bool:
        """Goes through what has not been seen yet; True if Ctrl-C ended it early. A second Ctrl-C ends it at once, as a kill does.

        Raises:
            BagError: a recording is damaged further on; what was learnt before is saved, and `report` has it.
        """
        with _interrupts() as interrupts:
            try:
                for frame in self._frames():
                    self._take(frame)
                    if interrupts or self._seen % self.plan.save_every == 0 or time.monotonic() - self._saved > SAVE_SECONDS:
                        self._save()
                    if interrupts:
                        return True
                self._save()
            except BagError as error:
                if not self._seen:
                    raise
                self._save()
                saved = f"what was learnt from the {self._seen} frames before is saved"
                raise BagError(f"{error}; {saved}, and the same command goes on from there where the recording is mended") from error
        return False

    def _frames(self) -> Iterator[Frame]:
        """The frames not seen yet; those that were are not decoded again. Labels are read, where there are some, for the report alone."""
        for parts, bag, conversion in islice(_messages_of(self.plan, self._topics, self._reading), self._seen, None):
            frame = usable_frame(parts, bag.stem, self._decoding, conversion)
            if frame is None:
                self._seen += 1
            else:
                yield frame

    def _take(self, frame: Frame) -> None:
        """Learns from a frame as the adapter node does: from each thing that asks for something in it, detections before prompts."""
        began = time.monotonic()
        asked = _everything(frame, self) if self.plan.propose == "all" else requests_of(frame, self.plan.detections_size)
        stream = (self._prompted(frame, source, request) for source, request in asked)
        for turn in prequential(self._subject, stream, lambda _: self.plan.steps_per_frame, self._predict):
            self._note(turn)
        self._seen += 1
        self._seconds += time.monotonic() - began
        if self._seen % 10 == 0:
            pace = self._seen / self._seconds
            self._say(f"frame {self._seen}, {pace:.2f} a second, adapter version {self.learner.adapter.version}")

    def _prompted(self, frame: Frame, source: str, request: Request) -> Prompted:
        """A request of the stream; objects that cannot be used are counted, and the first of each kind is logged."""
        count, told = request.foreign  # used as far as they lie in the image, and told of
        for reason, sentence in (*request.rejected, *(("foreign", told),) * count):
            name = f"{source}.{reason}"
            if name not in self._rejected:
                log.warning("frame with stamp %s ns, %s: %s; more of the kind are counted only", frame.stamp_ns, source, sentence)
            self._rejected[name] += 1
        return Prompted(frame, request.prompts, source=source)

    def _predict(self, prompted: Prompted, adapter: Adapter | None) -> FrameRecord:
        """The record of a request, with its scores where there are labels; its masks are kept as long as the report may show them."""
        frame, prompts = prompted.frame, prompted.prompts
        version = adapter.version if adapter is not None else 0
        record = FrameRecord(frame.stamp_ns, adapter_version=version)
        if frame.labels is None or not len(prompts):
            return record
        boxes = boxes_to_score(prompts, frame.labels)
        frozen = self._engine.segment(frame.image, prompts)
        refined = self._of_frozen.refine(frame, prompts, frozen)
        adapted = self._of_adapted.refine(frame, prompts, self._engine.segment(frame.image, prompts, adapter) if version else frozen)
        scores = [score_frame(each.masks, boxes, frame.labels) for each in (frozen, adapted, refined)]
        pictures = (frame.image, frozen.label_image(), adapted.label_image(), frame.labels)
        self._shown[len(self._records)] = tuple(torch.from_numpy(np.array(each)) for each in pictures)
        ious = dict(zip(("iou_frozen", "iou_adapted", "iou_refined"), (each.iou.tolist() for each in scores), strict=True))
        return replace(record, **ious, missed=scores[1].missed, false=scores[1].false)

    def _note(self, turn: Turn[FrameRecord]) -> None:
        """Adds a request's record; pictures that the report will not show are dropped."""
        losses = turn.steps[-1].losses if turn.steps else {}
        admission = turn.admission
        self._records.append(replace(turn.prediction, accepted=admission.accepted, reason=admission.reason, losses=losses))
        wanted = dict(chosen_frames(self._records))
        self._shown = {index: shown for index, shown in self._shown.items() if index in wanted}

    def _save(self) -> None:
        """The adapter and the state, each whole or not at all: a kill in between loses what was done since the save before."""
        state = {
            "setting": self._setting,
            "learner": pack(self.learner),
            "seen": self._seen,
            "seconds": self._seconds,
            "records": [asdict(record) for record in self._records],
            "shown": self._shown,
            "refused": dict(self._rejected),
            "left out": dict(self._decoding.left_out),
        }
        write(state, self.plan.out / STATE_FILE)
        self.learner.adapter.save(self.plan.out / ADAPTER_FILE)
        self._saved = time.monotonic()

    def _load(self) -> None:
        path = self.plan.out / STATE_FILE
        try:
            state = torch.load(path, weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file
            raise ValueError(f"{path} cannot be read ({error}); remove it to start anew") from error
        try:
            self._restore(state)
        except (LookupError, TypeError, AttributeError) as error:
            what = f"{path} holds something else than `wesam adapt` saves there ({type(error).__name__}: {error})"
            raise ValueError(f"{what}; remove it to start anew, or give another --out") from error
        self._say(f"goes on after frame {self._seen}")

    def _restore(self, state: Any) -> None:
        setting = {
            "sync slop": SLOP_SECONDS,
            "rectified": "auto",
            "propose": "off",
            **state["setting"],
            "method": state["setting"]["method"],
        }
        if changed := [name for name, value in self._setting.items() if setting.get(name) != value]:
            raise ValueError(
                f"{self.plan.out / STATE_FILE} is of a run with other {' and '.join(changed)}; give the same ones, or another --out"
            )
        unpack(self.learner, state["learner"])
        self._seen, self._seconds, self._shown = state["seen"], state["seconds"], state["shown"]
        self._records = [FrameRecord(**record) for record in state["records"]]
        self._rejected = Counter(state["refused"])
        self._decoding.left_out.update(state.get("left out", {}))

    def report(self, facts: Mapping[str, str]) -> dict[str, Any]:
        """Writes the report of all frames; returns its summary.

        Args:
            facts: further rows for its table about the run.

        Raises:
            ValueError: nothing was asked for in any frame.
        """
        if not self._records:
            lost = "; ".join(["", *self._reading.sentences(), *self._decoding.sentences()])
            raise ValueError(f"no image that can be used has detections or prompts of its stamp, so nothing was learnt{lost}")
        captions = dict(chosen_frames(self._records))
        pictures = [Picture(index, captions[index], *(each.numpy() for each in shown)) for index, shown in sorted(self._shown.items())]
        rejected = ", ".join(f"{count} {name}" for name, count in sorted(self._rejected.items())) or "none"
        left_out = ReadingReport(left_out=self._reading.left_out + self._decoding.left_out)
        rows = {
            "Recordings": ", ".join(bag.name for bag in self.plan.bags),
            "Model": self.plan.model,
            "Started from": self.plan.adapter.name if self.plan.adapter is not None else "the frozen model",
            "Training steps per frame": str(self.plan.steps_per_frame),
            **facts,
            "Objects rejected": rejected,
            "Messages left out": left_out.counted() or "none",
            "Took": f"{self._seconds:.0f} s",
        }
        record = RunRecord(", ".join(bag.stem for bag in self.plan.bags), self.plan.seed, self._records, pictures, rows)
        return write_report(record, self.plan.out)


def topics_of(plan: Plan) -> dict[Path, BagTopics]:
    """The topics of each recording of a run."""
    return {bag: find_topics(bag, plan.named_topics, detections_required=plan.propose == "off") for bag in plan.bags}


def _everything(frame: Frame, run: OfflineRun) -> Iterator[tuple[str, Request]]:
    """The request for everything in a frame, as the segmenter with the newest adapter would propose it."""
    engine, adapter = run._engine, run.learner.adapter if run.learner.adapter.version else None
    found = run._proposer.propose(frame, partial(engine.decode, engine.encode(frame.image, adapter)))
    yield "proposals", request_of_detections(Detections(found.boxes, scores=found.scores), frame.size)


def _messages_of(plan: Plan, topics: Mapping[Path, BagTopics], report: ReadingReport) -> Iterator[tuple[FrameMessages, Path, Conversion]]:
    """Yields the messages of each frame of a run, pass by pass, with their recording and how they are converted."""
    for bag in plan.bags * plan.passes:
        chosen, conversion = topics[bag], conversion_of(bag, plan.rectified)
        asked = plan.propose == "off"
        rows = read_frame_messages(
            bag, topics=chosen, labels=bool(chosen.labels), detections_required=asked, report=report, sync_slop=plan.sync_slop
        )
        yield from ((each, bag, conversion) for each in rows)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """A list that Ctrl-C puts something into, so that a frame is finished; the second Ctrl-C raises KeyboardInterrupt."""
    came: list[int] = []

    def note(*_: Any) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(1)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, before)
