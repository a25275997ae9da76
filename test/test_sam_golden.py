"""Our preprocessing, decoding and upscaling against segment_anything's own predictor."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from wesam_ros.engines.contender import import_sam_predictor
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.sam import Prompt, Prompts, upscale
from wesam_ros.sam.attention import compute_in_pieces
from wesam_ros.sam.predictor import COARSE_MASK_LOGIT
from wesam_ros.sam.preprocessing import mask_to_low_res, preprocess, resize_image, resize_tensor

SIZES = [(480, 640), (481, 333), (37, 1000), (512, 512), (900, 700)]


def _image(size: tuple[int, int]) -> Any:
    return np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), dtype=np.uint8)


def _prompts(size: tuple[int, int]) -> dict[str, Prompt]:
    height, width = size
    box = np.array([0.2 * width, 0.3 * height, 0.7 * width, 0.9 * height], np.float32)
    points = np.array([[0.5 * width, 0.5 * height], [0.1 * width, 0.2 * height]], np.float32)
    blob = np.zeros(size, bool)
    blob[height // 4 : height // 2, width // 4 : width // 2] = True
    labels = np.array([1, 0])
    return {
        "box": Prompt(box=box),
        "points": Prompt(points=points, point_labels=labels),
        "box and points": Prompt(box=box, points=points, point_labels=labels),
        "box and mask": Prompt(box=box, mask=blob),
        "mask": Prompt(mask=blob),
    }


@pytest.fixture(scope="module")
def released(sam: Any) -> Any:
    """The same model with the attention that segment_anything was released with."""
    model = copy.deepcopy(sam)
    compute_in_pieces(model, False)
    return model


def _reference(sam: Any, image: Any, prompt: Prompt) -> tuple[Any, Any, Any]:
    predictor = import_sam_predictor()(sam)
    predictor.set_image(image)
    side = sam.image_encoder.img_size
    mask = None if prompt.mask is None else mask_to_low_res(prompt.mask, side, side // 4, COARSE_MASK_LOGIT).numpy()
    many = len(prompt.points) > 0
    logits, scores, low_res = predictor.predict(
        point_coords=prompt.points if many else None,
        point_labels=prompt.point_labels if many else None,
        box=prompt.box,
        mask_input=mask,
        multimask_output=False,
        return_logits=True,
    )
    return logits, scores, low_res


@pytest.mark.parametrize("size", SIZES)
def test_preprocessing_equals_sam_predictor(sam: Any, size: tuple[int, int]) -> None:
    image = _image(size)
    resized = torch.as_tensor(import_sam_predictor()(sam).transform.apply_image(image)).permute(2, 0, 1)
    torch.testing.assert_close(preprocess(image, 512), sam.preprocess(resized), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_preprocessing_of_a_gpu_is_within_a_level_of_pillows(size: tuple[int, int]) -> None:
    """Its arithmetic, that is, on the CPU: a GPU's has not been run."""
    image = _image(size)
    resized = resize_tensor(torch.from_numpy(image).permute(2, 0, 1), 512).permute(1, 2, 0).numpy()
    expected = resize_image(image, 512).astype(np.float32)
    assert resized.shape == expected.shape
    assert np.abs(resized - expected).max() <= 1
    assert np.array_equal(resized, resized.round())


@pytest.mark.parametrize("size", SIZES)
def test_logits_equal_sam_predictor(sam: Any, released: Any, size: tuple[int, int]) -> None:
    """All forms of prompts mixed in one call, each against a call of its own."""
    image, prompts = _image(size), _prompts(size)
    masks = TorchEngine(sam).segment(image, Prompts(size, tuple(prompts.values())))
    for index, (form, prompt) in enumerate(prompts.items()):
        logits, scores, low_res = _reference(released, image, prompt)
        np.testing.assert_allclose(masks.low_res[index], low_res[0], atol=1e-4, err_msg=form)
        np.testing.assert_allclose(masks.scores[index], scores[0], atol=1e-4, err_msg=form)
        full = upscale(torch.from_numpy(masks.low_res[index : index + 1]), size, 512)[0]
        np.testing.assert_allclose(full, logits[0], atol=1e-4, err_msg=form)
        clear = np.abs(logits[0]) > 1e-4
        np.testing.assert_array_equal(masks.masks[index][clear], logits[0][clear] > 0, err_msg=form)


def test_no_prompts_give_no_masks(sam: Any) -> None:
    masks = TorchEngine(sam).segment(_image((48, 64)), Prompts((48, 64), ()))
    assert masks.masks.shape == (0, 48, 64)
    assert masks.label_image().max() == 0


def test_prompts_of_another_size_are_refused(sam: Any) -> None:
    engine = TorchEngine(sam)
    with pytest.raises(ValueError, match=r"image of \(10, 10\)"):
        engine.decode(engine.encode(_image((48, 64))), Prompts((10, 10), ()))
