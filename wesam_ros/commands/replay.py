"""`wesam replay`: plays a recording through the segmenter and the adapter node, each in its own process, and writes a report."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.commands import common
from wesam_ros.data.recordings.bags import bag_info, find_topics, read_bag
from wesam_ros.data.stamps import Runs
from wesam_ros.engines.engine import Engine
from wesam_ros.engines.selection import create_engine
from wesam_ros.evaluation.replay import Compared, Learnt, ReplayAccount, Served, compare, pictures_of, record_of
from wesam_ros.evaluation.report import FrameRecord, RunRecord, write_report
from wesam_ros.msg import AdaptationStatus, ObjectArray
from wesam_ros.nodes.player import Player
from wesam_ros.options import overrides
from wesam_ros.ros.answers import PlayerError
from wesam_ros.ros.children import ChildError, NodeProcess, enter_local_graph
from wesam_ros.ros.image_pairing import is_of_person
from wesam_ros.ros.objects import mask_of
from wesam_ros.ros.persisted_flag import PAUSED
from wesam_ros.ros.process import spinning
from wesam_ros.ros.recorder import Recorder
from wesam_ros.ros.recording_output import ROLES
from wesam_ros.sam.checkpoints import load_sam
from wesam_ros.sam.masks import Masks
from wesam_ros.scene.refiner import TRACK

ADAPTER_FILE = "adapter.safetensors"
QUIET_SECONDS = 3.0
"""Without lock step the run is over when no answer has come for so long after the last frame was sent."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's options to `parser`."""
    parser.add_argument("bag", type=Path, help="recording to play: an .mcap file or the folder of a rosbag2 recording")
    speed = parser.add_mutually_exclusive_group()
    speed.add_argument(
        "--lock-step",
        action="store_true",
        help="wait for the nodes after each frame: every frame is learnt from, and the outcome is reproducible",
    )
    speed.add_argument("--rate", type=float, default=0.0, metavar="HZ", help="frames per second (default: as recorded)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/replay"),
        metavar="DIR",
        help="folder for report.html, summary.json, adapter and logs (default: %(default)s)",
    )
    parser.add_argument("--adapter", type=Path, metavar="FILE", help="adapter to start from (default: the frozen model)")
    parser.add_argument(
        "--domain-id", type=int, metavar="N", help="ROS_DOMAIN_ID of the graph (default: the environment's, else one of its own)"
    )
    parser.add_argument("--timeout", type=float, default=300.0, metavar="S", help="seconds to wait for an answer (default: %(default)g)")
    parser.add_argument("--title", default="", help="title of the report (default: the recording's name)")
    common.add_model_options(parser)
    for name in ("engine", "max_boxes", "detections_size", "rectified", "sync_slop", "steps_per_frame", "seed"):
        common.add_setting(parser, name)
    common.add_method_settings(parser)
    common.add_topic_options(parser)


def run(args: argparse.Namespace) -> int:
    """Replays the recording in a graph of its own.

    Returns:
        0; 1 where a node failed, or masks are missing; 130 where it was interrupted.

    Raises:
        ValueError: a bad argument or recording; the message says which.
    """
    import rclpy
    from rclpy.executors import ExternalShutdownException

    out: Path = args.out.expanduser().resolve()
    out.mkdir(parents=True, exist_ok=True)
    enter_local_graph(args.domain_id)
    rclpy.init(args=[])
    try:
        return Replay(args, out).run()
    except (PlayerError, ChildError) as error:
        print(f"\nwesam replay: {error}", file=sys.stderr)
        return 1
    except ExternalShutdownException:
        return 130
    finally:
        rclpy.try_shutdown()


class Replay:
    """One run: the nodes, the recording and what came out."""

    def __init__(self, args: argparse.Namespace, out: Path) -> None:
        self.args, self.out = args, out
        bag, named = args.bag.expanduser().resolve(), common.named_topics(args)
        self.topics = find_topics(bag, named, detections_required=True)
        topics = {f"{role}_topic": named.get(role, "") for role in ROLES}
        self.account = ReplayAccount()
        speed = {"rate": args.rate, "lock_step": args.lock_step}
        self.player = Player(bag=str(bag), timeout=args.timeout, sync_slop=args.sync_slop, **speed, **topics)
        self.total = bag_info(bag)[self.topics.image][1]
        self.recorder = Recorder(self.player)
        self._runs_served, self._runs_learnt = Runs(), Runs()
        self.sent = 0
        self.nodes: list[NodeProcess] = []

    def run(self) -> int:
        """Starts the nodes, plays, compares, writes the report; returns the exit status.

        Raises:
            PlayerError, ChildError: a node failed; of what was answered before there is a report.
        """
        from rclpy.executors import SingleThreadedExecutor

        executor = SingleThreadedExecutor()
        executor.add_node(self.player)
        began, failure = time.monotonic(), None
        with spinning(executor):
            try:
                self._start_nodes()
                self._play()
            except (PlayerError, ChildError) as error:
                if not self.recorder.objects:
                    raise
                failure = error
            finally:
                for node in self.nodes:
                    node.stop()
        answered = self._report(time.monotonic() - began)
        if failure is not None:
            raise failure
        return self._status(answered)

    def _start_nodes(self) -> None:
        """The segmenter and the adapter node, from `--adapter` or anew: what an earlier run left in the folder does not count."""
        saved = self.out / ADAPTER_FILE
        for each in (saved, saved.with_name(saved.name + PAUSED)):
            each.unlink(missing_ok=True)
        if self.args.adapter is not None:
            shutil.copyfile(self.args.adapter.expanduser(), saved)
        shared = self._shared_parameters()
        segmenter = {**shared, "engine": self.args.engine, "adapter": saved if self.args.adapter is not None else ""}
        adapter = {**shared, "save_to": saved, "save_minutes": 0.0, "seed": self.args.seed, "steps_per_frame": self.args.steps_per_frame}
        adapter |= {f"adaptation.{name}": value for name, value in overrides(AdaptationConfig, self.args.set).items()}
        for name, parameters in (("segmenter", segmenter), ("adapter", adapter)):
            self.nodes.append(NodeProcess(name, parameters, self.out / f"{name}.log", {}))
        self.player.answers.check = self._check_nodes

    def _shared_parameters(self) -> dict[str, Any]:
        return {
            "model": self.args.model,
            "checkpoint": str(self.args.checkpoint.resolve()) if self.args.checkpoint else "",
            "device": self.args.device,
            "max_boxes": self.args.max_boxes,
            "detections_size": self.args.detections_size,
            "rectified": self.args.rectified,
            "sync_slop": self.args.sync_slop,
            "lock_step": self.args.lock_step,
            **self.player.inputs,
            "torch_threads": len(os.sched_getaffinity(0)) if self.args.lock_step else 0,  # in lock step the nodes take turns
        }

    def _check_nodes(self) -> None:
        for node in self.nodes:
            node.check()

    def _play(self) -> None:
        domain = os.environ["ROS_DOMAIN_ID"]
        print(f"playing {self.player.bag} ({self.total} frames) into ROS_DOMAIN_ID {domain}; logs in {self.out}", flush=True)
        print(f"to watch it in a browser, in another terminal: wesam web --domain-id {domain}", flush=True)
        progress = Progress("frames played", self.total)
        self.player.play(lambda n: self._played(progress, n))
        while not self.args.lock_step and time.monotonic() - self.recorder.newest < QUIET_SECONDS:
            self._check_nodes()
            time.sleep(0.1)
        progress.done()

    def _played(self, progress: Progress, n: int) -> None:
        self.sent = n
        progress.show(n, self._progress_text())

    def _progress_text(self) -> str:
        newest = next(reversed(self.recorder.objects.values()), None)
        return f"adapter version {newest[-1].adapter_version}, latency {newest[-1].latency_ms:.0f} ms" if newest is not None else ""

    def _report(self, seconds: float) -> int:
        """Writes the report; returns for how many requests there were masks."""
        # The segmenter's engine, so that adapted and frozen masks differ by the adapter only.
        sam = load_sam(self.args.model, self.args.checkpoint, self.args.device)
        engine = create_engine(sam, self.args.engine, device=self.args.device).engine

        def compared(account: ReplayAccount) -> Iterator[Compared]:
            bag, args = self.player.bag, self.args
            self._runs_served, self._runs_learnt = Runs(), Runs()
            frames = read_bag(
                bag,
                topics=self.topics,
                labels=bool(self.topics.labels),
                report=account.reading,
                sync_slop=args.sync_slop,
                rectified=args.rectified,
            )
            return compare(frames, self._served, self._learnt, engine, args.max_boxes, account, args.detections_size)

        progress = Progress("frames compared with the frozen model", sum(map(len, self.recorder.objects.values())))
        records: list[FrameRecord] = []
        for each in compared(self.account):
            records.append(record_of(each))
            progress.show(len(records), "")
        progress.done()
        pictures = pictures_of(records, lambda: compared(ReplayAccount())) if records else []
        facts = {**self._facts(seconds, engine), **self.account.facts()}
        record = RunRecord(self.args.title or self.player.bag.stem, self.args.seed, records, pictures, facts)
        for name, value in write_report(record, self.out).items():
            print(f"  {name}: {value}")
        print(f"report: {self.out / 'report.html'}")
        return len(records)

    def _served(self, stamp: int, size: tuple[int, int]) -> list[Served]:
        answers = self.recorder.objects.get((self._runs_served.of(stamp), stamp), ())
        return [served_of(each, size) for each in answers if not is_of_person(each)]

    def _learnt(self, stamp: int) -> list[Learnt]:
        return [learnt_of(each) for each in self.recorder.statuses.get((self._runs_learnt.of(stamp), stamp), ())]

    def _facts(self, seconds: float, engine: Engine) -> dict[str, str]:
        speed = "lock step" if self.args.lock_step else (f"{self.args.rate:g} frames per second" if self.args.rate else "as recorded")
        return {
            "Recording": self.player.bag.name,
            "Model": self.args.model,
            "Device": common.device_of(self.args),
            "Engine": str(engine.capabilities),
            "Started from": self.args.adapter.name if self.args.adapter is not None else "the frozen model",
            "Played": f"{self.sent} frames, {speed}, in {seconds:.0f} s",
            "Training steps per frame": str(self.args.steps_per_frame),
            "Options of the method": ", ".join(self.args.set) or "defaults",
        }

    def _status(self, answered: int) -> int:
        for sentence in self.account.reading.sentences():
            print(sentence, file=sys.stderr)
        missing = self.account.unanswered
        if not missing and (answered or not self.player.asked):
            return 0
        print(f"{missing} of {missing + answered} frames with detections or prompts have no masks", file=sys.stderr)
        if not self.args.lock_step and answered:
            print("they were dropped: the machine is slower than the recording; use --lock-step or a lower --rate", file=sys.stderr)
            return 0
        print(f"the end of the segmenter's log:\n{self.nodes[0].log_end()}", file=sys.stderr)
        return 1


def served_of(message: ObjectArray, size: tuple[int, int]) -> Served:
    """The masks of a message for an image of `size` (H, W), but for those that no detection asks for.

    A message does not have the low-resolution logits, which are (n, 0, 0) here.
    """
    asked = [each for each in message.objects if TRACK not in each.source.split("+")]
    masks = np.zeros((len(asked), *size), bool)
    for row, each in enumerate(asked):
        masks[row] = mask_of(each.mask, size)
    scores = np.array([each.score for each in asked], np.float32)
    found = Masks(masks, scores, np.zeros((len(masks), 0, 0), np.float32))
    return Served(tuple(each.id for each in asked), found, message.adapter_version, message.latency_ms)


def learnt_of(message: AdaptationStatus) -> Learnt:
    """A status message as plain values."""
    return Learnt(message.accepted, message.reason, dict(zip(message.loss_names, message.losses, strict=True)))


class Progress:
    """Progress on one line of a terminal; in a log, a line every tenth of the way."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._began, self._shown = what, max(total, 1), time.monotonic(), -1
        self._terminal = sys.stdout.isatty()

    def show(self, n: int, text: str) -> None:
        """`n` of the total are done."""
        tenth = 10 * n // self._total
        if not self._terminal and tenth == self._shown:
            return
        self._shown = tenth
        line = f"{n}/{self._total} {self._what}, {time.monotonic() - self._began:.0f} s{', ' + text if text else ''}"
        print(f"\r\x1b[K{line}" if self._terminal else line, end="" if self._terminal else "\n", flush=True)

    def done(self) -> None:
        """Ends the line."""
        if self._terminal:
            print(flush=True)
