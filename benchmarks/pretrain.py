"""Scores of a frozen model on each source of pictures, beside its box itself.

    python benchmarks/pretrain.py --pictures FOLDER --osd FOLDER --scenes FOLDER

FOLDER of `--pictures` has SET/images/NAME.jpg and SET/masks/NAME.png for each set; of `--scenes` it is where `wesam pretrain` keeps what it
has simulated (its held-out sequences are scored, and simulated where they are missing). A row per set and kind of prompt: mean IoU and
boundary F (2 px) over an image's instances, then over images, in the original image. Prompts come from the true masks: tight boxes, 5 + 5
points, coarse masks; "box itself" is the box, filled. With `--held-out` only the pictures that `wesam pretrain` does not train on.

At the end it prints the rows as the model card's table. With `--failures FOLDER` it draws, for each set, the pictures on which boxes give
the worst masks, four beside one another, with the truth's outlines in white.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from wesam_ros.commands.pretrain import HELD_OUT_SEED, HELD_OUT_SEQUENCES
from wesam_ros.data.codecs import encode_jpeg
from wesam_ros.data.datasets.files import DatasetError
from wesam_ros.data.datasets.osd import read_osd
from wesam_ros.data.weak_labels import coarse_mask, jittered_box, points_prompt
from wesam_ros.drawing.overlay import draw_outlines, draw_overlay
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.evaluation.metrics import boundary_f, mask_iou
from wesam_ros.files import write_atomically
from wesam_ros.pretraining.scenes import load_scenes
from wesam_ros.pretraining.sources import Picture, Pictures, read_folders, split
from wesam_ros.sam.adapter import base_hash
from wesam_ros.sam.checkpoints import load_sam
from wesam_ros.sam.prompts import Prompt, Prompts

KINDS = ("box", "points", "mask")
SHEET_HEIGHT = 300
"""Pixels, of drawn pictures."""
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
        worst = Worst()
        for row in score(engine, pictures, args.kinds, args.limit, args.seed, worst if args.failures else None):
            rows.append({"model": args.model, "weights": base_hash(sam)[:12], "set": name, **row})
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
        if worst.found:
            write_atomically(args.failures / f"{name}.jpg", worst.sheet())
    print(table(rows))
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
    parser.add_argument("--failures", type=Path, help="folder to draw each set's worst pictures into, as SET.jpg")
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


class Worst:
    """The pictures of a set on which boxes give the worst masks.

    Attributes:
        found: mean IoU, place in the set, image, masks (n, H, W) and ids (H, W) of each, the worst first.
    """

    def __init__(self, most: int = 4) -> None:
        self.most = most
        self.found: list[tuple[float, int, npt.NDArray[np.uint8], Bool, npt.NDArray[np.uint16]]] = []

    def add(self, iou: float, index: int, image: Any, masks: Bool, labels: Any) -> None:
        """Keeps a picture if it is one of the worst so far."""
        self.found = sorted([*self.found, (iou, index, np.asarray(image), masks, labels.astype(np.uint16))], key=lambda each: each[:2])
        del self.found[self.most :]

    def sheet(self) -> bytes:
        """The pictures side by side as a JPEG, masks in colours, the truth's outlines in white, the mean IoU in the corner."""
        drawn = []
        for iou, _, image, masks, labels in self.found:
            picture = draw_outlines(draw_overlay(image, masks, names=()), labels)
            scale = SHEET_HEIGHT / picture.shape[0]
            picture = cv2.resize(picture, (round(picture.shape[1] * scale), SHEET_HEIGHT), interpolation=cv2.INTER_AREA)
            cv2.putText(picture, f"{100 * iou:.0f}", (6, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2, cv2.LINE_AA)
            drawn.append(picture.astype(np.uint8))
        return encode_jpeg(np.concatenate(drawn, 1), 85)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown: a line a set, mIoU and boundary F of each kind of prompt."""
    kinds = list(dict.fromkeys(row["prompts"] for row in rows))
    lines = [f"| set, pictures | {' | '.join(kinds)} |", "| --- " * (len(kinds) + 1) + "|"]
    for name in dict.fromkeys(row["set"] for row in rows):
        own = {row["prompts"]: row for row in rows if row["set"] == name}
        cells = [f"{own[kind]['miou']:.1f}, {own[kind]['boundary_f']:.1f}" for kind in kinds]
        lines.append(f"| {name}, {next(iter(own.values()))['pictures']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def score(
    engine: TorchEngine, pictures: Pictures, kinds: list[str], limit: int, seed: int, worst: Worst | None = None
) -> Iterator[dict[str, Any]]:
    """A row for each kind of prompt, and one for the box itself; tells `worst` the masks of boxes."""
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
            masks = engine.decode(embedding, prompts).masks
            found[kind].append(_means(masks, true))
            if kind == "box" and worst is not None:
                worst.add(found[kind][-1][0], int(index), image, masks, labels)
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
