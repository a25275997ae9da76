"""Measures how far each witness is to be believed (wesam_ros/scene/reliability.py), and prints the table that stands there
(`ruff format` puts it in order).

    python benchmarks/adaptation/reliability.py sim:source --model tiny2

A logistic regression over pixels in the objects' windows. Half of the boxes are exact, half a simulated detector's. Nothing but tables of
the source domain, with seeds that no test uses, may be given to make the table that ships.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from wesam_ros.data.frames import Frame
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.evaluation.prompts import KINDS, NOISES, draw
from wesam_ros.evaluation.splits import tables
from wesam_ros.sam.checkpoints import load_sam
from wesam_ros.scene.depth_reader import DepthReader
from wesam_ros.scene.reading import Reading, looked_up, read
from wesam_ros.scene.reliability import CLIP, NEAR_ZERO, REACH

SEEDS, TAKEN = range(700, 708), (4, 7, 10)
PIXELS = 600
"""Drawn in each window."""
RIDGE = 1e-4
TERMS = 32
Float = npt.NDArray[np.float32]


def features(reading: Reading, index: int) -> Float:
    """(h, w, 32) the terms of a window's pixels, in the order of Reliability."""
    logits, others = reading.logits[index], reading.others[index]
    values = np.zeros((*logits.shape, TERMS), np.float32)
    values[..., 0], values[..., 1] = np.clip(logits, -CLIP, CLIP), np.clip(logits, -NEAR_ZERO, NEAR_ZERO)
    values[..., 2], values[..., 3] = np.clip(others, -NEAR_ZERO, NEAR_ZERO), 1
    inside = reading.inside[index]
    if inside is not None:
        outer, inner = REACH
        values[..., 4], values[..., 5], values[..., 6] = np.clip(-inside / outer, 0, 1), inside < 0, np.clip(inside / inner, 0, 1)
    codes = looked_up(reading, index, np.arange(25, dtype=np.float32).reshape(5, 5))
    if codes is not None:
        np.put_along_axis(values, (codes.astype(int) + 7)[..., None], 1, 2)
    return values


def samples(
    frames: Sequence[Frame], engine: TorchEngine, kind: str, with_depth: bool, rng: np.random.Generator
) -> Iterator[tuple[Float, Float]]:
    """Features (k, 32) and truth (k,) of pixels drawn from the windows of all objects."""
    for index, frame in enumerate(frames):
        embedding = engine.encode(frame.image)
        for noise in NOISES:
            seen = draw(frame, kind, noise, np.random.default_rng([index, KINDS.index(kind)]))
            if not len(seen.prompts) or seen.masks is None:
                continue
            reading = read(frame, seen.prompts, engine.decode(embedding, seen.prompts).low_res, DepthReader() if with_depth else None)
            if with_depth and reading.relief is None:
                continue
            for row in np.flatnonzero(seen.masks.any((1, 2))):
                window = reading.windows[row]
                chosen = rng.random(reading.logits[row].shape) < PIXELS / reading.logits[row].size
                if seen.void is not None:
                    chosen &= ~seen.void[window]
                yield features(reading, int(row))[chosen], seen.masks[row][window][chosen].astype(np.float32)


def fitted(values: Float, truth: Float) -> Float:
    """Weights (32,) of the terms."""
    x, y = torch.from_numpy(values), torch.from_numpy(truth)
    weights = torch.zeros(x.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = functional.binary_cross_entropy_with_logits(x @ weights, y) + RIDGE * weights.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return np.asarray(weights.detach().numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help="sim:DOMAIN")
    parser.add_argument("--model", default="tiny")
    args = parser.parse_args()
    torch.set_num_threads(1)
    engine, rng = TorchEngine(load_sam(args.model)), np.random.default_rng(0)
    frames = [frame for source in args.sources for frame in tables(source.removeprefix("sim:"), SEEDS, TAKEN)]
    for kind in KINDS:
        for with_depth in (True, False):
            rows = list(samples(frames, engine, kind, with_depth, rng))
            weights = fitted(*(np.concatenate(each) for each in zip(*rows, strict=True)))
            w = [round(float(each), 2) for each in weights]
            depth = tuple(tuple(w[7 + 5 * row : 12 + 5 * row]) for row in range(5)) if with_depth else ()
            print(f'    ("{kind}", {with_depth}): Reliability({tuple(w[:4])}, {tuple(w[4:7])}, {depth}),')


if __name__ == "__main__":
    main()
