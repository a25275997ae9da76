"""`wesam evaluate`: data sets or recordings x prompts x methods x seeds, as tables. It goes on where it was interrupted."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from wesam_ros.commands import common
from wesam_ros.data.datasets.registry import DATASETS
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.evaluation.comparison import Setting, Wanted, compare, source_of
from wesam_ros.evaluation.no_detector import rows_of
from wesam_ros.evaluation.prompts import KINDS, NOISES
from wesam_ros.files import write_json
from wesam_ros.methods.registry import METHODS
from wesam_ros.sam.checkpoints import load_sam

NOBODY, NO_DETECTOR = "none", "no_detector.json"
DEFAULT_METHODS = ("frozen", "wesam", "ours", "supervised")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's options to `parser`."""
    names = ", ".join(DATASETS)
    parser.add_argument(
        "data",
        nargs="+",
        help=f"sim:DOMAIN, NAME:FOLDER, NAME/SPLIT:FOLDER (of {names}), or a labelled recording; coco-c:FOLDER is all of its 15 splits",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        default=list(DEFAULT_METHODS),
        metavar="METHOD",
        help=f"names as below, with other settings as NAME:SETTING=VALUE,... (default: {' '.join(DEFAULT_METHODS)})",
    )
    parser.add_argument(
        "--prompts",
        nargs="+",
        default=list(KINDS),
        choices=(*KINDS, NOBODY),
        metavar="KIND",
        help=f"of {', '.join(KINDS)}; or {NOBODY}: everything is segmented without a detector, with the frozen model ({NO_DETECTOR})",
    )
    parser.add_argument("--noise", nargs="+", default=["clean"], choices=NOISES, metavar="NOISE", help=f"of {', '.join(NOISES)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED")
    parser.add_argument("--steps", type=int, default=180, help="training steps over a stream, evenly spread (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=128, help="most frames of a data set's split (default: %(default)s)")
    common.add_model_options(parser)
    common.add_topic_options(parser, ("image", "depth", "camera_info", "labels"))
    parser.add_argument(
        "--home", default="", metavar="DATA", help="data set to measure forgetting on, instead of the simulator's source scenes"
    )
    parser.add_argument(
        "--no-source", action="store_true", help="do not measure forgetting, which needs the simulator where there is no --home"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each (default: %(default)s)")
    text = "every N-th cell from the I-th on: with I from 1 to N in N jobs of a queue, or on N machines, and one --out, all are done"
    parser.add_argument("--shard", type=_shard, default=(1, 1), metavar="I/N", help=text)
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder for rows, method.json, tables and report of this call and of earlier ones",
    )
    methods = "; ".join(f"{name}: {entry.text}" for name, entry in METHODS.items())
    sets = "; ".join(f"{name}: {entry.description}" for name, entry in DATASETS.items())
    parser.epilog = f"methods: {methods}. Data sets: {sets}."


def run(args: argparse.Namespace) -> int:
    """Runs the cells that are not done yet, then writes the tables of all that are; returns the exit status."""
    if min(args.steps, args.workers, args.limit) < 1:
        raise ValueError(f"--steps, --workers and --limit must be at least 1, but got {args.steps}, {args.workers} and {args.limit}")
    if NOBODY in args.prompts and args.prompts != [NOBODY]:
        raise ValueError(f"--prompts {NOBODY} cannot be mixed with others; run them on their own")
    topics = tuple(common.named_topics(args).items())
    setting = Setting(args.model, args.checkpoint, args.steps, not args.no_source, args.limit, topics, args.home)
    if args.prompts == [NOBODY]:
        _without_detector(args, setting)
        return 0
    lists = (args.data, args.methods, args.prompts, args.noise, args.seeds)
    wanted, device = Wanted(*map(tuple, lists)), common.device_of(args)
    compare(wanted, setting, args.out, args.workers, device, lambda text: print(text, flush=True), args.shard)
    return 0


def _shard(text: str) -> tuple[int, int]:
    """I/N as two numbers."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"must be I/N with I from 1 to N, such as 2/4, but got {text!r}")
    return int(match[1]), int(match[2])


def _without_detector(args: argparse.Namespace, setting: Setting) -> None:
    """Scores each way of segmenting everything on the frames to score on, and writes the rows."""
    engine = TorchEngine(load_sam(args.model, args.checkpoint, common.device_of(args)))
    args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for data in args.data:
        frames = [frame for fold in source_of(data, setting).load() for frame in fold.test]
        for row in rows_of(data, frames, engine):
            rows.append(row)
            figures = ", ".join(f"{name} {100 * float(row[name]):.1f}" for name in ("overlap_f", "boundary_f", "above_75"))
            print(f"{data} {row['way']}: {figures}", flush=True)
            write_json(args.out / NO_DETECTOR, rows)
    print(args.out / NO_DETECTOR)
