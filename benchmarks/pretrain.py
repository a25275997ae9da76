"""Scores of a frozen model on each source of pictures, beside its box itself.

    python benchmarks/pretrain.py --pictures FOLDER --osd FOLDER --scenes FOLDER

FOLDER of `--pictures` has SET/images/NAME.jpg and SET/masks/NAME.png for each set; of `--scenes` it is where `wesam pretrain` keeps what it
has simulated (its held-out sequences are scored, and simulated where they are missing). A row per set and kind of prompt: mean IoU and
boundary F (2 px) over an image's instances, then over images, in the original image. Prompts come from the true masks: tight boxes, 5 + 5
points, coarse masks; "box itself" is the box, filled. With `--held-out` only the pictures that `wesam pretrain` does not train on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from wesam_ros.commands.pretrain import HELD_OUT_SEED, HELD_OUT_SEQUENCES
from wesam_ros.data.datasets.files import DatasetError
from wesam_ros.data.datasets.osd import read_osd
from wesam_ros.data.weak_labels import coarse_mask, jittered_box, points_prompt
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.evaluation.metrics import boundary_f, mask_iou
from wesam_ros.files import write_atomically
from wesam_ros.pretraining.scenes import load_scenes
from wesam_ros.pretraining.sources import Picture, Pictures, read_folders, split
from wesam_ros.sam.adapter import base_hash
from wesam_ros.sam.checkpoints import load_sam
from wesam_ros.sam.prompts import Prompt, Prompts

KINDS = ("box", "points", "mask")
TOLERANCE = 2.0
"""Pixels between two outlines that count as one."""

Bool = npt.NDArray[np.bool_]


def main() -> int:
    args = _parser().parse_args()
    torch.set_num_threads(args.threads)
    try:
        sets = dict(_sets(args))
    except DatasetError as error:
        print(f"pretrain.py: {error}", file=sys.stderr)
        return 2
    if not sets:
        print("pretrain.py: nothing to score: give --pictures, --osd or --scenes", file=sys.stderr)
        return 2
    sam = load_sam(args.model, args.checkpoint)
    engine = TorchEngine(sam)
    rows: list[dict[str, Any]] = []
    for name, pictures in sets.items():
        for row in score(engine, pictures, args.kinds, args.limit, args.seed):
            rows.append({"model": args.model, "weights": base_hash(sam)[:12], "set": name, **row})
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(args.json, (json.dumps(rows, indent=1) + "\n").encode())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, help="folder of labelled pictures, a folder a set")
    parser.add_argument("--held-out", action="store_true", help="only those pictures that pretraining holds out")
    parser.add_argument("--osd", type=Path, help="folder of the Object Segmentation Database")
    parser.add_argument("--scenes", type=Path, help="folder of simulated scenes")
    parser.add_argument("--model", default="tiny", help="default: %(default)s")
    parser.add_argument("--checkpoint", type=Path, help="its weights (default: those of the package)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="of prompts (default: all)")
    parser.add_argument("--limit", type=int, default=0, help="most pictures of a set, evenly spread; 0 for all (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--json", type=Path, default=Path("benchmarks/results/pretrain.json"), help="file to write the rows to (default: %(default)s)"
    )
    return parser


class Osd:
    """OSD's frames as pictures."""

    def __init__(self, folder: Path) -> None:
        self.frames = read_osd(folder)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Picture:
        frame = self.frames[index]
        if frame.labels is None:
            raise DatasetError(f"picture {index} of OSD has no labels")
        return frame.image, frame.labels


def _sets(args: argparse.Namespace) -> Iterator[tuple[str, Pictures]]:
    for given in (args.pictures, args.osd):
        if given is not None and not given.is_dir():
            raise DatasetError(f"there is no folder {given}; give the folder that holds the pictures")
    if args.pictures is not None:
        for name, folder in read_folders(args.pictures).items():
            yield name, split(folder)[1] if args.held_out else folder
    if args.osd is not None:
        yield "osd", Osd(args.osd)
    if args.scenes is not None:
        yield "simulated", load_scenes(args.scenes, "source", range(HELD_OUT_SEED, HELD_OUT_SEED + HELD_OUT_SEQUENCES))


def score(engine: TorchEngine, pictures: Pictures, kinds: list[str], limit: int, seed: int) -> Iterator[dict[str, Any]]:
    """A row for each kind of prompt, and one for the box itself."""
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in (*kinds, "box itself")}
    count = len(pictures)
    chosen = range(count) if not limit or limit >= count else np.linspace(0, count - 1, limit).round().astype(int)
    instances = 0
    for index in chosen:
        image, labels = pictures[int(index)]
        true = np.stack([labels == instance for instance in np.unique(labels[labels > 0])]) if labels.any() else None
        if true is None:
            continue
        instances += len(true)
        rng = np.random.default_rng([seed, int(index)])
        embedding = engine.encode(np.asarray(image))
        for kind in kinds:
            prompts = Prompts((labels.shape[0], labels.shape[1]), tuple(_prompt(mask, kind, rng) for mask in true))
            found[kind].append(_means(engine.decode(embedding, prompts).masks, true))
        found["box itself"].append(_means(np.stack([_filled(mask) for mask in true]), true))
    for kind, values in found.items():
        miou, boundary = (round(100 * float(value), 2) for value in np.mean(values, 0))
        yield {"prompts": kind, "miou": miou, "boundary_f": boundary, "pictures": len(values), "instances": instances}


def _prompt(mask: Bool, kind: str, rng: np.random.Generator) -> Prompt:
    if kind == "points":
        return points_prompt(mask, rng, 5, 5)
    return Prompt(mask=coarse_mask(mask, rng)) if kind == "mask" else Prompt(box=jittered_box(mask, rng, 0.0))


def _filled(mask: Bool) -> Bool:
    ys, xs = np.nonzero(mask)
    filled = np.zeros_like(mask)
    filled[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1] = True
    return filled


def _means(masks: Bool, true: Bool) -> tuple[float, float]:
    return float(mask_iou(masks, true).mean()), float(boundary_f(masks, true, TOLERANCE).mean())


if __name__ == "__main__":
    sys.exit(main())
