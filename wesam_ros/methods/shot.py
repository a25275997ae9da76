"""SHOT (Liang et al., ICML 2020, arXiv 2002.08546, section 3.2; official code tim-learn/SHOT, digit/uda_digit.py: obtain_label).

    loss = L_ent + L_div + 0.3 L_pl
    L_ent  mean entropy of the predictions
    L_div  minus the entropy of the mean prediction: classes should be of one size
    L_pl   cross-entropy with pseudo-labels: the nearer, by cosine, of the classes' feature centroids, which are means
           weighted by the predictions, and once again means of what was so labelled

SHOT has the classes of a data set; here the classes are, per object, its pixels and those around it. Over a whole image they are never
of one size, so that L_ent and L_div look at the object's surroundings (base.py), of which an object fills about a half. Features are the
cells of the image embedding, so pseudo-labels are as coarse, and are held against a cell's mean probability. SHOT labels the whole data
set once per epoch; a stream has no epochs, so labels come from the same forward pass, without gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from wesam_ros.adaptation.replay_buffer import BufferedFrame
from wesam_ros.methods.base import TrainedMethod, entropy, masked_mean, on_cells, surroundings

PSEUDO_LABELS = 0.3
"""SHOT's beta, its weight of the pseudo-labels (cls_par)."""
EPSILON = 1e-6


def information_maximisation(logits: Tensor, region: Tensor) -> Tensor:
    """L_ent + L_div (n,) of logits (n, h, w) over regions (n, h, w) bool; between -log 2, sure and in halves, and 0."""
    mean = masked_mean(logits.sigmoid(), region).clamp(EPSILON, 1 - EPSILON)
    return masked_mean(entropy(logits), region) - entropy(mean.logit())


@torch.no_grad()
def pseudo_labels(embedding: Tensor, probability: Tensor, region: Tensor) -> Tensor:
    """Labels (n, h, w) bool, True on the object, by the nearer centroid.

    Args:
        embedding: (c, h, w) features of the cells.
        probability: (n, h, w) predicted share of each cell that is on the object.
        region: (n, h, w) bool, the cells that count.
    """
    features = functional.normalize(embedding, dim=0)
    label = probability
    for _ in range(2):
        weights = torch.stack([1 - label, label], 1) * region[:, None]  # (n, 2, h, w)
        centroids = functional.normalize(torch.einsum("chw,nkhw->nkc", features, weights), dim=2)
        similarity = torch.einsum("chw,nkc->nkhw", features, centroids)
        label = (similarity[:, 1] > similarity[:, 0]).float()
    return label > 0


class Shot(TrainedMethod):
    """Information maximisation with centroid pseudo-labels."""

    lr = 3e-4

    def loss(self, frame: BufferedFrame, chosen: Tensor) -> Tensor:
        views = self.views(frame)
        (prediction,) = self.predict(frame, chosen, [views.weak], views.is_mirrored, self.low_rank)
        region = surroundings(frame, chosen)
        cells = on_cells(region, prediction.embedding) > 0.5
        probability = on_cells(prediction.logits.sigmoid(), prediction.embedding).clamp(EPSILON, 1 - EPSILON)
        labels = pseudo_labels(prediction.embedding.detach(), probability.detach(), cells)
        wrong = functional.binary_cross_entropy(probability, labels.float(), reduction="none")
        return (information_maximisation(prediction.logits, region) + PSEUDO_LABELS * masked_mean(wrong, cells)).mean()
