"""Frames as the replay buffer keeps them, with the anchor's prediction: the frozen model is asked once for each frame, here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from wesam_ros.adaptation.admission import Admission, Observation
from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.losses import masked_prototypes
from wesam_ros.adaptation.predictions import autocast, valid_region
from wesam_ros.adaptation.replay_buffer import BufferedFrame, ReplayBuffer
from wesam_ros.adaptation.validation import scored_objects
from wesam_ros.data.frames import Frame
from wesam_ros.sam.decoder import decode_together
from wesam_ros.sam.predictor import embed_images
from wesam_ros.sam.preprocessing import normalize, resize_image
from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene.constraints import Constraints, gather_constraints
from wesam_ros.scene.placement import moved_boxes
from wesam_ros.scene.support import Support

if TYPE_CHECKING:
    from segment_anything.modeling import Sam


def buffer_frame(
    buffer: ReplayBuffer,
    sam: Sam,
    frame: Frame,
    admission: Admission,
    observation: Observation,
    config: AdaptationConfig,
    source: str,
    robot: str,
) -> None:
    """Puts an accepted frame into the replay buffer, and for validation only a misplaced one, where its robot has had several.

    Args:
        buffer: takes the frame.
        sam: the frozen model.
        frame: its image is used, its labels never are.
        admission: of the frame.
        observation: of the frame.
        config: the share of validation frames, and precision.
        source: of the frame's prompts.
        robot: that it comes from.
    """
    buffer.validation_every, buffer.validation_frames = config.validation_every, config.validation_frames
    support, misplaced = observation.support, not admission.accepted
    validates = support is not None and buffer.note_placement(robot, misplaced)
    if not misplaced:
        kept = make_buffered_frame(sam, frame, observation.prompts, observation.constraints, config.precision)
        buffer.add(kept, source, robot, may_validate=bool(scored_objects(kept, config).any()))
    elif support is not None and validates:
        belonging = make_misplaced_frame(sam, frame, observation.prompts, support, admission.offset, config)
        if belonging is not None and scored_objects(belonging, config).any():
            buffer.add_misplaced(belonging, robot)


@torch.inference_mode()
def make_buffered_frame(sam: Sam, frame: Frame, prompts: Prompts, constraints: Constraints, precision: str) -> BufferedFrame:
    """The frame as the replay buffer keeps it, with the frozen model's masks and prototypes.

    Args:
        sam: the frozen model.
        frame: its image is used, its labels never are.
        prompts: of n >= 1 objects, in pixels of the image.
        constraints: of these prompts, and of depth where there is some.
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


def make_misplaced_frame(
    sam: Sam, frame: Frame, prompts: Prompts, support: Support, offset: tuple[float, float], config: AdaptationConfig
) -> BufferedFrame | None:
    """A frame with misplaced boxes, for validation; None if it has no box that is in the image where it belongs.

    An adapter's masks of the boxes as they come, which are what is served, are held against the frozen model's masks of the boxes where
    they belong, refined by depth.

    Args:
        sam: the frozen model.
        frame: its image is used, its labels never are.
        prompts: as they came, in pixels of the image.
        support: what depth says of the frame.
        offset: the way to where the boxes belong, x y in pixels of the image.
        config: least side of a box, and precision.
    """
    as_they_came, belonging = moved_boxes(prompts, offset, config.least_side)
    if not len(belonging):
        return None
    constraints = gather_constraints(belonging, support, sam.image_encoder.img_size, sam.prompt_encoder.mask_input_size[0])
    return replace(make_buffered_frame(sam, frame, belonging, constraints, config.precision), prompts=as_they_came)
