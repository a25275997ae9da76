"""Frames examined for questions: what the witnesses make of each object, and how far they are apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wesam_ros.adaptation.admission import large_enough
from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.losses import hard_iou, masked_prototypes
from wesam_ros.adaptation.predictions import predict_views, valid_region
from wesam_ros.adaptation.questions import Question
from wesam_ros.data.frames import Frame
from wesam_ros.sam.adapter import Adapter
from wesam_ros.sam.masks import Masks
from wesam_ros.sam.preprocessing import mask_to_low_res, resize_image
from wesam_ros.sam.prompts import Prompts
from wesam_ros.sam.upscaling import masks_from_logits
from wesam_ros.scene.constraints import rough_boxes
from wesam_ros.scene.refiner import Refiner

if TYPE_CHECKING:
    from segment_anything.modeling import Sam


@torch.inference_mode()
def examine(
    sam: Sam,
    adapter: Adapter,
    frame: Frame,
    prompts: Prompts,
    config: AdaptationConfig,
    robot: str = "",
    classes: Sequence[str] = (),
) -> list[Question]:
    """A question, without an id, for each object of a frame that is large enough to learn from and has a mask.

    Args:
        sam: the frozen model.
        adapter: that is served.
        frame: image, depth and camera; its labels are not read.
        prompts: of its objects.
        config: precision, least side of a box, witnesses.
        robot: where the frame is from.
        classes: the detector's, of each object; () where it gave none.
    """
    rows = np.flatnonzero(large_enough(prompts, config.least_side))
    if not len(rows):
        return []
    large, side = prompts.select(rows), sam.image_encoder.img_size
    pixels = np.array(resize_image(frame.image, side))
    (frozen,) = predict_views(sam, None, [pixels], False, large, config.precision)
    adapted = frozen
    if adapter.trained:
        low_rank = adapter.a.to(sam.device), adapter.b.to(sam.device)
        (adapted,) = predict_views(sam, low_rank, [pixels], False, large, config.precision)
    (first, _), (second, within) = (masks_from_logits(each.logits, frame.size, side) for each in (frozen, adapted))
    found = Masks(second, adapted.scores.float().cpu().numpy(), adapted.logits.cpu().numpy(), within, adapted=adapter.trained)
    seen = frame if config.depth > 0 else replace(frame, depth=None)
    served = Refiner(stream=False).refine(seen, large, found, config.refine)
    apart = _disagreement(*(torch.from_numpy(each) for each in (first, second, served.masks)))
    prototypes = _prototypes(sam, frozen.embedding, served)
    return [
        Question(
            id=0,
            image=frame.image,
            box=box,
            mask=served.masks[i],
            score=float(served.scores[i]),
            disagreement=float(apart[i]),
            prototype=prototypes[i],
            stamp_ns=frame.stamp_ns,
            robot=robot,
            class_id=classes[rows[i]] if classes else "",
        )
        for i, box in enumerate(rough_boxes(large))
        if served.masks[i].any()
    ]


def _disagreement(frozen: Tensor, adapted: Tensor, served: Tensor) -> Tensor:
    """(n,) 1 less the mean IoU of each two of three stacks of masks (n, H, W) bool."""
    pairs = ((frozen, adapted), (adapted, served), (frozen, served))
    return 1 - torch.stack([hard_iou(*pair) for pair in pairs]).mean(0)


def _prototypes(sam: Sam, embedding: Tensor, masks: Masks) -> Tensor:
    """Prototypes (n, c) of masks in an embedding (c, h, w) of the frozen model, less that of everything else, L2-normalised, on the CPU."""
    side, low_res_side = sam.image_encoder.img_size, sam.prompt_encoder.mask_input_size[0]
    low_res = torch.cat([mask_to_low_res(each, side, low_res_side, 1.0) for each in masks.masks]) > 0
    elsewhere = valid_region((masks.masks.shape[1], masks.masks.shape[2]), low_res_side) * (1 - low_res.any(0).float())
    weights = functional.adaptive_avg_pool2d(torch.cat([low_res.float(), elsewhere[None]]), (embedding.shape[-2], embedding.shape[-1]))
    found = masked_prototypes(embedding.cpu(), weights)
    return functional.normalize(found[:-1] - found[-1:], dim=1)
