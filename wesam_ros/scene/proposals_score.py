"""The learned scores of proposals, and how pairs' scores become things: average linkage from the surest pair on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

WEIGHTS = Path(__file__).parent.parent / "weights" / "proposals.json"
"""Made by benchmarks/proposals/train.py."""

Float = npt.NDArray[np.float32]
Pairs = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Score:
    """A logistic regression.

    Attributes:
        names: of its k features.
        weights: (k,) their slopes.
        bias: log-odds where all features are 0.
    """

    names: tuple[str, ...]
    weights: npt.NDArray[np.float64]
    bias: float

    def __call__(self, features: Float) -> npt.NDArray[np.float64]:
        """(m,) log-odds of features (m, k)."""
        return np.asarray(np.einsum("mk,k->m", features, self.weights) + self.bias)

    def as_json(self) -> dict[str, object]:
        """The score as `scores` reads it."""
        weights = {name: round(float(each), 4) for name, each in zip(self.names, self.weights, strict=True)}
        return {"bias": round(self.bias, 4), "weights": weights}


@cache
def scores() -> dict[str, Score]:
    """The scores that ship: "neighbours" and "bridges", that two pieces are of one thing, and "things", that pieces are a thing at all."""
    return {
        name: Score(tuple(each["weights"]), np.array(list(each["weights"].values())), float(each["bias"]))
        for name, each in json.loads(WEIGHTS.read_text())["scores"].items()
    }


def fit(features: Float, truth: npt.NDArray[np.bool_], names: tuple[str, ...], ridge: float = 1.0) -> Score:
    """A logistic regression of truth (m,) on features (m, k), by Newton's method, with a ridge on the slopes of standardised features.

    Raises:
        ValueError: the truth is all one.
    """
    if truth.all() or not truth.any():
        raise ValueError("a score needs both kinds of samples; give more scenes")
    mean, spread = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64) + 1e-6
    x = np.concatenate([(features - mean) / spread, np.ones((len(features), 1))], 1)
    penalty = np.diag([ridge] * features.shape[1] + [0.0])
    w = np.zeros(x.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(np.einsum("ij,j->i", x, w), -30, 30)))
        gradient = np.einsum("ij,i->j", x, p - truth) + penalty.diagonal() * w
        w -= np.linalg.solve(np.einsum("ij,i,ik->jk", x, p * (1 - p), x) + penalty, gradient)
    weights = w[:-1] / spread
    return Score(names, weights, float(w[-1] - np.einsum("i,i->", weights, mean)))


def joined(count: int, pairs: Pairs, odds: npt.NDArray[np.float64], weights: Float) -> npt.NDArray[np.int64]:
    """Clusters: (count,) int64, of each piece the number of its thing, from 0 on.

    The two clusters whose pairs have the highest weighted mean of log-odds are joined, as long as it is above 0 (average linkage, as in
    Bailoni et al., GASP, CVPR 2022).

    Args:
        count: of pieces.
        pairs: (m, 2) the lower index first.
        odds: (m,) log-odds that both are of one thing.
        weights: (m,) how much each pair counts.
    """
    ids = np.arange(count)
    sums = {(int(i), int(j)): (float(a * b), float(b)) for (i, j), a, b in zip(pairs, odds, weights, strict=True)}
    while sums:
        (first, second), (total, weight) = max(sums.items(), key=lambda each: each[1][0] / each[1][1])
        if total / weight <= 0:
            break
        ids[ids == second] = first
        for key in [each for each in sums if second in each]:
            moved = sums.pop(key)
            other = key[0] if key[1] == second else key[1]
            if other != first:
                new = (min(first, other), max(first, other))
                before = sums.get(new, (0.0, 0.0))
                sums[new] = before[0] + moved[0], before[1] + moved[1]
    return np.asarray(np.unique(ids, return_inverse=True)[1], np.int64)
