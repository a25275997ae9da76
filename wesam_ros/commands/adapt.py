"""`wesam adapt`: adapts to recordings without ROS, as fast as the machine goes. A run that was stopped or killed goes on where it was."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from wesam_ros.adaptation.together import Together
from wesam_ros.commands import common
from wesam_ros.data.recordings.topics import BagError
from wesam_ros.evaluation.offline import ADAPTER_FILE, SAVE_SECONDS, OfflineRun
from wesam_ros.evaluation.plan import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's options to `parser`."""
    parser.add_argument("bags", type=Path, nargs="+", metavar="BAG", help="recordings, in the order in which they are learnt from")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=f"folder for {ADAPTER_FILE}, the state and the report")
    parser.add_argument("--adapter", type=Path, metavar="FILE", help="adapter to start from (default: the frozen model)")
    parser.add_argument("--passes", type=int, default=1, help="how often the recordings are gone through (default: %(default)s)")
    parser.add_argument(
        "--save-every",
        type=int,
        default=50,
        metavar="FRAMES",
        help=f"frames between two saved states, if they take less than {SAVE_SECONDS:.0f} s (default: %(default)s)",
    )
    parser.add_argument(
        "--propose",
        choices=("off", "all"),
        default="off",
        help="all: learn from everything that is in the images, without detections, which are not read (default: %(default)s)",
    )
    common.add_setting(parser, "steps_per_frame")
    common.add_setting(parser, "sync_slop")
    common.add_setting(parser, "seed")
    common.add_setting(parser, "detections_size")
    common.add_setting(parser, "rectified")
    common.add_model_options(parser)
    common.add_threads(parser, "; with 1, a seed gives the same adapter on any CPU")
    common.add_method_settings(parser)
    common.add_topic_options(parser)


def run(args: argparse.Namespace) -> int:
    """Adapts; returns 0, or 130 where Ctrl-C stopped it with everything saved.

    Raises:
        ValueError: a bad argument, recording or state; the message says which.
    """
    common.use_threads(args)
    plan = Plan(
        bags=tuple(args.bags),
        out=args.out,
        topics=common.named_topics(args),
        adapter=args.adapter,
        passes=args.passes,
        steps_per_frame=args.steps_per_frame,
        sync_slop=args.sync_slop,
        save_every=args.save_every,
        seed=args.seed,
        model=args.model,
        checkpoint=args.checkpoint,
        device=common.device_of(args),
        detections_size=args.detections_size,
        rectified=args.rectified,
        propose=args.propose,
        config=common.method_config(args),
    )
    together = Together.of_environment(plan.device)
    try:
        return _run(args, plan, together)
    finally:
        together.close()


def _run(args: argparse.Namespace, plan: Plan, together: Together) -> int:
    offline = OfflineRun(plan, lambda text: print(text, flush=True), together)
    damage = None
    try:
        stopped = offline.run()
    except BagError as error:  # of the frames before there is a report all the same
        if not offline.learnt:
            raise
        stopped, damage = False, error
    if not together.rank:
        print(f"adapter version {offline.learner.adapter.version}: {args.out / ADAPTER_FILE}")
    if stopped:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    for name, value in offline.report({"Options of the method": ", ".join(args.set) or "defaults"}).items():
        print(f"  {name}: {value}")
    if damage is not None:
        raise damage
    return 0
