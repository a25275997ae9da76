"""SAM 2.1 and MobileSAM against the values of the code that they were published with (benchmarks/engines/reference.py --golden)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import IMAGE_PART, KEPT, MOBILE_SAM, draw, picture, prompts

from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.sam import Prompts, load_sam
from wesam_ros.sam.architectures import ARCHITECTURES, build_sam2, build_vit_t
from wesam_ros.sam.predictor import decode
from wesam_ros.sam.sam2 import BASE_PLUS, SMALL, TINY

GOLDEN = np.load(Path(__file__).with_name("reference.npz"))
BUILD: dict[str, Callable[..., Any]] = {
    MOBILE_SAM: build_vit_t,
    "sam2.1_hiera_tiny": partial(build_sam2, TINY),
    "sam2.1_hiera_small": partial(build_sam2, SMALL),
    "sam2.1_hiera_base_plus": partial(build_sam2, BASE_PLUS),
}


@pytest.mark.parametrize("name", BUILD)
def test_masks_equal_the_published_code(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All forms of prompts in one call, from a file with the official names; of `tiny`'s file the memory is left out."""
    side = int(GOLDEN[f"{name}/side"])
    shapes = {key: tuple(shape) for key, shape in json.loads(str(GOLDEN[f"{name}/shapes"])).items()}
    if name in ("sam2.1_hiera_small", "sam2.1_hiera_base_plus"):
        shapes = {key: shape for key, shape in shapes.items() if key.startswith(IMAGE_PART)}
    torch.save({"model": draw(shapes)}, tmp_path / "official.pt")
    monkeypatch.setitem(ARCHITECTURES, name, replace(ARCHITECTURES[name], build=partial(BUILD[name], side=side)))
    sam: Any = load_sam(name, tmp_path / "official.pt")
    (tmp_path / "official.pt").unlink()

    engine, asked = TorchEngine(sam), Prompts((side, side), tuple(prompts(side).values()))
    embedding = engine.encode(picture(side))
    masks = engine.decode(embedding, asked)
    step = side // 4 // KEPT
    np.testing.assert_allclose(masks.low_res[:, ::step, ::step], GOLDEN[f"{name}/logits"], atol=1e-4)
    np.testing.assert_allclose(masks.scores, GOLDEN[f"{name}/iou"], atol=1e-4)
    with torch.inference_mode():
        logits, iou = decode(sam, embedding.features, asked)  # the other decoder
    np.testing.assert_allclose(logits, masks.low_res, atol=1e-4)
    np.testing.assert_allclose(iou, masks.scores, atol=1e-4)
