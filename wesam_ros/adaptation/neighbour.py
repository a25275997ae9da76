"""The frame before as a witness: what the frozen model said of it, carried along by optical flow, says where the same objects are now.

From another place, with other things around, the frozen model makes other mistakes: the mean of two of its opinions is nearer to the truth
than each (docs/method.md). What was carried along has the frame before that in it already, so that old opinions fade.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wesam_ros.adaptation.memory import KeptFrame
from wesam_ros.adaptation.views import Pixels
from wesam_ros.sam.preprocessing import resized_size

SAME = 0.5
"""Least IoU of a mask that was carried along with the frame's own for both to be of one object."""
FLOW_SIDE = 256
"""Pixels of the longer side of the images that flow is found on."""


def seconded(frame: KeptFrame, before: KeptFrame, weight: float) -> tuple[KeptFrame, int]:
    """The frame with the anchor's logits averaged with those of the frame before, and of how many objects: those that are in both.

    Args:
        frame: of n objects.
        before: of m objects, an earlier frame of the same camera.
        weight: of the frame before, in [0, 1].
    """
    own = frame.anchor_logits
    if frame.prompts.size != before.prompts.size:
        return frame, 0
    seen = carried(before.anchor_logits, flow_to(frame.pixels, before.pixels), frame.prompts.size)
    here, there = ((each > 0).flatten(1).float() for each in (own, seen))
    overlap = here @ there.T
    best, same = (overlap / (here.sum(1)[:, None] + there.sum(1) - overlap).clamp_min(1)).max(1)  # IoU of each with each
    known = best >= SAME
    mixed = torch.where(known[:, None, None], torch.lerp(own, seen[same], weight), own)
    return replace(frame, anchor_logits=mixed), int(known.sum())


def flow_to(now: Pixels, before: Pixels) -> Tensor:
    """Where each pixel of an image (h, w, 3) was in another: (h', w', 2) float32 x y, as shares of the image's width and height.

    Dense inverse search (Kroeger et al., ECCV 2016) on images of FLOW_SIDE.
    """
    height, width = resized_size((now.shape[0], now.shape[1]), FLOW_SIDE)
    small = [cv2.resize(cv2.cvtColor(each, cv2.COLOR_RGB2GRAY), (width, height), interpolation=cv2.INTER_AREA) for each in (now, before)]
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(small[0], small[1], None)  # type: ignore[call-overload]
    return torch.from_numpy(np.asarray(flow, np.float32) / np.array([width, height], np.float32))


def carried(logits: Tensor, flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (m, s, s) of the image before, of original size (H, W), where its pixels are now; the padding stays as it is."""
    height, width = resized_size(size, logits.shape[-1])
    shift = functional.interpolate(flow.permute(2, 0, 1)[None], (height, width), mode="area")[0].to(logits.device)
    ys, xs = ((torch.arange(n, device=logits.device) + 0.5) / n for n in (height, width))
    grid = torch.stack([xs.expand(height, width) + shift[0], ys[:, None].expand(height, width) + shift[1]], -1) * 2 - 1
    image = logits[:, None, :height, :width]
    moved = functional.grid_sample(image, grid.expand(len(logits), -1, -1, -1), padding_mode="border", align_corners=False)
    out = logits.clone()
    out[:, :height, :width] = moved[:, 0]
    return out
