"""Scores freshly trained weights on held-out scenes, and writes them with their model card."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from wesam_ros import __version__
from wesam_ros.data.boxes import boxes_of_labels
from wesam_ros.data.weak_labels import coarse_mask, points_prompt
from wesam_ros.engines.engine import Engine
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.pretraining.scenes import Scenes
from wesam_ros.sam.adapter import base_hash
from wesam_ros.sam.checkpoints import load_sam
from wesam_ros.sam.prompts import Prompt, Prompts

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

LEAST_PIXELS = 400
"""Instances with fewer visible pixels (20 x 20 of 640 x 480) are not in the headline figures: nobody grasps a sliver. `*_slivers` has
those of SLIVER_PIXELS and more as well."""
SLIVER_PIXELS = 150


def _forms(labels: npt.NDArray[np.uint8], ids: npt.NDArray[np.uint16], rng: np.random.Generator) -> dict[str, tuple[Prompt, ...]]:
    _, boxes = boxes_of_labels(labels.astype(np.uint16))
    known = np.unique(labels)[1:]
    rows = [int(np.flatnonzero(known == instance)[0]) for instance in ids]
    masks = [labels == instance for instance in ids]
    return {
        "box": tuple(Prompt(box=boxes[row]) for row in rows),
        "points": tuple(points_prompt(mask, rng, 5, 5) for mask in masks),
        "mask": tuple(Prompt(mask=coarse_mask(mask, rng)) for mask in masks),
    }


def score(engine: Engine, scenes: Scenes, seed: int, progress: Callable[[str], None] = print) -> dict[str, float]:
    """mIoU per kind of prompt: mean over an image's instances, then over images, in the original image (METHOD: the paper's metric).

    Prompts are drawn from the true masks: tight boxes, 5 + 5 points, coarse blobs.
    """
    means: dict[str, list[float]] = {}
    rng = np.random.default_rng(seed)
    for index in range(len(scenes)):
        image, labels = scenes[index]
        counts = np.bincount(labels.ravel())
        ids = (np.flatnonzero(counts[1:] >= SLIVER_PIXELS) + 1).astype(np.uint16)
        large = counts[ids] >= LEAST_PIXELS
        if not len(ids):
            continue
        embedding = engine.encode(np.asarray(image))
        for form, prompts in _forms(np.asarray(labels), ids, rng).items():
            masks = engine.decode(embedding, Prompts(labels.shape, prompts)).masks
            true = np.stack([labels == instance for instance in ids])
            ious = (masks & true).sum((1, 2)) / (masks | true).sum((1, 2))
            means.setdefault(f"{form}_slivers", []).append(float(ious.mean()))
            if large.any():
                means.setdefault(form, []).append(float(ious[large].mean()))
        if index % 20 == 19:
            progress(f"scored {index + 1}/{len(scenes)}: " + "  ".join(f"{form} {np.mean(value):.3f}" for form, value in means.items()))
    return {form: float(np.mean(value)) for form, value in means.items()}


def weights_file(out: Path, architecture: str) -> Path:
    """The file of an architecture's weights in a folder."""
    return out / f"{architecture}.safetensors"


def write_weights(state: dict[str, Tensor], path: Path) -> None:
    """Writes weights in half precision, as the package ships them."""
    save_file({key: value.half().cpu().contiguous() for key, value in state.items()}, path)


def publish(state: dict[str, Tensor], out: Path, architecture: str, facts: dict[str, Any], held_out: Scenes) -> None:
    """Writes averaged weights in half precision and their scores on held-out scenes, as OUT/ARCHITECTURE.safetensors and .json."""
    path = weights_file(out, architecture)
    write_weights(state, path)
    sam = load_sam(architecture, path)  # scored as users get it: after rounding to half precision
    results = {f"miou_{form}": round(value, 4) for form, value in score(TorchEngine(sam), held_out, 0).items()}
    facts = {
        "model": architecture,
        "parameters": sum(parameter.numel() for parameter in sam.parameters()),
        "hash": base_hash(sam),
        "held_out_frames": len(held_out),
        "least_visible_pixels": LEAST_PIXELS,
        **results,
        **facts,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "wesam_ros": __version__,
    }
    path.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps(facts, indent=2))
