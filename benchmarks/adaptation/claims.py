"""IoU of the frozen model's masks once depth refines them, with a detector that boxes all things or only some of them.

    python benchmarks/adaptation/claims.py demo/tabletop.mcap sim:dim sim:clutter osd:FOLDER --json out/claims.json

A row per stream, share of the things that are boxed, and scale of the boxes: mean IoU over the boxed objects, on the decoder's grid.
"as they are": the model's own masks. "all claimed": refined ones, where all that rises in a box is a candidate for its object. "corrected":
refined ones, where what belongs to things without a box is left out (scene/neighbours.py). Boxes are a simulated detector's, with its
errors; labels are used for scoring only.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from wesam_ros.adaptation.admission import large_prompts
from wesam_ros.adaptation.buffering import make_buffered_frame
from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.data.frames import Frame
from wesam_ros.evaluation.metrics import score_frame
from wesam_ros.evaluation.streams import random_share, sampled_frames, usable_prompts
from wesam_ros.files import write_json
from wesam_ros.sam.checkpoints import load_sam
from wesam_ros.sam.preprocessing import resized_size
from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene.constraints import gather_constraints, rough_boxes
from wesam_ros.scene.refine import refine
from wesam_ros.scene.support import find_support

CASES = ((1.0, 1.0), (1 / 3, 1.0), (0.0, 1.0), (1.0, 0.8), (0.0, 0.8), (1.0, 1.2), (0.0, 1.2))
"""The share of the boxes that are taken, one of each frame at least, and how large they are for what they hold."""
KINDS = ("as they are", "all claimed", "corrected")


def scaled(prompts: Prompts, scale: float) -> Prompts:
    """The boxes, so many times as large around their centers, as far as they are in the image."""
    boxes = rough_boxes(prompts)
    center, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * scale
    height, width = prompts.size
    return Prompts.from_boxes(np.clip(np.concatenate([center - half, center + half], 1), 0, (width, height, width, height)), prompts.size)


def ious(sam: Any, frame: Frame, boxed: float, scale: float, rng: np.random.Generator) -> list[list[float]]:
    """For each of KINDS, the IoU of the boxed objects of a frame; none where depth finds no table, or without objects."""
    side, grid = sam.image_encoder.img_size, sam.prompt_encoder.mask_input_size[0]
    prompts = large_prompts(usable_prompts(frame), AdaptationConfig().least_side)
    if not len(prompts) or frame.depth is None or frame.camera is None or frame.labels is None:
        return [[] for _ in KINDS]
    prompts = scaled(random_share(prompts, boxed, rng), scale)
    support = find_support(frame.image, frame.depth, frame.camera, rough_boxes(prompts), grid, rng)
    if support is None:
        return [[] for _ in KINDS]
    constraints = gather_constraints(prompts, support, side, grid)
    anchor = make_buffered_frame(sam, frame, prompts, constraints, "float32").anchor_logits
    all_candidates = replace(constraints, candidate=torch.from_numpy(support.raised).expand_as(constraints.candidate))
    height, width = resized_size(prompts.size, grid)
    labels = np.zeros((grid, grid), np.uint16)
    labels[:height, :width] = cv2.resize(frame.labels, (width, height), interpolation=cv2.INTER_NEAREST)
    masks = (anchor, refine(anchor, all_candidates), refine(anchor, constraints))
    return [score_frame((each > 0).numpy(), constraints.boxes.numpy(), labels).iou.tolist() for each in masks]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help="labelled recordings, sim:DOMAIN, osd:FOLDER")
    parser.add_argument("--frames", type=int, default=24, help="of a stream (default: %(default)s)")
    parser.add_argument("--every", type=int, default=13, help="every so many-th frame of it (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("out/claims.json"), help="file to write the rows to (default: %(default)s)")
    args = parser.parse_args()
    sam = load_sam("tiny")
    rows: list[dict[str, Any]] = []
    for source in args.sources:
        frames = list(sampled_frames(source, args.seed, args.frames, args.every))
        for boxed, scale in CASES:
            rng = np.random.default_rng(args.seed)
            found = [ious(sam, frame, boxed, scale, rng) for frame in frames]
            pooled = [np.array([value for frame in found for value in frame[kind]]) for kind in range(len(KINDS))]
            name = source.split(":")[0] if source.startswith("osd:") else source
            row: dict[str, Any] = {"source": name, "boxed": round(boxed, 2), "scale": scale, "seed": args.seed, "objects": len(pooled[0])}
            row |= {kind: round(100 * float(values.mean()), 1) for kind, values in zip(KINDS, pooled, strict=True)}
            rows.append(row)
            print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    write_json(args.json, rows)


if __name__ == "__main__":
    main()
