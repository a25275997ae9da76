"""What enters the frame memory: the objects that can be learnt from, with the frozen model's opinion on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from wesam_ros.adaptation.losses import masked_prototypes
from wesam_ros.adaptation.predictions import autocast, valid_region
from wesam_ros.adaptation.replay_buffer import BufferedFrame
from wesam_ros.data.frames import Frame
from wesam_ros.sam.decoder import decode_together
from wesam_ros.sam.predictor import embed_images
from wesam_ros.sam.preprocessing import normalize, resize_image
from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene.constraints import Constraints, rough_boxes

if TYPE_CHECKING:
    from segment_anything.modeling import Sam


def large_enough(prompts: Prompts, least_side: float) -> npt.NDArray[np.bool_]:
    """(n,) bool: whether an object's box or coarse mask has sides of at least `least_side` pixels; points alone tell no size."""
    boxes = rough_boxes(prompts)
    pointed = np.array([each.box is None and each.mask is None for each in prompts.objects])
    return np.asarray(pointed | ((boxes[:, 2:] - boxes[:, :2]).min(1) >= least_side))


@torch.inference_mode()
def with_anchor(sam: Sam, frame: Frame, prompts: Prompts, constraints: Constraints, precision: str) -> BufferedFrame:
    """The frame as the memory keeps it, with the frozen model's masks and prototypes.

    Args:
        sam: the frozen model.
        frame: its image is used, its labels never are.
        prompts: of n >= 1 objects, in pixels of the image.
        evidence: of these prompts, and of depth where there is some.
        precision: as in AdaptationConfig.
    """
    side, low_res_side = sam.image_encoder.img_size, sam.prompt_encoder.mask_input_size[0]
    pixels = np.array(resize_image(frame.image, side))
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(sam.device)
    with autocast(sam, precision):
        embedding = embed_images(sam, normalize(batch, side))
        logits, _ = decode_together(sam, embedding, prompts)
    embedding = embedding.float()
    constraints = constraints.to(logits.device)
    masks = ((logits > 0) & constraints.allowed).float()
    elsewhere = valid_region(prompts.size, low_res_side).to(logits.device) * (1 - masks.amax(0))
    covered = functional.adaptive_avg_pool2d(torch.cat([masks, elsewhere[None]]), (embedding.shape[-2], embedding.shape[-1]))
    prototypes = masked_prototypes(embedding[0], covered)
    return BufferedFrame(
        pixels=pixels,
        prompts=prompts,
        constraints=constraints,
        anchor_logits=logits.clone(),
        anchor_prototypes=prototypes[:-1].clone(),
        background=prototypes[-1:].clone(),
        stamp_ns=frame.stamp_ns,
    )
