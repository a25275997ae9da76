"""DePT (Gao et al., arXiv 2210.04831, ICLR 2023 submission, section 3; official code yhygao/DePT, target_dino.py: train_epoch).

    loss = CE(student, refined label) + 0.1 L_con + L_div
    refined label   the class with the highest mean probability among the 10 nearest neighbours, by cosine, in a memory bank of
                    the teacher's features and predictions
    L_con           1 - cosine of student and teacher feature
    L_div           minus the entropy of the student's mean prediction

The teacher is a moving average (0.99) on a weak view and fills the bank; the student sees a strong view. The bank is asked with the
teacher's features, not as in the official code with the student's on the weak view, which would be one more pass.

What DePT is named after, visual prompt tokens in the encoder as the only trained parameters, does not exist here: the LoRA tensors train
instead, as in all methods, and the consistency of those tokens on several levels goes with them. What remains is DePT's
self-training. L_con, there on the class token through a projection head trained on the source, which nobody has for SAM, is on each
object's mean embedding. Predictions are on the embedding's cells in the object's surroundings (base.py), a cell's probability being
the mean of its pixels'; the bank holds the object's own cells and some of each object in the last other frames. "On the prompted object" is
not a class that frames share, so a neighbour in another frame may well mislead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.predictions import Prediction
from wesam_ros.adaptation.replay_buffer import BufferedFrame
from wesam_ros.methods.base import SHARED, MeanTeacherMethod, entropy, masked_mean, on_cells, surroundings

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

NEIGHBOURS = 10
CONSISTENCY = 0.1
"""beta, as in the official script."""
BANK_FRAMES, CELLS = 16, 32
"""The last frames that the bank remembers, and how many cells of each object in them."""
EPSILON = 1e-6


def refined(features: Tensor, bank: Tensor, probabilities: Tensor) -> Tensor:
    """Mean probability (m,) of the nearest neighbours of features (m, c) in a bank (k, c) with probabilities (k,); unit vectors."""
    nearest = (features @ bank.T).topk(min(NEIGHBOURS, len(bank)), dim=1).indices
    return probabilities[nearest].mean(1)


class DePT(MeanTeacherMethod):
    """Mean teacher with pseudo-labels refined by a memory bank."""

    momentum = 0.99

    def __init__(self, sam: Sam, seed: int, lr: float | None = None, config: AdaptationConfig = SHARED) -> None:
        super().__init__(sam, seed, lr, config)
        self.bank: dict[BufferedFrame, tuple[Tensor, Tensor]] = {}

    def loss(self, frame: BufferedFrame, chosen: Tensor) -> Tensor:
        teacher, student = self.teacher_and_student(frame, chosen)
        cells = on_cells(surroundings(frame, chosen), student.embedding) > 0.5
        belief = on_cells(teacher.logits.sigmoid(), teacher.embedding)
        probability = on_cells(student.logits.sigmoid(), student.embedding).clamp(EPSILON, 1 - EPSILON)
        label = self._labels(frame, teacher, belief, cells)
        wrong = masked_mean(functional.binary_cross_entropy(probability, label, reduction="none"), cells)
        mean = masked_mean(probability, cells).clamp(EPSILON, 1 - EPSILON)
        mine, taught = (torch.einsum("chw,nhw->nc", each.embedding, belief) for each in (student, teacher))
        similarity = functional.cosine_similarity(mine, taught)
        return (wrong + CONSISTENCY * (1 - similarity) - entropy(mean.logit())).mean()

    @torch.no_grad()
    def _labels(self, frame: BufferedFrame, teacher: Prediction, belief: Tensor, cells: Tensor) -> Tensor:
        """Refined labels (n, h', w') in {0, 1}, 0 beyond the cells of interest; the bank then has this frame's cells, too."""
        features = functional.normalize(teacher.embedding, dim=0).permute(1, 2, 0)  # (h', w', c)
        self.bank.pop(frame, None)
        elsewhere = [entry[0] for entry in self.bank.values()], [entry[1] for entry in self.bank.values()]
        labels, kept = torch.zeros_like(belief), []
        for row, region in enumerate(cells):
            own, own_belief = features[region], belief[row][region]
            if not len(own):
                continue
            bank, probabilities = torch.cat([own, *elsewhere[0]]), torch.cat([own_belief, *elsewhere[1]])
            labels[row][region] = (refined(own, bank, probabilities) > 0.5).float()
            some = torch.from_numpy(self.rng.permutation(len(own))[:CELLS]).to(own.device)
            kept.append((own[some], own_belief[some]))
        if kept:
            self.bank[frame] = torch.cat([each[0] for each in kept]), torch.cat([each[1] for each in kept])
        if len(self.bank) > BANK_FRAMES:
            del self.bank[next(iter(self.bank))]
        return labels
