"""A stream of two bright things on a dark table, and a learner on it."""

from __future__ import annotations

from typing import Any

import numpy as np

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.learner import Learner
from wesam_ros.data.frames import Frame
from wesam_ros.sam import Adapter, Prompts

SIZE = (60, 80)
CONFIG = AdaptationConfig(publish_every=2, validation_every=3, tolerance=1.0, divergence=0.0, agreement=0.0, prompt_fit=0.0)
"""Publishes soon, and learns from all objects: the masks of the random model fit no box."""


def stream(count: int, seed: int = 0) -> list[tuple[Frame, Prompts]]:
    rng = np.random.default_rng(seed)
    frames = []
    for index in range(count):
        image = rng.integers(0, 100, (*SIZE, 3), dtype=np.uint8)
        image[15:45, 10:40] += 100
        image[5:30, 45:75] += 50
        boxes = np.array([[10, 15, 40, 45], [45, 5, 75, 30]], np.float32)
        frames.append((Frame(image, stamp_ns=index), Prompts.from_boxes(boxes, SIZE)))
    return frames


def learn(sam: Any, frames: list[tuple[Frame, Prompts]], seed: int = 0, config: AdaptationConfig = CONFIG) -> tuple[Learner, list[Adapter]]:
    learner = Learner(sam, config, seed)
    published = []
    for frame, prompts in frames:
        learner.observe(frame, prompts)
        learner.step()
        proposal = learner.propose()
        if proposal.adapter is not None:
            published.append(proposal.adapter)
    return learner, published
