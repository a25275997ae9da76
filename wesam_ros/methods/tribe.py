"""TRIBE (Su, Xu, Jia, AAAI 2024, arXiv 2309.14949, tri-net self-training; official code Gorilla-Lab-SCUT/TRIBE, core/adapter/TRIBE.py).

    loss = CE(student, label of the teacher) + 0.5 ||teacher - anchor||^2,   both where the teacher's entropy is below H0 log K

Three networks: the student on a strong view, the teacher on a weak one, and the frozen anchor. As in the official code teacher and
student share their trained parameters, and the second term's gradient goes through the teacher.

Predictions are the two classes of a pixel, K = 2, per object. The squares are of posteriors: the official code takes the network's
outputs, and SAM's are logits of plus or minus 10 and more. H0 is 0.4, the widest of the official values (0.05 to 0.4). TRIBE's
balanced batch normalisation has nothing to normalise in a ViT; what it is for, that frequent classes do not outweigh rare ones, is
done in the means: object pixels and background pixels count a half each.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional

from wesam_ros.adaptation.replay_buffer import BufferedFrame
from wesam_ros.methods.base import TrainedMethod, entropy, masked_mean, on_image

H0 = 0.4
ANCHOR = 0.5
"""Lambda."""


def balanced_mean(values: Tensor, label: Tensor, sure: Tensor) -> Tensor:
    """Means (n,) of values (n, h, w) over the sure pixels, those labelled True and those labelled False counting a half each."""
    return (masked_mean(values, sure & label) + masked_mean(values, sure & ~label)) / 2


def tri_net_loss(student: Tensor, teacher: Tensor, anchor: Tensor) -> Tensor:
    """The loss (n,) of the three networks' logits (n, h, w)."""
    label = teacher.detach() > 0
    sure = entropy(teacher.detach()) < H0 * math.log(2)
    learnt = functional.binary_cross_entropy_with_logits(student, label.float(), reduction="none")
    anchored = (teacher.sigmoid() - anchor.sigmoid()) ** 2
    return balanced_mean(learnt, label, sure) + ANCHOR * balanced_mean(anchored, label, sure)


class Tribe(TrainedMethod):
    """Anchored, balanced self-training."""

    lr = 3e-4

    def loss(self, frame: BufferedFrame, chosen: Tensor) -> Tensor:
        views = self.views(frame)
        teacher, student = self.predict(frame, chosen, [views.weak, views.strong], views.is_mirrored, self.low_rank)
        return tri_net_loss(student.logits, teacher.logits, on_image(frame.anchor_logits[chosen], frame.prompts.size)).mean()
