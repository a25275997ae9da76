"""Soft Teacher (Xu et al., ICCV 2021, arXiv 2106.09018, section 3.2; official code microsoft/SoftTeacher, ssod/models/soft_teacher.py).

    loss = mean over the foreground of l + sum over the background of w l,   w = r / sum r

l is the student's cross-entropy with the teacher's label; foreground is what the teacher is sure of (score above 0.9); a background
candidate weighs as much as the teacher believes in it, r = its background score. The teacher is the student's moving average on a weak
view, the student sees a strong one.

Candidates are boxes there and pixels here, per object. A pixel that the teacher calls object, but with less than 0.9, is left out: it
is no background either. There are no labelled images, so the self-training half is all that there is; box jittering, which selects
boxes for regression, has nothing to select. The student is served, as the official configuration does (inference_on).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from wesam_ros.adaptation.replay_buffer import BufferedFrame
from wesam_ros.methods.base import MeanTeacherMethod, masked_mean

SURE = 0.9
"""cls_pseudo_threshold."""


def soft_cross_entropy(logits: Tensor, belief: Tensor) -> Tensor:
    """The loss (n,) of student logits (n, h, w) under the teacher's probabilities (n, h, w)."""
    foreground = masked_mean(functional.softplus(-logits), (belief > SURE).float())
    background = masked_mean(functional.softplus(logits), (1 - belief) * (belief <= 0.5))
    return foreground + background


class SoftTeacher(MeanTeacherMethod):
    """Mean teacher with confidence-weighted pseudo-labels."""

    lr = 7e-4
    momentum = 0.999

    def loss(self, frame: BufferedFrame, chosen: Tensor) -> Tensor:
        teacher, student = self.teacher_and_student(frame, chosen)
        return soft_cross_entropy(student.logits, teacher.logits.sigmoid()).mean()
