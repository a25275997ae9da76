"""Boxes in space, projected to the image."""

from __future__ import annotations

from math import cos, inf, nan, pi, sin
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from wesam_ros.data.detections_3d import UNSEEN, detections_of_3d, project_box
from wesam_ros.data.intrinsics import Camera
from wesam_ros.data.requests import request_of_detections

SIZE = (120, 160)
K = np.array([[130.0, 0, 80], [0, 130.0, 60], [0, 0, 1]])
PINHOLE = Camera(K, SIZE)
BARREL = Camera(K, SIZE, (-0.3, 0.1, 0.001, -0.001, 0.0), "plumb_bob", False)
FISHEYE = Camera(K, SIZE, (0.05, -0.01, 0.002, 0.0), "equidistant", False)
UPRIGHT = np.eye(3)
QUARTER = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
"""Turned by a quarter about the optical axis."""


def detection(centre: Any = (0, 0, 1), size: Any = (0.1, 0.1, 0.1), orientation: Any = (0, 0, 0, 1), name: str = "") -> Any:
    """A Detection3D."""

    def vector(values: Any) -> SimpleNamespace:
        return SimpleNamespace(**dict(zip("xyzw", map(float, values), strict=False)))

    center = SimpleNamespace(position=vector(centre), orientation=vector(orientation))
    hypothesis = SimpleNamespace(class_id="cup", score=0.5)
    box = SimpleNamespace(center=center, size=vector(size))
    return SimpleNamespace(bbox=box, id=name, results=[SimpleNamespace(hypothesis=hypothesis)])


@pytest.mark.parametrize(
    ("centre", "rotation", "size", "expected"),
    [
        ((0, 0, 1), UPRIGHT, (0.2, 0.1, 0), (67, 53.5, 93, 66.5)),
        ((0.1, -0.1, 2), UPRIGHT, (0.2, 0.1, 0), (80, 50.25, 93, 56.75)),
        ((0, 0, 1), QUARTER, (0.2, 0.1, 0), (73.5, 47, 86.5, 73)),
        ((0, 0, 1), UPRIGHT, (0.2, 0.1, 0.5), (80 - 13 / 0.75, 60 - 6.5 / 0.75, 80 + 13 / 0.75, 60 + 6.5 / 0.75)),  # the near face counts
        ((-0.6, 0, 1), UPRIGHT, (0.2, 0.1, 0), (0, 53.5, 15, 66.5)),  # cut at the border
        ((0, 0, 0.5), UPRIGHT, (0.2, 0.1, 2), (0, 0, 160, 120)),  # the camera is inside
        ((0, 0, -1), UPRIGHT, (0.2, 0.1, 0.1), UNSEEN),  # behind
        ((5, 0, 1), UPRIGHT, (0.2, 0.1, 0.1), UNSEEN),  # beside
    ],
)
def test_a_box_is_projected(centre: Any, rotation: Any, size: Any, expected: tuple[float, ...]) -> None:
    found = project_box(np.array(centre, np.float64), rotation, np.array(size, np.float64), PINHOLE)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("camera", [BARREL, FISHEYE])
def test_a_distorted_camera_shows_it_where_its_model_says(camera: Camera) -> None:
    corner = np.array([0.25, 0.15, 1.0])
    tiny = 1e-6
    x0, y0, x1, y1 = project_box(corner, UPRIGHT, np.full(3, tiny), camera)
    matrix, d, point = K, np.array(camera.distortion), corner.reshape(1, 1, 3)
    if camera is FISHEYE:
        (((x, y),),) = cv2.fisheye.projectPoints(point, np.zeros(3), np.zeros(3), matrix, d)[0]
    else:
        (((x, y),),) = cv2.projectPoints(point, np.zeros(3), np.zeros(3), matrix, d)[0]
    np.testing.assert_allclose(((x0 + x1) / 2, (y0 + y1) / 2), (x, y), atol=1e-3)


def test_a_box_far_outside_of_a_distorted_view_does_not_fold_back_into_it() -> None:
    assert (
        project_box(np.array([20.0, 0, 1]), UPRIGHT, np.full(3, 0.1), Camera(K, SIZE, (-0.5, 0.0, 0, 0, 0), "plumb_bob", False)) == UNSEEN
    )


def test_boxes_come_through_the_transform_with_ids_classes_and_scores() -> None:
    """A base frame with x ahead and z up, and a camera 0.5 m above it that looks ahead."""
    to_camera = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0.5], [1, 0, 0, 0], [0, 0, 0, 1]])
    half = pi / 4
    turned = (0, 0, sin(half), cos(half))  # about the vertical: its length of 0.2 m along x comes to lie across the view
    message = SimpleNamespace(
        detections=[
            detection((1, 0, 0.5), (0.0, 0.2, 0.1)),
            detection((1, 0, 0.5), (0.2, 0.0, 0.1), turned, "a"),
            detection((1, 0, 0.5), (0.2, 0.0, 0.1), (0, 0, 0, 0), "a"),
        ]
    )
    found, rejected = detections_of_3d(message, PINHOLE, to_camera)
    assert not rejected
    np.testing.assert_allclose(found.boxes[:2], [(67, 53.5, 93, 66.5)] * 2, atol=1e-4)
    assert (found.ids, found.classes) == (("#0", "a", "a#2"), ("cup",) * 3)
    assert found.scores.tolist() == [0.5] * 3


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (detection((nan, 0, 1)), "nan"),
        (detection(size=(0.1, inf, 0.1)), "nan"),
        (detection(orientation=(nan, 0, 0, 1)), "nan"),
        (detection(size=(120, 80, 0.01)), "wrong_unit"),  # a driver that gives pixels
        (detection(size=(-0.1, 0.1, 0.1)), "wrong_unit"),
        (detection(size=(0, 0, 0)), "wrong_unit"),
        (detection((0, 0, -1)), "outside"),
        (detection((0, 0, 15), (0.01, 0.01, 0.01)), "empty"),
    ],
)
def test_a_bad_box_is_rejected_alone(bad: Any, reason: str) -> None:
    found, rejected = detections_of_3d(SimpleNamespace(detections=[bad, detection(name="good one")]), PINHOLE, None)
    request = request_of_detections(found, SIZE)
    assert [each for each, _ in (*rejected, *request.rejected)] == [reason]
    assert request.detections.ids == ("good one",)
    assert request.foreign == (0, "")
