"""The two views of an image: what the weak one may do, and that no strong one moves a pixel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from wesam_ros.adaptation import views
from wesam_ros.adaptation.views import STRONG, Pixels, strong_view, weak_view


@pytest.fixture
def image() -> Pixels:
    """Left half dark, right half light, with some noise."""
    noise = np.random.default_rng(0).integers(-10, 11, (40, 60, 3))
    return np.clip(np.where(np.arange(60)[None, :, None] < 30, 60, 170) + noise, 0, 255).astype(np.uint8)


def test_a_weak_view_is_the_image_or_its_mirror_image(image: Pixels) -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(20):
        view, mirrored = weak_view(image, rng)
        assert np.array_equal(view, image[:, ::-1] if mirrored else image)
        seen.add(mirrored)
    assert seen == {False, True}


@pytest.mark.parametrize("change", STRONG)
def test_no_change_moves_a_pixel(image: Pixels, change: Callable[[Pixels, np.random.Generator], Pixels]) -> None:
    """The edge stays in its column wherever it can be seen: not under a shadow's own edge, and not where all is one colour."""
    before = image.copy()
    changed = 0
    for seed in range(20):
        view = change(image, np.random.default_rng(seed))
        assert view.shape == image.shape and view.dtype == np.uint8
        changed += not np.array_equal(view, image)
        steps = np.abs(np.diff(np.median(view.astype(float), axis=(0, 2))))
        if change is not views._shadow and steps.max() > 5:
            assert steps.argmax() == 29, seed
    assert changed and np.array_equal(image, before)


def test_sharpening_and_brightness_against_their_definitions(image: Pixels) -> None:
    share = np.random.default_rng(3).uniform(0.2, 3.0)
    expected = np.asarray(ImageEnhance.Sharpness(Image.fromarray(image)).enhance(share)).astype(int)
    found = views._sharpen(image, np.random.default_rng(3)).astype(int)
    assert np.abs(found - expected)[1:-1, 1:-1].max() <= 1  # PIL leaves the border as it is, and cuts off where this rounds
    rng = np.random.default_rng(4)
    gain, offset = rng.uniform(0.6, 1.4), rng.uniform(-30, 30)
    expected = np.clip((image.astype(float) - 128) * gain + 128 + offset, 0, 255)
    assert np.abs(views._brightness_contrast(image, np.random.default_rng(4)) - expected).max() < 1


def test_a_shadow_only_darkens(image: Pixels) -> None:
    darker = 0
    for seed in range(20):
        view = views._shadow(image, np.random.default_rng(seed))
        assert (view <= image).all()
        darker += bool((view < image).any())
    assert darker > 10


def test_a_strong_view_is_the_same_for_the_same_draws(image: Pixels) -> None:
    first, second, other = (strong_view(image, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(first, second) and not np.array_equal(first, other)
