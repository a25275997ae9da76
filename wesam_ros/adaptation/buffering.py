"""Frames as the replay buffer keeps them, with the anchor's prediction: the frozen model is asked once for each frame, here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wesam_ros.adaptation.admission import Admission, Observation
from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.evidence import gather_evidence
from wesam_ros.adaptation.losses import masked_prototypes
from wesam_ros.adaptation.predictions import autocast, predict_views, valid_region
from wesam_ros.adaptation.replay_buffer import BufferedFrame
from wesam_ros.adaptation.validation import scored_objects
from wesam_ros.data.frames import Frame
from wesam_ros.sam.decoder import decode_together
from wesam_ros.sam.predictor import embed_images
from wesam_ros.sam.preprocessing import normalize, resize_image
from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene.constraints import Constraints, gather_constraints
from wesam_ros.scene.placement import moved_boxes

if TYPE_CHECKING:
    from segment_anything.modeling import Sam


def buffered_frame(
    sam: Sam, frame: Frame, observation: Observation, admission: Admission, config: AdaptationConfig
) -> BufferedFrame | None:
    """The frame for the replay buffer; None if it is misplaced and adapters cannot be scored on it.

    Of a misplaced frame, an adapter's masks of the boxes as they come, which are what is served, are compared with the frozen model's masks
    of the boxes where they belong, refined by depth.

    Args:
        sam: the frozen model.
        frame: its image is used, its labels never are.
        observation: of the frame.
        admission: of the frame; a rejected one is misplaced.
        config: precision, least side of a box, and limits of the objects that are scored.
    """
    if admission.accepted:
        kept = make_buffered_frame(sam, frame, observation.prompts, observation.constraints, config.precision)
        kept = _with_evidence(sam, frame, kept, config)
        return replace(kept, scorable=bool(scored_objects(kept, config).any()))
    as_they_came, belonging = moved_boxes(observation.prompts, admission.offset, config.least_side)
    if not len(belonging):
        return None
    side, grid_side = sam.image_encoder.img_size, sam.prompt_encoder.mask_input_size[0]
    constraints = gather_constraints(belonging, observation.support, side, grid_side)
    kept = _with_evidence(sam, frame, make_buffered_frame(sam, frame, belonging, constraints, config.precision), config)
    kept = replace(kept, prompts=as_they_came)
    return kept if scored_objects(kept, config).any() else None


@torch.inference_mode()
def _with_evidence(sam: Sam, frame: Frame, kept: BufferedFrame, config: AdaptationConfig) -> BufferedFrame:
    """The frame with the anchor's logits averaged over the image and its mirror image, and with what the other witnesses say."""
    logits, prompts = kept.anchor_logits, kept.prompts
    if config.both_ways:
        mirror_image = np.ascontiguousarray(kept.pixels[:, ::-1])
        (mirrored,) = predict_views(sam, None, [mirror_image], True, prompts, config.precision)
        logits = (logits + mirrored.logits) / 2
    seen = frame if config.depth > 0 else replace(frame, depth=None)
    evidence = gather_evidence(seen, prompts, logits, kept.constraints, config.refine, config.prompt_fit, config.agreement)
    return replace(kept, anchor_logits=logits, evidence=evidence)


@torch.inference_mode()
def make_buffered_frame(
    sam: Sam, frame: Frame, prompts: Prompts, constraints: Constraints, precision: str, known: Tensor | None = None
) -> BufferedFrame:
    """The frame as the replay buffer keeps it, with the frozen model's masks and prototypes.

    Args:
        sam: the frozen model.
        frame: its image is used, its labels never are.
        prompts: of n >= 1 objects, in pixels of the image.
        constraints: of these prompts, and of depth where there is some.
        precision: as in AdaptationConfig.
        known: (n, low_res, low_res) bool, the masks that prototypes are taken of; None for the frozen model's.
    """
    side, low_res_side = sam.image_encoder.img_size, sam.prompt_encoder.mask_input_size[0]
    pixels = np.array(resize_image(frame.image, side))
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(sam.device)
    with autocast(sam, precision):
        embedding = embed_images(sam, normalize(batch, side))
        logits, _ = decode_together(sam, embedding, prompts)
    embedding = embedding[:, : sam.prompt_encoder.embed_dim].float()  # without the finer features
    constraints = constraints.to(logits.device)
    masks = (((logits > 0) & constraints.allowed) if known is None else known.to(logits.device)).float()
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
        evidence=torch.zeros_like(logits),
        stamp_ns=frame.stamp_ns,
    )
