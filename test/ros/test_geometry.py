"""Places from depth, and transforms between frames: numpy only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("wesam_ros.msg", reason="wesam_ros.nodes needs ROS 2")

from wesam_ros.data.transforms import TransformBuffer, TransformError
from wesam_ros.scene.geometry import cloud, locate
from wesam_ros.scene.object_points import MIN_POINTS

CAMERA = np.array([[500.0, 0, 50], [0, 500, 40], [0, 0, 1]])
CROPS = ((slice(20, 60), slice(30, 70)), (slice(0, 1), slice(0, 3)))


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A flat square of 40 x 40 pixels at 1 m in the middle of the optical axis, before a wall at 3 m; label 2 has too few pixels."""
    labels, depth = np.zeros((80, 100), np.uint16), np.full((80, 100), 3.0, np.float32)
    labels[20:60, 30:70] = 1
    depth[20:60, 30:70] = 1.0
    labels[0, :3] = 2
    return labels, depth


def test_a_flat_square() -> None:
    place, nothing = locate(*scene(), CAMERA, CROPS)
    assert nothing is None
    assert place is not None
    np.testing.assert_allclose(place.centroid, [0.0, 0.0, 1.0], atol=0.003)  # a pixel is 0.002 wide there
    np.testing.assert_allclose(place.extent, [0.078, 0.078, 0.0], atol=0.003)
    assert place.points == 1600


@pytest.mark.parametrize("behind", [3.0, 0.0], ids=["background under the mask", "holes in the depth"])
def test_a_tenth_of_wrong_depth_does_not_move_it(behind: float) -> None:
    labels, depth = scene()
    depth[20:24, 30:70] = behind
    (place, _) = locate(labels, depth, CAMERA, CROPS)
    assert place is not None
    assert place.centroid[2] == pytest.approx(1.0)
    assert place.extent[2] == pytest.approx(0.0, abs=1e-6)


def test_a_slanted_plane_keeps_all_its_points() -> None:
    labels, depth = scene()
    depth[20:60, 30:70] = np.linspace(0.8, 1.2, 40)[:, None]
    (place, _) = locate(labels, depth, CAMERA, CROPS)
    assert place is not None
    assert place.extent[2] == pytest.approx(0.4, abs=0.02)


def test_no_objects_and_no_depth() -> None:
    labels, depth = scene()
    assert locate(np.zeros_like(labels), depth, CAMERA, ()) == []
    assert locate(labels, np.zeros_like(depth), CAMERA, CROPS) == [None, None]
    assert len(cloud(labels, np.zeros_like(depth), CAMERA)[0]) == 0
    assert MIN_POINTS > 3


def test_cloud_and_places_are_in_the_target_frame() -> None:
    turn = np.array([[0.0, 0, 1, 1], [-1, 0, 0, 2], [0, -1, 0, 3], [0, 0, 0, 1]])  # optical frame to x forward, moved
    labels, depth = scene()
    (place, _) = locate(labels, depth, CAMERA, CROPS, turn)
    points, instances = cloud(labels, depth, CAMERA, turn)
    assert place is not None
    np.testing.assert_allclose(place.centroid, [2.0, 2.0, 3.0], atol=0.003)
    np.testing.assert_allclose(points[instances == 1].mean(0), place.centroid, atol=0.003)
    assert len(points) == 1603


def stamped(parent: str, child: str, second: float, x: float = 0.0, turn: float = 0.0) -> Any:
    """A TransformStamped's fields: moved by x, turned about z by `turn` radians."""
    stamp = SimpleNamespace(sec=int(second), nanosec=round(second % 1 * 1e9))
    rotation = SimpleNamespace(x=0.0, y=0.0, z=np.sin(turn / 2), w=np.cos(turn / 2))
    transform = SimpleNamespace(translation=SimpleNamespace(x=x, y=0.0, z=0.0), rotation=rotation)
    return SimpleNamespace(header=SimpleNamespace(frame_id=parent, stamp=stamp), child_frame_id=child, transform=transform)


@pytest.fixture
def buffer() -> TransformBuffer:
    """world -> base (static, 1 m) -> arm (moves from 0 to 1 m and turns by 90 degrees within a second) -> camera (static, 0.1 m)."""
    made = TransformBuffer()
    made.add([stamped("world", "base", 0, 1.0), stamped("arm", "camera", 0, 0.1)], static=True)
    made.add([stamped("base", "arm", 10, 0.0, 0.0), stamped("base", "arm", 11, 1.0, np.pi / 2)], static=False)
    return made


@pytest.mark.parametrize(
    ("second", "place"), [(10.0, (1.1, 0.0)), (11.0, (2.0, 0.1)), (10.5, (1.5 + 0.1 * np.sqrt(0.5), 0.1 * np.sqrt(0.5)))]
)
def test_lookup_interpolates_along_the_chain(buffer: TransformBuffer, second: float, place: tuple[float, float]) -> None:
    matrix = buffer.lookup("world", "camera", round(second * 1e9))
    np.testing.assert_allclose(matrix[:2, 3], place, atol=1e-12)
    np.testing.assert_allclose(buffer.lookup("camera", "world", round(second * 1e9)) @ matrix, np.eye(4), atol=1e-12)


@pytest.mark.parametrize(
    ("target", "source", "second", "message"),
    [
        ("world", "nowhere", 10.0, "'nowhere' is not in TF"),
        ("world", "camera", 9.0, "before all transforms of frame 'arm'"),
        ("world", "camera", 12.0, "after all transforms of frame 'arm'"),
        ("island", "camera", 10.0, "not connected"),
        ("ring", "camera", 10.0, "loop"),
    ],
)
def test_lookup_says_why_it_cannot(buffer: TransformBuffer, target: str, source: str, second: float, message: str) -> None:
    buffer.add([stamped("sea", "island", 0), stamped("ring", "rong", 0), stamped("rong", "ring", 0)], static=True)
    with pytest.raises(TransformError, match=message):
        buffer.lookup(target, source, round(second * 1e9))


def test_old_transforms_are_forgotten_and_bad_ones_ignored(buffer: TransformBuffer) -> None:
    buffer.add([stamped("base", "arm", 30.0, float("nan")), stamped("base", "arm", 21.0, 5.0)], static=False)
    buffer.add([stamped("base", "arm", 22.0, 6.0)], static=False)
    assert buffer.lookup("base", "arm", 21 * 10**9)[0, 3] == 5.0
    with pytest.raises(TransformError, match="before"):
        buffer.lookup("base", "arm", 10 * 10**9)


def test_transforms_after_the_clock_went_back_replace_the_others(buffer: TransformBuffer) -> None:
    buffer.add([stamped("base", "arm", 500.0, 7.0)], static=False)
    buffer.add([stamped("base", "arm", 3.0, 8.0)], static=False)
    assert buffer.lookup("base", "arm", 3 * 10**9)[0, 3] == 8.0
    with pytest.raises(TransformError, match="after"):
        buffer.lookup("base", "arm", 500 * 10**9)
