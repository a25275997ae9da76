"""The share of frames that are rejected for boxes that do not belong to their depth, where they do and where they do not.

    python benchmarks/adaptation/misplaced.py demo/tabletop.mcap sim:dim sim:clutter osd:FOLDER --json out/misplaced.json

A row per stream, attack, and share of the things that the detector boxes: a detector of cups alone leaves most of a table without a box.
Boxes are a simulated detector's, with its errors; labels serve for nothing else. No model is run.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.data.frames import Frame
from wesam_ros.evaluation.attacks import ATTACKS
from wesam_ros.evaluation.streams import random_share, sampled_frames, usable_prompts
from wesam_ros.files import write_json
from wesam_ros.sam.checkpoints import load_sam
from wesam_ros.scene.constraints import gather_constraints, rough_boxes
from wesam_ros.scene.placement import misplacement
from wesam_ros.scene.support import find_support

CASES = (("none", 1.0), ("none", 1 / 3), ("none", 0.0), ("wrong boxes", 1.0), ("shifted boxes", 1.0), ("depth shifted", 1.0))
"""An attack, and the share of the boxes that are kept; one of each frame at least."""


def shares(frames: list[Frame], attack: str, boxed: float, sizes: tuple[int, int], rng: np.random.Generator) -> list[float]:
    """The gain that the boxes of each frame would have elsewhere (scene/placement.py); frames without boxes or support surface left out."""
    found = []
    for frame in ATTACKS[attack](frames, range(len(frames)), rng):
        prompts = usable_prompts(frame)
        if not len(prompts) or frame.depth is None or frame.camera is None:
            continue
        prompts = random_share(prompts, boxed, rng)
        support = find_support(frame.image, frame.depth, frame.camera, rough_boxes(prompts), sizes[1], rng)
        if support is not None:
            found.append(misplacement(gather_constraints(prompts, support, *sizes), support)[0])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help="labelled recordings, sim:DOMAIN, osd:FOLDER")
    parser.add_argument("--frames", type=int, default=48, help="of a stream (default: %(default)s)")
    parser.add_argument("--every", type=int, default=7, help="every so many-th frame of it (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("out/misplaced.json"), help="file to write the rows to (default: %(default)s)")
    args = parser.parse_args()
    sam, limit = load_sam("tiny"), AdaptationConfig().misplaced
    sizes = (sam.image_encoder.img_size, sam.prompt_encoder.mask_input_size[0])
    rows: list[dict[str, Any]] = []
    for source in args.sources:
        frames = list(sampled_frames(source, args.seed, args.frames, args.every))
        for attack, boxed in CASES:
            found = np.array(shares(frames, attack, boxed, sizes, np.random.default_rng(args.seed)))
            name = source.split(":")[0] if source.startswith("osd:") else source
            row = {"source": name, "attack": attack, "boxed": round(boxed, 2), "seed": args.seed, "frames": len(found), "limit": limit}
            row |= {"rejected": round(float((found > limit).mean()), 3)}
            row |= {f"p{each}": round(float(np.percentile(found, each)), 3) for each in (5, 50, 95)}
            rows.append(row)
            print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    write_json(args.json, rows)


if __name__ == "__main__":
    main()
