"""The reliability of each witness: log-odds that a pixel is on an object, measured on simulated source scenes.

A logistic regression over pixels in the objects' windows (benchmarks/adaptation/reliability.py), half with exact boxes and half with a
simulated detector's. So that the sum of all terms is calibrated, each prompt's form has its own numbers, with depth and without.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]

CLIP, NEAR_ZERO = 10.0, 2.0
"""Logits count up to CLIP; next to 0 they have a slope of their own."""
REACH = (0.15, 0.1)
"""Shares of a box's sides at which a pixel is as far as counts: outside and inside."""
RELATIONS = ("own", "border", "surface", "others", "neighbour")
"""Marks of the flood, as one object sees them (relief.py)."""


@dataclass(frozen=True)
class Reliability:
    """The terms of one form of prompt.

    Attributes:
        model: of the object's logit, of the same next to 0, of the highest logit of another object next to 0, and a constant.
        prompt: out of a box by how much (0 to 1 at REACH), out of it at all, and inside by how much; zeros for other prompts.
        colour: slope of colour's own log-odds (colour.py), which are made with the sum of the other terms.
        depth: (5, 5) of the kinds of pixels and their relations; () without depth.
    """

    model: tuple[float, float, float, float]
    prompt: tuple[float, float, float]
    colour: float
    depth: tuple[tuple[float, ...], ...] = ()

    def of_model(self, logits: Float, others: Float) -> Float:
        """Log-odds (h, w) of the object's logits and the highest ones of other objects, both (h, w)."""
        total, part = np.clip(logits, -CLIP, CLIP), np.empty_like(logits)
        total *= np.float32(self.model[0])
        for values, weight in ((logits, self.model[1]), (others, self.model[2])):
            np.clip(values, -NEAR_ZERO, NEAR_ZERO, out=part)
            part *= np.float32(weight)
            total += part
        total += np.float32(self.model[3])
        return np.asarray(total, np.float32)

    def of_prompt(self, inside: Float) -> Float:
        """Log-odds (h, w) of places that lie `inside` the prompt by a share of its size, negative where they are outside."""
        scaled = inside * np.float32(1 / REACH[0])
        total = np.clip(scaled, -1, 0) * np.float32(-self.prompt[0])
        total[inside < 0] += np.float32(self.prompt[1])
        total += np.clip(inside * np.float32(1 / REACH[1]), 0, 1) * np.float32(self.prompt[2])
        return np.asarray(total, np.float32)


RELIABILITY = {
    ("box", True): Reliability(
        (0.7, -0.12, -0.58, -0.47),
        (-0.69, -0.56, 0.09),
        0.0,
        (
            (1.19, 0.17, -1.28, -0.09, -0.38),
            (0.14, 0.13, -0.04, -0.13, -0.03),
            (-0.12, -0.84, -3.2, 0.0, -0.01),
            (2.38, 0.73, 0.76, 1.2, -1.04),
            (0.0, 0.0, -0.02, 0.0, 0.0),
        ),
    ),
    ("box", False): Reliability((0.79, -0.16, -0.46, -0.61), (-1.81, -0.82, 0.45), 1.0, ()),
    ("point", True): Reliability(
        (0.83, -0.25, -0.5, -0.41),
        (0.0, 0.0, 0.0),
        0.0,
        (
            (1.24, 0.22, -1.3, 0.0, 0.11),
            (0.3, 0.21, -0.29, 0.0, 0.13),
            (-0.17, -0.77, -3.37, 0.0, -0.03),
            (2.45, 0.77, 0.81, 0.0, -0.71),
            (0.0, 0.0, -0.01, 0.0, 0.0),
        ),
    ),
    ("point", False): Reliability((0.76, 0.08, -0.47, -0.67), (0.0, 0.0, 0.0), 0.96, ()),
    ("mask", True): Reliability(
        (0.56, 0.07, -0.48, -0.17),
        (0.0, 0.0, 0.0),
        0.0,
        (
            (0.78, 0.15, -1.33, 0.41, -0.29),
            (0.47, 0.53, -0.44, 0.13, -0.33),
            (-0.11, -0.77, -3.54, -0.01, 0.04),
            (2.33, 0.71, 0.15, 1.72, -0.74),
            (0.0, 0.0, -0.02, 0.0, 0.0),
        ),
    ),
    ("mask", False): Reliability((0.53, 0.09, -0.34, -0.25), (0.0, 0.0, 0.0), 1.27, ()),
}
"""By the form of a prompt, and whether there is depth.

Those with depth were fitted with the model at a third of its training. At its end the model knows the source domain so well that a
regression there trusts it too much elsewhere: OSD has 90.3 mIoU with such a table, and 90.9 with this one."""
