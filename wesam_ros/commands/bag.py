"""`wesam bag`: make recordings from data sets and from the simulator, and look into them."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from wesam_ros.commands import common
from wesam_ros.data.frames import Frame
from wesam_ros.data.recordings.topics import BagTopics
from wesam_ros.options import positive_integer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's actions and their options to `parser`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    osd = actions.add_parser("osd", help="recording of a folder in the layout of the Object Segmentation Database")
    osd.add_argument("folder", type=Path, help="folder with image_color/, disparity/ and annotation/")
    _output(osd)
    _detector(osd, jitter=0.0, miss=0.0, false_boxes=0.0)
    osd.set_defaults(action_function=_from_osd)

    simulated = actions.add_parser("simulate", help="recording of simulated tabletops (needs the extra 'sim')")
    simulated.add_argument("domain", help="domain of the simulator, such as source")
    _output(simulated)
    simulated.add_argument("--frames", type=positive_integer, default=120, help="number of frames (default: %(default)s)")
    simulated.add_argument(
        "--objects", type=positive_integer, default=12, help="objects put on a table before the next one (default: %(default)s)"
    )
    simulated.add_argument("--views", type=positive_integer, default=1, help="frames after each object (default: %(default)s)")
    _detector(simulated, jitter=0.05, miss=0.1, false_boxes=0.1)
    simulated.set_defaults(action_function=_from_simulator)

    info = actions.add_parser("info", help="topics of a recording, what each is taken for, and what is wrong with its files")
    info.add_argument("bag", type=Path, help=".mcap, .db3 or .bag file, or the folder of a bag")
    info.add_argument("--frames", action="store_true", help="read all frames, too, and tell what was joined, converted and left out")
    common.add_setting(info, "sync_slop")
    common.add_setting(info, "rectified")
    common.add_topic_options(info)
    info.set_defaults(action_function=_info)


def _output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, help="file to write, named *.mcap; an older one is replaced")
    parser.add_argument("--seed", type=int, default=0, help="decides scenes and detections (default: %(default)s)")
    parser.add_argument("--jpeg-quality", type=int, default=90, choices=range(1, 101), metavar="1..100", help="default: %(default)s")
    parser.add_argument("--no-labels", action="store_true", help="leave the true labels out; such a recording cannot be scored")


def _detector(parser: argparse.ArgumentParser, *, jitter: float, miss: float, false_boxes: float) -> None:
    group = parser.add_argument_group("simulated detector", "boxes are made from the true labels; all 0: the tight boxes")
    group.add_argument("--jitter", type=float, default=jitter, help="edges move by up to this share of a side (default: %(default)s)")
    group.add_argument("--miss", type=float, default=miss, help="probability that an object gets no box (default: %(default)s)")
    group.add_argument("--false-boxes", type=float, default=false_boxes, help="boxes around nothing, per object (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Carries out the chosen action; returns the exit status."""
    status: int = args.action_function(args)
    return status


def _from_osd(args: argparse.Namespace) -> int:
    from wesam_ros.data.datasets.osd import osd_names, read_osd

    return _write(args, read_osd(args.folder), len(osd_names(args.folder)))


def _from_simulator(args: argparse.Namespace) -> int:
    from wesam_ros.data.simulator.sequences import simulated_frames

    return _write(args, simulated_frames(args.domain, args.seed, args.frames, args.objects, args.views), args.frames)


def _write(args: argparse.Namespace, frames: Iterable[Frame], total: int) -> int:
    from wesam_ros.data.detector import with_detections
    from wesam_ros.data.recordings.bags import write_bag

    detected = with_detections(frames, args.seed, jitter=args.jitter, miss=args.miss, false_boxes=args.false_boxes)
    count = write_bag(args.out, _shown(detected, total), jpeg_quality=args.jpeg_quality, labels=not args.no_labels)
    print(f"{args.out}: {count} frames, {args.out.stat().st_size / 1e6:.1f} MB")
    return 0


def _shown(frames: Iterable[Frame], total: int) -> Iterator[Frame]:
    """Frames, with progress on stderr: one line that is rewritten on a terminal, one line for every tenth of the way elsewhere."""
    terminal = sys.stderr.isatty()
    for count, frame in enumerate(frames, 1):
        yield frame
        if terminal or count == total or count % -(-total // 10) == 0:
            print(f"frame {count} of {total}", end="\r" if terminal and count < total else "\n", file=sys.stderr, flush=True)


def _info(args: argparse.Namespace) -> int:
    from wesam_ros.data.recordings.bags import bag_info, bag_notes, find_topics
    from wesam_ros.data.recordings.topics import BagError

    topics = bag_info(args.bag)
    wide = max((len(topic) for topic in topics), default=0)
    for topic, (msgtype, count) in topics.items():
        print(f"{topic:<{wide}}  {count:>6}  {msgtype}")
    notes = bag_notes(args.bag)
    for note in notes:
        print(f"note: {note}")
    try:
        found = find_topics(args.bag, common.named_topics(args))
    except BagError as error:  # the topics of any recording are listed
        print(f"note: {error}")
        return 0
    for role, topic in asdict(found).items():
        if topic in topics:
            print(f"taken as {role}: {topic}")
    if args.frames:
        _tell_of_frames(args, found, [f"bag {args.bag}: {note}" for note in notes])
    return 0


def _tell_of_frames(args: argparse.Namespace, topics: BagTopics, told: Sequence[str]) -> None:
    """Reads all frames, and prints how many have what, and what was left out, without the sentences that were `told`."""
    from wesam_ros.data.recordings.bags import read_bag
    from wesam_ros.data.recordings.reports import ReadingReport

    report, counts = ReadingReport(), Counter[str]()
    frames = read_bag(
        args.bag,
        topics=topics,
        labels=bool(topics.labels),
        detections_required=False,
        report=report,
        sync_slop=args.sync_slop,
        rectified=args.rectified,
    )
    for frame in frames:
        parts = {name: getattr(frame, name) for name in ("depth", "camera", "detections", "prompted", "labels")}
        counts.update(name for name, value in parts.items() if value is not None)
    having = ", ".join(f"{count} with {name}" for name, count in counts.items())
    print(f"frames: {report.frames}{', ' if having else ''}{having}")
    for sentence in (each for each in report.sentences() if each not in told):
        print(f"note: {sentence}")
