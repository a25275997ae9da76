"""The support surface in depth: a made-up table with a box on it, seen from above at a slant."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from wesam_ros.adaptation.losses import known_pixels_loss
from wesam_ros.scene.support import find_support

SIZE = (480, 640)
CAMERA = np.array([[520.0, 0, 320], [0, 520, 240], [0, 0, 1]])
BOX = np.array([[240, 200, 400, 320]], np.float32)


def _table(noise: float = 0.0) -> npt.NDArray[np.float32]:
    """Depth of the plane y/2 + z = 1 (metres), and in the box of the image that of a plane 5 cm nearer."""
    v = np.indices(SIZE)[0]
    slope = (v - CAMERA[1, 2]) / CAMERA[1, 1] / 2 + 1
    depth = 1 / slope
    x0, y0, x1, y1 = BOX[0].astype(int)
    depth[y0:y1, x0:x1] = 0.95 / slope[y0:y1, x0:x1]
    return np.asarray(depth + np.random.default_rng(0).normal(0, noise, SIZE), np.float32)


def _image() -> npt.NDArray[np.uint8]:
    """The table grey, the box white."""
    image = np.full((*SIZE, 3), 128, np.uint8)
    x0, y0, x1, y1 = BOX[0].astype(int)
    image[y0:y1, x0:x1] = 255
    return image


@pytest.mark.parametrize("noise", [0.0, 0.001])
def test_table_and_box_are_told_apart(noise: float) -> None:
    support = find_support(_image(), _table(noise), CAMERA, BOX, 128, np.random.default_rng(0))
    assert support is not None
    assert support.raised[42:63, 49:79].all()  # the box in pixels of the grid, of which the image covers 96 x 128
    assert support.surface[:36, :].mean() > 0.95 and support.surface[68:96, :].mean() > 0.95
    assert not support.surface[40:64, 48:80].any() and support.raised.sum() <= 24 * 32
    assert not support.surface[96:].any() and not support.raised[96:].any()


def test_heights_are_of_the_surface_and_over_holes_of_the_nearest_pixel() -> None:
    depth = _table()
    depth[210:230, 300:320] = 0
    support = find_support(_image(), depth, CAMERA, BOX, 128, np.random.default_rng(0))
    assert support is not None
    box = np.zeros((128, 128), bool)
    box[41:63, 49:79] = True
    assert support.height[box] == pytest.approx(0.05 / np.hypot(0.5, 1), abs=1e-4)  # the planes' distance
    assert support.height[:39] == pytest.approx(0, abs=1e-4) and support.height[65:] == pytest.approx(0, abs=1e-4)


def test_colour_finds_the_edge_where_depth_has_a_hole() -> None:
    depth = _table()
    depth[:, 225:255] = 0  # 15 pixels of the table, and of the box whose edge is at 240
    support = find_support(_image(), depth, CAMERA, BOX, 128, np.random.default_rng(0))
    assert support is not None
    assert support.surface[42:63, 45:47].all() and support.raised[42:63, 49:51].all()


def test_pixels_far_from_any_depth_are_neither() -> None:
    depth = _table()
    depth[:, :300] = 0
    support = find_support(_image(), depth, CAMERA, BOX, 128, np.random.default_rng(0))
    assert support is not None
    assert not support.surface[:, :55].any() and not support.raised[:, :55].any()


@pytest.mark.parametrize("depth", [np.zeros(SIZE, np.float32), np.random.default_rng(1).uniform(0.5, 2, SIZE).astype(np.float32)])
def test_no_plane_no_support(depth: npt.NDArray[np.float32]) -> None:
    assert find_support(_image(), depth, CAMERA, BOX, 128, np.random.default_rng(0)) is None


def test_known_pixels_loss_by_hand() -> None:
    """Logit 0 costs ln 2 / 4 on either side; pixels that nobody knows cost nothing."""
    inside, outside = torch.zeros(2, 2, 2, dtype=torch.bool), torch.zeros(2, 2, 2, dtype=torch.bool)
    inside[0, 0, 0] = outside[0, 1, 1] = True
    loss = known_pixels_loss(torch.zeros(2, 2, 2), inside, outside)
    assert loss.tolist() == pytest.approx([2 * np.log(2) / 4, 0])
