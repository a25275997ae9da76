"""Boxes that do not belong to the depth image: how that shows, and the boxes moved to where they belong."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene.constraints import Constraints, rough_boxes
from wesam_ros.scene.regions import box_pixels
from wesam_ros.scene.support import Support


def misplacement(constraints: Constraints, support: Support | None) -> tuple[float, tuple[int, int]]:
    """The gain that a frame's boxes would have elsewhere in its depth, and the way there.

    All boxes are moved together, by at most half of their usual side, to where they hold the most of what rises from the surface and the
    least of the surface itself: the peak of a cross-correlation. A detector's own errors have no common direction; boxes of another camera
    or another moment, and depth that is not registered to the image, have one. Boxes that would give up half as much of what rises as they
    would gain are where they belong: they only leave their things for others, which the detector does not box.

    Returns:
        the pixels gained, as a share of all that rise, 0 without boxes or depth; and the way there, x y in pixels of the grid.
    """
    boxes = constraints.boxes[constraints.boxed]
    if support is None or not len(boxes) or not support.raised.any():
        return 0.0, (0, 0)
    raised = torch.from_numpy(support.raised)
    height, width = raised.shape
    farthest = max(1, int((boxes[:, 2:] - boxes[:, :2]).amin(1).median()) // 2)
    padded = (height + farthest, width + farthest)  # what leaves on one side must not come in on the other
    gain, covered = raised.float() - constraints.surface.float(), box_pixels(boxes, (height, width)).any(0)
    spectrum = torch.fft.rfft2(gain, padded) * torch.fft.rfft2(covered.float(), padded).conj()
    gains = torch.fft.irfft2(spectrum, padded).roll((farthest, farthest), (0, 1))[: 2 * farthest + 1, : 2 * farthest + 1]
    best = int(gains.argmax())
    y, x = best // gains.shape[1] - farthest, best % gains.shape[1] - farthest
    gained = gains.max() - gains[farthest, farthest]
    moved = functional.pad(covered, (0, farthest, 0, farthest)).roll((y, x), (0, 1))[:height, :width]
    if (raised & covered & ~moved).sum() > gained / 2:
        return 0.0, (0, 0)
    return float(gained / raised.sum()), (x, y)


def moved_boxes(prompts: Prompts, offset: tuple[float, float], least_side: float) -> tuple[Prompts, Prompts]:
    """Misplaced boxes as they came, and where they belong: those of prompts with nothing but a box that is in the image there.

    Args:
        prompts: in pixels of the image.
        offset: the way there, x y in pixels of the image.
        least_side: of a box there, as far as it is in the image.
    """
    alone = [index for index, each in enumerate(prompts.objects) if each.box is not None and each.mask is None and not len(each.points)]
    boxes = rough_boxes(prompts.select(np.array(alone))) if alone else np.zeros((0, 4), np.float32)
    boxes = boxes + np.tile(np.array(offset, np.float32), 2)
    height, width = prompts.size
    boxes = np.clip(boxes, 0, (width, height, width, height)).astype(np.float32)
    left = (boxes[:, 2:] - boxes[:, :2]).min(1, initial=np.inf) >= max(1.0, least_side)
    return prompts.select(np.array(alone, np.int64)[left]), Prompts.from_boxes(boxes[left], prompts.size)
