"""Pretraining on made-up pictures: sources, augmentation, samples, losses, and a run that is interrupted and goes on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from wesam_ros.data.datasets.files import DatasetError
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.pretraining import training
from wesam_ros.pretraining.augment import compact, paste, place, recolour
from wesam_ros.pretraining.card import score
from wesam_ros.pretraining.losses import batch_loss, collect, decode, encode, mask_losses
from wesam_ros.pretraining.packing import pack
from wesam_ros.pretraining.samples import FORMS, Batch, Request, draw_batch, draw_sample, error_points
from wesam_ros.pretraining.scenes import Scenes
from wesam_ros.pretraining.sources import SHARES, Mixture, read_folders, split
from wesam_ros.pretraining.start import build, freeze, take_over
from wesam_ros.pretraining.training import PretrainConfig, learning_rate, make_batch, train
from wesam_ros.sam import load_sam
from wesam_ros.sam.hybrid_encoder import SameConv2d
from wesam_ros.sam.preprocessing import normalize

CONFIG = PretrainConfig(steps=3, last=1, prompts=2, warm_up=1, ema=0.5)


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    """Two frames of grey noise with two bright squares."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 100, (2, 480, 640, 3), dtype=np.uint8), np.zeros((2, 480, 640), np.uint8)
    for index, (y, x) in enumerate(((100, 150), (250, 330)), 1):
        labels[:, y : y + 120, x : x + 120] = index
        images[labels == index] += 100
    return Scenes((images,), (labels,))


@pytest.fixture
def mixture(scenes: Scenes) -> Mixture:
    return Mixture((("simulated", scenes),))


def _write(folder: Path, name: str, size: tuple[int, int] = (8, 8)) -> None:
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "images" / f"{name}.jpg"), np.full((8, 8, 3), (0, 0, 200), np.uint8))
    cv2.imwrite(str(folder / "masks" / f"{name}.png"), np.ones(size, np.uint8))


def test_folders_are_read_as_rgb_and_split_by_name(tmp_path: Path) -> None:
    for index in range(60):
        _write(tmp_path / "things", f"{index:04d}")
    folder = read_folders(tmp_path)["things"]
    image, labels = folder[3]
    assert image[0, 0].tolist() == pytest.approx([200, 0, 0], abs=6) and labels.tolist() == np.ones((8, 8)).tolist()
    kept, held_out = split(folder)
    assert 0 < len(held_out) < 12 and set(kept.names) | set(held_out.names) == set(folder.names)
    _write(tmp_path / "things", "0099")
    assert set(held_out.names) <= set(split(read_folders(tmp_path)["things"])[1].names)


def test_folders_that_are_not_whole_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there are no pictures in"):
        read_folders(tmp_path)
    _write(tmp_path / "things", "a", (4, 8))
    with pytest.raises(DatasetError, match=r"images/a\.jpg and masks/a\.png must be"):
        read_folders(tmp_path)["things"][0]
    (tmp_path / "things" / "masks" / "a.png").unlink()
    with pytest.raises(DatasetError, match=r"masks/a\.png is missing"):
        read_folders(tmp_path)


def test_packed_pictures_are_read_as_what_they_were(scenes: Scenes, tmp_path: Path) -> None:
    size = pack(Mixture((("simulated", scenes),)), tmp_path, 320, 90, 1)
    folder = read_folders(tmp_path)["simulated"]
    image, labels = folder[0]
    assert folder.names == ("00000",) and image.shape == (240, 320, 3) and 0 < size < 60_000
    assert np.array_equal(labels, scenes.labels[0][0][1::2, 1::2])


def test_shares_of_the_sources_hold() -> None:
    """Of 2,000 draws from a large and a small source, as many as their shares give."""

    class Constant:
        def __init__(self, value: int, count: int) -> None:
            self.value, self.count = value, count

        def __len__(self) -> int:
            return self.count

        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            return np.full((2, 2, 3), self.value, np.uint8), np.zeros((2, 2), np.uint8)

    mixture, rng = Mixture((("granular", Constant(1, 1000)), ("coco2017", Constant(0, 3)))), np.random.default_rng(0)
    share = np.mean([mixture.draw(rng)[0][0, 0, 0] for _ in range(2000)])
    assert share == pytest.approx(SHARES["granular"] / (SHARES["granular"] + SHARES["coco2017"]), abs=0.03)


def _middle(values: np.ndarray, axis: int) -> float:
    return float(values.sum(axis) @ np.arange(values.shape[1 - axis]) / values.sum())


def test_labels_lie_on_the_image() -> None:
    """White squares on black, placed anywhere: the middle of their labels is that of their pixels, to a fifth of a pixel on average."""
    image, labels, rng = np.zeros((480, 640, 3), np.uint8), np.zeros((480, 640), np.uint8), np.random.default_rng(0)
    labels[190:290, 270:370] = 1
    image[labels == 1] = 255
    off = []
    for _ in range(60):
        pixels, ids = place(image, labels, 384, rng)
        assert max(ids.shape) <= 384 and pixels.shape[:2] == ids.shape
        if not ids.any() or ids[[0, -1]].any() or ids[:, [0, -1]].any():
            continue
        bright = np.where(pixels[..., 0] > 140, pixels[..., 0], 0).astype(float)
        off.append([_middle(bright, axis) - _middle(ids.astype(float), axis) for axis in (0, 1)])
    assert len(off) > 20 and np.abs(np.mean(off, 0)).max() < 0.2


def test_a_pasted_thing_is_on_top_and_has_an_id_of_its_own() -> None:
    rng = np.random.default_rng(0)
    image, labels = np.full((200, 200, 3), 50, np.uint8), np.zeros((200, 200), np.uint8)
    labels[60:140, 60:140] = 7
    other, ids = np.full((100, 100, 3), 250, np.uint8), np.zeros((100, 100), np.uint8)
    ids[20:80, 20:80] = 3
    pasted = 0
    for _ in range(20):
        mixed, found = paste(image, labels, other, ids, rng)
        known = np.unique(found[found > 0])
        assert known.tolist() == list(range(1, len(known) + 1))
        pasted += found.max() == 2 or (found[100, 100] != 0 and (mixed != image).mean() > 0.05)
    assert pasted > 10


def test_compact_keeps_the_first_ids() -> None:
    assert compact(np.array([[0, 9, 4], [200, 4, 0]], np.uint8), 2).tolist() == [[0, 2, 1], [0, 1, 0]]
    assert compact(np.array([[0, 900], [70, 900]], np.uint16)).tolist() == [[0, 2], [1, 2]]


def test_recolour_keeps_size_and_type() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    changed = [recolour(image, rng) for _ in range(40)]
    assert all(each.shape == image.shape and each.dtype == np.uint8 for each in changed)
    assert sum(not np.array_equal(each, image) for each in changed) > 30


@pytest.mark.parametrize("seed", range(6))
def test_prompts_belong_to_the_masks_and_a_seed_gives_the_same_batch(mixture: Mixture, seed: int) -> None:
    batch, same = (draw_batch(mixture, 256, 2, 3, np.random.default_rng(seed)) for _ in range(2))
    assert batch.request == same.request and batch.request.form in FORMS and torch.equal(batch.masks, same.masks)
    assert len(batch.masks) == len(batch.owners) and set(batch.owners.tolist()) == {0, 1}
    for sample, other in zip(batch.samples, same.samples, strict=True):
        assert torch.equal(sample.pixels, other.pixels)
        assert sample.pixels.shape[1:] == sample.masks.shape[1:] and max(sample.masks.shape[1:]) <= 256
        if sample.points is not None:
            xy, inside = sample.points[0].long(), sample.points[1]
            hit = sample.masks[torch.arange(len(xy))[:, None], xy[..., 1], xy[..., 0]]
            assert torch.equal(hit[inside >= 0], inside[inside >= 0] == 1)
        if sample.coarse is not None:
            assert sample.coarse.shape[1:] == (1, 64, 64)


def test_the_next_point_lies_where_the_answer_is_wrong() -> None:
    true = np.zeros((3, 6, 6), bool)
    true[:, :3, :3] = True
    found = np.stack([np.zeros((6, 6), bool), np.ones((6, 6), bool), true[2]])
    points, labels = error_points(found, true, np.random.default_rng(0))
    at = points[:, 0].long()
    assert labels[:, 0].tolist() == [1, 0, 1]
    assert true[np.arange(3), at[:, 1], at[:, 0]].tolist() == [True, False, True]


def test_mask_losses_by_hand() -> None:
    """Undecided logits on one pixel of four: cross-entropy 4 ln 2 over an area of 1; dice 1 - (2 * 0.5 + 1) / (2 + 1 + 1); IoU 0."""
    target = torch.tensor([[[1.0, 0], [0, 0]]])
    loss, iou = mask_losses(torch.zeros(1, 1, 2, 2), target)
    assert loss.item() == pytest.approx(4 * np.log(2) + 0.5) and iou.item() == 0
    assert mask_losses((target[:, None] * 2 - 1) * 20, target)[1].item() == 1


def test_a_canvas_of_the_models_size_is_encoded_as_the_model_does(mixture: Mixture) -> None:
    sam, rng = build("tiny", 0, None, None), np.random.default_rng(0)
    batch = draw_batch(mixture, 512, 1, 2, rng)
    with torch.no_grad():
        expected = sam.image_encoder(normalize(batch.samples[0].pixels, 512)[None])
        torch.testing.assert_close(encode(sam, batch), expected)
        assert encode(sam, draw_batch(mixture, 256, 1, 2, rng)).shape == (1, 512, 16, 16)


@pytest.mark.parametrize("form", FORMS)
def test_things_of_several_pictures_are_decoded_as_those_of_each(mixture: Mixture, form: str) -> None:
    """Against segment_anything's MaskDecoder, picture by picture."""
    sam, rng = build("tiny", 0, None, None), np.random.default_rng(0)
    request = Request(form, 1 if form == "click" else 3, 0 if form == "click" else 2, False, 0)
    batch = Batch(512, tuple(draw_sample(mixture, 512, 2, request, rng) for _ in range(2)), request)
    prompts, embeddings = collect(batch), torch.randn(2, 512, 32, 32)
    with torch.no_grad():
        masks, scores = decode(sam, embeddings, prompts, 512)
        for index, sample in enumerate(batch.samples):
            sparse, dense = sam.prompt_encoder(points=sample.points, boxes=sample.boxes, masks=sample.coarse)
            position, embedding = sam.prompt_encoder.get_dense_pe(), embeddings[index : index + 1]
            expected, iou = sam.mask_decoder.predict_masks(embedding, position, sparse, dense)
            torch.testing.assert_close(masks[prompts.owners == index], expected, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(scores[prompts.owners == index], iou, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_prompt_has_a_loss_with_gradients(mixture: Mixture, form: str, again: bool) -> None:
    sam, rng = build("tiny", 0, None, None), np.random.default_rng(0)
    freeze(sam, 3)
    request = Request(form, 1 if form == "click" else 3, 0 if form == "click" else 2, again, 0)
    loss, iou = batch_loss(sam, Batch(256, (draw_sample(mixture, 256, 1, request, rng),), request))
    loss.backward()
    assert torch.isfinite(loss) and 0 <= iou <= 1
    assert sam.image_encoder.neck[0].weight.grad.abs().max() > 0
    assert sam.image_encoder.trunk.stem.weight.grad is None


def test_what_fits_of_earlier_weights_is_taken_over() -> None:
    sam, earlier = build("tiny", 0, None, None), build("tiny", 1, None, None).state_dict()
    left = sam.state_dict()["image_encoder.pos_embed"].clone()
    earlier["image_encoder.pos_embed"] = torch.zeros(1, 8, 8, 192)  # of another size
    assert take_over(sam, earlier) == len(earlier) - 1
    own = sam.state_dict()
    assert all(torch.equal(own[name], value) for name, value in earlier.items() if name != "image_encoder.pos_embed")
    assert torch.equal(own["image_encoder.pos_embed"], left)


def test_frozen_parts_take_no_gradient() -> None:
    sam = build("tiny", 0, None, None)
    freeze(sam, 3)
    trunk = sam.image_encoder.trunk
    assert not any(p.requires_grad for p in [*trunk.stem.parameters(), *trunk.stages[:3].parameters()])
    kinds = {type(module) for module in trunk.stages[3:].modules() for p in module.parameters(recurse=False) if not p.requires_grad}
    assert kinds == {SameConv2d}


def test_learning_rate_rises_stays_and_falls_to_zero() -> None:
    config = PretrainConfig(steps=100, last=20, warm_up=10)
    rates = [learning_rate(config, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and set(rates[9:81]) == {1.0} and rates[81] < 1 and rates[100] == 0


def test_a_batch_has_more_pictures_where_they_are_smaller(mixture: Mixture) -> None:
    for step in range(6):
        batch = make_batch(mixture, CONFIG, step)
        assert len(batch.samples) == training.SIDES[batch.side]


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(mixture: Mixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "SIDES", {128: 1, 192: 1, 256: 1})

    def model() -> object:
        sam = build("tiny", 0, None, None)
        freeze(sam, 3)
        return sam

    whole = train(model(), mixture, CONFIG, tmp_path / "whole.pt")
    assert torch.load(tmp_path / "whole_constant.pt", weights_only=True)["step"] == 2
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        save = training.Run.save
        patch.setattr(training.Run, "save", lambda run, path=None: (save(run, path), pytest.exit("power cut")))
        with pytest.raises(pytest.exit.Exception):
            train(model(), mixture, CONFIG, tmp_path / "parts.pt")
    assert torch.load(tmp_path / "parts.pt", weights_only=True)["step"] == 1
    parts = train(model(), mixture, CONFIG, tmp_path / "parts.pt")
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, msg=name)


def test_score_counts_slivers_apart(scenes: Scenes) -> None:
    """The shipped model on bright squares: a sliver of 15 x 15 pixels, which its surroundings hide, counts in `*_slivers` alone."""
    labels = scenes.labels[0][:1].copy()
    labels[:, 400:415, 20:35] = 3
    found = score(TorchEngine(load_sam("tiny")), Scenes((scenes.images[0][:1],), (labels,)), 0)
    assert set(found) == {f"{form}{end}" for form in ("box", "points", "mask") for end in ("", "_slivers")}
    assert found["box"] > 0.7 and found["box_slivers"] < found["box"] - 0.05
