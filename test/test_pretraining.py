"""Pretraining on made-up scenes: samples, losses, and a run that is interrupted and goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.pretraining import training
from wesam_ros.pretraining.card import score
from wesam_ros.pretraining.run import untrained
from wesam_ros.pretraining.scenes import Scenes, cut
from wesam_ros.pretraining.training import PretrainConfig, encode, learning_rate, make_batch, mask_losses, train
from wesam_ros.sam import load_sam

CONFIG = PretrainConfig(window_steps=2, image_steps=1, batch=4, prompts=2, warm_up=1, ema=0.5)


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    """Two frames of grey noise with two bright squares."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 100, (2, 480, 640, 3), dtype=np.uint8), np.zeros((2, 480, 640), np.uint8)
    for index, (y, x) in enumerate(((100, 150), (250, 330)), 1):
        labels[:, y : y + 120, x : x + 120] = index
        images[labels == index] += 100
    return Scenes((images,), (labels,))


@pytest.mark.parametrize("step", [0, 1, 2, 7])
def test_prompts_belong_to_the_masks_and_a_seed_gives_the_same_batch(scenes: Scenes, step: int) -> None:
    batch, again = (make_batch(scenes, CONFIG, step, 512) for _ in range(2))
    assert len(batch.samples) == (4 if step < CONFIG.window_steps else 1)
    for sample, same in zip(batch.samples, again.samples, strict=True):
        assert torch.equal(sample.pixels, same.pixels) and torch.equal(sample.masks, same.masks)
        height, width = sample.masks.shape[1:]
        assert (height, width) == ((256, 256) if step < CONFIG.window_steps else (384, 512))
        if sample.points is not None:
            xy, inside = sample.points[0].long(), sample.points[1]
            hit = sample.masks[torch.arange(len(xy))[:, None], xy[..., 1], xy[..., 0]]
            assert torch.equal(hit, inside == 1)


def test_labels_lie_on_the_image() -> None:
    """White squares anywhere on black, cut at many scales: the rows of their labels are those of their pixels, to a tenth of a pixel."""
    image, label, rng = np.zeros((20, 480, 640, 3), np.uint8), np.zeros((20, 480, 640), np.uint8), np.random.default_rng(0)
    for index in range(20):
        y, x = rng.integers(200, 230, 2)
        label[index, y : y + 61, x : x + 61] = 1
    image[label == 1] = 255
    squares, off = Scenes((image,), (label,)), []
    for _ in range(100):
        pixels, labels = cut(squares, rng, 512, 384, rng.uniform(1.0, 1.2))
        bright = pixels[..., 0].astype(float) - pixels[..., 0].min()
        middles = [each.sum(1) @ np.arange(384) / each.sum() for each in (bright, labels.astype(float))]
        off.append(middles[1] - middles[0])
    assert abs(np.mean(off)) < 0.1


def test_mask_losses_by_hand() -> None:
    """Undecided logits on one pixel of four: cross-entropy 4 ln 2 over an area of 1; dice 1 - (2 * 0.5 + 1) / (2 + 1 + 1); IoU 0."""
    target = torch.tensor([[[1.0, 0], [0, 0]]])
    loss, iou = mask_losses(torch.zeros(1, 1, 2, 2), target)
    assert loss.item() == pytest.approx(4 * np.log(2) + 0.5) and iou.item() == 0
    assert mask_losses((target[:, None] * 2 - 1) * 20, target)[1].item() == 1


def test_a_window_at_the_corner_is_encoded_as_part_of_the_canvas() -> None:
    """A whole image encoded as a window of full size equals the encoder's own forward pass."""
    sam = untrained(0)
    pixels = torch.randn(1, 3, 512, 512)
    with torch.no_grad():
        torch.testing.assert_close(encode(sam, pixels, (0, 0)), sam.image_encoder(pixels))


def test_learning_rate_rises_and_falls_to_zero() -> None:
    config = PretrainConfig(window_steps=80, image_steps=20, warm_up=10)
    rates = [learning_rate(config, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == rates[9] == rates[10] == 1 and rates[100] == pytest.approx(0, abs=1e-9)


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(scenes: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(untrained(0), scenes, CONFIG, tmp_path / "whole.pt")
    monkeypatch.setattr(training, "SAVE_EVERY", 1)
    with monkeypatch.context() as patch:
        save = training.Run.save
        patch.setattr(training.Run, "save", lambda run: (save(run), pytest.exit("power cut")))
        with pytest.raises(pytest.exit.Exception):
            train(untrained(0), scenes, CONFIG, tmp_path / "parts.pt")
    assert torch.load(tmp_path / "parts.pt", weights_only=True)["step"] == 1
    parts = train(untrained(0), scenes, CONFIG, tmp_path / "parts.pt")
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, msg=name)


def test_score_counts_slivers_apart(scenes: Scenes) -> None:
    """The shipped model on bright squares: a sliver of 15 x 15 pixels, which its surroundings hide, counts in `*_slivers` alone."""
    labels = scenes.labels[0][:1].copy()
    labels[:, 400:415, 20:35] = 3
    found = score(TorchEngine(load_sam("tiny")), Scenes((scenes.images[0][:1],), (labels,)), 0)
    assert set(found) == {f"{form}{end}" for form in ("box", "points", "mask") for end in ("", "_slivers")}
    assert found["box"] > 0.7 and found["box_slivers"] < found["box"] - 0.05
