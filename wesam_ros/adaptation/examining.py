"""Frames examined for questions: what the witnesses make of each object, and how far they are apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from wesam_ros.adaptation.admission import large_enough
from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.losses import hard_iou, masked_prototypes
from wesam_ros.adaptation.predictions import autocast, predict_views, valid_region
from wesam_ros.adaptation.questions import Question
from wesam_ros.data.frames import Frame
from wesam_ros.sam.adapter import Adapter
from wesam_ros.sam.masks import Masks
from wesam_ros.sam.predictor import embed_images
from wesam_ros.sam.preprocessing import normalize, resize_image
from wesam_ros.sam.prompts import Prompts
from wesam_ros.sam.upscaling import masks_from_logits
from wesam_ros.scene.constraints import rough_boxes
from wesam_ros.scene.refiner import Refiner
from wesam_ros.scene.regions import box_pixels

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
    large = prompts.select(rows)
    embedding, served, disagreement = _witnesses(sam, adapter, frame, large, config)
    boxes = rough_boxes(large)
    looks = _looks(sam, embedding, boxes, frame.size)
    return [
        Question(
            id=0,
            image=frame.image,
            box=box,
            mask=served.masks[i],
            score=float(served.scores[i]),
            disagreement=float(disagreement[i]),
            prototype=looks[i],
            stamp_ns=frame.stamp_ns,
            robot=robot,
            class_id=classes[rows[i]] if classes else "",
        )
        for i, box in enumerate(boxes)
        if served.masks[i].any()
    ]


def _witnesses(sam: Sam, adapter: Adapter, frame: Frame, prompts: Prompts, config: AdaptationConfig) -> tuple[Tensor, Masks, Tensor]:
    """The frozen model's embedding (c, h, w) of a frame, the masks as they would be served, and (n,) the witnesses' disagreement.

    That is 1 less the mean IoU of each two of an object's masks: the frozen model's, the adapter's, and the served one.
    """
    side = sam.image_encoder.img_size
    pixels = np.array(resize_image(frame.image, side))
    (frozen,) = predict_views(sam, None, [pixels], False, prompts, config.precision)
    adapted = frozen
    if adapter.trained:
        low_rank = adapter.a.to(sam.device), adapter.b.to(sam.device)
        (adapted,) = predict_views(sam, low_rank, [pixels], False, prompts, config.precision)
    (first, _), (second, within) = (masks_from_logits(each.logits, frame.size, side) for each in (frozen, adapted))
    found = Masks(second, adapted.scores.float().cpu().numpy(), adapted.logits.cpu().numpy(), within, adapted=adapter.trained)
    seen = frame if config.depth > 0 else replace(frame, depth=None)
    served = Refiner(stream=False).refine(seen, prompts, found, config.refine)
    stacks = [torch.from_numpy(each) for each in (first, second, served.masks)]
    pairs = [hard_iou(stacks[i], stacks[j]) for i, j in ((0, 1), (1, 2), (0, 2))]
    return frozen.embedding, served, 1 - torch.stack(pairs).mean(0)


@torch.inference_mode()
def look_of(sam: Sam, image: npt.NDArray[np.uint8], box: npt.NDArray[np.float32], precision: str) -> Tensor:
    """(c,) the prototype of what is in a box (4,), as `examine` makes it of the things of a frame."""
    side = sam.image_encoder.img_size
    batch = torch.from_numpy(np.array(resize_image(image, side))).permute(2, 0, 1)[None].to(sam.device)
    with autocast(sam, precision):
        embedding = embed_images(sam, normalize(batch, side))[0, : sam.prompt_encoder.embed_dim].float()
    return _looks(sam, embedding, box[None], (image.shape[0], image.shape[1]))[0]


def _looks(sam: Sam, embedding: Tensor, boxes: npt.NDArray[np.float32], size: tuple[int, int]) -> Tensor:
    """Prototypes (n, c) of boxes (n, 4) in the frozen model's embedding (c, h, w), less that of the image, L2-normalised, on the CPU.

    Of boxes, as masks may be wrong and are mended. All prototypes of an image have much in common, which is its own.
    """
    low_res_side = sam.prompt_encoder.mask_input_size[0]
    on_grid = torch.from_numpy(boxes * np.float32(low_res_side / max(size)))
    weights = torch.cat([box_pixels(on_grid, (low_res_side, low_res_side)).float(), valid_region(size, low_res_side)[None]])
    covered = functional.adaptive_avg_pool2d(weights, (embedding.shape[-2], embedding.shape[-1]))
    found = masked_prototypes(embedding.cpu(), covered)
    return functional.normalize(found[:-1] - found[-1:], dim=1)
