"""Ids over frames, and masks over frames: discs on a textured table, and what happens to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from discs import BLUE, GREEN, RED, TEXTURE, Disc, picture

from wesam_ros.data.frames import Frame
from wesam_ros.scene.motion import Motion
from wesam_ros.scene.tracks import Tracker


@dataclass
class World:
    """A stream of pictures, the objects found in them, and the ids that they get."""

    tracker: Tracker = field(default_factory=Tracker)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def frame(self, discs: list[Disc], camera: tuple[int, int] = (0, 0), noise: float = 2.0) -> dict[str, int]:
        """The ids by name in a frame of 240 x 320."""
        image = picture(discs, camera, self.rng, noise)
        seen = [disc for disc in discs if disc.detected]
        windows = [_window(disc, camera) for disc in seen]
        odds = [_odds(disc, camera, window) for disc, window in zip(seen, windows, strict=True)]
        masks, classes = [each > 0 for each in odds], [disc.class_id for disc in seen]
        ids = self.tracker.match(Frame(image), windows, masks, classes)
        means = [self.tracker.average(index, each, window) for index, (each, window) in enumerate(zip(odds, windows, strict=True))]
        self.tracker.keep(Frame(image), windows, means, [each > 0 for each in means], classes)
        return dict(zip([disc.name for disc in seen], ids, strict=True))


def _window(disc: Disc, camera: tuple[int, int]) -> tuple[slice, slice]:
    x, y, room = disc.x - camera[0], disc.y - camera[1], disc.radius + 8
    return slice(max(0, int(y - room)), min(240, int(y + room))), slice(max(0, int(x - room)), min(320, int(x + room)))


def _odds(disc: Disc, camera: tuple[int, int], window: tuple[slice, slice]) -> npt.NDArray[np.float32]:
    rows, columns = (np.arange(each.start, each.stop, dtype=np.float32) for each in window)
    distance = np.hypot(rows[:, None] - disc.y + camera[1], columns[None] - disc.x + camera[0])
    return np.asarray(np.clip(disc.radius - distance, -5, 5), np.float32)


THREE = [Disc("a", RED, 70, 80), Disc("b", GREEN, 160, 120), Disc("c", BLUE, 240, 90)]


def _without(name: str) -> Callable[[int], list[Disc]]:
    return lambda index: [replace(disc, detected=disc.name != name or index != 3) for disc in THREE]


STREAMS: dict[str, tuple[Callable[[int], list[Disc]], Callable[[int], tuple[int, int]]]] = {
    "still": (lambda _: THREE, lambda _: (0, 0)),
    "a missed detection": (_without("b"), lambda _: (0, 0)),
    "another order": (lambda index: THREE[::-1] if index % 2 else THREE, lambda _: (0, 0)),
    "a camera that moves": (lambda _: THREE, lambda index: (4 * index, -3 * index)),
    "a missed detection while the camera moves": (_without("b"), lambda index: (4 * index, -3 * index)),
    "a thing that slides": (lambda index: [replace(THREE[0], x=70 + 5 * index), *THREE[1:]], lambda _: (0, 0)),
    "a class that flips": (lambda index: [replace(THREE[0], class_id="other" if index == 3 else "thing"), *THREE[1:]], lambda _: (0, 0)),
    "a thing that is covered for a while": (lambda index: THREE[1:] if 2 <= index < 5 else THREE, lambda _: (0, 0)),
    "a thing that is put elsewhere": (
        lambda index: (
            THREE[1:] if 2 <= index < 4 else [replace(THREE[0], x=70 if index < 2 else 120, y=80 if index < 2 else 190), *THREE[1:]]
        ),
        lambda _: (0, 0),
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_every_thing_keeps_its_id(name: str) -> None:
    discs, camera = STREAMS[name]
    world = World()
    for index in range(8):
        for thing, found in world.frame(discs(index), camera(index)).items():
            assert found == {"a": 1, "b": 2, "c": 3}[thing], (index, thing)


def test_of_twins_that_were_moved_none_is_taken_for_the_other() -> None:
    world, twins = World(), [Disc("a", RED, 70, 80), Disc("b", RED, 160, 120)]
    world.frame(twins)
    world.frame([])
    assert world.frame([Disc("?", RED, 240, 190)])["?"] == 3


def test_a_new_thing_at_a_place_that_was_left_has_an_id_of_its_own() -> None:
    world = World()
    world.frame(THREE)
    world.frame(THREE[1:])
    assert world.frame([Disc("new", BLUE, 70, 80), *THREE[1:]])["new"] == 4


def test_another_scene_has_other_ids() -> None:
    world = World()
    world.frame(THREE)
    other = [replace(disc, colour=(250, 220, 40)) for disc in THREE]
    assert set(world.frame(other, (90, 80)).values()) == {4, 5, 6}


def test_an_id_is_forgotten_in_the_end_and_never_given_again() -> None:
    world = World()
    world.frame(THREE)
    for _ in range(61):
        world.frame([])
    assert set(world.frame(THREE).values()) == {4, 5, 6}


def test_an_image_of_another_size_begins_anew() -> None:
    tracker, window, mask = Tracker(), (slice(10, 50), slice(10, 50)), np.ones((40, 40), bool)
    odds = [np.ones((40, 40), np.float32)]
    for side, expected in ((100, 1), (120, 2)):
        image = np.full((side, side, 3), side, np.uint8)
        assert tracker.match(Frame(image), [window], [mask], [""]) == [expected]
        tracker.keep(Frame(image), [window], odds, [mask], [""])


def test_the_masks_of_a_still_scene_flicker_a_third_of_the_models() -> None:
    tracker, rng, disc = Tracker(), np.random.default_rng(0), THREE[0]
    window, masks = _window(disc, (0, 0)), []
    for index in range(30):
        image = np.clip(TEXTURE[:240, :320] + rng.normal(0, 4, (240, 320, 3)), 0, 255).astype(np.uint8)
        odds = _odds(disc, (0, 0), window)
        odds = odds + cv2.GaussianBlur(rng.normal(0, 8, odds.shape).astype(np.float32), (0, 0), 2)
        tracker.match(Frame(image), [window], [odds > 0], [""])
        mean = tracker.average(0, odds, window)
        tracker.keep(Frame(image), [window], [mean], [mean > 0], [""])
        if index >= 10:
            masks.append((odds > 0, mean > 0))
    model, served = (
        float(np.mean([1 - (a[kind] & b[kind]).sum() / (a[kind] | b[kind]).sum() for a, b in pairwise(masks)])) for kind in (0, 1)
    )
    assert 0 < served < model / 3


def test_what_has_changed_is_believed_at_once() -> None:
    """Nothing is left of a thing in the next frame after it went; where nothing has changed, its mean goes on."""
    world = World()
    for _ in range(4):
        world.frame(THREE)
    world.frame([replace(THREE[0], x=100), *THREE[1:]])
    moved, still = (next(track for track in world.tracker._tracks if track.id == number) for number in (1, 2))
    assert still.frames.max() == 5
    left = moved.odds[:, : 100 - 22 - moved.window[1].start]  # left of the disc: seen there before, and gone
    assert (left < 0).mean() > 0.95  # but for a rim, where motion takes the table for the disc


@pytest.mark.parametrize(("shift", "noise"), [((0, 0), 3.0), ((0, 0), 9.0), ((5, 3), 3.0), ((-12, 8), 3.0), ((2, 0), 9.0)])
def test_motion_is_what_the_camera_did(shift: tuple[int, int], noise: float) -> None:
    rng, motion = np.random.default_rng(0), Motion()
    for step in range(2):
        x, y = 80 + step * shift[0], 70 + step * shift[1]
        image = np.clip(TEXTURE[y : y + 240, x : x + 320] + rng.normal(0, noise, (240, 320, 3)), 0, 255).astype(np.uint8)
        flow = motion.step(image)
    assert flow is not None and not flow.cut and flow.same[20:-20, 20:-20].mean() > 0.97
    if shift == (0, 0):
        assert flow.back is None
    else:
        assert flow.back is not None
        np.testing.assert_allclose(np.median(flow.back.reshape(-1, 2), axis=0), shift, atol=0.5)
