"""Masks as they are served, in four columns: frozen, frozen refined, adapted, adapted refined; with good, bad and no depth.

    python benchmarks/adaptation/served.py sim:dim sim:clutter sim:gloss sim:camera osd:FOLDER --json out/served.json

Per data set, kind of prompt and seed one adapter is learnt on the stream with clean prompts, as `wesam evaluate` does it with the
method `ours`, and kept beside the file. Then its masks and the frozen model's are scored on the test frames: with the prompts of each
noise, refined with each kind of depth. Rows that are in the file are not made again. `ms` is the median processor time of refining a frame.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.evaluation.bad_depth import BAD_DEPTH
from wesam_ros.evaluation.comparison import Setting, source_of
from wesam_ros.evaluation.prequential import MethodOnStream, prequential
from wesam_ros.evaluation.prompts import KINDS, NOISES, SCALES, draw
from wesam_ros.evaluation.served import score_served
from wesam_ros.evaluation.splits import Fold, Source
from wesam_ros.files import write_json
from wesam_ros.methods.ours import Ours
from wesam_ros.sam.adapter import Adapter
from wesam_ros.sam.checkpoints import load_sam

KEYS = ("dataset", "domain", "fold", "prompt", "prompt_noise", "depth", "variant", "seed")


def adapted(sam: Any, fold: Fold, prompt: str, seed: int, steps: int, file: Path) -> Adapter | None:
    """The adapter of a stream: of the file, or learnt and kept there; None where the guard has published none."""
    untrained = file.with_suffix(".none")
    if untrained.exists():
        return None
    if file.exists():
        return Adapter.load(file, for_sam=sam)
    method, rng, count = Ours(sam, seed), np.random.default_rng([seed, KINDS.index(prompt)]), len(fold.adapt)
    requests = (draw(frame, prompt, "clean", rng) for frame in fold.adapt)
    for _ in prequential(MethodOnStream(method, False), requests, lambda i: steps * (i + 1) // count - steps * i // count, lambda *_: None):
        pass
    file.parent.mkdir(parents=True, exist_ok=True)
    if method.adapter is None:
        untrained.touch()
    else:
        method.adapter.save(file)
    return method.adapter


def wanted_depths(noise: str, prompt: str) -> tuple[str, ...]:
    """Every kind of depth for clean boxes; as it is, and none, for other prompts."""
    return ("off", "full", "none", *(BAD_DEPTH if (prompt, noise) == ("box", "clean") else ()))


def rows_of(
    source: Source, number: int, fold: Fold, engine: TorchEngine, adapter: Adapter | None, name: str, key: dict[str, Any]
) -> list[dict[str, Any]]:
    """The rows of one variant of the model, "frozen" or "adapted", refined and not."""
    rows = []
    depths = wanted_depths(key["prompt_noise"], key["prompt"])
    scores = score_served(engine, fold.test, adapter, key["prompt"], key["prompt_noise"], depths, key["seed"])
    for depth, (found, milliseconds) in scores.items():
        variant = name if depth == "off" else f"{name} refined"
        figures = {"miou": round(found.miou, 4), "boundary_f": round(found.boundary_f, 4), "ms": round(milliseconds, 1)}
        place = {"dataset": source.dataset, "domain": source.domain, "fold": number}
        rows.append(place | key | {"depth": "full" if depth == "off" else depth, "variant": variant} | figures)
    return rows


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEYS)


def line_of(row: dict[str, Any]) -> str:
    where = " ".join(str(row[name]) for name in KEYS)
    return f"{where}: {100 * row['miou']:.1f} / {100 * row['boundary_f']:.1f}, {row['ms']:.0f} ms"


def run(source: Source, folds: Sequence[Fold], args: argparse.Namespace, sam: Any, done: dict[tuple[Any, ...], dict[str, Any]]) -> None:
    """Makes the rows of a data set that are not done, and writes them as they come."""
    engine = TorchEngine(sam)
    for number, fold in enumerate(folds):
        for prompt in args.prompts:
            noises = [each for each in args.noise if each not in SCALES or prompt == "box"]
            for seed in args.seeds:
                file = args.json.parent / "adapters" / f"{source.dataset}_{source.domain}_{number}_{prompt}_{seed}.safetensors"
                for noise in noises:
                    key = {"prompt": prompt, "prompt_noise": noise, "seed": seed}
                    for name in args.variants:
                        last = {"dataset": source.dataset, "domain": source.domain, "fold": number, **key, "depth": "none"}
                        if key_of(last | {"variant": f"{name} refined"}) in done:
                            continue
                        adapter = adapted(sam, fold, prompt, seed, args.steps, file) if name == "adapted" else None
                        for row in rows_of(source, number, fold, engine, adapter, name, key):
                            done[key_of(row)] = row | {"model": args.model}
                            print(line_of(row), flush=True)
                        write_json(args.json, list(done.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help="sim:DOMAIN, NAME:FOLDER of a data set, or a labelled recording")
    parser.add_argument("--prompts", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--noise", nargs="+", default=[*NOISES, *SCALES], choices=(*NOISES, *SCALES))
    parser.add_argument("--variants", nargs="+", default=["frozen", "adapted"], choices=("frozen", "adapted"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=180, help="training steps over a stream (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=128, help="most frames of a split (default: %(default)s)")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--json", type=Path, default=Path("out/served.json"), help="file of the rows (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    sam = load_sam(args.model)
    setting = Setting(args.model, None, args.steps, False, args.limit)
    done = {key_of(row): row for row in json.loads(args.json.read_text())} if args.json.exists() else {}
    for text in args.sources:
        source = source_of(text, setting)
        run(source, source.load(), args, sam, done)


if __name__ == "__main__":
    main()
