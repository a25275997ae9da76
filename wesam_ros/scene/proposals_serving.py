"""Everything in a frame, as it is served: proposals, their masks, refined."""

from __future__ import annotations

import numpy as np

from wesam_ros.data.frames import Frame
from wesam_ros.sam.masks import Masks
from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene.proposals import Proposals, Proposer
from wesam_ros.scene.proposals_model import Decode
from wesam_ros.scene.refiner import Refiner


def segment_everything(frame: Frame, decode: Decode, proposer: Proposer, refiner: Refiner, choice: str = "all") -> tuple[Proposals, Masks]:
    """Masks of the things in a frame that nobody asked for, one for each proposal.

    Args:
        frame: image, depth and camera. Its labels are not read.
        decode: the model's masks of prompts in this image.
        proposer: finds them.
        refiner: of the frame's stream.
        choice: the witnesses of the masks, of REFINE_CHOICES.
    """
    found = proposer.propose(frame, decode)
    prompts = Prompts.from_boxes(found.boxes, frame.size)
    if not len(prompts):
        return found, Masks(np.zeros((0, *frame.size), bool), np.zeros(0, np.float32), np.zeros((0, 0, 0), np.float32))
    return found, refiner.refine(frame, prompts, decode(prompts), choice)
