"""`wesam adapt`: adapts to recordings without ROS, as fast as the machine goes; a run that was stopped or killed goes on where it was."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.learner import Learner
from wesam_ros.adaptation.state import pack, unpack, write
from wesam_ros.data.frames import Frame
from wesam_ros.data.recordings.bags import FrameMessages, decode_frame, find_topics, read_frame_messages
from wesam_ros.data.recordings.requests import requests_of
from wesam_ros.data.recordings.topics import BagError, add_topic_options, named_topics
from wesam_ros.data.requests import Request
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.evaluation.metrics import boxes_to_score, score_frame
from wesam_ros.evaluation.report import FrameRecord, Picture, RunRecord, chosen_frames, write_report
from wesam_ros.options import options, overrides
from wesam_ros.sam.adapter import Adapter
from wesam_ros.sam.checkpoints import load_sam
from wesam_ros.sam.prompts import Prompts

log = logging.getLogger(__name__)

ADAPTER_FILE, STATE_FILE = "adapter.safetensors", "state.pt"
SAVE_SECONDS = 60.0
"""A state is saved at the latest so many seconds after the one before: ViT-B takes minutes for a few frames, and is killed all the same."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's options to `parser`."""
    parser.add_argument("bags", type=Path, nargs="+", metavar="BAG", help="recordings, in the order in which they are learnt from")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=f"folder for {ADAPTER_FILE}, the state and the report")
    parser.add_argument("--adapter", type=Path, metavar="FILE", help="adapter to start from (default: the frozen model)")
    parser.add_argument("--passes", type=int, default=1, help="how often the recordings are gone through (default: %(default)s)")
    parser.add_argument("--steps-per-frame", type=int, default=3, help="training steps after each frame (default: %(default)s)")
    parser.add_argument(
        "--save-every",
        type=int,
        default=50,
        metavar="FRAMES",
        help=f"frames between two saved states, if they take less than {SAVE_SECONDS:.0f} s (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default: %(default)s)")
    parser.add_argument("--model", default="tiny", help="default: %(default)s")
    parser.add_argument("--checkpoint", type=Path, help="of the model; tiny has its own")
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=0, help="of torch; with 1, a seed gives the same adapter on any CPU (default: all)")
    names = ", ".join(each.name for each in options(AdaptationConfig))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=f"an option of the method: {names}")
    add_topic_options(parser)


def run(args: argparse.Namespace) -> int:
    """Adapts; returns 0, or 130 where Ctrl-C stopped it with everything saved.

    Raises:
        ValueError: a bad argument, recording or state; the message says which.
    """
    for name in ("passes", "steps_per_frame", "save_every"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, but got {getattr(args, name)}")
    if args.threads:
        torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    adaptation = Adaptation(args)
    stopped = adaptation.run()
    print(f"adapter version {adaptation.learner.adapter.version}: {args.out / ADAPTER_FILE}")
    if stopped:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    adaptation.report()
    return 0


class Adaptation:
    """One run: the learner, how many frames it has seen, and what the report will say of them."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        named = named_topics(args)
        self._topics = {bag: find_topics(bag, named, detections_required=True) for bag in args.bags}  # an error now, not in hours
        sam = load_sam(args.model, args.checkpoint, args.device)
        start = Adapter.load(args.adapter, for_sam=sam) if args.adapter is not None else None
        self.learner = Learner(sam, AdaptationConfig(**overrides(AdaptationConfig, args.set)), args.seed, start)
        self._engine = TorchEngine(sam)
        self._seen, self._seconds, self._saved = 0, 0.0, time.monotonic()
        self._refused: Counter[str] = Counter()
        self._records: list[FrameRecord] = []
        self._shown: dict[int, tuple[Tensor, ...]] = {}
        self._setting = {
            "recordings": [str(bag) for bag in args.bags],
            "topics": named,
            "steps per frame": args.steps_per_frame,
            "start": str(args.adapter or ""),
            "method": asdict(self.learner.config),
        }
        if (args.out / STATE_FILE).exists():
            self._load()

    def run(self) -> bool:
        """Goes through what has not been seen yet; True if Ctrl-C ended it early. A second Ctrl-C ends it at once, as a kill does.

        Raises:
            BagError: a recording is damaged further on; what was learnt before is saved.
        """
        asked: list[int] = []

        def ask(*_: Any) -> None:
            if asked:
                raise KeyboardInterrupt
            asked.append(1)

        before = signal.signal(signal.SIGINT, ask)
        try:
            for frame in self._frames():
                began = time.monotonic()
                self._take(frame)
                self._seconds += time.monotonic() - began
                if self._seen % 10 == 0:
                    pace = self._seen / self._seconds
                    print(f"frame {self._seen}, {pace:.2f} a second, adapter version {self.learner.adapter.version}", flush=True)
                if asked or self._seen % self.args.save_every == 0 or time.monotonic() - self._saved > SAVE_SECONDS:
                    self._save()
                if asked:
                    return True
            self._save()
        except BagError as error:
            if not self._seen:
                raise
            self._save()
            saved = f"what was learnt from the {self._seen} frames before is saved"
            raise BagError(f"{error}; {saved}, and the same command goes on from there where the recording is mended") from error
        finally:
            signal.signal(signal.SIGINT, before)
        return False

    def _frames(self) -> Iterator[Frame]:
        """The frames not seen yet; those that were are not decoded again. Labels are read, where there are some, for the report alone."""

        def messages() -> Iterator[tuple[FrameMessages, Path]]:
            for _ in range(self.args.passes):
                for bag in self.args.bags:
                    topics = self._topics[bag]
                    yield from ((each, bag) for each in read_frame_messages(bag, topics=topics, labels=bool(topics.labels)))

        for parts, bag in islice(messages(), self._seen, None):
            yield decode_frame(parts, bag.stem)

    def _take(self, frame: Frame) -> None:
        """Learns from a frame as the adapter node does: from each thing that asks for something in it, detections before prompts."""
        for source, request in requests_of(frame):
            for reason, sentence in request.rejected:
                name = f"{source}.{reason}"
                if name not in self._refused:
                    log.warning("frame with stamp %s ns, %s: %s; more of the kind are counted only", frame.stamp_ns, source, sentence)
                self._refused[name] += 1
            self._learn(frame, source, request)
        self._seen += 1

    def _learn(self, frame: Frame, source: str, request: Request) -> None:
        """Predicts what is asked for, then learns from it."""
        prompts, adapter = request.prompts, self.learner.adapter
        record = FrameRecord(frame.stamp_ns, adapter_version=adapter.version)
        if frame.labels is not None and len(prompts):
            record = self._scored(record, frame, prompts, adapter)
        admission = self.learner.observe(replace(frame, labels=None), prompts, source)
        losses: dict[str, float] = {}
        for _ in range(self.args.steps_per_frame):
            result = self.learner.step()
            losses = result.losses if result is not None else losses
        self.learner.propose()
        self._records.append(replace(record, accepted=admission.accepted, reason=admission.reason, losses=losses))
        wanted = dict(chosen_frames(self._records))
        self._shown = {index: shown for index, shown in self._shown.items() if index in wanted}

    def _scored(self, record: FrameRecord, frame: Frame, prompts: Prompts, adapter: Adapter) -> FrameRecord:
        """The record with the frame's scores; its masks are kept as long as they may be shown in the report."""
        assert frame.labels is not None
        boxes = boxes_to_score(prompts, frame.labels)
        frozen = self._engine.segment(frame.image, prompts)
        adapted = self._engine.segment(frame.image, prompts, adapter) if adapter.version else frozen
        scores = [score_frame(each.masks, boxes, frame.labels) for each in (frozen, adapted)]
        pictures = (frame.image, frozen.label_image(), adapted.label_image(), frame.labels)
        self._shown[len(self._records)] = tuple(torch.from_numpy(np.array(each)) for each in pictures)
        return replace(
            record, iou_frozen=scores[0].iou.tolist(), iou_adapted=scores[1].iou.tolist(), missed=scores[1].missed, false=scores[1].false
        )

    def _save(self) -> None:
        """The adapter and the state, each whole or not at all: a kill in between loses what was done since the save before."""
        state = {
            "setting": self._setting,
            "learner": pack(self.learner),
            "seen": self._seen,
            "seconds": self._seconds,
            "records": [asdict(record) for record in self._records],
            "shown": self._shown,
            "refused": dict(self._refused),
        }
        write(state, self.args.out / STATE_FILE)
        self.learner.adapter.save(self.args.out / ADAPTER_FILE)
        self._saved = time.monotonic()

    def _load(self) -> None:
        path = self.args.out / STATE_FILE
        try:
            state = torch.load(path, weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file
            raise ValueError(f"{path} cannot be read ({error}); remove it to start anew") from error
        try:
            self._restore(state)
        except (LookupError, TypeError, AttributeError) as error:
            what = f"{path} holds something else than `wesam adapt` saves there ({type(error).__name__}: {error})"
            raise ValueError(f"{what}; remove it to start anew, or give another --out") from error
        print(f"goes on after frame {self._seen}", flush=True)

    def _restore(self, state: Any) -> None:
        if changed := [name for name, value in self._setting.items() if state["setting"].get(name) != value]:
            raise ValueError(
                f"{self.args.out / STATE_FILE} is of a run with other {' and '.join(changed)}; give the same ones, or another --out"
            )
        unpack(self.learner, state["learner"])
        self._seen, self._seconds, self._shown = state["seen"], state["seconds"], state["shown"]
        self._records = [FrameRecord(**record) for record in state["records"]]
        self._refused = Counter(state["refused"])

    def report(self) -> None:
        """Writes the report of all frames.

        Raises:
            ValueError: nothing was asked for in any frame.
        """
        if not self._records:
            raise ValueError("no image has detections or prompts of its stamp, so nothing was learnt; the detector must copy the stamp")
        captions = dict(chosen_frames(self._records))
        pictures = [Picture(index, captions[index], *(each.numpy() for each in shown)) for index, shown in sorted(self._shown.items())]
        facts = {
            "Recordings": ", ".join(bag.name for bag in self.args.bags),
            "Model": self.args.model,
            "Started from": self.args.adapter.name if self.args.adapter is not None else "the frozen model",
            "Training steps per frame": str(self.args.steps_per_frame),
            "Options of the method": ", ".join(self.args.set) or "defaults",
            "Objects refused": ", ".join(f"{count} {name}" for name, count in sorted(self._refused.items())) or "none",
            "Took": f"{self._seconds:.0f} s",
        }
        record = RunRecord(", ".join(bag.stem for bag in self.args.bags), self.args.seed, self._records, pictures, facts)
        for name, value in write_report(record, self.args.out).items():
            print(f"  {name}: {value}")
