"""The quality of masks, given the truth: IoU and boundary F-measure per instance, and means as the data sets' papers take them.

Pure functions on arrays. Masks are (n, H, W) bool in the original image frame, boxes (n, 4) as x0 y0 x1 y1 with exclusive x1, y1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.data.boxes import box_iou, box_of_mask, boxes_of_labels
from wesam_ros.sam.prompts import Prompts

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


def mask_iou(predicted: Bool, true: Bool, void: Bool | None = None) -> Float64:
    """(n,) intersection over union of each predicted mask (n, H, W) with the true one (n, H, W) of the same row; 1 where both are empty.

    Pixels that are True in `void` (H, W) count for neither.
    """
    if predicted.shape != true.shape or predicted.ndim != 3:
        raise ValueError(f"masks must both be (n, H, W), but got {predicted.shape} and {true.shape}")
    if void is not None:
        predicted, true = predicted & ~void, true & ~void
    both = np.array([np.count_nonzero(p & t) for p, t in zip(predicted, true, strict=True)], np.float64)
    either = np.array([np.count_nonzero(p | t) for p, t in zip(predicted, true, strict=True)], np.float64)
    return np.divide(both, either, out=np.ones_like(both), where=either > 0)


def match_boxes(predicted: Float32, true: Float32, threshold: float = 0.5) -> npt.NDArray[np.intp]:
    """(k, 2) rows (index of a predicted box, index of its true box), in the order of the true boxes.

    Greedy: the pair with the highest box IoU first, each box once, down to `threshold`. Boxes (n, 4) and (m, 4); k <= min(n, m).
    """
    iou = box_iou(predicted, true)
    pairs: list[tuple[int, int]] = []
    for flat in np.argsort(-iou, axis=None, kind="stable"):
        row, column = np.unravel_index(flat, iou.shape)
        if iou[row, column] < threshold:
            break
        if all(row != p and column != t for p, t in pairs):
            pairs.append((int(row), int(column)))
    return np.array(sorted(pairs, key=lambda pair: pair[1]), np.intp).reshape(-1, 2)


@dataclass(frozen=True)
class FrameScore:
    """The masks of one image compared with the truth.

    Attributes:
        ids: (k,) uint16 true instances that a detection was found for, ascending.
        iou: (k,) IoU of their masks.
        missed: true instances without a detection. They say something about the detector, not about the masks, so `iou` leaves them out.
        false: detections without a true instance; left out of `iou` for the same reason.
    """

    ids: npt.NDArray[np.uint16]
    iou: Float64
    missed: int
    false: int


def score_frame(
    masks: Bool, boxes: Float32, labels: npt.NDArray[np.uint16], threshold: float = 0.5, void: Bool | None = None
) -> FrameScore:
    """Score masks (n, H, W), predicted from a detector's boxes (n, 4), against true instance ids (H, W), 0 = background.

    A true instance is scored with the mask whose box matches its tight box (`match_boxes`), whatever the detection's id. Pixels that are
    True in `void` (H, W) count for neither mask.
    """
    if len(masks) != len(boxes):
        raise ValueError(f"there must be a mask per box, but got {len(masks)} masks and {len(boxes)} boxes")
    ids, true_boxes = boxes_of_labels(labels)
    pairs = match_boxes(boxes, true_boxes, threshold)
    matched = ids[pairs[:, 1]]
    iou = mask_iou(masks[pairs[:, 0]], labels == matched[:, None, None], void)
    return FrameScore(matched, iou, missed=len(ids) - len(pairs), false=len(boxes) - len(pairs))


def mean_iou(images: Iterable[Sequence[float] | Float64]) -> float:
    """Mean over images of the mean IoU over each image's instances; images without a scored instance do not count.

    The protocol of WeSAM (arXiv 2312.03502). NaN where nothing was scored.
    """
    means = [float(np.mean(iou)) for iou in images if len(iou)]
    return float(np.mean(means)) if means else float("nan")


def boundary_f(predicted: Bool, true: Bool, tolerance: float = 2.0, void: Bool | None = None) -> Float64:
    """(n,) boundary F-measure of masks (n, H, W): harmonic mean of the shares of boundary pixels that lie within `tolerance` pixels of
    the other mask's boundary (Csurka et al., BMVC 2013; Perazzi et al., CVPR 2016, eq. 2).

    The boundary is the outermost row of pixels inside a mask; where the image ends there is none. Two masks without a boundary score 1.
    Pixels that are True in `void` (H, W) are taken from both masks: where nobody knows, no outline is right or wrong.
    """
    if predicted.shape != true.shape or predicted.ndim != 3:
        raise ValueError(f"masks must both be (n, H, W), but got {predicted.shape} and {true.shape}")
    if void is not None:
        predicted, true = predicted & ~void, true & ~void
    return np.array([_boundary_f(p, t, tolerance) for p, t in zip(predicted, true, strict=True)], np.float64)


def _boundary_f(predicted: Bool, true: Bool, tolerance: float) -> float:
    edges = [_boundary(predicted), _boundary(true)]
    if not any(edge.any() for edge in edges):
        return 1.0
    if not all(edge.any() for edge in edges):
        return 0.0
    far = [cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for edge in edges]
    precision = float(np.mean(far[1][edges[0]] <= tolerance))
    recall = float(np.mean(far[0][edges[1]] <= tolerance))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _boundary(mask: Bool) -> Bool:
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8))  # OpenCV's border is neutral for erosion: the image's edge stays
    return np.asarray(mask & (inner == 0), np.bool_)


def boxes_to_score(prompts: Prompts, labels: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Boxes (n, 4) that say which true instance each prompt means, for `score_frame`; x0 y0 x1 y1 in pixels of the (H, W) id mask.

    The prompt's own box; else that of its coarse mask; else the tight box of the instance that most of its points on the object are in, or
    zeros, which match nothing, where that is the background.
    """
    tight = dict(zip(*boxes_of_labels(labels), strict=True))
    boxes = np.zeros((len(prompts), 4), np.float32)
    for row, each in enumerate(prompts.objects):
        if each.box is not None:
            boxes[row] = each.box
        elif each.mask is not None:
            boxes[row] = box_of_mask(each.mask)
        elif len(on := each.points[each.point_labels == 1]):
            xs, ys = np.minimum(on.astype(int), (labels.shape[1] - 1, labels.shape[0] - 1)).T
            boxes[row] = tight.get(np.bincount(labels[ys, xs]).argmax(), 0)
    return boxes
