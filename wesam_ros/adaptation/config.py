"""The settings of the method. Defaults are from first trials on the simulator's target domains (docs/method.md)."""

from __future__ import annotations

from dataclasses import dataclass

from wesam_ros.options import option, validate
from wesam_ros.scene import REFINE_CHOICES

STEPS_PER_FRAME = 2
"""Training steps after each frame, the default of the adapter node and of `wesam adapt`."""


@dataclass(frozen=True)
class AdaptationConfig:
    """Weights of the loss terms, settings of optimizer, replay buffer and guard."""

    rank: int = option(4, "rank of the adapter's terms", minimum=1, maximum=64, read_only=True)
    lr: float = option(2e-3, "learning rate of Adam", minimum=0.0, maximum=1.0)
    weight_decay: float = option(1e-4, "weight decay of Adam", minimum=0.0, maximum=1.0)
    strength: float = option(
        0.6, "share of the trained adapter that is served: 1 is all of it, less is nearer to the frozen model", minimum=0.05, maximum=1.0
    )
    warm_up: int = option(20, "steps of linear warm-up", minimum=1)
    precision: str = option(
        "auto",
        "of the model while it learns; auto is bfloat16 where the processor computes in it. The segmenter is not affected",
        choices=("auto", "float32", "bfloat16"),
        read_only=True,
    )

    focal: float = option(20.0, "weight of the focal loss of the student against the teacher's pseudo-label", minimum=0.0)
    dice: float = option(1.0, "weight of the dice loss of the student against the teacher's pseudo-label", minimum=0.0)
    iou: float = option(1.0, "weight of the error of the student's predicted IoU", minimum=0.0)
    anchor: float = option(4.0, "weight of the dice loss of the student against the anchor's mask", minimum=0.0)
    contrastive: float = option(0.05, "weight of the contrastive loss between the student's and the anchor's embeddings", minimum=0.0)
    temperature: float = option(0.3, "temperature of the contrastive loss", minimum=0.01)
    depth: float = option(
        2.0,
        "weight of the pixels that depth knows: no mask on the support surface, mask on what rises from it in one box only",
        minimum=0.0,
    )
    points: float = option(2.0, "weight of the points of a prompt as measurements", minimum=0.0)

    refine: str = option("all", "the witnesses that refine the masks which are learnt from", choices=REFINE_CHOICES)
    both_ways: bool = option(True, "average the masks of teacher and anchor over the image and its mirror image")
    teacher_age: int = option(50, "steps after which the teacher is asked again about a frame", minimum=1)
    cut: float = option(
        0.0,
        "each step's gradient ends at a term of the adapter that is drawn among the first ones, this share of all; 0: at the first. 0.9 "
        "makes steps of a deep encoder cheaper, and learns less of outlines",
        minimum=0.0,
        maximum=0.99,
    )
    objects: int = option(16, "most objects of a frame that one step learns from, drawn at random", minimum=1)
    replay_frames: int = option(64, "frames kept to learn from", minimum=1, maximum=10_000, read_only=True)
    answers: float = option(0.25, "share of the steps that learn from a person's answers, while there are any", minimum=0.0, maximum=1.0)
    recent: float = option(0.5, "share of the steps that take the newest frame; the others draw from the buffer", minimum=0.0, maximum=1.0)

    agreement: float = option(0.2, "least IoU of anchor and teacher mask for an object to be learnt from", minimum=0.0, maximum=1.0)
    prompt_fit: float = option(
        0.6, "least IoU of the pseudo-label's own box with the prompted box for an object to be learnt from", minimum=0.0, maximum=1.0
    )
    validation_every: int = option(
        8, "every so many-th accepted frame of a source is not learnt from: candidates are scored on it", minimum=2
    )
    least_side: float = option(8.0, "least side of a box, in pixels of the image, to be learnt from", minimum=0.0)
    misplaced: float = option(
        0.1,
        "how much more of what rises from the surface a frame's boxes, all moved together, may hold elsewhere, as a share of it; above "
        "that, boxes and depth do not belong together, and nothing is learnt from the frame",
        minimum=0.0,
    )
    publish_every: int = option(6, "steps between two candidate adapters", minimum=1)
    tolerance: float = option(0.01, "how much lower than the published adapter's a candidate's validation score may be", minimum=0.0)
    lead: float = option(
        0.1,
        "how much higher than the frozen model's an adapter's validation score must be if its masks had nothing in common with the "
        "anchor's, and less in proportion: training raises the score more than the true IoU, so changed masks have to lead",
        minimum=0.0,
    )
    patience: int = option(5, "rejected candidates in a row after which training goes back to the published adapter", minimum=1)
    validation_frames: int = option(
        4, "validation frames of a robot that are kept, the newest ones: each candidate is scored on them", minimum=1
    )
    divergence: float = option(
        0.4,
        "least mean IoU with the anchor's masks on validation frames, as a share of the frozen model's (about 1), or of the published "
        "adapter's if that is higher",
        minimum=0.0,
    )

    def __post_init__(self) -> None:
        validate(self)
