"""Adaptation to recordings without ROS, as `wesam adapt` does it. A run that was stopped or killed goes on where it was."""

from __future__ import annotations

import logging
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wesam_ros.adaptation.learner import Learner
from wesam_ros.adaptation.state import pack, unpack, write
from wesam_ros.adaptation.together import ALONE, Together
from wesam_ros.data.detections import Detections
from wesam_ros.data.frames import Frame
from wesam_ros.data.recordings.bags import FrameMessages, conversion_of, find_topics, read_frame_messages
from wesam_ros.data.recordings.decoding import Conversion, usable_frame
from wesam_ros.data.recordings.reports import ReadingReport
from wesam_ros.data.recordings.requests import requests_of
from wesam_ros.data.recordings.topics import BagError, BagTopics
from wesam_ros.data.requests import Request, request_of_detections
from wesam_ros.data.stamps import SLOP_SECONDS
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.evaluation.metrics import boxes_to_score, score_frame
from wesam_ros.evaluation.outcome import Outcome, merged, write_outcome
from wesam_ros.evaluation.plan import Plan
from wesam_ros.evaluation.prequential import LearnerOnStream, Turn, prequential
from wesam_ros.evaluation.prompts import Prompted
from wesam_ros.evaluation.report import FrameRecord, chosen_frames
from wesam_ros.sam.adapter import Adapter
from wesam_ros.sam.checkpoints import load_sam
from wesam_ros.scene.proposals import Proposer
from wesam_ros.scene.refiner import Refiner

log = logging.getLogger(__name__)

ADAPTER_FILE, STATE_FILE = "adapter.safetensors", "state.pt"
SAVE_SECONDS = 60.0
"""A state is saved at the latest so many seconds after the one before: ViT-B takes minutes for a few frames, and is killed all the same."""


class OfflineRun:
    """A learner on recordings: how many frames it has seen, and what the report will say of them."""

    def __init__(self, plan: Plan, say: Callable[[str], object] = log.info, together: Together = ALONE) -> None:
        """Makes the learner, or takes up the one whose state is in the folder.

        Args:
            plan: the run; of several processes, what all of them do.
            say: told how far it is, now and then.
            together: the processes of the run. Each takes its share of the recordings, and all go on frame by frame at the same pace.

        Raises:
            ValueError: a recording, adapter or state that cannot be used, or more processes than recordings.
        """
        plan = plan.share_of(together)
        self.plan, self._say, self._together = plan, say, together
        self._topics = topics_of(plan)  # an error now, not in hours
        sam = load_sam(plan.model, plan.checkpoint, plan.device)
        start = Adapter.load(plan.adapter, for_sam=sam) if plan.adapter is not None else None
        self.learner = Learner(sam, plan.config, plan.seed, start, together)
        # Without tracks, so that a run which was interrupted has the figures of one that was not.
        self._engine, self._of_frozen, self._of_adapted = TorchEngine(sam), Refiner(stream=False), Refiner(stream=False)
        self._seen, self._seconds, self._saved = 0, 0.0, time.monotonic()
        self._rejected: Counter[str] = Counter()
        self._damage: BagError | None = None
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
        self._state_file = _state_file(plan.out, together.rank, together.size)
        _refuse_other_states(plan.out, together)
        if self._state_file.exists():
            self._load()
        if len({*together.everyones(self.learner.counters["steps"])}) > 1:
            raise ValueError(f"the states in {plan.out} are not of the same moment; remove them to start anew")
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
        frames = self._frames()
        with _interrupts() as interrupts:
            while self._together.most((frame := self._next(frames)) is not None):
                self._take(frame)
                due = interrupts or self._seen % self.plan.save_every == 0 or time.monotonic() - self._saved > SAVE_SECONDS
                if self._together.most(bool(due)):
                    self._save()
                if self._together.most(bool(interrupts)):
                    return True
            self._save()
        if self._damage is not None:
            saved = f"what was learnt from the {self._seen} frames before is saved"
            mended = "and the same command goes on from there where the recording is mended"
            raise BagError(f"{self._damage}; {saved}, {mended}") from self._damage
        return False

    def _next(self, frames: Iterator[Frame]) -> Frame | None:
        """The next frame of this process; None where it has no more, or its recording is damaged."""
        try:
            return next(frames, None)
        except BagError as error:
            if not self._seen:
                raise
            self._damage = error
            return None

    def _frames(self) -> Iterator[Frame]:
        """The frames not seen yet; those that were are not decoded again. Labels are read, where there are some, for the report alone."""
        for parts, bag, conversion in islice(_messages_of(self.plan, self._topics, self._reading), self._seen, None):
            frame = usable_frame(parts, bag.stem, self._decoding, conversion)
            if frame is None:
                self._seen += 1
            else:
                yield frame

    def _take(self, frame: Frame | None) -> None:
        """Learns from a frame as the adapter node does: from each thing that asks for something in it, detections before prompts.

        Without a frame it takes part in what the other processes learn.
        """
        began = time.monotonic()
        stream = [] if frame is None else [self._prompted(frame, source, request) for source, request in self._asked(frame)]
        most = self._together.most(len(stream))
        for turn in prequential(self._subject, stream, lambda _: self.plan.steps_per_frame, self._predict):
            self._note(turn)
        for _ in range(len(stream), most):
            for _ in range(self.plan.steps_per_frame):
                self._subject.step()
            self._subject.end()
        if frame is None:
            return
        self._seen += 1
        self._seconds += time.monotonic() - began
        if self._seen % 10 == 0:
            pace = self._seen / self._seconds
            self._say(f"frame {self._seen}, {pace:.2f} a second, adapter version {self.learner.adapter.version}")

    def _asked(self, frame: Frame) -> Iterator[tuple[str, Request]]:
        """The requests of a frame, each with its source."""
        return _everything(frame, self) if self.plan.propose == "all" else requests_of(frame, self.plan.detections_size)

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
        write(state, self._state_file)
        if not self._together.rank:  # all have the same
            self.learner.adapter.save(self.plan.out / ADAPTER_FILE)
        self._saved = time.monotonic()

    def _load(self) -> None:
        state = _read_state(path := self._state_file)
        try:
            _check_setting(path, self._setting, state["setting"])
            unpack(self.learner, state["learner"])
            self._seen, self._seconds, self._shown = state["seen"], state["seconds"], state["shown"]
            self._records = [FrameRecord(**record) for record in state["records"]]
            self._rejected = Counter(state["refused"])
            self._decoding.left_out.update(state.get("left out", {}))
        except (LookupError, TypeError, AttributeError) as error:
            what = f"{path} holds something else than `wesam adapt` saves there ({type(error).__name__}: {error})"
            raise ValueError(f"{what}; remove it to start anew, or give another --out") from error
        self._say(f"goes on after frame {self._seen}")

    def report(self, facts: Mapping[str, str]) -> dict[str, Any]:
        """Writes the report of all frames, of all processes; returns its summary, nothing where another process writes it.

        Args:
            facts: further rows for its table about the run.

        Raises:
            ValueError: nothing was asked for in any frame.
        """
        left_out = self._reading.left_out + self._decoding.left_out
        lost = (*self._reading.sentences(), *self._decoding.sentences())
        shown = {index: tuple(each.numpy() for each in pictures) for index, pictures in self._shown.items()}
        own = Outcome(self.plan.bags, self._records, shown, self._rejected, left_out, lost, self._seconds)
        everyones = self._together.everyones(own)
        return {} if self._together.rank else write_outcome(merged(everyones), self.plan, facts)


def _refuse_other_states(out: Path, together: Together) -> None:
    """ValueError: a folder has the state of a run of another number of processes."""
    mine = {_state_file(out, rank, together.size).name for rank in range(together.size)}
    if others := sorted(each.name for each in out.glob("state*.pt") if each.name not in mine):
        raise ValueError(f"{out} has the state of a run of another number of processes ({others[0]}); give another --out")


def _state_file(out: Path, rank: int, size: int) -> Path:
    return out / (f"state_{rank}_of_{size}.pt" if size > 1 else STATE_FILE)


def _read_state(path: Path) -> Any:
    try:
        return torch.load(path, weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ValueError(f"{path} cannot be read ({error}); remove it to start anew") from error


def _check_setting(path: Path, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """ValueError: a state is of a run with another setting."""
    known = {"sync slop": SLOP_SECONDS, "rectified": "auto", "propose": "off", **found, "method": found["method"]}
    if changed := [name for name, value in wanted.items() if known.get(name) != value]:
        raise ValueError(f"{path} is of a run with other {' and '.join(changed)}; give the same ones, or another --out")


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
