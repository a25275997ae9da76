"""Engines against torch: the decoder for all objects at once, and what every engine does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wesam_ros.engines.compiled_engine import CompiledEngine
from wesam_ros.engines.engine import Engine, EngineError
from wesam_ros.engines.export import random_adapter, random_prompts
from wesam_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from wesam_ros.engines.openvino_engine import OpenVinoEngine
from wesam_ros.engines.parity import MIN_IOU, agreement
from wesam_ros.engines.store import folder_of
from wesam_ros.engines.tensorrt_engine import TensorRtEngine
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.sam import AdapterError, Masks, Prompt, Prompts, upscale
from wesam_ros.sam.decoder import ABSENT, FIRST_CORNER, NO_POINT, ON, SECOND_CORNER, TOGETHER, decode_together, prompt_tokens
from wesam_ros.sam.predictor import decode
from wesam_ros.sam.upscaling import masks_from_logits

SIZES = [(480, 640), (481, 333), (37, 1000), (512, 512)]


@pytest.fixture(scope="session")
def sam(small_sam: Any) -> Any:
    return small_sam


def image_of(size: tuple[int, int]) -> Any:
    return np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), dtype=np.uint8)


def boxes(size: tuple[int, int], count: int) -> Prompts:
    rng = np.random.default_rng(count)
    corner = rng.uniform(0, 0.6, (count, 2))
    return Prompts.from_boxes(np.hstack([corner, corner + rng.uniform(0.1, 0.4, (count, 2))]) * [*size[::-1], *size[::-1]], size)


def forms(size: tuple[int, int]) -> dict[str, Prompts]:
    """Prompts of one form each, and all of them mixed."""
    rng = np.random.default_rng(sum(size))
    mixed = random_prompts(size, 7, rng)
    names = ("box", "points", "box and points", "mask", "box and mask", "points and mask", "all three")
    return {**{name: mixed.select(np.array([i])) for i, name in enumerate(names)}, "mixed": mixed, "boxes": boxes(size, 20)}


# Upscaling


@pytest.mark.parametrize("size", [*SIZES, (5, 1), (20, 30), (1100, 700)])
def test_masks_from_logits_equal_upscaling(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(sum(size))
    noise = torch.randn(2, 128, 128, generator=generator)
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    discs = torch.stack([3 - torch.hypot(y - row, x - column) for row, column in ((0, 0), (60, 20), (127, 127), (3, 90))])
    low_res = torch.cat([noise, discs, torch.full((1, 128, 128), -1.0), torch.ones(1, 128, 128)])
    logits = upscale(low_res, size, 512)
    masks, within = masks_from_logits(low_res, size, 512)
    differs = masks != (logits > 0).numpy()
    assert not (differs & (logits.abs() > 1e-5).numpy()).any()
    rest = np.zeros(len(masks), np.float32), low_res.numpy()
    assert Masks(masks, *rest, within).crops == Masks(masks, *rest).crops


def test_no_logits_give_no_masks() -> None:
    assert masks_from_logits(torch.zeros(0, 128, 128), (48, 64), 512)[0].shape == (0, 48, 64)


# The decoder


def test_tokens_of_mixed_prompts() -> None:
    box, point = np.array([10, 20, 30, 40], np.float32), np.array([[5, 6]], np.float32)
    mask = np.ones((100, 200), bool)
    one = np.array([1])
    prompts = Prompts((100, 200), (Prompt(box), Prompt(points=point, point_labels=one), Prompt(box, point, one), Prompt(mask=mask)))
    points, labels = prompt_tokens(prompts, 400)
    assert labels.tolist() == [
        [FIRST_CORNER, SECOND_CORNER, ABSENT],
        [ON, NO_POINT, ABSENT],
        [ON, FIRST_CORNER, SECOND_CORNER],
        [ABSENT, ABSENT, ABSENT],
    ]
    np.testing.assert_array_equal(points[2], [[10, 12], [20, 40], [60, 80]])


@pytest.mark.parametrize("size", SIZES)
def test_decoder_equals_segment_anything(sam: Any, size: tuple[int, int]) -> None:
    """Masks, scores, and what training takes from them: the gradient in the embedding."""
    features = TorchEngine(sam).encode(image_of(size)).features
    for form, prompts in forms(size).items():
        found = []
        for decoding in (decode, decode_together):
            embedding = features.clone().requires_grad_()
            logits, iou = decoding(sam, embedding, prompts)
            (logits.sigmoid().mean() + iou.mean()).backward()
            assert embedding.grad is not None
            found.append((logits.detach(), iou.detach(), embedding.grad / embedding.grad.abs().max()))
        for expected, actual in zip(*found, strict=True):
            np.testing.assert_allclose(actual, expected, atol=1e-4, err_msg=form)


def test_decoder_takes_any_number_of_objects_with_and_without_gradients(sam: Any) -> None:
    sam = copy.deepcopy(sam)  # not decoded with before
    features = TorchEngine(sam).encode(image_of((48, 64))).features
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(0, 48, (TOGETHER["cpu"] + 3, 2, 2)), 1).reshape(-1, 4).astype(np.float32)
    prompts = Prompts.from_boxes(corners + np.array([0, 0, 2, 2], np.float32), (50, 64))
    with torch.inference_mode():
        for expected, actual in zip(decode(sam, features, prompts), decode_together(sam, features, prompts), strict=True):
            np.testing.assert_allclose(actual, expected, atol=1e-4)
        assert [len(each) for each in decode_together(sam, features, Prompts((50, 64), ()))] == [0, 0]
    decode_together(sam, features.clone().requires_grad_(), prompts)[0].sum().backward()


# What every engine does


def load_compiled(sam: Any) -> Engine:
    """Without compiling the graphs that torch traces, which takes minutes; with a GPU also in half precision and with CUDA graphs."""
    return CompiledEngine(copy.deepcopy(sam).cuda() if torch.cuda.is_available() else sam, "eager")


def load_onnxruntime(sam: Any) -> Engine:
    return OnnxRuntimeEngine.load(sam, folder_of(sam))


def load_openvino(sam: Any) -> Engine:
    pytest.importorskip("openvino", reason="needs openvino: pip install -e '.[openvino]'")
    return OpenVinoEngine.load(sam, folder_of(sam))


def load_openvino_single(sam: Any) -> Engine:
    pytest.importorskip("openvino", reason="needs openvino: pip install -e '.[openvino]'")
    return OpenVinoEngine.load(sam, folder_of(sam), precision="float32")


def load_tensorrt(sam: Any) -> Engine:
    pytest.importorskip("tensorrt", reason="TensorRT is not installed: its engine is not held against torch here")
    if not torch.cuda.is_available():
        pytest.skip("torch has no GPU here: the engine of TensorRT is not held against torch")
    return TensorRtEngine.load(copy.deepcopy(sam).cuda(), folder_of(sam))


LOAD = [
    pytest.param(load_compiled, id="compiled"),
    pytest.param(load_onnxruntime, id="onnxruntime"),
    pytest.param(load_openvino, id="openvino"),
    pytest.param(load_openvino_single, id="openvino-float32"),
    pytest.param(load_tensorrt, id="tensorrt"),
]
CLOSE = {"float32": 1e-4, "float16": 0.02, "bfloat16": 0.1}
"""The largest difference from torch, as a share of the largest value (at least 1)."""


@pytest.fixture(params=LOAD)
def load(request: pytest.FixtureRequest, cache: Path) -> Callable[[Any], Engine]:
    loading: Callable[[Any], Engine] = request.param
    return loading


@pytest.fixture
def engine(sam: Any, load: Callable[[Any], Engine]) -> Engine:
    return load(sam)


@pytest.mark.parametrize("size", SIZES)
def test_every_engine_equals_torch(sam: Any, engine: Engine, size: tuple[int, int]) -> None:
    """Embeddings with no adapter and with random ones of three ranks; each form of prompts, and all mixed."""
    image, reference = image_of(size), TorchEngine(sam)
    rank = 1 + 5 * SIZES.index(size)
    for adapter in (None, random_adapter(sam, rank, seed=rank)):
        expected = reference.encode(image, adapter)
        found = engine.encode(image, adapter)
        assert_close(found.features.cpu(), expected.features, engine)
        assert found.adapter_version == (0 if adapter is None else 1)
    for form, prompts in forms(size).items():
        masks, other = reference.decode(expected, prompts), engine.decode(found, prompts)
        assert_close(other.low_res, masks.low_res, engine, form)
        assert_close(other.scores, masks.scores, engine, form)
        assert agreement(masks, other).iou.min() >= MIN_IOU[engine.capabilities.precision], form


def assert_close(found: Any, expected: Any, engine: Engine, form: str = "") -> None:
    tolerance = CLOSE[engine.capabilities.precision] * max(1.0, float(abs(expected).max()))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=form)


def test_no_prompts_give_no_masks(engine: Engine) -> None:
    masks = engine.segment(image_of((48, 64)), Prompts((48, 64), ()))
    assert masks.masks.shape == (0, 48, 64)


def test_same_frame_same_masks(sam: Any, engine: Engine, load: Callable[[Any], Engine]) -> None:
    """In one engine after other work, and in another one."""
    image, prompts = image_of((48, 64)), boxes((48, 64), 9)
    first = engine.segment(image, prompts)
    engine.segment(image_of((30, 40)), boxes((30, 40), 3), random_adapter(sam, 4, 0))
    for each in (engine, load(sam)):
        np.testing.assert_array_equal(each.segment(image, prompts).low_res, first.low_res)


def test_adapters_are_swapped_from_frame_to_frame(sam: Any, engine: Engine) -> None:
    image = image_of((48, 64))
    adapters = [None, random_adapter(sam, 4, 0), random_adapter(sam, 2, 1)]
    once = [engine.encode(image, each).features for each in adapters]
    again = [engine.encode(image, each).features for each in adapters]
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not torch.allclose(once[0], once[1], atol=1e-4)
    assert not torch.allclose(once[1], once[2], atol=1e-4)


@pytest.mark.parametrize("make", [TorchEngine, *LOAD])
def test_every_engine_refuses_the_same(sam: Any, cache: Path, make: Callable[[Any], Engine]) -> None:
    each = make(sam)
    with pytest.raises(AdapterError, match="belongs to a model with hash 0000"):
        each.encode(image_of((48, 64)), replace(random_adapter(sam, 4, 0), base="0" * 64))
    with pytest.raises(ValueError, match=r"image of \(10, 10\)"):
        each.decode(each.encode(image_of((48, 64))), Prompts((10, 10), ()))
    each.warm_up()
    each.close()


def test_a_closed_engine_says_so(engine: Engine) -> None:
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.encode(image_of((48, 64)))
