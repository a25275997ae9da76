"""One training step of the method, from top to bottom: two views of a frame, three opinions on its masks, one loss.

Anchor: the frozen model, asked once per frame (anchor.py). Teacher: the adapting model on the weak view, asked again when what it said of
the frame is old. Student: the same model on the strong view, the only one with gradients. After WeSAM (CVPR 2024); what differs is in
docs/method.md.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.losses import (
    contrastive_loss,
    dice_loss,
    focal_loss,
    iou_loss,
    masked_prototypes,
    point_loss,
    witness_loss,
)
from wesam_ros.adaptation.predictions import Prediction, predict_views, valid_region
from wesam_ros.adaptation.pseudo_labels import PseudoLabels, make_pseudo_labels
from wesam_ros.adaptation.replay_buffer import BufferedFrame, TeacherPrediction
from wesam_ros.adaptation.views import strong_view, weak_view
from wesam_ros.sam.lora import LowRank
from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene.refine import known_pixels

if TYPE_CHECKING:
    from segment_anything.modeling import Sam


@dataclass(frozen=True)
class StepResult:
    """The weighted loss terms of a step by name, and their sum as "total"; of how many objects it was, how many of their masks taught
    something, and of how many the measurements did."""

    losses: dict[str, float]
    objects: int
    agreed: int
    measured: int
    restored: bool = False


def predict_teacher(sam: Sam, low_rank: tuple[Tensor, Tensor], frame: BufferedFrame, precision: str, rng: np.random.Generator) -> Tensor:
    """What the adapting model says of a weak view of the frame: logits (n, h, w) of all its objects, without gradients."""
    view, is_mirrored = weak_view(frame.pixels, rng)
    with torch.no_grad():
        (teacher,) = predict_views(sam, low_rank, [view], is_mirrored, frame.prompts, precision)
    return teacher.logits


def predict_student(
    sam: Sam, low_rank: LowRank, frame: BufferedFrame, prompts: Prompts, precision: str, rng: np.random.Generator
) -> Prediction:
    """What the adapting model says of some of the frame's objects, on a strong view of it."""
    weak, is_mirrored = weak_view(frame.pixels, rng)
    (student,) = predict_views(sam, low_rank, [strong_view(weak, rng)], is_mirrored, prompts, precision)
    return student


def gradients_from(block: int, low_rank: tuple[Tensor, Tensor]) -> LowRank:
    """An adapter's tensors, one per block of the encoder, the first `block` of them without gradients: nothing goes back that far."""
    a, b = ([each.detach() if index < block else each for index, each in enumerate(tensor)] for tensor in low_rank)
    return a, b


def loss_terms(
    student: Prediction,
    pseudo_labels: PseudoLabels,
    frame: BufferedFrame,
    chosen: Tensor,
    valid: Tensor,
    bank: Tensor,
    config: AdaptationConfig,
) -> dict[str, Tensor]:
    """Every weighted term of the loss, averaged over the objects that it applies to.

    Args:
        student: opinion on the m chosen objects.
        gated: what there is to learn of them.
        frame: with the evidence and the anchor's prototypes of all of its objects.
        chosen: (m,) which of the frame's objects the student was asked about.
        valid: (h, w) 1 where the image is.
        bank: (k, c) prototypes of earlier frames' objects.
        config: the weights.
    """
    constraints, logits, pseudo, anchor = frame.constraints[chosen], student.logits, pseudo_labels.pseudo, pseudo_labels.anchor
    inside, surface = (known[chosen] for known in known_pixels(frame.constraints))
    trusted = pseudo_labels.agreed.float() / pseudo_labels.agreed.sum().clamp_min(1)
    everyone = pseudo_labels.measured.float() / pseudo_labels.measured.sum().clamp_min(1)

    probability = logits.sigmoid() * valid
    terms = {
        "focal": config.focal * (focal_loss(logits, pseudo, valid) * trusted).sum(),
        "dice": config.dice * (dice_loss(probability, pseudo) * trusted).sum(),
        "iou": config.iou * (iou_loss(student.scores, logits, pseudo) * trusted).sum(),
        "anchor": config.anchor * (dice_loss(probability, anchor) * trusted).sum(),
        "depth": config.depth * (witness_loss(logits, inside, surface) * everyone).sum(),
    }
    if (constraints.point_labels >= 0).any():
        terms["points"] = config.points * (point_loss(logits, constraints.points, constraints.point_labels) * everyone).sum()
    if config.contrastive:
        covered = functional.adaptive_avg_pool2d(anchor, (student.embedding.shape[-2], student.embedding.shape[-1]))
        prototypes = masked_prototypes(student.embedding, covered)
        others = torch.cat([frame.background, bank])
        pulled = contrastive_loss(prototypes, frame.anchor_prototypes[chosen], others, config.temperature)
        terms["contrastive"] = config.contrastive * (pulled * trusted).sum()
    return terms


def training_step(
    sam: Sam,
    low_rank: tuple[Tensor, Tensor],
    optimizer: torch.optim.Optimizer,
    frame: BufferedFrame,
    teacher_predictions: MutableMapping[BufferedFrame, TeacherPrediction],
    bank: Tensor,
    config: AdaptationConfig,
    rng: np.random.Generator,
    now: int,
) -> StepResult:
    """Learns from one frame.

    Args:
        sam: the frozen model.
        low_rank: the adapter's stacked tensors, the only ones that change.
        optimizer: of these tensors.
        frame: from the memory, with at least one object.
        answers: what the teacher said of frames; of this one it is asked again if that is missing or old.
        bank: (k, c) anchor prototypes of objects in other frames, k may be 0.
        config: weights of the terms.
        rng: draws objects and views.
        now: how many steps there were before.
    """
    if frame not in teacher_predictions or now - teacher_predictions[frame].step >= config.teacher_age:
        teacher_predictions[frame] = TeacherPrediction(predict_teacher(sam, low_rank, frame, config.precision, rng), now)
    count = min(config.objects, len(frame.prompts))
    chosen = torch.from_numpy(np.sort(rng.choice(len(frame.prompts), count, replace=False)))
    lent = gradients_from(int(rng.integers(int(config.cut * len(low_rank[0])) + 1)), low_rank)
    student = predict_student(sam, lent, frame, frame.prompts.select(chosen.numpy()), config.precision, rng)
    valid = valid_region(frame.prompts.size, sam.prompt_encoder.mask_input_size[0]).to(sam.device)

    pseudo_labels = make_pseudo_labels(teacher_predictions[frame].logits, frame, chosen, config)
    terms = loss_terms(student, pseudo_labels, frame, chosen, valid, bank, config)
    total = torch.stack(list(terms.values())).sum()
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    optimizer.step()
    losses = {name: value.item() for name, value in terms.items()} | {"total": total.item()}
    return StepResult(losses, count, int(pseudo_labels.agreed.sum()), int(pseudo_labels.measured.sum()))
