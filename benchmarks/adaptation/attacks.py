"""The cost of attacks on learning: each stream is predicted by the frozen and the adapting model, then learnt from.

    python benchmarks/adaptation/attacks.py demo/tabletop.mcap --json out/attacks.json
    python benchmarks/adaptation/attacks.py sim:dim --attack "wrong boxes" --attack "same frame" --frames 2000
    python benchmarks/adaptation/attacks.py sim:dim,clutter,gloss,camera --attack none --frames 1024    # four domains in turn, twice

A row per attack and seed; one that is in the file already is not run again. The exit status is 1 where a row of the call is below the
goal of docs/reliability.md. Labels are used for scoring only. The stream is the recording again and again, or table after table of a
simulated domain or of several in turn. An attack takes the middle of it; scores are of the frames before, under and after it.

"foreign adapter" is a message from someone else: weights drawn at random with the right base. A segmenter that anyone may talk to has to
take it. With another base it is refused (test/test_lora.py).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.learner import Learner
from wesam_ros.data.frames import Frame
from wesam_ros.engines.engine import Engine
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.evaluation.attacks import ATTACKS, STANDING, Attack, scene_change
from wesam_ros.evaluation.metrics import score_frame
from wesam_ros.evaluation.prequential import LearnerOnStream, prequential
from wesam_ros.evaluation.prompts import Prompted
from wesam_ros.evaluation.streams import labelled_stream, usable_prompts
from wesam_ros.files import write_json
from wesam_ros.options import overrides
from wesam_ros.sam.adapter import Adapter
from wesam_ros.sam.checkpoints import load_sam
from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene import REFINE_CHOICES
from wesam_ros.scene.refiner import Refiner

WINDOW, RECOVERED_OVER, RECOVERED_WITHIN = 100, 20, 0.01
"""Scored frames of the worst window; and the model has recovered when over so many it is less than this below frozen."""
LEAST_WINDOW, LEAST_MEAN, LEAST_REFINED = -1.0, -0.5, -2.0
"""The goal, in points of mIoU against frozen: of any window, and of the frames under attack and of those after it on average; and of
any window against the frozen model's refined masks."""
FOREIGN, SCENE = "foreign adapter", "scene change"
FOREIGN_SIZE = 0.08
"""Standard deviation of a foreign adapter's weights: the one that the demo leaves has 0.09 in `a` and 0.07 in `b`."""
NAMES = (*ATTACKS, SCENE, FOREIGN)


@dataclass
class Score:
    """Mean IoU of one frame's objects: of the frozen model, of its masks as served, of the adapting model's as served; whether the frame
    was attacked, and its place in the stream."""

    frozen: float
    refined: float
    adapting: float
    attacked: bool
    index: int


class Scores:
    """Mean IoU of the frozen model and of what is served, which is not computed again for a frame that repeats.

    Args:
        engine: with the model.
        choice: witnesses that served masks are refined with.
    """

    def __init__(self, engine: Engine, choice: str) -> None:
        self._engine, self._refiner, self._choice = engine, Refiner(), choice
        self._known = dict[tuple[int, str], float]()
        self._of: Frame | None = None

    def _means(self, frame: Frame, prompts: Prompts, labels: np.ndarray, adapter: Adapter | None) -> tuple[float, float]:
        """Of a model's own masks, and of these as they are served."""
        version = adapter.version if adapter is not None else 0
        if (version, self._choice) not in self._known:
            boxes = np.stack([each.box for each in prompts.objects if each.box is not None])
            found = self._engine.segment(frame.image, prompts, adapter)
            for choice in ("off", self._choice):
                masks = self._refiner.refine(frame, prompts, found, choice).masks
                iou = score_frame(masks, boxes, labels, void=frame.void).iou
                self._known[version, choice] = float(iou.mean()) if len(iou) else float("nan")
        return self._known[version, "off"], self._known[version, self._choice]

    def __call__(self, request: Prompted, adapter: Adapter | None) -> tuple[float, float, float] | None:
        """Of one frame: frozen, frozen as served, adapting as served; None where there is nothing to score."""
        frame, prompts = request.frame, request.prompts
        if frame.labels is None or not len(prompts):
            return None
        if self._of is None or any(getattr(self._of, name) is not getattr(frame, name) for name in STANDING):
            self._known, self._of = {}, frame
        frozen, refined = self._means(frame, prompts, frame.labels, None)
        _, adapting = self._means(frame, prompts, frame.labels, adapter if adapter is not None and adapter.version else None)
        return None if np.isnan(frozen) else (frozen, refined, adapting)


def foreign(learner: Learner, seed: int) -> Adapter:
    """A well-formed adapter of the learner's model that nobody has trained, newer than the learner's own."""
    rng = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(each.shape, generator=rng) * FOREIGN_SIZE for each in learner.adapter.low_rank)
    return Adapter(a, b, learner.adapter.base, learner.adapter.version + 1)


def attacked(args: argparse.Namespace) -> range:
    """The frames under attack, in the middle of the stream."""
    length = args.attacked or args.frames // 2
    start = (args.frames - length) // 2
    return range(start, start + length)


def play(args: argparse.Namespace, name: str, seed: int) -> tuple[list[Score], Learner]:
    """One attack on one stream: every frame is predicted before it is learnt from."""
    sam = load_sam(args.model, args.checkpoint)
    learner, engine = Learner(sam, AdaptationConfig(**overrides(AdaptationConfig, args.set)), seed), TorchEngine(sam)
    during = attacked(args)
    attack: Attack = ATTACKS["none"] if name == FOREIGN else ATTACKS.get(name, scene_change(labelled_stream(args.other, seed)))
    subject, score, scores = LearnerOnStream(learner), Scores(engine, args.refine), list[Score]()

    def requests() -> Iterator[Prompted]:
        frames = islice(labelled_stream(args.source, seed), args.frames)
        for index, frame in enumerate(attack(frames, during, np.random.default_rng(seed))):
            if name == FOREIGN and index == during.start:
                subject.adapter = foreign(learner, seed)
            yield Prompted(frame, usable_prompts(frame))

    began = time.monotonic()
    for turn in prequential(subject, requests(), lambda _: args.steps_per_frame, score):
        if turn.prediction is not None:
            scores.append(Score(*turn.prediction, attacked=turn.index in during, index=turn.index))
        if (turn.index + 1) % 10 == 0:
            gain = 100 * np.mean([each.adapting - each.frozen for each in scores[-50:]]) if scores else float("nan")
            pace = (turn.index + 1) / (time.monotonic() - began)
            text = f"{name}, seed {seed}: frame {turn.index + 1} of {args.frames}, {pace:.2f} a second, last 50 {gain:+.1f} points"
            print(f"\r\x1b[K{text}" if sys.stdout.isatty() else text, end="" if sys.stdout.isatty() else "\n", flush=True)
    return scores, learner


def summary(scores: Sequence[Score], during: range, steps_per_frame: int) -> dict[str, Any]:
    """The figures of a row, in points of mIoU; docs/reliability.md explains each."""
    gains = 100 * np.array([each.adapting - each.frozen for each in scores])
    attacked = np.array([each.attacked for each in scores], bool)
    before = np.array([each.index < during.start for each in scores], bool)
    after = ~attacked & ~before

    def mean(of: np.ndarray) -> float | None:
        return round(float(gains[of].mean()), 2) if of.any() else None

    window = min(WINDOW, len(gains))
    over_refined = 100 * np.array([each.adapting - each.refined for each in scores])
    sums, sums_refined = (np.convolve(each, np.ones(window) / window, "valid") if window else np.zeros(0) for each in (gains, over_refined))
    recovered = frames_to_recover(gains[after], [each.index - during.stop for each, late in zip(scores, after, strict=True) if late])
    return {
        "scored_frames": len(gains),
        "frozen_miou": round(100 * float(np.mean([each.frozen for each in scores])), 2) if scores else None,
        "gain": mean(np.ones(len(gains), bool)),
        "gain_before": mean(before),
        "gain_under_attack": mean(attacked),
        "gain_after": mean(after),
        "worst_window": round(float(sums.min()), 2) if len(sums) else None,
        "frozen_refined_miou": round(100 * float(np.mean([each.refined for each in scores])), 2) if scores else None,
        "worst_window_refined": round(float(sums_refined.min()), 2) if len(sums_refined) else None,
        "window": window,
        "frames_to_recover": recovered,
        "steps_to_recover": None if recovered is None else recovered * steps_per_frame,
    }


def frames_to_recover(gains: np.ndarray, places: Sequence[int]) -> int | None:
    """Frames after the attack until the mean gain of the next `RECOVERED_OVER` scored ones is above the limit; None if it never is."""
    over = min(RECOVERED_OVER, len(gains))
    for start in range(len(gains) - over + 1 if over else 0):
        if gains[start : start + over].mean() > -100 * RECOVERED_WITHIN:
            return places[start]
    return None


def below_goal(row: dict[str, Any]) -> list[str]:
    """The figures of a row that are below the goal."""
    limits = {
        "worst_window": LEAST_WINDOW,
        "gain_under_attack": LEAST_MEAN,
        "gain_after": LEAST_MEAN,
        "worst_window_refined": LEAST_REFINED,
    }
    return [f"{key} {row[key]:+.2f}" for key, least in limits.items() if row[key] is not None and row[key] < least]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="labelled recording, or sim:DOMAIN, or sim:DOMAIN,DOMAIN,...")
    parser.add_argument("--other", default="sim:dim", help="the other scene of the scene change, likewise (default: %(default)s)")
    parser.add_argument("--attack", action="append", choices=NAMES, help="may be repeated (default: all)")
    parser.add_argument("--seed", type=int, action="append", help="may be repeated (default: 0)")
    parser.add_argument("--frames", type=int, default=1000, help="of a stream (default: %(default)s)")
    parser.add_argument("--attacked", type=int, default=0, help="how many of them, in the middle, are under attack (default: half)")
    parser.add_argument("--refine", default="all", choices=REFINE_CHOICES, help="witnesses of what is served (default: %(default)s)")
    parser.add_argument("--steps-per-frame", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--threads", type=int, default=0, help="of torch (default: its own choice)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="an option of the method, for comparison")
    parser.add_argument("--json", type=Path, default=Path("out/attacks.json"), help="file with the rows (default: %(default)s)")
    args = parser.parse_args()
    if args.frames < 4 or not 0 <= args.attacked < args.frames:
        parser.error(f"--frames must be at least 4 and more than --attacked, but got {args.frames} and {args.attacked}")
    if args.threads:
        torch.set_num_threads(args.threads)
    rows: list[dict[str, Any]] = json.loads(args.json.read_text()) if args.json.exists() else []
    during = attacked(args)
    failed = []
    for seed in args.seed or [0]:
        for name in args.attack or NAMES:
            key = {"attack": name, "seed": seed, "source": args.source, "frames": args.frames, "attacked": len(during)}
            key |= {"steps_per_frame": args.steps_per_frame, "model": args.model, "set": args.set}
            if name == SCENE:
                key["other"] = args.other
            if known := [row for row in rows if key.items() <= row.items()]:
                failed += [f"{name}, seed {seed}: {text}" for text in below_goal(known[0])]
                continue
            began = time.monotonic()
            scores, learner = play(args, name, seed)
            row = {**key, **summary(scores, during, args.steps_per_frame)}
            row |= {"adapters": learner.adapter.version, "counters": dict(learner.counters), "seconds": round(time.monotonic() - began)}
            rows.append(row)
            write_json(args.json, rows)
            print(f"{name}, seed {seed}: " + ", ".join(f"{k} {v}" for k, v in row.items() if k not in (*key, "counters")))
            failed += [f"{name}, seed {seed}: {text}" for text in below_goal(row)]
    if failed:
        sys.exit("below the goal: " + "; ".join(failed))


if __name__ == "__main__":
    main()
