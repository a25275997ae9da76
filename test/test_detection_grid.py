"""Boxes of a detector's own pixel grid: its name, the way into the image, and boxes that cannot be of the image."""

from __future__ import annotations

import numpy as np
import pytest

from wesam_ros.data.detection_grid import CORNER, LETTERBOX, STRETCH, DetectionGrid, grid_of, other_grid
from wesam_ros.data.detections import Detections
from wesam_ros.data.requests import request_of_detections
from wesam_ros.settings import InputParameters

SIZE = (480, 640)


@pytest.mark.parametrize(
    ("text", "grid"),
    [
        ("", None),
        ("  ", None),
        ("640x640 letterbox", DetectionGrid(640, 640, LETTERBOX)),
        ("640 x 384, corner", DetectionGrid(640, 384, CORNER)),
        ("1x1 stretch", DetectionGrid(1, 1, STRETCH)),
        ("1.0X1.0", DetectionGrid(1, 1, STRETCH)),
        ("416x416 Letterbox", DetectionGrid(416, 416, LETTERBOX)),
    ],
)
def test_a_grid_is_named(text: str, grid: DetectionGrid | None) -> None:
    assert grid_of(text) == grid


@pytest.mark.parametrize("text", ["640", "640x", "0x0 stretch", "640x640 pillarbox", "-1x1", "letterbox 640x640", "nanx1"])
def test_what_is_no_grid_is_refused_also_as_a_parameter(text: str) -> None:
    with pytest.raises(ValueError, match="detections_size"):
        grid_of(text)
    with pytest.raises(ValueError, match="detections_size"):
        InputParameters(detections_size=text)


@pytest.mark.parametrize(
    ("grid", "size", "box", "expected"),
    [
        ("640x640 letterbox", SIZE, (0, 80, 640, 560), (0, 0, 640, 480)),  # bars of 80 pixels above and below
        ("640x640 letterbox", SIZE, (100, 180, 200, 280), (100, 100, 200, 200)),
        ("640x640 letterbox", (960, 1280), (100, 180, 200, 280), (200, 200, 400, 400)),
        ("640x640 letterbox", (640, 480), (80, 0, 560, 640), (0, 0, 480, 640)),  # a camera held upright
        ("640x640 corner", SIZE, (100, 100, 200, 200), (100, 100, 200, 200)),
        ("320x320 corner", SIZE, (0, 0, 320, 240), (0, 0, 640, 480)),
        ("640x640 stretch", SIZE, (0, 0, 640, 640), (0, 0, 640, 480)),
        ("300x300", SIZE, (150, 150, 300, 300), (320, 240, 640, 480)),
        ("1x1 stretch", SIZE, (0.25, 0.5, 0.5, 1.0), (160, 240, 320, 480)),
    ],
)
def test_boxes_are_scaled_to_the_image(grid: str, size: tuple[int, int], box: tuple[float, ...], expected: tuple[float, ...]) -> None:
    found = grid_of(grid)
    assert found is not None
    request = request_of_detections(Detections(np.array([box], np.float32)), size, found)
    assert not request.rejected
    assert request.foreign[0] == 0
    np.testing.assert_allclose(request.detections.boxes[0], expected, atol=1e-3)
    assert request.prompts.objects[0].box is not None
    np.testing.assert_allclose(request.prompts.objects[0].box, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("boxes", "foreign", "guess"),
    [
        ([], 0, ""),
        ([(10, 20, 60, 90)], 0, ""),
        ([(0, 0, 640, 480)], 0, ""),
        ([(600, 400, 660, 500)], 0, ""),  # a tracker's prediction reaches a little over the border
        ([(0, 0, 1, 1), (10, 10, 50, 50)], 0, ""),  # a small one among others
        ([(0.1, 0.2, 0.3, 0.4), (0.5, 0.5, 1.0, 1.0)], 2, "'1x1 stretch'"),
        ([(-0.1, 0.2, 0.3, 1.01)], 1, "'1x1 stretch'"),  # a share may reach over the border
        ([(10, 20, 60, 90), (100, 300, 200, 560)], 1, "'640x640 letterbox'"),
        ([(900, 500, 1200, 700)], 1, "'1280x1280 letterbox'"),
        ([(-200, 10, 100, 90)], 1, "letterbox"),
        ([(np.nan, 0, 1, 1), (np.inf, 0, 9999, 1)], 0, ""),
    ],
)
def test_boxes_that_cannot_be_of_the_image_are_told_of(boxes: list[tuple[float, ...]], foreign: int, guess: str) -> None:
    count, sentence = other_grid(np.array(boxes, np.float32).reshape(-1, 4), SIZE)
    assert count == foreign
    assert guess in sentence
    assert bool(sentence) == bool(foreign)
