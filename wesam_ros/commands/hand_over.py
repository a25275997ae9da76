"""`wesam hand-over`: write an adapter in the format of another tool, or take one of theirs."""

from __future__ import annotations

import argparse
from pathlib import Path

from wesam_ros.commands import common
from wesam_ros.hand_over import FORMATS, LOW_RANK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's options to `parser`."""
    parser.add_argument("adapter", type=Path, metavar="ADAPTER", help="adapter file; with --from the other tool's file or folder")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--to", choices=FORMATS, help="format to write (docs/tutorials/hand-over.md)")
    way.add_argument("--from", dest="source", choices=LOW_RANK, help="format to read; an adapter file is written")
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="file or folder to write, which is not there yet")
    common.add_model_options(parser, device=False)


def run(args: argparse.Namespace) -> int:
    """Converts; returns the exit status."""
    from wesam_ros.hand_over.formats import HandOverError, hand_over
    from wesam_ros.hand_over.low_rank import read_low_rank
    from wesam_ros.sam.adapter import Adapter
    from wesam_ros.sam.checkpoints import load_sam

    sam, source, out = load_sam(args.model, args.checkpoint), args.adapter.expanduser(), args.out.expanduser()
    if args.to:
        written = hand_over(sam, Adapter.load(source, for_sam=sam), args.to, out)
    elif out.exists():
        raise HandOverError(f"{out} is there already; name a new path with --out")
    else:
        read_low_rank(sam, args.source, source).save(out)
        written = [out]
    for path in written:
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    return 0
