"""One training step of the method, from top to bottom: two views of a frame, three opinions on its masks, one loss.

Anchor: the frozen model, asked once per frame (anchor.py). Teacher: the adapting model on the weak view, asked again when what it said of
the frame is old. Student: the same model on the strong view, the only one with gradients. After WeSAM (CVPR 2024); what differs is in
docs/method.md.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.evidence import Evidence, prompt_fit
from wesam_ros.adaptation.losses import (
    contrastive_loss,
    dice_loss,
    focal_loss,
    hard_iou,
    iou_loss,
    masked_prototypes,
    point_loss,
    witness_loss,
)
from wesam_ros.adaptation.memory import Answer, KeptFrame
from wesam_ros.adaptation.views import Pixels, strong_view, weak_view
from wesam_ros.sam.decoder import decode_together
from wesam_ros.sam.lora import LowRank
from wesam_ros.sam.predictor import embed_images
from wesam_ros.sam.preprocessing import normalize, resized_size
from wesam_ros.sam.prompts import Prompt, Prompts

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

Decode = Callable[["Sam", Tensor, Prompts], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class StepResult:
    """The weighted loss terms of a step by name, and their sum as "total"; of how many objects it was, how many of their masks taught
    something, and of how many the measurements did."""

    losses: dict[str, float]
    objects: int
    agreed: int
    measured: int


def valid_region(size: tuple[int, int], low_res_side: int) -> Tensor:
    """(low_res_side, low_res_side) float32: 1 where the image is, 0 in the padding right and below."""
    height, width = resized_size(size, low_res_side)
    valid = torch.zeros(low_res_side, low_res_side)
    valid[:height, :width] = 1
    return valid


def mirrored(prompts: Prompts) -> Prompts:
    """The prompts of the image mirrored left to right."""
    width = np.float32(prompts.size[1])

    def mirror(each: Prompt) -> Prompt:
        box = None if each.box is None else np.array([width - each.box[2], each.box[1], width - each.box[0], each.box[3]], np.float32)
        points = np.stack([width - each.points[:, 0], each.points[:, 1]], 1)
        return Prompt(box, points, each.point_labels, None if each.mask is None else np.ascontiguousarray(each.mask[:, ::-1]))

    return Prompts(prompts.size, tuple(mirror(each) for each in prompts.objects))


def mirror_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (n, s, s) of the mirrored image, mirrored back: within the image's columns, the padding stays on the right."""
    width = resized_size(size, logits.shape[-1])[1]
    return torch.cat([logits[..., :width].flip(-1), logits[..., width:]], -1)


def autocast(sam: Sam, precision: str) -> torch.autocast:
    """The context to run the model in: products in bfloat16 if `precision` says so, or is "auto" and the device computes in it."""
    device = sam.device.type
    if precision == "auto":
        capable = (
            torch.cuda.is_bf16_supported(including_emulation=False)
            if device == "cuda"
            else torch.cpu.get_capabilities().get("avx512_bf16", False)
        )
        precision = "bfloat16" if capable else "float32"
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")


@dataclass(frozen=True, eq=False)
class Opinion:
    """What one view of the frame says, mirrored back: low-resolution logits (n, h, w), predicted IoU (n,), embedding (c, h', w')."""

    logits: Tensor
    scores: Tensor
    embedding: Tensor


def opinions(
    sam: Sam,
    low_rank: LowRank | None,
    views: Sequence[Pixels],
    is_mirrored: bool,
    prompts: Prompts,
    precision: str,
    decode: Decode = decode_together,
) -> list[Opinion]:
    """What the model, adapted or frozen, says of views (h, w, 3) of one frame: they go through the encoder as one batch.

    Args:
        sam: the frozen model.
        low_rank: an adapter's tensors, None for the frozen model.
        views: of the frame, at the model's size.
        is_mirrored: whether they are mirrored; the opinions are not.
        prompts: in pixels of the original image, not mirrored.
        precision: as in AdaptationConfig.
        decode: masks and scores of an embedding (1, c, h', w'), as predictor.decode.
    """
    side = sam.image_encoder.img_size
    batch = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2)
    seen = mirrored(prompts) if is_mirrored else prompts
    with autocast(sam, precision):
        embeddings = embed_images(sam, normalize(batch.to(sam.device), side), low_rank)
        decoded = [decode(sam, embedding[None], seen) for embedding in embeddings]
    said = []
    for embedding, (logits, scores) in zip(embeddings.float(), decoded, strict=True):
        if is_mirrored:
            logits, embedding = mirror_logits(logits, prompts.size), mirror_logits(embedding, prompts.size)
        said.append(Opinion(logits, scores, embedding))
    return said


def ask_teacher(sam: Sam, low_rank: tuple[Tensor, Tensor], frame: KeptFrame, precision: str, rng: np.random.Generator) -> Tensor:
    """What the adapting model says of a weak view of the frame: logits (n, h, w) of all its objects, without gradients."""
    view, is_mirrored = weak_view(frame.pixels, rng)
    with torch.no_grad():
        (teacher,) = opinions(sam, low_rank, [view], is_mirrored, frame.prompts, precision)
    return teacher.logits


def ask_student(sam: Sam, low_rank: LowRank, frame: KeptFrame, prompts: Prompts, precision: str, rng: np.random.Generator) -> Opinion:
    """What the adapting model says of some of the frame's objects, on a strong view of it."""
    weak, is_mirrored = weak_view(frame.pixels, rng)
    (student,) = opinions(sam, low_rank, [strong_view(weak, rng)], is_mirrored, prompts, precision)
    return student


def gradients_from(block: int, low_rank: tuple[Tensor, Tensor]) -> LowRank:
    """An adapter's tensors, one per block of the encoder, the first `block` of them without gradients: nothing goes back that far."""
    a, b = ([each.detach() if index < block else each for index, each in enumerate(tensor)] for tensor in low_rank)
    return a, b


def witnessed(evidence: Evidence) -> tuple[Tensor, Tensor]:
    """What depth knows within the reach of all of a frame's objects, (n, h, w) bool: pixels on the object, and of the support surface."""
    claimed = evidence.claims & evidence.reach
    alone = claimed.sum(0) == 1
    return claimed & alone, evidence.surface & evidence.reach


def corrected(logits: Tensor, evidence: Evidence) -> Tensor:
    """Masks (n, h, w) in {0, 1} of all of a frame's objects, from their logits, as the measurements allow.

    No mask leaves its reach, covers the support surface, or shares a pixel with another: where reaches overlap, the highest logit has it.
    What rises from the surface belongs to one of those that claim it.
    """
    within = logits.masked_fill(~evidence.reach, -torch.inf)
    highest = within == within.amax(0)
    winner = highest & (highest.cumsum(0) == 1)  # the first of equals; argmax over an axis of few is many times slower
    return (winner & evidence.reach & ~evidence.surface & ((logits > 0) | evidence.claims)).float()


@dataclass(frozen=True, eq=False)
class Gated:
    """What there is to learn of m objects: teacher's and anchor's masks (m, h, w) in {0, 1}, as the measurements allow; `agreed` (m,) bool,
    whose masks teach something, and `measured` (m,) bool, for which the measurements do."""

    pseudo: Tensor
    anchor: Tensor
    agreed: Tensor
    measured: Tensor


def gate(teacher: Tensor, frame: KeptFrame, chosen: Tensor, config: AdaptationConfig) -> Gated:
    """Which of a frame's objects can be trusted.

    Args:
        teacher: logits (n, h, w) of all of the frame's objects.
        frame: with the anchor's outputs of all of them.
        chosen: (m,) which of the objects it is about.
        config: the limits.
    """
    evidence = frame.evidence[chosen]
    inside, surface = (known[chosen] for known in witnessed(frame.evidence))
    anchor, pseudo = (
        (corrected(said, frame.evidence) if config.correct else (said > 0).float())[chosen] for said in (frame.anchor_logits, teacher)
    )
    # A prompt that depth sees, but that nothing fits, is false or misplaced. Where there is no depth the mask itself may be
    # what is wrong, so that the prompt still counts as a measurement, but the mask teaches nothing.
    fits = prompt_fit(pseudo > 0, evidence) >= config.fit
    agreed = fits & (hard_iou(pseudo > 0, anchor > 0) >= config.agreement)
    return Gated(pseudo, anchor, agreed, fits | ~(inside | surface).flatten(1).any(1))


def loss_terms(
    student: Opinion, gated: Gated, frame: KeptFrame, chosen: Tensor, valid: Tensor, bank: Tensor, config: AdaptationConfig
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
    evidence, logits, pseudo, anchor = frame.evidence[chosen], student.logits, gated.pseudo, gated.anchor
    inside, surface = (known[chosen] for known in witnessed(frame.evidence))
    trusted = gated.agreed.float() / gated.agreed.sum().clamp_min(1)
    everyone = gated.measured.float() / gated.measured.sum().clamp_min(1)

    probability = logits.sigmoid() * valid
    terms = {
        "focal": config.focal * (focal_loss(logits, pseudo, valid) * trusted).sum(),
        "dice": config.dice * (dice_loss(probability, pseudo) * trusted).sum(),
        "iou": config.iou * (iou_loss(student.scores, logits, pseudo) * trusted).sum(),
        "anchor": config.anchor * (dice_loss(probability, anchor) * trusted).sum(),
        "depth": config.depth * (witness_loss(logits, inside, surface) * everyone).sum(),
    }
    if (evidence.point_labels >= 0).any():
        terms["points"] = config.points * (point_loss(logits, evidence.points, evidence.point_labels) * everyone).sum()
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
    frame: KeptFrame,
    answers: MutableMapping[KeptFrame, Answer],
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
    if frame not in answers or now - answers[frame].step >= config.teacher_age:
        answers[frame] = Answer(ask_teacher(sam, low_rank, frame, config.precision, rng), now)
    count = min(config.objects, len(frame.prompts))
    chosen = torch.from_numpy(np.sort(rng.choice(len(frame.prompts), count, replace=False)))
    lent = gradients_from(int(rng.integers(int(config.cut * len(low_rank[0])) + 1)), low_rank)
    student = ask_student(sam, lent, frame, frame.prompts.select(chosen.numpy()), config.precision, rng)
    valid = valid_region(frame.prompts.size, sam.prompt_encoder.mask_input_size[0]).to(sam.device)

    gated = gate(answers[frame].logits, frame, chosen, config)
    terms = loss_terms(student, gated, frame, chosen, valid, bank, config)
    total = torch.stack(list(terms.values())).sum()
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    optimizer.step()
    losses = {name: value.item() for name, value in terms.items()} | {"total": total.item()}
    return StepResult(losses, count, int(gated.agreed.sum()), int(gated.measured.sum()))
