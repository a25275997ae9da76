"""Intrinsics by the rules of CameraInfo.msg: points in space of a projected scene, to a millimetre, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from wesam_ros.data.codecs import CodecError
from wesam_ros.data.intrinsics import camera_of_info
from wesam_ros.scene.geometry import cloud, locate
from wesam_ros.scene.support import find_support

FULL = (240, 320)
K = np.array([[260.0, 0, 163], [0, 262, 117], [0, 0, 1]])
P = np.array([[240.0, 0, 158, 0], [0, 240, 121, 0], [0, 0, 1, 0]])
PLUMB_BOB = (-0.28, 0.09, 0.001, -0.0008, -0.01)
RATIONAL = (0.45, -2.4, 0.0003, -0.0002, 1.5, 0.33, -2.2, 1.4)  # as of an OAK or an Azure Kinect
FISHEYE = (-0.02, 0.01, -0.004, 0.0005)
TURN = np.array([[0.9998, 0.0, 0.02], [0.0, 1.0, 0.0], [-0.02, 0.0, 0.9998]])


def info(size: tuple[int, int] = FULL, roi: tuple[int, int, int, int] = (0, 0, 0, 0), **changes: Any) -> SimpleNamespace:
    """A CameraInfo; `roi` is x, y, width, height."""
    region = SimpleNamespace(x_offset=roi[0], y_offset=roi[1], width=roi[2], height=roi[3], do_rectify=False)
    fields = {"k": K.ravel(), "d": np.zeros(5), "r": np.eye(3).ravel(), "p": np.zeros(12), "distortion_model": "plumb_bob"}
    return SimpleNamespace(**{**fields, "height": size[0], "width": size[1], "binning_x": 0, "binning_y": 0, "roi": region, **changes})


def distorted(x: np.ndarray, y: np.ndarray, d: tuple[float, ...], model: str) -> tuple[np.ndarray, np.ndarray]:
    """The models' own formulas: OpenCV's pinhole model, and Kannala and Brandt's."""
    square = x * x + y * y
    if model == "equidistant":
        radius = np.sqrt(square) + 1e-12
        angle = np.arctan(radius)
        stretch = angle * (1 + sum(k * angle ** (2 * i + 2) for i, k in enumerate(d))) / radius
        return x * stretch, y * stretch
    k1, k2, p1, p2, k3, k4, k5, k6 = (*d, *[0.0] * 8)[:8]
    stretch = (1 + k1 * square + k2 * square**2 + k3 * square**3) / (1 + k4 * square + k5 * square**2 + k6 * square**3)
    return x * stretch + 2 * p1 * x * y + p2 * (square + 2 * x * x), y * stretch + p1 * (square + 2 * y * y) + 2 * p2 * x * y


def true_rays(u: np.ndarray, v: np.ndarray, matrix: np.ndarray, d: tuple[float, ...], model: str) -> tuple[np.ndarray, np.ndarray]:
    """Rays of pixels of the full resolution, by Newton's method on `distorted`."""
    goal_x, goal_y = (u - matrix[0, 2]) / matrix[0, 0], (v - matrix[1, 2]) / matrix[1, 1]
    x, y = goal_x.copy(), goal_y.copy()
    for _ in range(40 if d else 0):
        at, step = distorted(x, y, d, model), 1e-6
        by_x, by_y = distorted(x + step, y, d, model), distorted(x, y + step, d, model)
        a, b = (by_x[0] - at[0]) / step, (by_y[0] - at[0]) / step
        c, e = (by_x[1] - at[1]) / step, (by_y[1] - at[1]) / step
        off_x, off_y, det = goal_x - at[0], goal_y - at[1], a * e - b * c
        x, y = x + (e * off_x - b * off_y) / det, y + (a * off_y - c * off_x) / det
    if d:
        assert np.abs(np.stack(distorted(x, y, d, model)) - (goal_x, goal_y)).max() < 1e-9
    return x, y


# name, camera_info, size of the image, options, pixel of the full resolution = pixel * scale + offset, matrix, D, model
SCENES = [
    ("as calibrated", info(), FULL, {}, 1, (0, 0), K, (), ""),
    ("half the size", info(), (120, 160), {}, 2, (0, 0), K, (), ""),
    ("twice the size", info(), (480, 640), {}, 0.5, (0, 0), K, (), ""),
    ("binned", info(binning_x=2, binning_y=2), (120, 160), {}, 2, (0, 0), K, (), ""),
    ("binned, then halved", info(binning_x=2, binning_y=2), (60, 80), {}, 4, (0, 0), K, (), ""),
    ("region", info(roi=(120, 60, 160, 120)), (120, 160), {}, 1, (120, 60), K, (), ""),
    ("region, binned", info(roi=(120, 60, 160, 120), binning_x=2, binning_y=2), (60, 80), {}, 2, (120, 60), K, (), ""),
    ("region, the image's size", info((120, 160), roi=(120, 60, 160, 120)), (120, 160), {}, 1, (120, 60), K, (), ""),
    ("region, but the whole image", info(roi=(120, 60, 160, 120)), FULL, {}, 1, (0, 0), K, (), ""),
    ("binned, the image's size", info((120, 160), binning_x=2, binning_y=2), (120, 160), {}, 2, (0, 0), K, (), ""),
    ("no size", info((0, 0)), FULL, {}, 1, (0, 0), K, (), ""),
    ("rectified by its name", info(d=PLUMB_BOB, p=P.ravel()), FULL, {"topic": "/c/image_rect_color"}, 1, (0, 0), P, (), ""),
    ("rectified, no name", info(p=P.ravel()), FULL, {"topic": "/c/image_raw"}, 1, (0, 0), P, (), ""),
    ("rectified, as told", info(d=PLUMB_BOB, p=P.ravel()), (120, 160), {"rectified": True}, 2, (0, 0), P, (), ""),
    ("raw, as told", info(p=P.ravel()), FULL, {"rectified": "false"}, 1, (0, 0), K, (), ""),
    ("plumb_bob", info(d=PLUMB_BOB, p=P.ravel()), FULL, {"topic": "/c/image_raw"}, 1, (0, 0), K, PLUMB_BOB, "plumb_bob"),
    ("plumb_bob, halved", info(d=PLUMB_BOB), (120, 160), {}, 2, (0, 0), K, PLUMB_BOB, "plumb_bob"),
    ("plumb_bob, twice", info(d=PLUMB_BOB), (480, 640), {}, 0.5, (0, 0), K, PLUMB_BOB, "plumb_bob"),
    (
        "plumb_bob, region, binned",
        info(d=PLUMB_BOB, roi=(120, 60, 160, 120), binning_x=2, binning_y=2),
        (60, 80),
        {},
        2,
        (120, 60),
        K,
        PLUMB_BOB,
        "plumb_bob",
    ),
    ("rational", info(d=RATIONAL, distortion_model="rational_polynomial"), FULL, {}, 1, (0, 0), K, RATIONAL, "rational_polynomial"),
    ("fisheye", info(d=FISHEYE, distortion_model="equidistant"), FULL, {}, 1, (0, 0), K, FISHEYE, "equidistant"),
    ("fisheye, halved", info(d=FISHEYE, distortion_model="equidistant"), (120, 160), {}, 2, (0, 0), K, FISHEYE, "equidistant"),
]


@pytest.mark.parametrize(
    ("message", "size", "options", "scale", "offset", "matrix", "d", "model"), [row[1:] for row in SCENES], ids=[row[0] for row in SCENES]
)
def test_points_of_a_projected_scene(
    message: Any,
    size: tuple[int, int],
    options: dict[str, Any],
    scale: float,
    offset: tuple[int, int],
    matrix: np.ndarray,
    d: tuple[float, ...],
    model: str,
) -> None:
    """A slanted table at 0.7 to 1.3 m, whose depth each pixel has by the lens's formula: every point, and the object, within 1 mm."""
    v, u = np.indices(size)
    x, y = true_rays(u * scale + offset[0], v * scale + offset[1], matrix, d, model)
    z = 1.0 / (1.0 + 0.3 * y - 0.1 * x)  # the plane z + 0.3 y - 0.1 x = 1
    true = np.stack([x * z, y * z, z], -1)
    camera = camera_of_info(message, size, **options)
    assert (camera.size, camera.distortion, camera.model) == (size, d, model)

    labels = np.ones(size, np.uint16)
    points, _ = cloud(labels, z.astype(np.float32), camera.projection)
    assert np.abs(points - true.reshape(-1, 3)).max() < 1e-3
    np.testing.assert_allclose(camera.rays(), np.stack([x, y], -1), atol=3e-4)
    some = np.array([[0, 0], [size[1] - 1, size[0] - 1], [size[1] / 2, size[0] / 3]])
    np.testing.assert_allclose(camera.rays_at(some)[:2], np.stack([x, y], -1)[[0, -1], [0, -1]], atol=1e-5)

    rows, columns = slice(size[0] // 2, size[0] * 3 // 4), slice(size[1] // 4, size[1] // 2)
    labels = np.zeros(size, np.uint16)
    labels[rows, columns] = 1
    (place,) = locate(labels, z.astype(np.float32), camera.projection, ((rows, columns),))
    assert place is not None
    np.testing.assert_allclose(place.centroid, true[rows, columns].reshape(-1, 3).mean(0), atol=2e-3)  # of 512 pixels of it


def test_undistorted_rays_give_what_the_matrix_gives() -> None:
    camera = camera_of_info(info(), FULL)
    assert camera.projection is camera.matrix
    labels = np.zeros(FULL, np.uint16)
    labels[60:150, 80:200] = 1
    depth = np.random.default_rng(0).uniform(0.5, 1.5, FULL).astype(np.float32)
    crop = ((slice(60, 150), slice(80, 200)),)
    (by_matrix,), (by_rays,) = (locate(labels, depth, each, crop) for each in (camera.matrix, camera.rays()))
    assert by_matrix is not None and by_rays is not None and by_matrix.points == by_rays.points
    np.testing.assert_allclose(by_rays.centroid, by_matrix.centroid, atol=1e-6)
    np.testing.assert_allclose(by_rays.extent, by_matrix.extent, atol=1e-6)


def test_the_table_is_flat_through_a_distorting_lens() -> None:
    """Read with the matrix alone, the same table bends away by more than what lies on it is high."""
    camera = camera_of_info(info(d=(-0.4, 0.1, 0, 0, 0)), FULL)
    rays = camera.rays()
    depth = (1 / (1 + 0.3 * rays[..., 1])).astype(np.float32)
    image, boxes = np.full((*FULL, 3), 128, np.uint8), np.array([[0, 0, 320, 240]], np.float32)
    by_rays, by_matrix = (find_support(image, depth, each, boxes, 64, np.random.default_rng(0)) for each in (rays, camera.matrix))
    assert by_rays is not None
    assert np.abs(by_rays.height[:48]).max() < 1e-3
    assert by_matrix is None or np.abs(by_matrix.height[:48]).max() > 0.01


def test_pixels_that_no_ray_meets_have_no_point() -> None:
    """With a strong barrel the model folds back before the corners."""
    camera = camera_of_info(info(d=(-1.2, 0, 0, 0, 0)), FULL)
    rays = camera.rays()
    assert np.isnan(rays[0, 0]).all() and np.isfinite(rays[117, 163]).all()
    labels, depth = np.ones(FULL, np.uint16), np.ones(FULL, np.float32)
    points, _ = cloud(labels, depth, camera.projection)
    assert np.isfinite(points).all() and len(points) == np.isfinite(rays[..., 0]).sum() < depth.size
    (place,) = locate(labels, depth, camera.projection, ((slice(0, 240), slice(0, 320)),))
    assert place is not None and np.isfinite(place.centroid).all()
    with pytest.raises(ValueError, match="rays must have the depth's size"):
        cloud(labels[:9], depth[:9], camera.projection)


def test_rays_are_worked_out_once_for_each_camera() -> None:
    first, second = (camera_of_info(info(d=PLUMB_BOB), FULL).rays() for _ in range(2))
    assert first is second and not first.flags.writeable


@pytest.mark.parametrize(
    ("message", "topic", "rectified", "letter"),
    [
        (info(p=P.ravel()), "/image_raw", True, "P"),
        (info(), "/image_raw", True, "K"),  # P of zeros is not set
        (info(p=np.full(12, np.nan)), "/image_rect", True, "K"),
        (info(p=P.ravel(), r=np.zeros(9)), "", True, "P"),
        (info(p=P.ravel(), r=TURN.ravel()), "/image", False, "K"),
        (info(p=P.ravel(), r=TURN.ravel()), "/left/image_rect", True, "P"),
        (info(p=P.ravel(), d=PLUMB_BOB), "/rectified/image", True, "P"),
        (info(p=P.ravel(), d=PLUMB_BOB), "/c/rect/image", True, "P"),
        (info(p=P.ravel(), d=PLUMB_BOB), "/direct/image", False, "K"),
        (info(p=P.ravel(), d=PLUMB_BOB), "/rectangle/image", False, "K"),
        (info(p=P.ravel(), d=PLUMB_BOB), "/rgb/image_rectified", True, "P"),
        (info(p=P.ravel(), d=PLUMB_BOB), "/corrected/unrectified", False, "K"),
        (info(p=P.ravel(), d=()), "/image", True, "P"),
    ],
)
def test_the_choice_between_k_and_p_is_told(message: Any, topic: str, rectified: bool, letter: str) -> None:
    camera = camera_of_info(message, FULL, topic=topic)
    assert camera.rectified is rectified
    assert camera.why.startswith(f"{letter} of camera_info is used")
    assert bool(camera.distortion) is (not rectified and bool(np.any(message.d)))
    np.testing.assert_array_equal(camera.matrix, K if letter == "K" else P[:, :3])
    assert camera.usual is (letter == "K" and not np.any(message.d))


@pytest.mark.parametrize(
    ("message", "size", "fx", "cx"),
    [
        # binned and cropped by a driver that leaves K as it was calibrated
        (info((120, 160), k=(130, 0, 82, 0, 130, 60, 0, 0, 1), binning_x=2, binning_y=2), (120, 160), 130, 82),
        (info(k=(130, 0, 82, 0, 130, 60, 0, 0, 1), binning_x=2, binning_y=2), (120, 160), 130, 82),
        (info((120, 160), k=(260, 0, 80, 0, 260, 60, 0, 0, 1), roi=(120, 90, 160, 120)), (120, 160), 260, 80),
        (info((120, 160), k=(260, 0, 200, 0, 260, 150, 0, 0, 1), roi=(120, 90, 160, 120)), (120, 160), 260, 80),
        (info(roi=(0, 0, 320, 240)), FULL, 260, 163),
        (info((241, 321), binning_x=2, binning_y=2), (120, 160), 130, 81.5),
        (info(binning_x=1, binning_y=2), (120, 320), 260, 163),
        (info((1080, 1920)), (480, 854), 260 * 854 / 1920, 163 * 854 / 1920),
        (info((720, 1280)), (721, 1281), 260 * 1281 / 1280, 163 * 1281 / 1280),
    ],
)
def test_what_drivers_make_of_binning_and_regions(message: Any, size: tuple[int, int], fx: float, cx: float) -> None:
    camera = camera_of_info(message, size)
    np.testing.assert_allclose(camera.matrix[0, [0, 2]], (fx, cx), rtol=1e-9)


def test_fields_of_ros_1_have_capitals() -> None:
    fields = vars(info(d=PLUMB_BOB))
    old = SimpleNamespace(**{name.upper() if name in "kdrp" else name: value for name, value in fields.items()})
    assert camera_of_info(old, FULL).distortion == PLUMB_BOB


@pytest.mark.parametrize(
    ("d", "name", "expected", "model"),
    [
        ((-0.1, 0.01, 0, 0), "plumb_bob", (-0.1, 0.01, 0, 0), "plumb_bob"),
        ((-0.1,), "plumb_bob", (-0.1, 0, 0, 0), "plumb_bob"),
        ((-0.1, 0.01, 0, 0, 0, 0), "Plumb Bob", (-0.1, 0.01, 0, 0), "plumb_bob"),
        ((*RATIONAL, 0, 0, 0, 0), "rational_polynomial", (*RATIONAL, 0, 0, 0, 0), "rational_polynomial"),
        ((-0.1, 0.01, 0, 0, 0), "rational_polynomial", (-0.1, 0.01, 0, 0, 0, 0, 0, 0), "rational_polynomial"),
        ((*FISHEYE, 0), "equidistant", FISHEYE, "equidistant"),
        (FISHEYE, "kannala_brandt4", FISHEYE, "equidistant"),
        (PLUMB_BOB, "", PLUMB_BOB, "plumb_bob"),
    ],
)
def test_names_and_lengths_of_distortion(d: Any, name: str, expected: tuple[float, ...], model: str) -> None:
    camera = camera_of_info(info(d=d, distortion_model=name), FULL)
    assert (camera.distortion, camera.model) == (expected, model)


@pytest.mark.parametrize(
    ("message", "size", "reason"),
    [
        (info(k=np.zeros(9)), FULL, "uncalibrated"),
        (info(k=np.zeros(9), p=P.ravel()), FULL, "uncalibrated"),
        (info(k=(-260, 0, 163, 0, 260, 117, 0, 0, 1)), FULL, "uncalibrated"),
        (info(k=(260, 0, 163)), FULL, "uncalibrated"),
        (info(k=np.eye(3)), FULL, "uncalibrated"),
        (info(k=(260, 0, 0, 0, 260, 0, 0, 0, 1)), FULL, "uncalibrated"),
        (info(k=(260, 0, 0, 0, 260, 0, 163, 117, 1)), FULL, "uncalibrated"),  # by columns
        (info(k=(0.8, 0, 0.5, 0, 1.1, 0.5, 0, 0, 1)), FULL, "uncalibrated"),  # in shares of the image
        (info(k=(4.2, 0, 163, 0, 4.2, 117, 0, 0, 1)), FULL, "uncalibrated"),  # in millimetres
        (info(roi=(300, 200, 160, 120)), (120, 160), "wrong_size"),  # a region that reaches beyond
        (info(k=(np.nan, 0, 163, 0, 260, 117, 0, 0, 1)), FULL, "not_finite"),
        (info(k=(1e308, 0, 163, 0, 1e308, 117, 0, 0, 1)), (2400, 3200), "not_finite"),
        (info(d=(np.inf, 0, 0, 0, 0)), FULL, "not_finite"),
        (info(), (240, 240), "wrong_size"),
        (info((480, 848)), (720, 1280), "wrong_size"),
        (info(), (320, 240), "wrong_size"),  # turned
        (info(binning_x=2, binning_y=1), (120, 160), "wrong_size"),
        (info(roi=(0, 0, 100, 200)), FULL[::-1], "wrong_size"),
        (info(d=(0.1, 0.2), distortion_model="fov"), FULL, "wrong_distortion"),
        (info(d=(*FISHEYE, 0.1), distortion_model="equidistant"), FULL, "wrong_distortion"),
        (info(d=np.ones(15)), FULL, "wrong_distortion"),
    ],
)
def test_camera_infos_that_cannot_be_used(message: Any, size: tuple[int, int], reason: str) -> None:
    with pytest.raises(CodecError, match=r"but got .*; \w+") as error:
        camera_of_info(message, size)
    assert error.value.reason == reason


def test_the_choice_must_be_one_of_three() -> None:
    with pytest.raises(ValueError, match="rectified must be one of auto, true, false"):
        camera_of_info(info(), FULL, rectified="maybe")


def test_a_model_that_is_not_known_does_not_matter_where_d_is_zero_or_the_image_rectified() -> None:
    assert camera_of_info(info(distortion_model="fov"), FULL).distortion == ()
    assert camera_of_info(info(distortion_model="fov", d=(0.9,), p=P.ravel()), FULL, topic="/image_rect").matrix[0, 0] == 240
