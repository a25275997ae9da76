"""The terms of the loss, as functions of low-resolution logits. All are per object, so a large object counts no more than a small one.

Logits and masks are (n, h, w) at the decoder's resolution; every function returns (n,), which the step weights and averages.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from wesam_ros.scene.regions import logits_at


def focal_loss(logits: Tensor, target: Tensor, valid: Tensor, alpha: float = 0.5, gamma: float = 2.0) -> Tensor:
    """Focal loss, mean over the valid pixels (Lin et al., ICCV 2017, eq. 5, with its gamma).

    Args:
        logits: (n, h, w).
        target: (n, h, w) in {0, 1}.
        valid: (h, w) in {0, 1}; the model's padding is not.
        alpha: weight of positive pixels, negatives have 1 - alpha. With the paper's 0.25, for detectors, masks shrink where the model is
            unsure: a pixel on the object counts a third of one beside it (docs/method.md).
        gamma: how much well-classified pixels are discounted.
    """
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability = logits.sigmoid()
    wrong = probability * (1 - target) + (1 - probability) * target
    weight = alpha * target + (1 - alpha) * (1 - target)
    return (weight * wrong**gamma * cross_entropy * valid).sum((1, 2)) / valid.sum()


def dice_loss(probability: Tensor, target: Tensor) -> Tensor:
    """1 - dice of (n, ...) probabilities and targets in [0, 1] (Milletari et al., 2016, smoothed by 1 as in WeSAM's code)."""
    probability, target = probability.flatten(1), target.flatten(1)
    return 1 - (2 * (probability * target).sum(1) + 1) / (probability.sum(1) + target.sum(1) + 1)


def hard_iou(mask: Tensor, other: Tensor) -> Tensor:
    """IoU (n,) of two stacks (n, h, w) of boolean masks; 0 where both are empty."""
    return (mask & other).sum((1, 2)) / (mask | other).sum((1, 2)).clamp_min(1)


def iou_loss(predicted: Tensor, logits: Tensor, target: Tensor) -> Tensor:
    """Squared error of the predicted IoU (n,) against that of logits (n, h, w) with the target (n, h, w) in {0, 1}."""
    with torch.no_grad():
        actual = hard_iou(logits > 0, target > 0.5)
    return (predicted - actual) ** 2


def point_loss(logits: Tensor, points: Tensor, labels: Tensor) -> Tensor:
    """Points as measurements: focal cross-entropy at the points on the object, plus at those off it, each a mean; 0 without points.

    (1 - p_t)^2 as in Lin et al. (ICCV 2017): a point that is on the right side already adds nothing new. With plain cross-entropy masks
    went on to grow around their points, and lost their edges (docs/method.md).

    Args:
        logits: (n, h, w).
        points: (n, k, 2) x y in pixels of the grid.
        labels: (n, k) 1 on the object, 0 not on it, -1 no point.
    """
    at = logits_at(logits, points)
    on, off = labels == 1, labels == 0
    inside = (functional.softplus(-at) * (-at).sigmoid() ** 2 * on).sum(1) / on.sum(1).clamp_min(1)
    return inside + (functional.softplus(at) * at.sigmoid() ** 2 * off).sum(1) / off.sum(1).clamp_min(1)


def known_pixels_loss(logits: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    """Focal cross-entropy of the pixels that are known without the model, mean per object and side; 0 where none is.

    (1 - p_t)^2 as in Lin et al. (ICCV 2017): with plain cross-entropy logits grew where they were right already, until masks that are
    refined trusted them more than depth (docs/research-log.md).

    Args:
        logits: (n, h, w).
        inside: (n, h, w) bool, pixels that are on the object.
        outside: (n, h, w) bool, pixels that are not.
    """
    on = (functional.softplus(-logits) * (-logits).sigmoid() ** 2 * inside).sum((1, 2)) / inside.sum((1, 2)).clamp_min(1)
    off = (functional.softplus(logits) * logits.sigmoid() ** 2 * outside).sum((1, 2)) / outside.sum((1, 2)).clamp_min(1)
    return on + off


def contrastive_loss(prototypes: Tensor, anchors: Tensor, others: Tensor, temperature: float) -> Tensor:
    """InfoNCE (n,): each object's prototype against its anchor prototype, among all others (WeSAM, eq. 6).

    Args:
        prototypes: (n, c) of the model that learns, L2-normalised.
        anchors: (n, c) of the anchor, L2-normalised, the same objects in the same order.
        others: (m, c) further negatives, such as the background and prototypes of earlier frames; m may be 0.
        temperature: divides the cosines.
    """
    similarity = prototypes @ torch.cat([anchors, others]).T / temperature
    return functional.cross_entropy(similarity, torch.arange(len(prototypes), device=prototypes.device), reduction="none")


def masked_prototypes(embedding: Tensor, weights: Tensor) -> Tensor:
    """Prototypes (n, c): the embedding, L2-normalised per pixel, averaged under each mask and normalised again.

    Args:
        embedding: (c, h, w).
        weights: (n, h, w) share of each embedding pixel that a mask covers.
    """
    pixels = functional.normalize(embedding, dim=0)
    return functional.normalize(torch.einsum("chw,nhw->nc", pixels, weights), dim=1)
