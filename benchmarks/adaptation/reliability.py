"""Measures how far each witness is to be believed (wesam_ros/scene/reliability.py), and prints the table that stands there
(`ruff format` puts it in order).

    python benchmarks/adaptation/reliability.py sim:source --pictures FOLDER

A logistic regression over pixels in the objects' windows. Half of the boxes are exact, half a simulated detector's. Colour's log-odds are
made with what a first regression without them gives. Nothing but tables of the source domain, with seeds that no test uses, and pictures
that pretraining has held out of its own may be given to make the table that ships. Pictures have no depth. Colour is not asked where
depth is believed: simulated things are told apart by their colours more easily than real ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from wesam_ros.data.frames import Frame
from wesam_ros.engines.engine import Embedding
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.evaluation.prompts import KINDS, NOISES, draw
from wesam_ros.evaluation.splits import tables
from wesam_ros.pretraining.sources import read_folders, split
from wesam_ros.sam.checkpoints import load_sam
from wesam_ros.scene.colour import colour_log_odds
from wesam_ros.scene.depth_reader import DepthReader
from wesam_ros.scene.reading import Reading, looked_up, read
from wesam_ros.scene.reliability import CLIP, NEAR_ZERO, REACH

SEEDS, TAKEN = range(700, 708), (4, 7, 10)
PIXELS = 600
"""Drawn in each window."""
RIDGE = 1e-4
TERMS = 32
"""Without colour's, which is the last one."""
LEAST_PIXELS, MOST_PICTURES = 100, 16
"""Of an object of a picture, and of each set of pictures."""
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
    frames: Sequence[tuple[Frame, Embedding]],
    engine: TorchEngine,
    kind: str,
    with_depth: bool,
    rng: np.random.Generator,
    first: Float | None = None,
) -> Iterator[tuple[Float, Float]]:
    """Features (k, 32) and truth (k,) of pixels drawn from all windows; with the `first` weights (32,) also colour's, (k, 33)."""
    for index, (frame, embedding) in enumerate(frames):
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
                values = features(reading, int(row))
                if first is not None:
                    colour = colour_log_odds(frame.image, [window], [values @ first])[0]
                    values = np.concatenate([values, colour[..., None]], -1)
                yield values[chosen], seen.masks[row][window][chosen].astype(np.float32)


def pictures_of(folder: Path) -> Iterator[Frame]:
    """Pictures that pretraining has held out, without their smallest things."""
    for pictures in read_folders(folder).values():
        held_out = split(pictures)[1]
        for index in np.unique(np.linspace(0, len(held_out) - 1, min(MOST_PICTURES, len(held_out))).astype(int)):
            image, labels = held_out[int(index)]
            counts = np.bincount(labels.ravel())
            yield Frame(image, labels=np.where(counts[labels] >= LEAST_PIXELS, labels, 0).astype(np.uint16))


def fitted(values: Float, truth: Float) -> Float:
    """Weights of the terms."""
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
    parser.add_argument("--pictures", type=Path, help="folder of training pictures: SET/images/NAME.jpg, SET/masks/NAME.png")
    parser.add_argument("--model", default="tiny")
    args = parser.parse_args()
    torch.set_num_threads(1)
    engine, rng = TorchEngine(load_sam(args.model)), np.random.default_rng(0)
    scenes = [frame for source in args.sources for frame in tables(source.removeprefix("sim:"), SEEDS, TAKEN)]
    frames = [*scenes, *(pictures_of(args.pictures) if args.pictures else ())]
    embedded = [(frame, engine.encode(frame.image)) for frame in frames]
    for kind in KINDS:
        for with_depth in (True, False):
            chosen = embedded[: len(scenes)] if with_depth else embedded
            weights = fitted(*joined(samples(chosen, engine, kind, with_depth, rng)))
            if not with_depth:
                weights = fitted(*joined(samples(chosen, engine, kind, with_depth, rng, weights)))
            w = [round(float(each), 2) for each in weights]
            depth = tuple(tuple(w[7 + 5 * row : 12 + 5 * row]) for row in range(5)) if with_depth else ()
            colour = 0.0 if with_depth else w[TERMS]
            print(f'    ("{kind}", {with_depth}): Reliability({tuple(w[:4])}, {tuple(w[4:7])}, {colour}, {depth}),', flush=True)


def joined(rows: Iterator[tuple[Float, Float]]) -> tuple[Float, Float]:
    """All features and truths."""
    values, truth = zip(*rows, strict=True)
    return np.concatenate(values), np.concatenate(truth)


if __name__ == "__main__":
    main()
