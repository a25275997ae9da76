"""Colour as a witness, on made-up pictures: it corrects a coarse prior where colours differ, and is silent where they do not."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from wesam_ros.evaluation.metrics import boundary_f, mask_iou
from wesam_ros.scene.colour import MOST, MOST_NEARBY, WEIGHT, WEIGHT_NEARBY, colour_log_odds, log_odds_from_boxes

Image = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

SIZE = (240, 320)
RED, BLUE, GREY = (190, 60, 50), (50, 80, 170), (120, 120, 120)
PAINT = Callable[[Bool, np.random.Generator], Image]


def disc(radius: float, dx: float = 0.0) -> Bool:
    y, x = np.indices(SIZE)
    return np.asarray(np.hypot(y - 120, x - 160 - dx) <= radius, np.bool_)


def prior_of(mask: Bool, slope: float = 0.15) -> Float:
    """Log-odds that grow with the distance from a mask's outline, inside and outside, per pixel, up to 3."""
    inside, outside = (cv2.distanceTransform(each.astype(np.uint8), cv2.DIST_L2, 5) for each in (mask, ~mask))
    return np.asarray(np.clip(slope * (inside - outside), -3, 3), np.float32)


def window_of(radius: float) -> tuple[slice, slice]:
    half = int(1.4 * radius) + 5
    return slice(max(0, 120 - half), 120 + half), slice(max(0, 160 - half), 160 + half)


def painted(mask: Bool, on: tuple[int, int, int], off: tuple[int, int, int], noise: float, rng: np.random.Generator) -> Image:
    flat = np.where(mask[..., None], np.array(on, np.float32), np.array(off, np.float32))
    return np.clip(flat + rng.normal(0, noise, flat.shape), 0, 255).astype(np.uint8)


def textured(mask: Bool, rng: np.random.Generator) -> Image:
    """Every pixel another colour, on the object and off it."""
    return rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)


def striped(mask: Bool, rng: np.random.Generator) -> Image:
    """Stripes of two colours that run through object and background: camouflage."""
    stripes = (np.indices(SIZE).sum(0) // 9) % 2 == 0
    return painted(stripes, RED, BLUE, 6, rng)


@pytest.mark.parametrize(
    ("name", "radius", "believed", "paint"),
    [
        ("grown", 50, disc(55), lambda m, r: painted(m, RED, BLUE, 8, r)),
        ("shrunken", 50, disc(42), lambda m, r: painted(m, RED, BLUE, 8, r)),
        ("shifted", 50, disc(50, 8), lambda m, r: painted(m, RED, BLUE, 8, r)),
        ("noisy", 50, disc(44), lambda m, r: painted(m, RED, BLUE, 30, r)),
        ("two greys", 50, disc(44), lambda m, r: painted(m, (150, 150, 150), (95, 95, 95), 12, r)),
        ("small", 14, disc(12), lambda m, r: painted(m, RED, BLUE, 8, r)),
        ("large", 110, disc(104), lambda m, r: painted(m, RED, BLUE, 8, r)),
    ],
)
def test_colours_that_differ_correct_a_coarse_prior(name: str, radius: float, believed: Bool, paint: PAINT) -> None:
    true, window = disc(radius), window_of(radius)
    image = paint(true, np.random.default_rng(1))
    prior = prior_of(believed)[window]
    (log_odds,) = colour_log_odds(image, [window], [prior])
    before, after, truth = (prior > 0)[None], (prior + log_odds > 0)[None], true[window][None]
    assert mask_iou(after, truth)[0] > max(0.9, mask_iou(before, truth)[0] + 0.05)
    assert boundary_f(after, truth)[0] > 0.9


@pytest.mark.parametrize(
    ("name", "paint"),
    [
        ("one colour", lambda m, r: painted(m, GREY, GREY, 0, r)),
        ("one colour with noise", lambda m, r: painted(m, GREY, GREY, 10, r)),
        ("camouflage", striped),
        ("every pixel another colour", textured),
    ],
)
@pytest.mark.parametrize("radius", [20, 60])
def test_colours_that_do_not_differ_are_silent(name: str, paint: PAINT, radius: float) -> None:
    true, window = disc(radius), window_of(radius)
    prior = prior_of(true)[window]
    (log_odds,) = colour_log_odds(paint(true, np.random.default_rng(2)), [window], [prior])
    assert np.abs(log_odds).mean() < 0.25
    assert mask_iou((prior + log_odds > 0)[None], (prior > 0)[None])[0] > 0.96


def test_a_colour_that_is_hardly_seen_says_little() -> None:
    image = painted(disc(50), RED, BLUE, 4, np.random.default_rng(3))
    image[119:122, 159:162], image[75:78, 114:117] = (250, 250, 20), (20, 250, 20)  # on the object, and off it
    window = slice(20, 220), slice(60, 260)
    (log_odds,) = colour_log_odds(image, [window], [prior_of(disc(50))[window]])
    rare, common = np.abs([log_odds[100, 100], log_odds[56, 55]]), np.abs([log_odds[100, 110], log_odds[56, 65]])
    assert (rare < 0.7 * common).all() and (common > 1).all()


@pytest.mark.parametrize(
    ("name", "prior"),
    [
        ("nowhere", np.full((30, 40), -9, np.float32)),
        ("everywhere", np.full((30, 40), 40, np.float32)),
        ("a pixel", np.full((1, 1), 1, np.float32)),
        ("extreme", np.where(np.eye(30, 40, dtype=bool), 1e6, -1e6).astype(np.float32)),
        ("large", np.zeros((240, 320), np.float32)),
        ("a row", np.linspace(-5, 5, 200, dtype=np.float32)[None]),
    ],
)
def test_any_prior_gives_finite_log_odds_within_bounds(name: str, prior: Float) -> None:
    image = textured(disc(9), np.random.default_rng(4))
    image.setflags(write=False)
    prior.setflags(write=False)
    window = slice(0, prior.shape[0]), slice(0, prior.shape[1])
    (log_odds,) = colour_log_odds(image, [window], [prior])
    assert log_odds.shape == prior.shape and log_odds.dtype == np.float32
    assert np.abs(log_odds).max() <= WEIGHT * MOST + WEIGHT_NEARBY * MOST_NEARBY + 1e-5  # false for NaN, too
    if name in ("nowhere", "everywhere"):
        assert not log_odds.any()


def test_objects_do_not_depend_on_each_other() -> None:
    image = painted(disc(50), RED, BLUE, 8, np.random.default_rng(5))
    windows = [window_of(50), window_of(30)]
    priors = [prior_of(disc(45))[window] for window in windows]
    together = colour_log_odds(image, windows, priors)
    for window, prior, found in zip(windows, priors, together, strict=True):
        np.testing.assert_array_equal(found, colour_log_odds(image, [window], [prior])[0])
    assert colour_log_odds(image, [], []) == []


def test_a_prior_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="window's size"):
        colour_log_odds(np.zeros((*SIZE, 3), np.uint8), [(slice(0, 20), slice(0, 20))], [np.zeros((20, 21), np.float32)])


@pytest.mark.parametrize(
    ("name", "true", "box"),
    [
        ("disc", disc(60), (100, 60, 220, 180)),
        ("half a disc", disc(60) & (np.indices(SIZE)[1] < 160), (100, 60, 160, 180)),
        ("ring", disc(60) & ~disc(25), (100, 60, 220, 180)),
        ("corner of the image", np.roll(disc(60), (-120, -160), (0, 1)) & (np.indices(SIZE).sum(0) < 200), (0, 0, 60, 60)),
    ],
)
def test_a_box_and_colour_are_enough_for_an_object_of_its_own_colour(name: str, true: Bool, box: tuple[int, ...]) -> None:
    image = painted(true, RED, BLUE, 10, np.random.default_rng(6))
    rows, columns = slice(max(0, box[1] - 20), box[3] + 20), slice(max(0, box[0] - 20), box[2] + 20)
    (log_odds,) = log_odds_from_boxes(image, [(rows, columns)], np.array([box], np.float32))
    assert mask_iou((log_odds > 0)[None], true[rows, columns][None])[0] > 0.9


def test_an_object_of_the_colour_around_it_is_the_ellipse_in_its_box() -> None:
    image = np.full((*SIZE, 3), 90, np.uint8)
    window = slice(40, 200), slice(80, 240)
    (log_odds,) = log_odds_from_boxes(image, [window], np.array([[100, 60, 220, 180]], np.float32))
    assert mask_iou((log_odds > 0)[None], disc(60)[window][None])[0] > 0.95
