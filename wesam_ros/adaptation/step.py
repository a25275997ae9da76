"""One training step of the method, from top to bottom: two views of a frame, three predictions of its masks, one loss.

Anchor: the frozen model, asked once per frame (buffering.py). Teacher: the adapting model on the weak view, asked again when its prediction
of the frame is old. Student: the same model on the strong view, the only one with gradients. Pseudo-labels are the refined masks of
teacher and anchor, of the objects that both agree on. After WeSAM (CVPR 2024); what differs is in docs/method.md.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
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
    known_pixels_loss,
    masked_prototypes,
    point_loss,
)
from wesam_ros.adaptation.predictions import Prediction, predict_both_ways, predict_views, valid_region
from wesam_ros.adaptation.pseudo_labels import PseudoLabels, make_pseudo_labels
from wesam_ros.adaptation.replay_buffer import BufferedFrame, TeacherPrediction
from wesam_ros.adaptation.together import ALONE, Together
from wesam_ros.adaptation.views import strong_view, weak_view
from wesam_ros.sam.lora import LowRank, adapter_terms, term_by_term
from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene.refine import known_pixels, shared_out

if TYPE_CHECKING:
    from segment_anything.modeling import Sam


@dataclass(frozen=True)
class StepResult:
    """The outcome of a step.

    Attributes:
        losses: the weighted terms by name, and their sum as "total".
        objects: how many the student was asked about.
        agreed: how many of their pseudo-labels taught something.
        measured: how many of them prompts and depth taught something about.
        restored: a weight became NaN or infinite, and training went back to the published adapter.
    """

    losses: dict[str, float]
    objects: int
    agreed: int
    measured: int
    restored: bool = False


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
    together: Together = ALONE,
) -> StepResult:
    """Learns from one frame.

    Args:
        sam: the frozen model.
        low_rank: the adapter's tensors, the only ones that change.
        optimizer: of these tensors.
        frame: from the replay buffer, with at least one object.
        teacher_predictions: by frame; of this one the teacher is asked again if there is none, or an old one.
        bank: (k, c) anchor prototypes of objects in other frames, k may be 0.
        config: weights of the terms.
        rng: draws objects and views.
        now: how many steps there were before.
        together: processes that take this step, each on a frame of its own.
    """
    if frame not in teacher_predictions or now - teacher_predictions[frame].step >= config.teacher_age:
        teacher_predictions[frame] = TeacherPrediction(predict_teacher(sam, low_rank, frame, config, rng), now)
    teacher = teacher_predictions[frame].logits

    count = min(config.objects, len(frame.prompts))
    chosen = torch.from_numpy(np.sort(rng.choice(len(frame.prompts), count, replace=False)))
    first_trained = int(rng.integers(int(config.cut * len(adapter_terms(sam))) + 1))
    prompts = frame.prompts.select(chosen.numpy())
    student = predict_student(sam, train_from(first_trained, term_by_term(sam, low_rank)), frame, prompts, config.precision, rng)

    pseudo_labels = make_pseudo_labels(teacher, frame, chosen, config)
    valid = valid_region(frame.prompts.size, sam.prompt_encoder.mask_input_size[0]).to(sam.device)
    terms = loss_terms(student, pseudo_labels, frame, chosen, valid, bank, config)
    total = torch.stack(list(terms.values())).sum()

    optimizer.zero_grad(set_to_none=True)
    total.backward()
    together.average_gradients(low_rank)
    optimizer.step()
    losses = {name: value.item() for name, value in terms.items()} | {"total": total.item()}
    return StepResult(losses, count, int(pseudo_labels.agreed.sum()), int(pseudo_labels.measured.sum()))


def predict_teacher(
    sam: Sam, low_rank: tuple[Tensor, Tensor], frame: BufferedFrame, config: AdaptationConfig, rng: np.random.Generator
) -> Tensor:
    """The adapting model's logits (n, h, w) of all the frame's objects, without gradients: on a weak view, or the mean of both."""
    with torch.no_grad():
        if config.both_ways:
            return predict_both_ways(sam, low_rank, frame.pixels, frame.prompts, config.precision)
        view, is_mirrored = weak_view(frame.pixels, rng)
        (teacher,) = predict_views(sam, low_rank, [view], is_mirrored, frame.prompts, config.precision)
    return teacher.logits


def predict_student(
    sam: Sam, low_rank: LowRank, frame: BufferedFrame, prompts: Prompts, precision: str, rng: np.random.Generator
) -> Prediction:
    """The adapting model's prediction of some of the frame's objects on a strong view of it, with gradients."""
    weak, is_mirrored = weak_view(frame.pixels, rng)
    (student,) = predict_views(sam, low_rank, [strong_view(weak, rng)], is_mirrored, prompts, precision)
    return student


def train_from(first: int, terms: tuple[Sequence[Tensor], Sequence[Tensor]]) -> LowRank:
    """An adapter's tensors, term by term; those before `first` have no gradients, which end there."""
    downs, ups = ([each.detach() if index < first else each for index, each in enumerate(pieces)] for pieces in terms)
    return downs, ups


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
        student: its prediction of the m chosen objects.
        pseudo_labels: of these objects.
        frame: with the constraints and the anchor's prototypes of all of its objects.
        chosen: (m,) indices of the frame's objects that the student was asked about.
        valid: (h, w) 1 where the image is.
        bank: (k, c) prototypes of earlier frames' objects.
        config: the weights.
    """
    logits, probability = student.logits, student.logits.sigmoid() * valid
    agreed = pseudo_labels.agreed.float() / pseudo_labels.agreed.sum().clamp_min(1)
    terms = {
        "focal": config.focal * (focal_loss(logits, pseudo_labels.teacher, valid) * agreed).sum(),
        "dice": config.dice * (dice_loss(probability, pseudo_labels.teacher) * agreed).sum(),
        "iou": config.iou * (iou_loss(student.scores, logits, pseudo_labels.teacher) * agreed).sum(),
        "anchor": config.anchor * (dice_loss(probability, pseudo_labels.anchor) * agreed).sum(),
    }

    measured = pseudo_labels.measured.float() / pseudo_labels.measured.sum().clamp_min(1)
    inside, surface = (known[chosen] for known in known_pixels(frame.constraints))
    if config.refine != "off":  # of depth that is off by a pixel, what all witnesses together say otherwise is not known
        weighed = shared_out(frame.anchor_logits + frame.evidence)[chosen]
        inside, surface = inside & (weighed > 0), surface & (weighed <= 0)
    terms["depth"] = config.depth * (known_pixels_loss(logits, inside, surface) * measured).sum()
    constraints = frame.constraints[chosen]
    if (constraints.point_labels >= 0).any():
        terms["points"] = config.points * (point_loss(logits, constraints.points, constraints.point_labels) * measured).sum()

    if config.contrastive:
        covered = functional.adaptive_avg_pool2d(pseudo_labels.anchor, (student.embedding.shape[-2], student.embedding.shape[-1]))
        prototypes = masked_prototypes(student.embedding, covered)
        negatives = torch.cat([frame.background, bank])
        contrast = contrastive_loss(prototypes, frame.anchor_prototypes[chosen], negatives, config.temperature)
        terms["contrastive"] = config.contrastive * (contrast * agreed).sum()
    return terms
