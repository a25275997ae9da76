"""What the frame before says of a frame's objects: a speckled wall seen twice, the second time 16 pixels further left."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from wesam_ros.adaptation.evidence import gather
from wesam_ros.adaptation.memory import KeptFrame
from wesam_ros.adaptation.neighbour import carried, flow_to, seconded
from wesam_ros.adaptation.views import Pixels
from wesam_ros.sam.prompts import Prompts

SHIFT = 16
GRID = 64  # of logits; a pixel of it is 4 of the image
WALL = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (192, 256 + SHIFT, 3)).astype(np.uint8), (0, 0), 3)
BEFORE, NOW = np.ascontiguousarray(WALL[:, :256]), np.ascontiguousarray(WALL[:, SHIFT:])


def _square(left: int, value: float, top: int = 20) -> Tensor:
    """Logits: a square of 16 at rows from `top`, columns from `left`; -8 elsewhere."""
    logits = torch.full((GRID, GRID), -8.0)
    logits[top : top + 16, left : left + 16] = value
    return logits


def _kept(pixels: Pixels, *logits: Tensor, size: tuple[int, int] = (192, 256)) -> KeptFrame:
    prompts = Prompts.from_boxes(np.array([[100, 80, 164, 144]] * len(logits), np.float32), size)
    evidence = gather(prompts, None, 256, GRID)
    return KeptFrame(pixels, prompts, evidence, torch.stack(logits), torch.eye(len(logits), 4), torch.eye(4)[3:], 0)


def test_flow_finds_what_the_camera_did() -> None:
    flow = flow_to(NOW, BEFORE)
    assert flow.shape == (192, 256, 2)
    inside = flow[20:-20, 20 : -20 - SHIFT]
    assert inside[..., 0].mean().item() * 256 == pytest.approx(SHIFT, abs=1) and abs(inside[..., 1].mean().item()) * 192 < 1


def test_masks_are_carried_to_where_their_pixels_are_now() -> None:
    """16 pixels of the image are 4 of the grid; the padding below the image, here rows 48 on, keeps its own."""
    before = _square(30, 5.0)
    before[48:] = 3
    now = carried(before[None], flow_to(NOW, BEFORE), (192, 256))[0]
    assert ((now[:48] > 0) != (_square(26, 5.0)[:48] > 0)).float().mean() < 0.005
    assert (now[48:] == 3).all()


def test_the_same_object_is_averaged_and_others_are_left_alone() -> None:
    frame = _kept(NOW, _square(26, 1.0), _square(44, 2.0))
    before = _kept(BEFORE, _square(10, 9.0, top=0), _square(30, 5.0))
    mixed, count = seconded(frame, before, 0.25)
    assert count == 1
    assert mixed.anchor_logits[0, 24:32, 30:38].mean().item() == pytest.approx(0.75 * 1 + 0.25 * 5, abs=0.01)
    assert torch.equal(mixed.anchor_logits[1], frame.anchor_logits[1])


def test_an_image_of_another_size_says_nothing() -> None:
    frame = _kept(NOW, _square(26, 1.0))
    assert seconded(frame, _kept(BEFORE, _square(30, 5.0), size=(96, 128)), 0.5) == (frame, 0)
