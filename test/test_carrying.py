"""Objects that the detector misses, served by their masks of the frames before: discs on a table, and a model that makes one of any box."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pytest
from discs import BLUE, GREEN, RED, Disc, picture

from wesam_ros.data.detections import Detections
from wesam_ros.data.frames import Frame
from wesam_ros.data.requests import request_of_detections
from wesam_ros.sam.masks import Masks
from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene.carrying import Carrying

SIZE, LOW = (240, 320), 256
DISCS = [Disc("a", RED, 70, 80), Disc("b", GREEN, 160, 120), Disc("c", BLUE, 240, 90)]
CAMERA = np.array([[300.0, 0, 160], [0, 300.0, 120], [0, 0, 1]])
HAND = Disc("hand", (220, 180, 150), 70, 80, 45, detected=False)


def decode(prompts: Prompts) -> Masks:
    """Logits of the disc in each box, whatever is there."""
    y, x = np.mgrid[:LOW, :LOW] * np.float32(SIZE[1] / LOW)
    boxes = np.array([each.box for each in prompts.objects], np.float32).reshape(-1, 4)
    logits = [4 - 4 * (((x - (a + c) / 2) / (c - a) * 2) ** 2 + ((y - (b + d) / 2) / (d - b) * 2) ** 2) for a, b, c, d in boxes]
    low_res = np.array(logits, np.float32).reshape(-1, LOW, LOW)
    return Masks(np.zeros((len(boxes), *SIZE), bool), np.full(len(boxes), 0.9, np.float32), low_res)


def pose_of(camera: tuple[int, int]) -> npt.NDArray[np.float64]:
    """(4, 4) of a camera that looks straight down at a table 1 m away, where it has moved by so many pixels of the picture."""
    pose = np.eye(4)
    pose[:2, 3] = np.array(camera) / 300
    return pose


@dataclass
class World:
    """A stream of frames, and what is served for each."""

    carrying: Carrying = field(default_factory=Carrying)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    posed: bool = False
    dark: bool = False

    def frame(self, discs: list[Disc], camera: tuple[int, int] = (0, 0), *, frames: int = 10, limit: int | None = None) -> list[Served]:
        """The objects that are served for a frame."""
        seen = [disc for disc in discs if disc.detected]
        boxes = [
            (
                disc.x - camera[0] - disc.radius,
                disc.y - camera[1] - disc.radius,
                disc.x - camera[0] + disc.radius,
                disc.y - camera[1] + disc.radius,
            )
            for disc in seen
        ]
        names = tuple(disc.name for disc in seen)
        found = Detections(
            np.array(boxes, np.float32).reshape(-1, 4), names, tuple(disc.class_id for disc in seen), np.full(len(seen), 0.8)
        )
        asked = request_of_detections(found, SIZE)
        image = picture(discs, camera, self.rng) if not self.dark else np.zeros((*SIZE, 3), np.uint8)
        frame = Frame(image) if not self.posed else Frame(image, np.ones(SIZE, np.float32), CAMERA, pose=pose_of(camera))
        choice = "all" if not self.posed else "boxes"  # a table 1 m away, on which nothing rises
        objects, masks = self.carrying.serve(frame, asked, decode, choice, frames=frames, limit=limit)
        named = objects.detections
        assert len(masks) == len(objects.prompts) == len(named)
        rows = zip(named.ids, masks.track_ids, masks.sources, named.scores.tolist(), named.classes, masks.masks, strict=True)
        return [Served(*row) for row in rows]


@dataclass(frozen=True)
class Served:
    """An object that is served."""

    name: str
    track: int
    source: str
    score: float
    class_id: str
    mask: npt.NDArray[np.bool_]

    @property
    def carried(self) -> bool:
        """True for one that was not detected."""
        return "track" in self.source.split("+")


def missed(*names: str, discs: list[Disc] = DISCS) -> list[Disc]:
    """The discs, some of which are not detected."""
    return [replace(disc, detected=disc.name not in names) for disc in discs]


def carried(served: list[Served]) -> list[int]:
    """Tracks of the objects that were not detected."""
    return [each.track for each in served if each.carried]


def iou(mask: npt.NDArray[np.bool_], x: float, y: float, radius: float) -> float:
    """IoU of a mask with a disc."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    disc = np.hypot(rows - y, columns - x) <= radius
    return float((mask & disc).sum() / (mask | disc).sum())


def camera_at(index: int) -> tuple[int, int]:
    """Its place in a frame of a moving camera."""
    return 4 * index, -3 * index


@pytest.mark.parametrize("camera", [lambda _: (0, 0), camera_at], ids=["still", "moving"])
def test_an_object_that_is_missed_is_served_at_its_place_and_marked(camera: Callable[[int], tuple[int, int]]) -> None:
    world = World()
    for index in range(3):
        assert not carried(world.frame(DISCS, camera(index)))
    for index in (3, 4):
        served = world.frame(missed("b"), camera(index))
        (one,) = [each for each in served if each.carried]
        assert (one.name, one.track, one.class_id) == ("#2", 2, "thing")
        assert one.score == pytest.approx(0.8)
        assert iou(one.mask, 160 - camera(index)[0], 120 - camera(index)[1], 22) > 0.8
        assert [each.track for each in served if not each.carried] == [1, 3]
    assert [each.track for each in world.frame(DISCS, camera(5))] == [1, 2, 3]


def test_it_ends_after_as_many_frames_as_it_is_allowed_or_was_seen_in() -> None:
    world = World()
    for _ in range(6):
        world.frame(DISCS)
    assert [bool(carried(world.frame(missed("b"), frames=4))) for _ in range(6)] == [True] * 4 + [False] * 2
    world = World()
    for _ in range(2):
        world.frame(DISCS)
    assert [bool(carried(world.frame(missed("b")))) for _ in range(4)] == [True] * 2 + [False] * 2


@pytest.mark.parametrize(("frames", "is_carried"), [(3, False), (6, True)])
def test_one_upon_another_is_carried_where_it_is_known_for_long(frames: int, is_carried: bool) -> None:
    """A false box within a thing would cut its mask in two."""
    world, small = World(), Disc("small", RED, 240, 85, 14)
    large = replace(DISCS[2], radius=45)
    for _ in range(frames):
        world.frame([large, small])
    served = world.frame([large, replace(small, detected=False)])
    assert bool(carried(served)) == is_carried


WITHOUT: dict[str, tuple[int, list[Disc], dict[str, int]]] = {
    "it was taken away": (4, [DISCS[0], DISCS[2]], {}),
    "all were taken away": (4, [], {}),
    "a hand is before it": (4, [*missed("a"), HAND], {}),
    "it was seen once": (1, missed("b"), {}),
    "the parameter is 0": (4, missed("b"), {"frames": 0}),
    "there is room for no more": (4, missed("b"), {"limit": 2}),
    "its box is off": (4, [DISCS[0], replace(DISCS[1], x=166, y=116), DISCS[2]], {}),
}


@pytest.mark.parametrize("case", WITHOUT)
def test_nothing_is_carried_where(case: str) -> None:
    before, discs, options = WITHOUT[case]
    world = World()
    for _ in range(before):
        world.frame(DISCS)
    assert not carried(world.frame(discs, **options))


def test_one_that_was_put_elsewhere_is_served_there_only() -> None:
    world = World()
    for _ in range(4):
        world.frame(DISCS)
    served = world.frame([replace(DISCS[0], x=90, y=190), *DISCS[1:]])
    assert [each.track for each in served] == [1, 2, 3]
    assert iou(served[0].mask, 90, 190, 22) > 0.8


@pytest.mark.parametrize("camera", [lambda _: (0, 0), camera_at], ids=["still", "moving"])
def test_twins_that_a_hand_covers_keep_their_ids(camera: Callable[[int], tuple[int, int]]) -> None:
    world, twins = World(), [DISCS[0], replace(DISCS[1], colour=RED), DISCS[2]]
    hand = [*missed("a", "b", discs=twins), Disc("hand", (220, 180, 150), 115, 100, 85, detected=False)]
    for index in range(4):
        world.frame(twins, camera(index))
    for index in range(4, 7):
        assert [each.track for each in world.frame(hand, camera(index))] == [3]
    for index in (7, 8):
        assert [each.track for each in world.frame(twins, camera(index))] == [1, 2, 3]


@pytest.mark.parametrize("posed", [True, False])
def test_after_a_jump_of_the_camera_twins_are_told_apart_by_its_pose(posed: bool) -> None:
    world, twins = World(posed=posed), [DISCS[0], replace(DISCS[1], colour=RED), DISCS[2]]
    for _ in range(3):
        world.frame(twins)
    world.dark = True
    world.frame([], (20, 30))
    world.dark = False
    tracks = [each.track for each in world.frame(twins, (38, 52))]
    assert tracks == ([1, 2, 3] if posed else [4, 5, 3])
