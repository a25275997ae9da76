"""The tabletop simulator: small pictures of real runs, and its depth sensor on made-up planes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from wesam_ros.data.frames import Frame
from wesam_ros.data.simulator import DOMAINS, SimulatorError, backend, sensor, simulate
from wesam_ros.data.simulator.handling import simulate_handling
from wesam_ros.data.simulator.heaps import simulate_heap

SIZE = (240, 320)


@pytest.fixture(scope="module")
def sequence() -> list[Frame]:
    """A source sequence of four objects and two views; what needs MuJoCo skips with the reason where it cannot run."""
    try:
        return list(simulate("source", 3, objects=4, views=2, size=SIZE))
    except SimulatorError as error:
        pytest.skip(str(error))


def test_each_object_adds_an_id_and_views_see_the_same_ones(sequence: list[Frame]) -> None:
    seen = [{int(i) for i in np.unique(f.labels)} - {0} for f in sequence if f.labels is not None]
    assert len(seen) == len(sequence) == 8
    assert [max(ids) for ids in seen] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert [f.stamp_ns for f in sequence] == [200_000_000 * k for k in range(1, 9)]
    assert {f.sequence for f in sequence} == {"source-3"}


def test_frames_are_complete_and_depth_is_of_the_labelled_surfaces(sequence: list[Frame]) -> None:
    last = sequence[-1]
    assert last.depth is not None
    assert last.camera is not None
    assert last.labels is not None
    assert last.size == SIZE
    np.testing.assert_allclose(last.depth * 1000, np.round(last.depth * 1000), atol=1e-3)
    measured = last.depth > 0
    assert 0.5 < measured.mean() < 0.995
    for instance in np.unique(last.labels)[1:]:
        mask = last.labels == instance
        ring = (cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0) & (last.labels == 0) & measured
        assert (mask & measured).sum() > 0.3 * mask.sum()
        if ring.sum() > 30:  # a thing stands before what is behind its outline
            assert np.median(last.depth[mask & measured]) < np.percentile(last.depth[ring], 90)


def test_camera_gives_the_table_as_a_plane(sequence: list[Frame]) -> None:
    """Depth and intrinsics belong together: with them, most of the picture below lies in one plane to within the sensor's noise."""
    first = sequence[0]
    assert first.depth is not None
    assert first.camera is not None
    y, x = np.nonzero(first.depth[SIZE[0] // 2 :] > 0)
    y += SIZE[0] // 2
    z = first.depth[y, x].astype(np.float64)
    rays = np.linalg.inv(first.camera) @ np.stack([x, y, np.ones_like(x)])
    points = (rays * z).T
    rng = np.random.default_rng(0)
    share = 0.0
    for _ in range(50):
        a, b, c = points[rng.choice(len(points), 3, replace=False)]
        normal = np.cross(b - a, c - a)
        distance = np.abs((points - a) @ normal) / max(float(np.linalg.norm(normal)), 1e-12)
        share = max(share, float((distance < 0.008).mean()))
    assert share > 0.6


def test_a_seed_decides_everything(sequence: list[Frame]) -> None:
    again = list(simulate("source", 3, objects=4, views=2, size=SIZE))
    for one, other in zip(sequence, again, strict=True):
        assert one.depth is not None
        assert other.depth is not None
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.depth, other.depth)
        np.testing.assert_array_equal(one.labels, other.labels)
    different = next(simulate("source", 4, objects=1, size=SIZE))
    assert np.abs(different.image.astype(int) - sequence[0].image).mean() > 5


@pytest.mark.usefixtures("sequence")
def test_dim_is_dark_and_camera_looks_from_elsewhere() -> None:
    dim, other = (next(simulate(name, 1, objects=1, size=SIZE)) for name in ("dim", "camera"))
    source = next(simulate("source", 1, objects=1, size=SIZE))
    assert dim.image.mean() < 75 < source.image.mean()
    assert other.camera is not None
    assert source.camera is not None
    assert other.camera[0, 0] < 0.9 * source.camera[0, 0]


@pytest.mark.parametrize("name", sorted(DOMAINS))
def test_development_is_pure_and_keeps_the_look_of_a_sequence(name: str) -> None:
    picture = np.random.default_rng(0).random((60, 80, 3), np.float32)
    kept = picture.copy()
    one, same, next_frame = (DOMAINS[name].develop(picture, np.random.default_rng(7), np.random.default_rng(dice)) for dice in (1, 1, 2))
    np.testing.assert_array_equal(picture, kept)
    np.testing.assert_array_equal(one, same)
    assert one.shape == picture.shape
    assert not np.array_equal(one, next_frame)
    assert abs(float(one.mean() - next_frame.mean())) < 0.02


def wall_with_a_box() -> npt.NDArray[np.float32]:
    depth = np.full((120, 160), 1.5, np.float32)
    depth[40:80, 60:100] = 1.0
    return depth


def test_depth_has_a_shadow_beside_near_things_and_noise_that_grows() -> None:
    depth = wall_with_a_box()
    measured = sensor.measure(depth, 525.0, np.zeros_like(depth), np.random.default_rng(0))
    left, right = (measured[45:75, a:b] == 0 for a, b in ((48, 58), (102, 112)))
    assert left.mean() > 0.8 > 0.2 > right.mean()
    wall, box = measured[5:30][measured[5:30] > 0], measured[45:75, 66:94][measured[45:75, 66:94] > 0]
    assert wall.std() > 1.3 * box.std()
    assert abs(float(box.mean()) - 1.0) < 0.003


@pytest.mark.parametrize(("true", "measured"), [(0.2, False), (1.0, True), (4.0, False)])
def test_depth_ends_where_the_sensor_does(true: float, measured: bool) -> None:
    depth = np.full((60, 80), true, np.float32)
    share = (sensor.measure(depth, 525.0, np.zeros_like(depth), np.random.default_rng(0)) > 0).mean()
    assert (share > 0.95) == measured
    assert (share == 0) != measured


def test_shiny_places_lose_depth() -> None:
    depth = np.ones((120, 160), np.float32)
    share = [(sensor.measure(depth, 525.0, depth * shine, np.random.default_rng(0)) == 0).mean() for shine in (0.0, 0.5)]
    assert share[0] < 0.02
    assert share[1] > 0.1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [({"domain": "mars", "seed": 0}, "domain must be one of"), ({"domain": "source", "seed": 0, "objects": 0}, "objects")],
)
def test_bad_arguments_are_named_before_anything_runs(arguments: dict[str, object], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        simulate(**arguments)


def test_without_mujoco_the_error_names_the_extra() -> None:
    program = (
        "import sys; sys.modules['mujoco'] = None\n"
        "from wesam_ros.data.simulator import simulate, SimulatorError\n"
        "try: next(simulate('source', 0))\n"
        "except SimulatorError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "pip install -e '.[sim]'" in done.stdout


def test_without_opengl_the_error_names_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", missing)
    with pytest.raises(SimulatorError, match=r"libegl1 and libegl-mesa0.*libosmesa6"):
        backend._offscreen()


def collected(frames: Iterator[Frame]) -> list[Frame]:
    """All frames; skips where MuJoCo cannot run."""
    try:
        return list(frames)
    except SimulatorError as error:
        pytest.skip(str(error))


def test_a_hand_moves_a_thing_that_keeps_its_id_and_hides_others() -> None:
    frames = collected(simulate_handling("source", 700, objects=4, frames=24, moving_camera=False, size=(120, 160)))
    places = [{int(i): np.argwhere(f.labels == i).mean(0) for i in np.unique(f.labels)[1:]} for f in frames]
    assert set(places[-1]) == set(places[0])
    moved = [i for i in places[0] if np.linalg.norm(places[-1][i] - places[0][i]) > 8]
    assert len(moved) == 1
    still = min(set(places[0]) - set(moved))
    assert np.linalg.norm(places[-1][still] - places[0][still]) < 2
    depths = np.stack([f.depth for f in frames if f.depth is not None])
    nearer = depths[0] - depths
    assert np.abs(np.median(nearer, axis=(1, 2))).max() < 0.02  # the camera stands still
    assert (nearer[1:20] > 0.05).sum((1, 2)).max() > 500  # the hand is before the table


def test_a_moving_camera_shows_the_table_from_elsewhere() -> None:
    first, *others = collected(simulate_handling("source", 700, objects=2, frames=20, hand=False, size=(120, 160)))
    (thing, *_) = np.unique(first.labels)[1:]
    middle, *places = (np.argwhere(frame.labels == thing).mean(0) for frame in (first, *others))
    assert max(np.linalg.norm(place - middle) for place in places) > 3


def test_a_heap_has_many_things_in_a_bin() -> None:
    (frame,) = collected(simulate_heap("source", 700, objects=12, views=1, size=(120, 160)))
    assert frame.labels is not None and frame.labels.max() <= 12
    assert len(np.unique(frame.labels)) > 6
    assert (frame.labels > 0).mean() > 0.1
