"""Metrics, against values worked out by hand."""

import numpy as np
import pytest

from wesam_ros.data.boxes import box_iou
from wesam_ros.evaluation import metrics


def square(x0: int, y0: int, x1: int, y1: int, size: tuple[int, int] = (12, 12)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


@pytest.mark.parametrize(
    ("predicted", "true", "expected"),
    [
        (square(0, 0, 4, 4), square(0, 0, 4, 4), 1.0),
        (square(0, 0, 4, 4), square(2, 0, 6, 4), 8 / 24),
        (square(0, 0, 4, 4), square(6, 6, 9, 9), 0.0),
        (square(0, 0, 0, 0), square(6, 6, 9, 9), 0.0),
        (square(0, 0, 0, 0), square(0, 0, 0, 0), 1.0),
    ],
)
def test_mask_iou(predicted: np.ndarray, true: np.ndarray, expected: float) -> None:
    assert metrics.mask_iou(predicted[None], true[None]).tolist() == pytest.approx([expected])


def test_void_pixels_count_for_neither_mask() -> None:
    predicted, true, void = square(0, 0, 4, 4), square(2, 0, 6, 4), square(4, 0, 12, 12)
    assert metrics.mask_iou(predicted[None], true[None], void).tolist() == [8 / 16]
    labels = np.where(void, 0, true).astype(np.uint16)
    score = metrics.score_frame(square(0, 0, 12, 4)[None], boxes((2, 0, 4, 4)), labels, void=void)
    assert score.iou.tolist() == [8 / 16]


def test_no_masks_have_no_scores() -> None:
    none = np.zeros((0, 5, 5), bool)
    assert metrics.mask_iou(none, none).shape == (0,)
    assert metrics.boundary_f(none, none).shape == (0,)


@pytest.mark.parametrize("metric", [metrics.mask_iou, metrics.boundary_f])
def test_masks_of_different_shapes(metric: object) -> None:
    with pytest.raises(ValueError, match=r"must both be \(n, H, W\), but got"):
        metric(np.zeros((1, 5, 5), bool), np.zeros((2, 5, 5), bool))  # type: ignore[operator]


def test_box_iou() -> None:
    a = boxes((0, 0, 4, 4), (10, 10, 10, 12))
    b = boxes((0, 0, 4, 4), (2, 0, 6, 4), (20, 20, 30, 30))
    np.testing.assert_allclose(box_iou(a, b), [[1, 8 / 24, 0], [0, 0, 0]])
    assert box_iou(boxes(), b).shape == (0, 3)


@pytest.mark.parametrize(
    ("predicted", "true", "expected"),
    [
        (boxes(), boxes((0, 0, 4, 4)), []),
        (boxes((0, 0, 4, 4)), boxes(), []),
        # the nearer one wins, the other one is left over
        (boxes((0, 0, 4, 3), (0, 0, 4, 4)), boxes((0, 0, 4, 4)), [[1, 0]]),
        # below one half there is no match
        (boxes((2, 0, 6, 4)), boxes((0, 0, 4, 4)), []),
        # the best pair first (0.9), then what is left (8 / 13)
        (boxes((0, 0, 10, 10), (0, 0, 10, 8)), boxes((0, 0, 10, 9), (0, 0, 10, 13)), [[0, 0], [1, 1]]),
        # order of the true boxes
        (boxes((20, 0, 30, 9), (0, 0, 10, 9)), boxes((0, 0, 10, 9), (20, 0, 30, 9)), [[1, 0], [0, 1]]),
    ],
)
def test_match_boxes(predicted: np.ndarray, true: np.ndarray, expected: list[list[int]]) -> None:
    assert metrics.match_boxes(predicted, true).tolist() == expected


def test_score_frame_counts_what_the_detector_got_wrong_apart() -> None:
    labels = np.zeros((12, 12), np.uint16)
    labels[0:4, 0:4], labels[6:10, 6:10], labels[11, 11] = 3, 7, 9
    masks = np.stack([square(6, 6, 10, 10), square(0, 8, 3, 11), square(0, 0, 4, 2)])
    score = metrics.score_frame(masks, boxes((6, 6, 10, 10), (0, 8, 3, 11), (0, 0, 4, 4)), labels)
    assert score.ids.tolist() == [3, 7]
    assert score.iou.tolist() == [0.5, 1.0]
    assert (score.missed, score.false) == (1, 1)


def test_score_frame_without_boxes_and_without_objects() -> None:
    none = np.zeros((0, 12, 12), bool)
    labels = np.zeros((12, 12), np.uint16)
    empty = metrics.score_frame(none, boxes(), labels)
    assert (empty.iou.size, empty.missed, empty.false) == (0, 0, 0)
    labels[2, 2] = 1
    assert metrics.score_frame(none, boxes(), labels).missed == 1
    with pytest.raises(ValueError, match="a mask per box"):
        metrics.score_frame(none, boxes((0, 0, 1, 1)), labels)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ([[1.0, 0.0], [1.0]], 0.75),  # not 2/3: images count alike, however many instances they have
        ([[0.5], []], 0.5),
        ([[], []], float("nan")),
        ([], float("nan")),
    ],
)
def test_mean_iou(images: list[list[float]], expected: float) -> None:
    assert metrics.mean_iou(images) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("predicted", "true", "tolerance", "expected"),
    [
        (square(2, 2, 8, 8), square(2, 2, 8, 8), 0, 1.0),
        # 20 boundary pixels each; shifted by one, 2 rows of 5 still coincide
        (square(2, 2, 8, 8), square(3, 2, 9, 8), 0, 10 / 20),
        (square(2, 2, 8, 8), square(3, 2, 9, 8), 1, 1.0),
        # 12 of the small one against 20 of the large one round it: nothing within 1 px but diagonals at sqrt(2)
        (square(3, 3, 7, 7), square(2, 2, 8, 8), 0.5, 0.0),
        # all 12 are within 1 px of the large one; of its 20 the 4 corners are sqrt(2) away: P = 1, R = 16 / 20
        (square(3, 3, 7, 7), square(2, 2, 8, 8), 1, 2 * 0.8 / 1.8),
        (square(0, 0, 0, 0), square(2, 2, 8, 8), 2, 0.0),
        (square(0, 0, 0, 0), square(0, 0, 0, 0), 2, 1.0),
        # both fill the left half: their edge is one column; where the image ends there is no boundary
        (square(0, 0, 5, 12), square(0, 0, 6, 12), 0, 0.0),
        (square(0, 0, 5, 12), square(0, 0, 6, 12), 1, 1.0),
    ],
)
def test_boundary_f(predicted: np.ndarray, true: np.ndarray, tolerance: float, expected: float) -> None:
    assert metrics.boundary_f(predicted[None], true[None], tolerance).tolist() == pytest.approx([expected])


def test_boundary_f_where_nobody_knows_the_outline() -> None:
    """A ring of void 2 pixels wide about an object of 4 x 4, as in VOC: a mask that ends within the ring is right."""
    true, ring = square(4, 4, 8, 8), square(2, 2, 10, 10) & ~square(4, 4, 8, 8)
    within = square(2, 2, 10, 10)
    assert metrics.boundary_f(within[None], true[None], 1.0, ring).tolist() == [1.0]
    assert metrics.boundary_f(within[None], true[None], 1.0).tolist() == [0.0]
