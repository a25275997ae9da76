"""Gain by a person's answers: asked by us, at random, by lowest predicted IoU, by entropy. The rows of benchmarks/results/answers.json.

    python benchmarks/adaptation/answers.py osd:FOLDER sim:clutter --json out/answers.json

Per data set, half, depth, seed, way of asking and number of answers, the learner of the adapter node adapts to the stream with a detector's
boxes (misses, false ones, jitter), and a simulated person answers in between, evenly spread. Rows that are in the file are not made again.

**The person is the truth, and the only one who sees it.** Shown a mask, it says "yes" at IoU 0.9 and above, "no" to a box of nothing, and
else mends it with two clicks, each in the middle of the largest error and off by some pixels, by the model that is served. If the mask is
not at IoU 0.75 even so, it says "no". One answer of ten is wrong: "yes" for "no" and for what should be mended, "no" for "yes".

Scores are of the test frames, with clean boxes: `miou` of the model's masks, `served` of those refined with depth. `gain` is less the row
without answers. UncertainSAM (Kaiser et al., ICML 2025) trains heads of its own to tell uncertainty. They were not trained here; "entropy",
the mean entropy of the mask's pixels, needs no training and stands in their place. It is not their measure.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from wesam_ros.adaptation.answers import MENDED, NO, YES, Answered, keep_answer
from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.examining import examine
from wesam_ros.adaptation.learner import Learner
from wesam_ros.adaptation.questions import Question, Questions
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.evaluation.comparison import Setting, source_of
from wesam_ros.evaluation.metrics import mask_iou
from wesam_ros.evaluation.prompts import Prompted, draw
from wesam_ros.evaluation.served import score_served
from wesam_ros.evaluation.splits import Fold
from wesam_ros.files import write_json
from wesam_ros.machine import processor
from wesam_ros.sam.checkpoints import load_sam
from wesam_ros.sam.prompts import Prompt, Prompts

WAYS = ("ours", "random", "iou", "entropy")
WRONG, CLICKS, IMPRECISION = 0.1, 2, 4.0
"""Share of answers that are wrong; clicks that mend; standard deviation of a click in pixels."""
RIGHT, GOOD_ENOUGH = 0.9, 0.75
"""IoU with the truth from which on a mask is right, and from which on a mended one is sent."""
WAITING = 8
KEYS = ("dataset", "domain", "fold", "depth", "seed", "asked_by", "answers")

Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Shown:
    """A question, the true mask of its box, which the person alone sees, and what the model says: predicted IoU and pixels' entropy."""

    question: Question
    truth: Bool
    predicted: float
    entropy: float


class Person:
    """Answers by the truth, as described above; counts its answers by kind."""

    def __init__(self, engine: TorchEngine, seed: int) -> None:
        self.counts: dict[str, int] = {}
        self._engine, self._rng = engine, np.random.default_rng([seed, 7])

    def answer(self, shown: Shown, adapter: Any) -> tuple[str, Bool]:
        """The answer, and its mask."""
        kind, mask = self._right(shown, adapter)
        if self._rng.random() < WRONG:
            self.counts["wrong"] = self.counts.get("wrong", 0) + 1
            kind, mask = (NO if kind == YES else YES), shown.question.mask
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return kind, mask

    def _right(self, shown: Shown, adapter: Any) -> tuple[str, Bool]:
        mask = shown.question.mask
        if iou(mask, shown.truth) >= RIGHT:
            return YES, mask
        if not shown.truth.any():
            return NO, mask
        points: list[tuple[float, float]] = []
        labels: list[int] = []
        for _ in range(CLICKS):
            place, on = self._click(mask, shown.truth)
            points.append(place)
            labels.append(on)
            prompt = Prompt(shown.question.box, np.array(points, np.float32), np.array(labels, np.int64))
            size = (mask.shape[0], mask.shape[1])
            mask = self._engine.segment(shown.question.image, Prompts(size, (prompt,)), adapter).masks[0]
        return (MENDED, mask) if iou(mask, shown.truth) >= GOOD_ENOUGH else (NO, shown.question.mask)

    def _click(self, mask: Bool, truth: Bool) -> tuple[tuple[float, float], int]:
        """A place in the middle of the largest error, off by some pixels; 1 where the thing is missing there."""
        best = (0.0, (0, 0), 1)
        for wrong, on in ((truth & ~mask, 1), (mask & ~truth, 0)):
            depth = cv2.distanceTransform(np.pad(wrong, 1).astype(np.uint8), cv2.DIST_L2, 3)
            _, furthest, _, (x, y) = cv2.minMaxLoc(depth)
            best = max(best, (furthest, (x - 1, y - 1), on))
        height, width = mask.shape
        x, y = np.clip(np.array(best[1]) + self._rng.normal(0, IMPRECISION, 2), 0, (width - 1, height - 1)).tolist()
        return (x, y), best[2]


def iou(first: Bool, second: Bool) -> float:
    """IoU of two masks (H, W)."""
    return float(mask_iou(first[None], second[None], None)[0])


def shown_of(request: Prompted, learner: Learner, engine: TorchEngine, config: AdaptationConfig) -> list[Shown]:
    """The questions on a frame's objects, with the truth beside each."""
    assert request.masks is not None
    adapter = learner.adapter if learner.adapter.trained else None
    found = engine.segment(request.frame.image, request.prompts, adapter)
    rows = []
    for question in examine(learner.sam, learner.adapter, request.frame, request.prompts, config):
        row = next(i for i, each in enumerate(request.prompts.objects) if each.box is not None and np.array_equal(each.box, question.box))
        share = 1 / (1 + np.exp(-np.clip(found.low_res[row], -30, 30)))
        bits = -(share * np.log2(share + 1e-9) + (1 - share) * np.log2(1 - share + 1e-9))
        inside = found.low_res[row] > 0
        rows.append(Shown(question, request.masks[row], float(found.scores[row]), float(bits[inside].mean()) if inside.any() else 1.0))
    return rows


class Asker:
    """Keeps what can be asked about, and chooses by one of WAYS."""

    def __init__(self, way: str, seed: int) -> None:
        self._way, self._rng = way, np.random.default_rng([seed, 11])
        self._questions, self._all = Questions(WAITING), dict[int, Shown]()
        self._count = 0

    def offer(self, rows: Sequence[Shown]) -> None:
        """Takes note of the objects of a frame."""
        if self._way == "ours":
            self._questions.offer([each.question for each in rows])
            for each in rows:
                self._count += 1
                self._all[self._count] = each
            self._all = {each.id: self._all[each.id] for each in self._questions.waiting}
        else:
            for each in rows:
                self._count += 1
                self._all[self._count] = each

    def next(self) -> Shown | None:
        """The next one to ask about; None while there is none."""
        if not self._all:
            return None
        choose: dict[str, Callable[[], int]] = {
            "ours": lambda: self._questions.waiting[0].id,
            "random": lambda: int(self._rng.choice(list(self._all))),
            "iou": lambda: min(self._all, key=lambda number: self._all[number].predicted),
            "entropy": lambda: max(self._all, key=lambda number: self._all[number].entropy),
        }
        number = choose[self._way]()
        if self._way == "ours":
            self._questions.take(number)
            left = {each.id for each in self._questions.waiting}
            chosen = self._all.pop(number)
            self._all = {each: shown for each, shown in self._all.items() if each in left}
            return chosen
        return self._all.pop(number)


def adapted(sam: Any, fold: Fold, way: str, answers: int, depth: bool, seed: int, steps: int) -> tuple[Learner, dict[str, int]]:
    """A learner after the stream, and the answers by kind."""
    config = AdaptationConfig()
    learner, engine = Learner(sam, config, seed), TorchEngine(sam)
    person, asker, rng = Person(engine, seed), Asker(way, seed), np.random.default_rng([seed, 3])
    given, count = 0, len(fold.adapt)
    for index, labelled in enumerate(fold.adapt):
        request = draw(labelled, "box", "detector", rng)
        frame = replace(request.frame, stamp_ns=index + 1)
        request = replace(request, frame=frame if depth else replace(frame, depth=None))
        if len(request.prompts) and learner.observe(request.frame, request.prompts).accepted and answers:
            asker.offer(shown_of(request, learner, engine, config))
        while given < answers * (index + 1) // count and (shown := asker.next()) is not None:
            given += 1
            kind, mask = person.answer(shown, learner.adapter if learner.adapter.trained else None)
            question = shown.question
            kept = Answered(given, kind, question.image, question.box, mask, question.stamp_ns)
            keep_answer(learner.replay_buffer, sam, kept, config.precision)
        for _ in range(steps * (index + 1) // count - steps * index // count):
            if learner.step() is not None:
                learner.propose()
    return learner, person.counts


def row_of(sam: Any, fold: Fold, key: dict[str, Any], steps: int) -> dict[str, Any]:
    """The row of one cell."""
    learner, counts = adapted(sam, fold, key["asked_by"], key["answers"], key["depth"], key["seed"], steps)
    adapter = learner.adapter if learner.adapter.trained else None
    depths = ("off", "full") if key["depth"] else ("off",)
    found = score_served(TorchEngine(sam), fold.test, adapter, "box", "clean", depths, key["seed"])
    figures = {name: round(found[depth][0].miou, 4) for name, depth in (("miou", "off"), ("served", "full")) if depth in found}
    return key | figures | {"given": counts, "version": learner.adapter.version, "counters": dict(learner.counters)}


def with_gains(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with what each has gained by answers."""
    place = KEYS[:-2]
    before = {tuple(row[name] for name in place): row for row in rows if not row["answers"]}
    gained = []
    for row in rows:
        zero = before.get(tuple(row[name] for name in place))
        gains = {f"gain_{name}": round(row[name] - zero[name], 4) for name in ("miou", "served") if zero and name in row}
        gained.append({**row, **gains} if row["answers"] else row)
    return gained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help="sim:DOMAIN, or NAME:FOLDER of a data set")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--answers", nargs="+", type=int, default=[5, 10, 20, 50])
    parser.add_argument("--depth", nargs="+", default=["no", "yes"], choices=("no", "yes"), help="the learner sees depth (default: both)")
    parser.add_argument("--folds", nargs="+", type=int, help="halves of a data set (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=180, help="training steps over a stream (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=128, help="most frames of a split (default: %(default)s)")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--json", type=Path, default=Path("out/answers.json"), help="file of the rows (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    sam = load_sam(args.model)
    rows = json.loads(args.json.read_text())["rows"] if args.json.exists() else []
    done = {tuple(row[name] for name in KEYS) for row in rows}
    for text in args.sources:
        source = source_of(text, Setting(args.model, None, args.steps, False, args.limit))
        for number, fold in enumerate(source.load()):
            if args.folds and number not in args.folds:
                continue
            place = {"dataset": source.dataset, "domain": source.domain, "fold": number}
            cells = [("none", 0), *((way, answers) for answers in args.answers for way in args.ways)]
            for depth, seed, (way, answers) in ((d, s, c) for d in args.depth for s in args.seeds for c in cells):
                key = {**place, "depth": depth == "yes", "seed": seed, "asked_by": way, "answers": answers}
                if tuple(key[name] for name in KEYS) in done:
                    continue
                rows = with_gains([*rows, row_of(sam, fold, key, args.steps)])
                machine = {"processor": processor(), "threads": 1, "model": args.model, "steps": args.steps}
                write_json(args.json, {"machine": machine, "wrong_answers": WRONG, "click_pixels": IMPRECISION, "rows": rows})
                print({name: rows[-1].get(name) for name in (*KEYS, "miou", "served", "gain_miou", "gain_served", "given")}, flush=True)


if __name__ == "__main__":
    main()
