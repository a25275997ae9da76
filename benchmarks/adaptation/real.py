"""Methods on kinds of real pictures, what they forget, and what a box alone tells: the rows of benchmarks/results/real.json.

    python test/published_layouts.py FOLDER PUBLISHED          # where the pictures are not in their published layouts yet
    python benchmarks/adaptation/real.py kvasir-seg/all:PUBLISHED/Kvasir-SEG ecssd:PUBLISHED/ECSSD folder:PUBLISHED/food_trays \\
        folder:PUBLISHED/camouflaged coco/val2017:PUBLISHED/coco2017 --home coco/val2017:PUBLISHED/coco2017 --out out/real
    python benchmarks/adaptation/real.py coco-c:PUBLISHED/coco2017 --methods frozen ours --seeds 0 --out out/real      # 15 corruptions

Each cell is one of `wesam evaluate`: data, prompts, method, seed and half. It is a row with `dataset` and `domain`, its mIoU on pictures
that were not adapted to, the one over the last third of the stream (`prequential_last_third`), and, with `--home`, the mIoU on that data
set, which was not adapted to (`source_miou`): what was forgotten is frozen's there less the method's. Cells that are in `--out` already are
not run again. Two rows need no model, for boxes: "box" is the box, filled, and "grabcut" two colour models, in it and around it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros import __version__
from wesam_ros.commands import common
from wesam_ros.commands.evaluate import DEFAULT_METHODS
from wesam_ros.data.frames import Frame
from wesam_ros.evaluation.cells import SCORING_SEED
from wesam_ros.evaluation.comparison import Setting, Wanted, compare, expanded, source_of
from wesam_ros.evaluation.metrics import boundary_f, mask_iou, mean_iou
from wesam_ros.evaluation.prompts import KINDS, draw
from wesam_ros.evaluation.rows import key_of
from wesam_ros.files import write_json
from wesam_ros.machine import processor

MARGIN, ROUNDS = 0.5, 3
"""GrabCut sees the box with so much of its sides around it, and takes so many rounds (Rother et al., SIGGRAPH 2004)."""

Bool = npt.NDArray[np.bool_]
Fill = Callable[[npt.NDArray[np.uint8], npt.NDArray[np.float32]], Bool]


def filled(image: npt.NDArray[np.uint8], box: npt.NDArray[np.float32]) -> Bool:
    """The box x0 y0 x1 y1, filled: (H, W) bool."""
    mask = np.zeros(image.shape[:2], bool)
    x0, y0, x1, y1 = np.round(box).astype(int)
    mask[y0:y1, x0:x1] = True
    return mask


def grabcut(image: npt.NDArray[np.uint8], box: npt.NDArray[np.float32]) -> Bool:
    """GrabCut from the box alone: (H, W) bool; the filled box where a colour model has no pixel, or the object loses all of its own."""
    inside = filled(image, box)
    x, y = MARGIN * (box[2:] - box[:2])
    height, width = inside.shape
    left, top = max(0, int(box[0] - x)), max(0, int(box[1] - y))
    crop = slice(top, min(height, int(np.ceil(box[3] + y)))), slice(left, min(width, int(np.ceil(box[2] + x))))
    state = np.where(inside[crop], cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    if inside[crop].all():
        return inside
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(np.ascontiguousarray(image[crop][..., ::-1]), state, (0, 0, 0, 0), *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = np.zeros_like(inside)
    found[crop] = state == cv2.GC_PR_FGD
    return found if found.any() else inside


WITHOUT_A_MODEL: dict[str, Fill] = {"box": filled, "grabcut": grabcut}


def scores(frames: Sequence[Frame], fill: Fill) -> tuple[list[list[float]], list[list[float]]]:
    """IoU and boundary F of the boxes' masks, by frame."""
    ious, edges = [], []
    for index, frame in enumerate(frames):
        seen = draw(frame, "box", "clean", np.random.default_rng([SCORING_SEED, index, KINDS.index("box")]))
        if seen.masks is None or not len(seen.prompts):
            continue
        masks = np.stack([fill(frame.image, each.box) for each in seen.prompts.objects if each.box is not None])
        ious.append(mask_iou(masks, seen.masks, seen.void).tolist())
        edges.append(boundary_f(masks, seen.masks, void=seen.void).tolist())
    return ious, edges


def rows_without_a_model(data: str, setting: Setting, done: set[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """The rows of WITHOUT_A_MODEL on each half of a data set that are not done yet."""
    source = source_of(data, setting)
    for number, fold in enumerate(source.load()):
        for name, fill in WITHOUT_A_MODEL.items():
            key = {"dataset": source.dataset, "domain": source.domain, "fold": number, "prompt": "box", "prompt_noise": "clean"}
            row: dict[str, Any] = {**key, "method": name, "seed": 0}
            if key_of(row) in done:
                continue
            ious, edges = scores(fold.test, fill)
            stream = scores(fold.adapt, fill)[0]
            row |= {"miou": mean_iou(ious), "boundary_f": mean_iou(edges), "cross": {"box": mean_iou(ious)}, "source_miou": None}
            row |= {"prequential": mean_iou(stream), "prequential_last_third": mean_iou(stream[2 * len(stream) // 3 :])}
            yield row | {"seconds_per_step": 0.0, "steps": 0, "model": "none", "machine": processor(), "wesam_ros": __version__}


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file; none where it is missing."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def main() -> int:
    args = _parser().parse_args()
    setting = Setting(args.model, args.checkpoint, args.steps, bool(args.home), args.frames, (), args.home)
    wanted = Wanted(tuple(args.data), tuple(args.methods), tuple(args.prompts), ("clean",), tuple(args.seeds))
    compare(wanted, setting, args.out, args.workers, common.device_of(args), lambda text: print(text, flush=True))
    plain = args.out / "without_a_model.json"
    bare = read(plain)
    if "box" in args.prompts and not args.no_baselines:
        for data in (each for given in args.data for each in expanded(given)):
            for row in rows_without_a_model(data, setting, {key_of(each) for each in bare}):
                print(f"{' '.join(map(str, key_of(row)))}: mIoU {100 * row['miou']:.1f}", flush=True)
                bare.append(row)
                write_json(plain, bare)
    write_json(args.json, [*read(args.out / "method.json"), *bare])
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="as `wesam evaluate` takes it")
    parser.add_argument("--home", default="", help="data set to measure forgetting on")
    parser.add_argument("--methods", nargs="+", default=list(DEFAULT_METHODS), help=f"default: {' '.join(DEFAULT_METHODS)}")
    parser.add_argument("--prompts", nargs="+", choices=KINDS, default=list(KINDS), help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--frames", type=int, default=60, help="most pictures of a half (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=180, help="training steps over them (default: %(default)s)")
    parser.add_argument("--no-baselines", action="store_true", help="without the rows that need no model")
    common.add_model_options(parser)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/real"), help="folder of the cells (default: %(default)s)")
    parser.add_argument("--json", type=Path, default=Path("out/real.json"), help="file to write all rows to (default: %(default)s)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
