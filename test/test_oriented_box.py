"""Oriented boxes of things on a made-up table, rendered by intersecting rays with boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from wesam_ros.scene.geometry import locate
from wesam_ros.scene.object_points import MIN_POINTS, connected
from wesam_ros.scene.oriented_box import OrientedBox
from wesam_ros.scene.plane_around import support_plane

Float = npt.NDArray[np.float64]
SIZE = (240, 320)
K = np.array([[280.0, 0, 159.5], [0, 280, 119.5], [0, 0, 1]])
DOWN = np.radians(40)
BACK = np.array([0, -np.cos(DOWN), np.sin(DOWN)])
POSE = np.eye(4)  # the camera stands 0.8 m from the world's origin and looks at it; x is the world's x
POSE[:3, :3] = np.stack([[1, 0, 0], np.cross(-BACK, [1, 0, 0]), -BACK], 1)
POSE[:3, 3] = 0.8 * BACK
TABLE = ((0.0, 0.0, -0.01), (2.0, 2.0, 0.02), 0.0)


@dataclass
class Scene:
    """A depth image (metres) and labels of boxes: centre, size, yaw in degrees; the first is the table, of label 0."""

    boxes: list[tuple[tuple[float, float, float], tuple[float, float, float], float]]
    depth: npt.NDArray[np.float32] = field(init=False)
    labels: npt.NDArray[np.uint16] = field(init=False)

    def __post_init__(self) -> None:
        v, u = np.mgrid[: SIZE[0], : SIZE[1]]
        rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones(SIZE)], -1) @ POSE[:3, :3].T
        nearest, labels = np.full(SIZE, np.inf), np.zeros(SIZE, np.uint16)
        for index, (center, size, yaw) in enumerate(self.boxes):
            turn = rotation(yaw)
            start, way = (POSE[:3, 3] - center) @ turn, rays @ turn
            with np.errstate(divide="ignore", invalid="ignore"):
                first, second = (-np.array(size) / 2 - start) / way, (np.array(size) / 2 - start) / way
            enters, leaves = np.minimum(first, second).max(-1), np.maximum(first, second).min(-1)
            hit = (enters <= leaves) & (enters > 0) & (enters < nearest)
            nearest[hit], labels[hit] = enters[hit], index
        self.depth = np.where(np.isfinite(nearest), nearest, 0).astype(np.float32)
        self.labels = labels

    def found(self, camera: Float = K, transform: Float | None = POSE) -> list[OrientedBox | None]:
        """The boxes of all things but the table."""
        whole = (slice(0, SIZE[0]), slice(0, SIZE[1]))
        places = locate(self.labels, self.depth, camera, [whole] * (len(self.boxes) - 1), transform)
        return [None if place is None else place.box for place in places]


def rotation(degrees: float) -> Float:
    a = np.radians(degrees)
    return np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])


def yaw_error(box: OrientedBox, degrees: float, turn: float = 180) -> float:
    """Degrees between a box and a yaw; a box looks the same after a `turn`, which is 90 for a square one."""
    off = abs(np.degrees(np.arctan2(box.axes[1, 0], box.axes[0, 0])) - degrees) % turn
    return float(min(off, turn - off))


def holds(box: OrientedBox | None, center: tuple[float, ...], size: tuple[float, ...], yaw: float, metres: float = 0.006) -> OrientedBox:
    """The box, which must be the expected one."""
    assert box is not None
    np.testing.assert_allclose(box.center, center, atol=metres)
    np.testing.assert_allclose(box.size, size, atol=2 * metres)
    assert yaw_error(box, yaw, 90 if size[0] == size[1] else 180) < 4
    np.testing.assert_allclose(box.axes.T @ box.axes, np.eye(3), atol=1e-6)
    assert np.linalg.det(box.axes) == pytest.approx(1)
    assert box.on_plane
    return box


THING = ((0.02, 0.03, 0.03), (0.14, 0.08, 0.06), 30.0)


def noisy(scene: Scene) -> None:
    scene.depth *= 1 + np.random.default_rng(0).normal(0, 0.0015, SIZE).astype(np.float32)


def flying(scene: Scene) -> None:
    """Between the thing and the table, pixels float in the air, in two rows around the outline."""
    mask = (scene.labels == 1).astype(np.uint8)
    edge = mask - cv2.erode(mask, np.ones((5, 5), np.uint8)) > 0
    chosen = edge & (np.random.default_rng(1).random(SIZE) < 0.3)
    scene.depth[chosen] += np.random.default_rng(2).uniform(0.03, 0.2, chosen.sum()).astype(np.float32)


def onto_the_table(scene: Scene) -> None:
    scene.labels[cv2.dilate((scene.labels == 1).astype(np.uint8), np.ones((15, 15), np.uint8)) > 0] = 1


def onto_the_wall(scene: Scene) -> None:
    """A wall half a metre behind, a part of which the mask covers."""
    scene.depth[:20, :] = 1.6
    scene.labels[:20, 100:220] = 1


def holes(scene: Scene) -> None:
    scene.depth[np.random.default_rng(3).random(SIZE) < 0.3] = 0


def a_stick_before_it(scene: Scene) -> None:
    """Something thin and near cuts the thing in two."""
    columns = np.flatnonzero((scene.labels == 1).any(0))
    middle = int(columns.mean())
    scene.depth[:, middle - 2 : middle + 3] = 0.4
    scene.labels[:, middle - 2 : middle + 3] = 0


def untouched(scene: Scene) -> None:
    pass


@pytest.mark.parametrize("change", [untouched, noisy, flying, onto_the_table, onto_the_wall, holes, a_stick_before_it])
def test_a_thing_on_the_table(change: Callable[[Scene], None]) -> None:
    scene = Scene([TABLE, THING])
    change(scene)
    box = holds(scene.found()[0], *THING)
    assert 0.4 * np.count_nonzero(scene.labels == 1) < box.points <= np.count_nonzero(scene.labels == 1)


@pytest.mark.parametrize("yaw", [0, 15, 45, 60, 90, 135])
@pytest.mark.parametrize("size", [(0.2, 0.05, 0.02), (0.12, 0.06, 0.1), (0.1, 0.06, 0.008)])
def test_sizes_and_yaws(size: tuple[float, float, float], yaw: float) -> None:
    holds(Scene([TABLE, ((0, 0, size[2] / 2), size, yaw)]).found()[0], (0, 0, size[2] / 2), size, yaw)


def test_the_gripper_comes_from_above_and_closes_over_the_shorter_side() -> None:
    box = holds(Scene([TABLE, THING]).found()[0], *THING)
    assert box.grasp_width == pytest.approx(0.08, abs=0.01)
    np.testing.assert_allclose(box.approach, [0, 0, -1], atol=0.02)


def test_a_thing_on_another_ends_there_and_a_hidden_one_at_the_table() -> None:
    below = ((0.0, 0.0, 0.05), (0.3, 0.2, 0.1), 0.0)
    above = ((0.0, 0.0, 0.13), (0.12, 0.08, 0.06), 0.0)
    _, top = Scene([TABLE, below, above]).found()
    holds(top, *above)
    before, hidden = ((0.0, -0.2, 0.06), (0.3, 0.02, 0.12), 0.0), ((0.0, 0.0, 0.08), (0.12, 0.08, 0.16), 0.0)
    _, box = Scene([TABLE, before, hidden]).found()
    holds(box, *hidden, metres=0.01)


def test_seen_from_straight_above_a_thing_ends_at_what_is_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The camera sees but the tops of a thing on the table and of one on another."""
    above = np.eye(4)
    above[:3, :3], above[:3, 3] = np.diag([1.0, -1.0, -1.0]), [0, 0, 0.8]
    monkeypatch.setitem(globals(), "POSE", above)
    thing, below, top = (
        ((-0.2, 0, 0.05), (0.12, 0.06, 0.1), 30.0),
        ((0.15, 0, 0.05), (0.2, 0.2, 0.1), 0.0),
        ((0.15, 0, 0.13), (0.1, 0.05, 0.06), 60.0),
    )
    scene = Scene([TABLE, thing, below, top])
    noisy(scene)
    boxes = scene.found(transform=above)
    for box, expected in zip(boxes, (thing, below, top), strict=True):
        holds(box, *expected, metres=0.01)


def test_the_far_side_of_a_round_thing_is_there() -> None:
    """A ball of a radius of 5 cm shows less than its front half."""
    scene, center, radius = Scene([TABLE]), np.array([0.0, 0.0, 0.05]), 0.05
    v, u = np.mgrid[: SIZE[0], : SIZE[1]]
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones(SIZE)], -1)
    middle = (center - POSE[:3, 3]) @ POSE[:3, :3]
    b, a = rays @ middle, (rays**2).sum(-1)
    root = b**2 - a * (middle @ middle - radius**2)
    hit = root > 0
    scene.depth[hit] = ((b - np.sqrt(np.maximum(root, 0))) / a)[hit]
    scene.labels[hit] = 1
    scene.boxes.append(((0, 0, 0.05), (0.1, 0.1, 0.1), 0))
    (box,) = scene.found()
    assert box is not None
    np.testing.assert_allclose(box.center, center, atol=0.01)
    np.testing.assert_allclose(box.size, [0.1, 0.1, 0.1], atol=0.015)


def test_without_a_plane_the_axes_are_principal() -> None:
    scene = Scene([TABLE, THING])
    scene.depth[scene.labels == 0] = 0
    (box,) = scene.found()
    assert box is not None
    assert not box.on_plane
    assert np.linalg.det(box.axes) == pytest.approx(1)
    np.testing.assert_allclose(box.center, THING[0], atol=0.03)
    assert box.size[0] >= box.size[1]
    assert box.axes[:, 2] @ (POSE[:3, 3] - box.center) > 0  # towards the camera


def test_any_frame_and_any_camera() -> None:
    scene = Scene([TABLE, THING])
    (box,), (optical,) = scene.found(), scene.found(transform=None)
    assert box is not None
    assert optical is not None
    np.testing.assert_allclose(POSE[:3, :3] @ optical.center + POSE[:3, 3], box.center, atol=1e-6)
    np.testing.assert_allclose(POSE[:3, :3] @ optical.axes, box.axes, atol=1e-6)
    v, u = np.mgrid[: SIZE[0], : SIZE[1]]
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]], -1)
    rays[:2] = np.nan
    holds(scene.found(rays)[0], *THING)


def test_a_place_without_a_box_is_the_same() -> None:
    scene = Scene([TABLE, THING])
    whole = (slice(0, SIZE[0]), slice(0, SIZE[1]))
    with_box, without = (locate(scene.labels, scene.depth, K, (whole,), POSE, boxes)[0] for boxes in (True, False))
    assert with_box is not None
    assert without is not None
    assert (with_box.box is not None, without.box) == (True, None)
    np.testing.assert_array_equal(with_box.centroid, without.centroid)
    np.testing.assert_array_equal(with_box.extent, without.extent)


def test_too_few_points_and_nothing_at_all() -> None:
    scene = Scene([TABLE, THING])
    scene.depth[scene.labels == 1] = 0
    v, u = np.nonzero(scene.labels == 1)
    scene.depth[v[: MIN_POINTS - 1], u[: MIN_POINTS - 1]] = 1
    assert scene.found() == [None]
    assert locate(np.zeros(SIZE, np.uint16), np.zeros(SIZE, np.float32), K, ()) == []
    assert support_plane(np.zeros(SIZE, np.uint16), np.zeros(SIZE, np.float32), K, ()) is None
    point = Scene([TABLE, THING])
    point.depth[point.labels == 1] = 1
    point.labels[:] = 0
    point.labels[100:103, 100:104] = 1  # twelve pixels, and flat
    assert point.found()[0] is not None


@pytest.mark.parametrize(
    ("depths", "among", "kept"),
    [
        ([1, 1, 1, 2, 2], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]),
        ([2, 1, 2, 1, 1], [1, 1, 1, 1, 1], [0, 1, 0, 1, 1]),  # in whatever order
        ([1.0, 1.01, 1.02, 1.03, 1.04], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]),  # a slope is one piece
        ([1.0, 1.01, 1.02, 1.04, 1.05], [1, 1, 0, 1, 1], [1, 1, 0, 0, 0]),  # and is two where its middle does not count
        ([2, 2, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0]),
        ([1, 1, 1, 1.3, 1.6], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]),  # flying pixels
        ([3.0, 3.04, 3.0, 3.04, 3.3], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0]),  # farther away, depth is coarser
        ([1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]),
    ],
)
def test_pieces(depths: list[float], among: list[int], kept: list[int]) -> None:
    found = connected(np.array([depths, [1.0] * len(depths)]), np.array([among, [1] * len(depths)], bool))
    np.testing.assert_array_equal(found, np.array([kept, [1] * len(depths)], bool))
