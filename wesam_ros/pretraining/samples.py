"""Training samples: an augmented picture, the things in it that are asked for, and the prompts that ask for them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from wesam_ros.data.weak_labels import coarse_mask, jittered_box, points_prompt
from wesam_ros.pretraining.augment import sample
from wesam_ros.pretraining.sources import Mixture
from wesam_ros.sam.predictor import COARSE_MASK_LOGIT
from wesam_ros.sam.preprocessing import mask_to_low_res

FORMS = ("box", "points", "click", "mask", "box and points")
FORM_SHARES = (0.64, 0.11, 0.09, 0.11, 0.05)
JITTERS = (0.0, 0.0, 0.0, 0.03, 0.06, 0.1)
"""Of boxes, as `jittered_box` takes them: half are tight."""
GROUPED = 0.04
"""Share of the things that are asked for together with a neighbour, as one."""
ROUNDS = 0.3
"""Share of the steps with a second round: a point where the first answer is wrong, and its logits as the mask input."""
LEAST_PIXELS = 32

Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Request:
    """The prompts of all pictures of a step: one form of prompt, so that they share a call of the decoder.

    Attributes:
        form: one of FORMS.
        positive: points on a thing.
        negative: points beside it.
        again: whether a second round follows.
        seed: of what that round draws.
    """

    form: str
    positive: int
    negative: int
    again: bool
    seed: int


@dataclass(frozen=True, eq=False)
class Sample:
    """One prompted picture: pixels (3, h, w) uint8, masks (n, h, w) bool, and the prompts of its n things, in its pixels.

    Attributes:
        pixels: RGB.
        masks: the truth.
        boxes: (n, 4) float32, or None.
        points: (n, k, 2) float32 and labels (n, k) int64, or None; -1 is the label of none.
        coarse: (n, 1, side / 4, side / 4) logits, or None.
    """

    pixels: Tensor
    masks: Tensor
    boxes: Tensor | None
    points: tuple[Tensor, Tensor] | None
    coarse: Tensor | None


@dataclass(frozen=True, eq=False)
class Batch:
    """The samples of a step on a canvas of `side` pixels.

    Attributes:
        side: of the canvas.
        samples: one a picture.
        request: what is asked in all of them.
    """

    side: int
    samples: tuple[Sample, ...]
    request: Request

    @property
    def owners(self) -> Tensor:
        """(n,) of all things, the sample that each belongs to."""
        return torch.repeat_interleave(torch.tensor([len(sample.masks) for sample in self.samples]))

    @property
    def masks(self) -> Tensor:
        """(n, side, side) bool of all things; there is none where the canvas is empty."""
        size = self.side
        padded = [functional.pad(m, (0, size - m.shape[2], 0, size - m.shape[1])) for m in (sample.masks for sample in self.samples)]
        return torch.cat(padded)


def draw_request(rng: np.random.Generator) -> Request:
    """Of a step."""
    form = str(rng.choice(FORMS, p=FORM_SHARES))
    positive, negative = (1, 0) if form == "click" else (int(rng.integers(1, 6)), int(rng.integers(0, 6)))
    return Request(form, positive, negative, bool(rng.random() < ROUNDS), int(rng.integers(2**31)))


def draw_batch(mixture: Mixture, side: int, count: int, most: int, rng: np.random.Generator) -> Batch:
    """`count` samples of at most `most` things each."""
    request = draw_request(rng)
    return Batch(side, tuple(draw_sample(mixture, side, most, request, rng) for _ in range(count)), request)


def draw_sample(mixture: Mixture, side: int, most: int, request: Request, rng: np.random.Generator) -> Sample:
    """A sample of at most `most` things on a canvas of `side` pixels; pictures in which nothing is left to ask for are drawn again."""
    while True:
        image, labels = sample(lambda: mixture.draw(rng), side, rng)
        masks = choose(labels, most, rng)
        if masks:
            return prompted(image, np.stack(masks), side, request, rng)


def choose(labels: npt.NDArray[np.uint8], most: int, rng: np.random.Generator) -> list[Bool]:
    """Up to `most` masks of random instances of at least LEAST_PIXELS, now and then with a neighbour that it touches or nearly so."""
    counts = np.bincount(labels.ravel(), minlength=2)
    ids = np.flatnonzero(counts[1:] >= LEAST_PIXELS) + 1
    masks: list[Bool] = []
    for instance in rng.permutation(ids)[:most]:
        mask = labels == instance
        if rng.random() < GROUPED:
            near = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
            beside = np.setdiff1d(np.unique(labels[near]), [0, instance])
            if len(beside):
                mask = mask | (labels == rng.choice(beside))
        masks.append(mask)
    return masks


def prompted(image: npt.NDArray[np.uint8], masks: Bool, side: int, request: Request, rng: np.random.Generator) -> Sample:
    """The sample of masks (n, h, w), with the prompts that are asked for."""
    boxes = points = coarse = None
    if "box" in request.form:
        boxes = torch.from_numpy(np.stack([jittered_box(mask, rng, float(rng.choice(JITTERS))) for mask in masks]))
    if "point" in request.form or request.form == "click":
        points = _points(masks, request, rng)
    if request.form == "mask":
        longest = max(masks.shape[1:])
        low = round(longest * (side // 4) / side)
        coarse = torch.stack([mask_to_low_res(coarse_mask(mask, rng), side, low, COARSE_MASK_LOGIT) for mask in masks])
        coarse = functional.pad(coarse, (0, side // 4 - low, 0, side // 4 - low), value=-COARSE_MASK_LOGIT)
    return Sample(torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(masks), boxes, points, coarse)


def _points(masks: Bool, request: Request, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """All of one number: a thing that fills its surroundings has none beside it, but some without a meaning."""
    count = request.positive + request.negative
    points, labels = torch.zeros(len(masks), count, 2), torch.full((len(masks), count), -1)
    for row, mask in enumerate(masks):
        prompt = points_prompt(mask, rng, request.positive, request.negative)
        points[row, : len(prompt.points)] = torch.from_numpy(prompt.points)
        labels[row, : len(prompt.points)] = torch.from_numpy(prompt.point_labels)
    return points, labels


def error_points(found: Bool, true: Bool, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A point for each of n masks where the answer is wrong, (n, 1, 2), and 1 where it lies on the thing, else 0, (n, 1).

    Random within the larger kind of error (Kirillov et al., 2023); on the thing where there is no error.
    """
    points, labels = [], []
    for answer, truth in zip(found, true, strict=True):
        missed, added = truth & ~answer, answer & ~truth
        wrong = missed if missed.sum() >= added.sum() else added
        ys, xs = np.nonzero(wrong if wrong.any() else truth)
        at = int(rng.integers(len(xs)))
        points.append([xs[at] + 0.5, ys[at] + 0.5])
        labels.append(int(truth[ys[at], xs[at]]))
    return torch.tensor(points, dtype=torch.float32)[:, None], torch.tensor(labels)[:, None]
