"""Colour as evidence where depth is silent: log-odds on the decoder's grid that correct the masks which are learnt from."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wesam_ros.adaptation.losses import hard_iou
from wesam_ros.adaptation.views import Pixels
from wesam_ros.sam.preprocessing import resized_size
from wesam_ros.scene.colour import colour_log_odds, log_odds_from_boxes
from wesam_ros.scene.constraints import Constraints
from wesam_ros.scene.refine import known_pixels, prompt_fit

SCALE = 4
"""Pixels of the model's input for one of the decoder's grid, along either axis, in all SAM models."""
AROUND = 0.25
"""Share of the allowed region's sides that is looked at on each side of it."""
BEYOND = -8.0
"""Logit of what is not allowed: background that colour learns from."""


def colour_evidence(
    pixels: Pixels, logits: Tensor, constraints: Constraints, size: tuple[int, int], least_fit: float = 0.0, agreement: float = 0.0
) -> Tensor:
    """Log-odds (n, h, w) of colour on the grid; 0 where it does not know, and for objects that depth sees.

    Where an object's mask does not fit its box even with its colours, they tell what box and colour alone say, and take the model's logits
    back: a way to start where the model knows nothing.

    Args:
        pixels: (h', w', 3) uint8, the image at the model's size.
        logits: (n, h, w) of all of a frame's objects.
        constraints: on them.
        size: (H, W) of the original image.
        least_fit: of a corrected mask to its box (refine.prompt_fit).
        agreement: least IoU of the model's mask with that of box and colour alone, for these to count: a false box may hold anything.
    """
    evidence = torch.zeros_like(logits)
    height, width = resized_size(size, logits.shape[-1])
    image = np.asarray(cv2.resize(pixels, (SCALE * width, SCALE * height), interpolation=cv2.INTER_AREA), np.uint8)
    seen = torch.stack(known_pixels(constraints)).any(0).flatten(1).any(1).cpu().numpy()
    allowed = constraints.allowed[:, :height, :width].cpu().numpy()
    silent = np.flatnonzero(~seen & allowed.any((1, 2)))
    for index in silent:
        rows, columns = _window(allowed[index])
        prior = np.where(allowed[index], logits[index, :height, :width].cpu().numpy(), np.float32(BEYOND))[rows, columns]
        fine = cv2.resize(prior, (SCALE * prior.shape[1], SCALE * prior.shape[0]), interpolation=cv2.INTER_LINEAR)
        odds = colour_log_odds(image, [_fine(rows, columns)], [np.asarray(fine, np.float32)])[0]
        evidence[index, rows, columns] = _on_grid(odds, prior.shape).to(evidence)
    masks = (logits + evidence > 0) & constraints.allowed
    unfit = (prompt_fit(masks, constraints) < least_fit) & constraints.boxed & (constraints.certain.flatten(1).sum(1) == 0)
    for index in silent[unfit.cpu().numpy()[silent]]:
        rows, columns = _window(allowed[index])
        box = constraints.boxes[index : index + 1].cpu().numpy() * SCALE
        alone = _on_grid(log_odds_from_boxes(image, [_fine(rows, columns)], box)[0], allowed[index, rows, columns].shape).to(evidence)
        if float(hard_iou(alone[None] > 0, masks[index : index + 1, rows, columns])) >= agreement:
            evidence[index, rows, columns] = alone - logits[index, rows, columns]
    return evidence


def _fine(rows: slice, columns: slice) -> tuple[slice, slice]:
    """The window of the grid in pixels of the image."""
    return slice(SCALE * rows.start, SCALE * rows.stop), slice(SCALE * columns.start, SCALE * columns.stop)


def _on_grid(odds: npt.NDArray[np.float32], shape: tuple[int, ...]) -> Tensor:
    """Log-odds of a window's pixels as means on the grid (h, w)."""
    return torch.from_numpy(np.asarray(cv2.resize(odds, (shape[1], shape[0]), interpolation=cv2.INTER_AREA), np.float32))


def _window(region: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns of a region (h, w) that is not empty, enlarged by AROUND within the image."""
    spans = []
    for axis in (0, 1):
        inside = np.flatnonzero(region.any(1 - axis))
        more = 1 + int(AROUND * (inside[-1] + 1 - inside[0]))
        spans.append(slice(max(0, int(inside[0]) - more), min(region.shape[axis], int(inside[-1]) + 1 + more)))
    return spans[0], spans[1]
