"""Criteria without labels against true IoU: their rank correlation over adapters and over frames, and what each costs.

    python benchmarks/adaptation/criteria.py sim:camera sim:dim demo/tabletop.mcap --json out/criteria.json

Per stream, adapters of different quality are snapshots of training that goes well, and of training under attack, without a guard. All are
scored on frames that none of them has seen, with the detector's boxes; true IoU, from labels, is only what the criteria are compared with.
A row per stream; one that is in the file already is not run again. Printed are also how many of the adapters the guard would serve by these
frames, with its lead and without one, and how many of those are worse than the frozen model.

Spearman's rank correlation over adapters (means over the frames), and over frames (with the frozen model: would the criterion have told
good frames from bad ones?). Seconds are per frame, beside the forward pass that the masks come from.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from wesam_ros.adaptation.buffering import make_buffered_frame
from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.guard import below_frozen
from wesam_ros.adaptation.learner import Learner
from wesam_ros.adaptation.losses import hard_iou
from wesam_ros.adaptation.predictions import Prediction, predict_views
from wesam_ros.adaptation.replay_buffer import BufferedFrame
from wesam_ros.adaptation.validation import ValidationScore, scored_objects, validation_iou
from wesam_ros.adaptation.views import strong_view
from wesam_ros.data.frames import Frame
from wesam_ros.evaluation.attacks import ATTACKS
from wesam_ros.evaluation.metrics import score_frame
from wesam_ros.evaluation.prequential import LearnerOnStream, prequential
from wesam_ros.evaluation.prompts import Prompted
from wesam_ros.evaluation.streams import labelled_stream, usable_prompts
from wesam_ros.files import write_json
from wesam_ros.sam.checkpoints import load_sam
from wesam_ros.sam.upscaling import masks_from_logits
from wesam_ros.scene.constraints import gather_constraints, rough_boxes
from wesam_ros.scene.refine import known_pixels, prompt_fit
from wesam_ros.scene.support import find_support

COURSES = (("none", 1.0), ("wrong boxes", 1.0), ("shifted boxes", 1.0), ("camera frozen", 1.0), ("none", 10.0))
"""Courses of training: the attack on its stream, and the factor of the learning rate."""
EDGE_TOLERANCE = 1.5
"""Pixels of the decoder's grid between a mask's outline and a depth edge."""
POINT = 0.01
LowRank = tuple[Tensor, Tensor]


def outline(mask: np.ndarray) -> np.ndarray:
    """(h, w) bool: the outermost pixels of a mask."""
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    return mask & (inner == 0)


def depth_edges(masks: Tensor, frame: BufferedFrame) -> float:
    """Mean share of masks' outlines that lie where what rises from the surface ends; NaN where depth knows no edge."""
    raised = frame.constraints.candidate.any(0).numpy()
    edges = outline(raised)
    if not edges.any():
        return float("nan")
    far = cv2.distanceTransform((~edges).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    outlines = [outline(mask) for mask in masks.numpy()]
    shares = [float((far[each] <= EDGE_TOLERANCE).mean()) if each.any() else 0.0 for each in outlines]
    return float(np.mean(shares))


def known_pixels_iou(masks: Tensor, frame: BufferedFrame) -> Tensor:
    """IoU (n,) of masks with their objects over the pixels that depth and boxes know: what rises in one box only is on the object; surface
    and what is beyond the box are not. It was the guard's criterion, and is blind to what happens elsewhere."""
    inside, surface = known_pixels(frame.constraints)
    union = (inside | (masks & (surface | ~frame.constraints.allowed))).sum((1, 2))
    overlap = (masks & inside).sum((1, 2)) / union.clamp_min(1)
    return torch.where(inside.flatten(1).any(1), overlap, prompt_fit(masks, frame.constraints))


class Criteria:
    """Criteria and true IoU of adapters on frames that were not learnt from."""

    def __init__(self, sam: Any, frames: list[Frame]) -> None:
        self.sam, self.seconds = sam, dict[str, list[float]]()
        self.frames: list[tuple[Frame, BufferedFrame]] = []
        rng, side, grid = np.random.default_rng(0), sam.image_encoder.img_size, sam.prompt_encoder.mask_input_size[0]
        for frame in frames:
            prompts = usable_prompts(frame)
            if not len(prompts):
                continue
            support = None
            if frame.depth is not None and frame.camera is not None:
                support = find_support(frame.image, frame.depth, frame.camera, rough_boxes(prompts), grid, rng)
            self.frames.append(
                (frame, make_buffered_frame(sam, frame, prompts, gather_constraints(prompts, support, side, grid), "float32"))
            )

    def _timed(self, name: str, function: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        value = function()
        self.seconds.setdefault(name, []).append(time.perf_counter() - began)
        return value

    def _view(self, low_rank: LowRank | None, buffered: BufferedFrame, pixels: np.ndarray) -> Prediction:
        return predict_views(self.sam, low_rank, [pixels], False, buffered.prompts, "float32")[0]

    @torch.inference_mode()
    def of_frame(self, low_rank: LowRank | None, index: int) -> dict[str, float]:
        """Each criterion of an adapter on one frame, and "iou", the truth."""
        frame, buffered = self.frames[index]
        weak = self._timed("forward pass", lambda: self._view(low_rank, buffered, buffered.pixels))
        masks, counted = weak.logits > 0, scored_objects(buffered, AdaptationConfig())
        counted = counted if counted.any() else torch.ones_like(counted)
        rng = np.random.default_rng(index)  # the same strong view for every adapter
        values = {
            "fit": self._timed("fit", lambda: float(validation_iou(masks, buffered)[counted].mean())),
            "known pixels": self._timed("known pixels", lambda: float(known_pixels_iou(masks, buffered)[counted].mean())),
            "box fit": self._timed("box fit", lambda: float(prompt_fit(masks, buffered.constraints).mean())),
            "agreement with the anchor": self._timed(
                "agreement with the anchor", lambda: float(hard_iou(masks, buffered.anchor_logits > 0)[counted].mean())
            ),
            "predicted IoU": self._timed("predicted IoU", lambda: float(weak.scores.mean())),
            "stability": self._timed(
                "stability",
                lambda: float(hard_iou(masks, self._view(low_rank, buffered, strong_view(buffered.pixels, rng)).logits > 0).mean()),
            ),
            "depth edges": self._timed("depth edges", lambda: depth_edges(masks, buffered)),
        }
        full, _ = masks_from_logits(weak.logits, buffered.prompts.size, self.sam.image_encoder.img_size)
        boxes = np.stack([each.box for each in buffered.prompts.objects if each.box is not None])
        assert frame.labels is not None
        iou = score_frame(full, boxes, frame.labels, void=frame.void).iou
        return {**values, "iou": float(iou.mean()) if len(iou) else float("nan")}

    def of_adapter(self, low_rank: LowRank | None) -> tuple[dict[str, float], list[dict[str, float]]]:
        """Means over the frames, and each frame's values."""
        each = [self.of_frame(low_rank, index) for index in range(len(self.frames))]
        return {name: float(np.nanmean([values[name] for values in each])) for name in each[0]}, each


def snapshots(args: argparse.Namespace, source: str, attack: str, faster: float) -> list[LowRank]:
    """Adapters along one course of training that nothing guards."""
    config = AdaptationConfig(lr=AdaptationConfig().lr * faster, misplaced=1e9)  # shifted boxes are to do harm here
    learner = Learner(load_sam(args.model, args.checkpoint), config, args.seed)
    frames = islice(labelled_stream(source, args.seed), args.frames)
    found = []
    attacked = ATTACKS[attack](frames, range(args.frames), np.random.default_rng(args.seed))
    requests = (Prompted(frame, usable_prompts(frame)) for frame in attacked)
    subject = LearnerOnStream(learner, publishes=False)
    for turn in prequential(subject, requests, lambda _: args.steps_per_frame, lambda *_: None):
        if (turn.index + 1) % args.every == 0:
            a, b = learner.candidate
            found.append((a.clone(), b))
            print(f"{source}: {attack}, learning rate x {faster:g}: snapshot {len(found)} after frame {turn.index + 1}", flush=True)
    return found


def correlations(rows: list[dict[str, float]]) -> dict[str, float | None]:
    """Spearman's rank correlation of each criterion with "iou"; None where there are fewer than three values, or all are the same."""
    table = {}
    for name in rows[0]:
        pairs = np.array([(row[name], row["iou"]) for row in rows if np.isfinite(row[name]) and np.isfinite(row["iou"])]).reshape(-1, 2)
        varied = len(pairs) > 2 and bool((np.ptp(pairs, axis=0) > 0).all())
        table[name] = round(float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic), 3) if varied else None
    del table["iou"]
    return table


def admitted(adapters: list[dict[str, float]], lead: float) -> str:
    """A sentence on the adapters that the guard would serve rather than the first one, the frozen model, with this lead."""
    config = AdaptationConfig(lead=lead)
    frozen, *rest = (ValidationScore(each["fit"], each["agreement with the anchor"], 1) for each in adapters)
    lost = [adapters[0]["iou"] - each["iou"] for each in adapters[1:]]
    served = [
        each
        for score, each in zip(rest, lost, strict=True)
        if below_frozen(score, frozen, config) is None and score.agreement >= config.divergence * frozen.agreement
    ]
    losing, worst = sum(each > POINT for each in served), -100 * max(served, default=0.0)
    gaining = sum(each < -POINT for each in lost) - sum(each < -POINT for each in served)
    return (
        f"with a lead of {lead:g}: {len(served)} of {len(lost)} served, {losing} of which lose more than a point of IoU (the worst "
        f"{worst:+.1f}); {len(lost) - len(served)} rejected, {gaining} of which gain more than one"
    )


def measure(args: argparse.Namespace, source: str) -> dict[str, Any]:
    """The row of one stream."""
    frames = labelled_stream(source, args.seed + 1 if source.startswith("sim:") else args.seed)
    unseen = list(islice(frames, args.frames, args.frames + args.judged))
    criteria = Criteria(load_sam(args.model, args.checkpoint), unseen)
    if not criteria.frames:
        raise SystemExit(f"{source} has no frame with usable boxes to score on; raise --judged")
    frozen, per_frame = criteria.of_adapter(None)
    adapters = [{**frozen, "course": -1}]
    for number, (attack, faster) in enumerate(COURSES):
        for low_rank in snapshots(args, source, attack, faster):
            values, _ = criteria.of_adapter(low_rank)
            adapters.append({**values, "course": number})
            print(f"{source}: " + ", ".join(f"{name} {value:.3f}" for name, value in values.items()), flush=True)
    plain = [{name: value for name, value in each.items() if name != "course"} for each in adapters]
    return {
        "over_adapters": correlations(plain),
        "over_frames": correlations(per_frame),
        "adapters": adapters,
        "judged_frames": len(criteria.frames),
        "seconds": {name: round(float(np.median(each)), 5) for name, each in criteria.seconds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help="labelled recordings of more than --frames and --judged frames, or sim:DOMAIN")
    parser.add_argument("--frames", type=int, default=120, help="of each course of training (default: %(default)s)")
    parser.add_argument("--every", type=int, default=20, help="frames between two snapshots (default: %(default)s)")
    parser.add_argument("--judged", type=int, default=24, help="frames that adapters are scored on (default: %(default)s)")
    parser.add_argument("--steps-per-frame", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--threads", type=int, default=0, help="of torch (default: its own choice)")
    parser.add_argument("--json", type=Path, default=Path("out/criteria.json"), help="file with the rows (default: %(default)s)")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    rows: list[dict[str, Any]] = json.loads(args.json.read_text()) if args.json.exists() else []
    for source in args.sources:
        key = {"source": source, "seed": args.seed, "frames": args.frames, "every": args.every, "judged": args.judged}
        key |= {"steps_per_frame": args.steps_per_frame, "model": args.model}
        known = [row for row in rows if key.items() <= row.items()]
        if not known:
            rows.append({**key, **measure(args, source)})
            write_json(args.json, rows)
        row = known[0] if known else rows[-1]
        for lead in (0.0, AdaptationConfig().lead):
            print(f"{source}, {admitted(row['adapters'], lead)}")
        for over in ("over_adapters", "over_frames"):
            print(f"{source}, {over.replace('_', ' ')}: " + ", ".join(f"{name} {value}" for name, value in row[over].items()))
        print(f"{source}, seconds: {row['seconds']}")


if __name__ == "__main__":
    main()
