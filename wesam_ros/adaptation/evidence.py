"""Evidence about the masks that are learnt from, as log-odds on the decoder's grid: what is served says, less what the model says.

The witnesses are those of scene/refiner.py, at the image's resolution: depth, prompts, the other objects, colour. They are asked once for a
frame, with the anchor's masks, and are added to the logits of anchor and teacher.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wesam_ros.adaptation.losses import hard_iou
from wesam_ros.data.frames import Frame
from wesam_ros.sam.preprocessing import resized_size
from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene.colour import log_odds_from_boxes
from wesam_ros.scene.depth_reader import DepthReader
from wesam_ros.scene.refine import prompt_fit, shared_out
from wesam_ros.scene.refiner import MODEL, WITH_COLOUR, weigh
from wesam_ros.scene.windows import window_of

if TYPE_CHECKING:
    from wesam_ros.scene.constraints import Constraints

MOST = 10.0
"""Log-odds that a pixel counts for at most; beyond its window an object has as little."""


def gather_evidence(
    frame: Frame, prompts: Prompts, logits: Tensor, constraints: Constraints, choice: str, least_fit: float, agreement: float
) -> Tensor:
    """Log-odds (n, s, s) to add to logits of the objects, 0 with choice "off".

    Where an object's mask does not fit its box even so, and depth does not see it, they are what box and colour alone say, less the model's
    logits: a way to start where the model knows nothing.

    Args:
        frame: image, depth and camera; its labels are not read.
        prompts: of n objects in it.
        logits: (n, s, s) the anchor's.
        constraints: on the objects.
        choice: the witnesses, of scene.REFINE_CHOICES.
        least_fit: of a mask to its box (refine.prompt_fit).
        agreement: least IoU of the model's mask with that of box and colour alone, for these to count: a false box may hold anything.
    """
    evidence = torch.zeros_like(logits)
    if choice == "off":
        return evidence
    height, width = resized_size(prompts.size, logits.shape[-1])
    model = logits[:, :height, :width].cpu()
    weighed = weigh(frame, prompts, logits.cpu().numpy(), DepthReader(), choice)
    for index, (window, total) in enumerate(zip(weighed.reading.windows, weighed.sums, strict=True)):
        evidence[index, :height, :width] = (_on_grid(total, window, prompts.size, (height, width)) - model[index]).to(evidence)
    if choice != "all":
        return evidence
    masks = shared_out(logits + evidence) > 0
    unfit = (prompt_fit(masks, constraints) < least_fit) & constraints.boxed & (constraints.certain.flatten(1).sum(1) == 0)
    for index in np.flatnonzero(unfit.cpu().numpy()).tolist():
        box = prompts.objects[index].box
        if weighed.sources[index] in (MODEL, WITH_COLOUR) and box is not None:
            window = window_of(box, prompts.size)
            alone = _on_grid(log_odds_from_boxes(frame.image, [window], box[None])[0], window, prompts.size, (height, width))
            if float(hard_iou(alone[None] > 0, masks[index : index + 1, :height, :width].cpu())) >= agreement:
                evidence[index, :height, :width] = (alone - model[index]).to(evidence)
    return evidence


def _on_grid(total: npt.NDArray[np.float32], window: tuple[slice, slice], size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Log-odds (h, w) of a window in an image of `size` (H, W), as means on the grid's cells where the image is."""
    whole = np.full(size, -MOST, np.float32)
    whole[window] = np.clip(total, -MOST, MOST)
    return torch.from_numpy(np.asarray(cv2.resize(whole, (grid[1], grid[0]), interpolation=cv2.INTER_AREA), np.float32))
