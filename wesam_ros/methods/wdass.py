"""WDASS (Das et al., CVPR 2023, "Weakly-Supervised Domain Adaptive Semantic Segmentation with Prototypical Contrastive Learning";
official code anurag-198/WDASS, train.py, utils/prototypes.py, loss/contrast_loss_intra.py).

    loss = L_weak + q L_pseudo + 0.25 L_contrast
    L_weak      cross-entropy where a weak label tells what a pixel is
    L_pseudo    cross-entropy with the teacher's labels where it is sure; q is the share of such pixels
    L_contrast  InfoNCE, temperature 0.1, of pixel features with their class's prototype among all prototypes
    prototype   mean of the teacher's features that weak label or sure pseudo-label give to the class, each weighted by its
                similarity to the mean of those that the weak label gives

The teacher is a moving average (0.999) on a weak view; the student sees a strong view.

There are no source images: the terms on them, mixed images and source-to-target alignment go, and what stays is target self-training
with weak labels, and contrast within the target. Classes are the frame's objects and its background: objects have no classes that frames
share. Weak labels (scene/constraints.py) are points, the middle of a coarse mask, and that nothing is beyond the box or the enlarged
coarse mask. Where they put no pixel on the object (boxes), sure pseudo-labels give the first mean, as the code does for image labels.
Features are the embedding's cells, all of them rather than a sample of hard ones.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from wesam_ros.adaptation.losses import point_loss
from wesam_ros.adaptation.replay_buffer import BufferedFrame
from wesam_ros.methods.base import MeanTeacherMethod, masked_mean, on_cells, on_image
from wesam_ros.scene.constraints import Constraints

SURE = 0.95
CONTRAST = 0.25
"""c_real."""
TEMPERATURE = 0.1


def weak_loss(logits: Tensor, constraints: Constraints, certain: Tensor, beyond: Tensor) -> Tensor:
    """L_weak (n,): points, middle (n, h, w) bool of coarse masks, and what is beyond the allowed region (n, h, w) bool, a mean each."""
    on, off = masked_mean(functional.softplus(-logits), certain.float()), masked_mean(functional.softplus(logits), beyond.float())
    return point_loss(logits, constraints.points, constraints.point_labels) + on + off


def pseudo_loss(logits: Tensor, belief: Tensor, unknown: Tensor) -> Tensor:
    """q L_pseudo (n,) of student logits under the teacher's probabilities, over the pixels that no weak label knows, all (n, h, w)."""
    sure = (torch.maximum(belief, 1 - belief) > SURE) & unknown
    wrong = functional.binary_cross_entropy_with_logits(logits, (belief > 0.5).float(), reduction="none")
    return sure.float().mean((1, 2)) * masked_mean(wrong, sure)


def prototypes(features: Tensor, weak: Tensor, labelled: Tensor) -> Tensor:
    """Unit prototypes (k, c) of k classes; zero for a class that nothing is labelled as.

    Args:
        features: (c, h, w), unit vectors.
        weak: (k, h, w) bool, cells that weak labels give to a class.
        labelled: (k, h, w) bool, cells that weak or pseudo-labels give to it.
    """
    first = torch.where(weak.flatten(1).any(1)[:, None, None], weak, labelled).float()
    centers = functional.normalize(torch.einsum("chw,khw->kc", features, first), dim=1)
    weights = torch.einsum("chw,kc->khw", features, centers).clamp_min(0) * labelled
    return functional.normalize(torch.einsum("chw,khw->kc", features, weights), dim=1)


def contrast_loss(features: Tensor, known: Tensor, labelled: Tensor) -> Tensor:
    """L_contrast, a scalar: the mean over classes of the mean over their cells; 0 where fewer than two classes have any.

    Args:
        features: (c, h, w) of the student, unit vectors.
        known: (k, c) prototypes, zero where there is none.
        labelled: (k, h, w) bool, cells of each class.
    """
    there = (known.abs().sum(1) > 0) & labelled.flatten(1).any(1)
    if int(there.sum()) < 2:
        return features.sum() * 0
    similarity = torch.einsum("chw,kc->khw", features, known[there]) / TEMPERATURE
    return masked_mean(-similarity.log_softmax(0), labelled[there]).mean()


class Wdass(MeanTeacherMethod):
    """Self-training with weak labels and prototype contrast."""

    momentum = 0.999

    def loss(self, frame: BufferedFrame, chosen: Tensor) -> Tensor:
        teacher, student = self.teacher_and_student(frame, chosen)
        constraints, size = frame.constraints[chosen], frame.prompts.size
        certain, beyond = on_image(constraints.certain, size), on_image(~constraints.allowed, size)
        belief = teacher.logits.sigmoid()
        pixels = weak_loss(student.logits, constraints, certain, beyond) + pseudo_loss(student.logits, belief, ~certain & ~beyond)

        weak = on_cells(certain | _pointed(constraints, certain), teacher.embedding)
        sure = torch.where(beyond, torch.zeros_like(belief), belief) > SURE
        on = on_cells(sure | certain, teacher.embedding) > 0.5
        mine = (on | (weak > 0)) & (on.sum(0) <= 1)  # a cell of two objects is no example of either
        none = on_cells(((belief < 1 - SURE) | beyond).all(0)[None], teacher.embedding) > 0.5
        labelled = torch.cat([mine, none & ~mine.any(0)])
        taught = functional.normalize(teacher.embedding, dim=0)
        known = prototypes(taught, torch.cat([(weak > 0) & mine, torch.zeros_like(none)]), labelled)
        return pixels.mean() + CONTRAST * contrast_loss(functional.normalize(student.embedding, dim=0), known, labelled)


def _pointed(constraints: Constraints, like: Tensor) -> Tensor:
    """(n, h, w) bool, as `like`: the pixels that hold a point on the object."""
    marked = torch.zeros_like(like)
    rows, which = torch.nonzero(constraints.point_labels == 1, as_tuple=True)
    places = constraints.points[rows, which].long()
    marked[rows, places[:, 1].clamp(0, like.shape[1] - 1), places[:, 0].clamp(0, like.shape[2] - 1)] = True
    return marked
