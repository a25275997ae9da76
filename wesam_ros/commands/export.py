"""`wesam export`: write the model as ONNX files that ONNX Runtime and others can run, held against torch."""

from __future__ import annotations

import argparse
from pathlib import Path

from wesam_ros.commands import common
from wesam_ros.engines.store import MANIFEST, OPSET


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's options to `parser`."""
    common.add_model_options(parser, device=False)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder to write (default: the cache, where the nodes look)")
    parser.add_argument("--opset", type=int, default=OPSET, help="operator set, 18 or later; the nodes look for %(default)s, the default")
    parser.add_argument(
        "--tolerance", type=float, metavar="SHARE", help="largest error against torch as a share of the largest value (default: 1e-4)"
    )
    parser.add_argument("--again", action="store_true", help="export even if the folder has a whole export of this model already")


def run(args: argparse.Namespace) -> int:
    """Exports the model unless that is done already; returns the exit status."""
    from wesam_ros.engines.engine import EngineError
    from wesam_ros.engines.export import TOLERANCE, export
    from wesam_ros.engines.store import folder_of
    from wesam_ros.sam.checkpoints import load_sam

    sam = load_sam(args.model, args.checkpoint)
    folder = args.out.expanduser() if args.out else folder_of(sam, args.opset)
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
        raise EngineError(f"{folder} has other files in it; name a new folder with --out")
    tolerance = TOLERANCE if args.tolerance is None else args.tolerance
    errors = export(sam, folder, opset=args.opset, tolerance=tolerance, again=args.again, say=_say)
    if errors is None:
        print(f"{folder} has it already; --again exports it anew")
        return 0
    for path in sorted(folder.iterdir()):
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    print(
        f"largest error against torch, as a share of the largest value: {errors.largest:.1e} "
        f"(embedding {errors.embedding:.1e}, logits {errors.logits:.1e}, IoU {errors.iou:.1e})"
    )
    return 0


def _say(sentence: str) -> None:
    print(sentence, flush=True)
