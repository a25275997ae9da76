"""Trains the scores of proposals (wesam_ros/weights/proposals.json) on simulated source tables, whose seeds no test uses.

    python benchmarks/proposals/train.py

Each frame is cut into pieces as `Proposer` does it; a piece is of the true thing that most of its pixels are of. Half of the frames are
recoloured, as in pretraining: the model knows the source domain so well that its masks would be believed too much elsewhere. Nothing
else is tuned: no constant, and no real picture.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from wesam_ros.data.frames import Frame
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.evaluation.splits import tables
from wesam_ros.files import write_json
from wesam_ros.pretraining.augment import recolour
from wesam_ros.sam.checkpoints import load_sam
from wesam_ros.scene.proposals import half_lab, with_model
from wesam_ros.scene.proposals_model import coverage
from wesam_ros.scene.proposals_pairs import BRIDGE_FEATURES, FEATURES, MODEL_FEATURES, Pieces, bridges, describe, neighbours
from wesam_ros.scene.proposals_pieces import bends, cut_pieces
from wesam_ros.scene.proposals_relief import find_raised
from wesam_ros.scene.proposals_score import WEIGHTS, Score, fit
from wesam_ros.scene.proposals_things import FEATURES as THING_FEATURES
from wesam_ros.scene.proposals_things import features

SEEDS, TAKEN = (*range(900, 930), *range(1000, 1030)), (4, 7, 10)
PURE = 0.7
"""Share of a piece's pixels that one thing must have for the piece to be a sample."""

Float = npt.NDArray[np.float32]
Samples = dict[str, tuple[Float, npt.NDArray[np.bool_]]]


def samples(frame: Frame, engine: TorchEngine, rng: np.random.Generator) -> Samples:
    """Features and truth of a frame's pairs and things, by score; none where there is no surface, or nothing rises."""
    assert frame.depth is not None and frame.camera is not None and frame.labels is not None
    found = find_raised(frame.depth, frame.camera, rng)
    if found is None:
        return {}
    bend = bends(found)
    labels = cut_pieces(found, bend)
    if not labels.any():
        return {}
    lab = half_lab(frame.image)
    pieces = describe(found, labels, lab)
    pairs, near, nearer = neighbours(found, np.maximum(*bend), pieces, lab)
    over, apart = bridges(pieces, pairs, nearer)
    decode = partial(engine.decode, engine.encode(frame.image))
    covered = coverage(found, pieces, frame.size, decode, np.unique(np.concatenate([pairs.ravel(), over.ravel()])))
    true, pure = truth_of(pieces, frame.labels[::2, ::2])
    result: Samples = {}
    for name, which, values in (("neighbours", pairs, near), ("bridges", over, apart)):
        i, j = which.T
        usable = pure[i] & pure[j] & ((true[i] > 0) | (true[j] > 0))
        same = (true[i] == true[j])[usable]
        result[name] = with_model(values, which, covered)[usable], same
        result[f"{name} by depth"] = values[usable], same
    # True things, and each piece of the background as one of its own
    ids = np.unique(np.where(true > 0, true, 10_000 + np.arange(len(true))), return_inverse=True)[1]
    real = np.array([true[ids == k][0] > 0 for k in range(int(ids.max()) + 1)])
    result["things"] = features(found, pieces, ids), real
    return result


def truth_of(pieces: Pieces, labels: npt.NDArray[np.uint16]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """(n,) the instance that most pixels of each piece are of, 0 = none, and whether nearly all are."""
    counts = np.zeros((len(pieces) + 1, int(labels.max()) + 1), np.int64)
    np.add.at(counts, (pieces.labels, labels), 1)
    counts = counts[1:]
    return counts.argmax(1), counts.max(1) >= PURE * counts.sum(1)


def all_samples(engine: TorchEngine) -> Iterator[Samples]:
    """Those of all tables."""
    for seed in SEEDS:
        for number, frame in enumerate(tables("source", range(seed, seed + 1), TAKEN)):
            rng = np.random.default_rng([seed, number])
            shown = replace(frame, image=recolour(frame.image, rng)) if (seed + number) % 2 else frame
            yield samples(shown, engine, rng)
        print(f"table {seed}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="file of the scores (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    collected: dict[str, list[tuple[Float, npt.NDArray[np.bool_]]]] = {}
    for found in all_samples(TorchEngine(load_sam(args.model))):
        for name, each in found.items():
            collected.setdefault(name, []).append(each)
    names = {
        "neighbours": (*FEATURES, *MODEL_FEATURES),
        "bridges": (*BRIDGE_FEATURES, *MODEL_FEATURES),
        "neighbours by depth": FEATURES,
        "bridges by depth": BRIDGE_FEATURES,
        "things": THING_FEATURES,
    }
    trained: dict[str, Score] = {}
    for name, features_of in names.items():
        values, true = (np.concatenate(each) for each in zip(*collected[name], strict=True))
        trained[name] = fit(values, true, features_of)
        right = float(((trained[name](values) > 0) == true).mean())
        print(f"{name}: {len(true)} samples, {100 * true.mean():.0f} % positive, {100 * right:.1f} % right")
    write_json(
        args.out, {"made_by": "benchmarks/proposals/train.py", "model": args.model, "scores": {n: s.as_json() for n, s in trained.items()}}
    )
    print(args.out)


if __name__ == "__main__":
    main()
