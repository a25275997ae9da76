"""The simulated detector: what it may and may not do to the true boxes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from wesam_ros.data.boxes import box_of_mask, boxes_of_labels
from wesam_ros.data.detector import simulate_detections


@pytest.fixture
def labels() -> npt.NDArray[np.uint16]:
    image = np.zeros((120, 160), np.uint16)
    image[0:30, 0:40] = 2
    image[50:60, 70:100] = 5
    image[80:120, 120:160] = 9
    return image


def test_without_faults_it_gives_the_tight_boxes(labels: npt.NDArray[np.uint16]) -> None:
    found = simulate_detections(labels, np.random.default_rng(0), jitter=0, miss=0, false=0)
    ids, boxes = boxes_of_labels(labels)
    assert found.ids == tuple(f"obj{i}" for i in ids)
    np.testing.assert_array_equal(found.boxes, boxes)


def test_jitter_moves_each_edge_by_less_than_its_fraction_and_stays_inside(labels: npt.NDArray[np.uint16]) -> None:
    _, boxes = boxes_of_labels(labels)
    side = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    rng = np.random.default_rng(1)
    moved = np.stack([simulate_detections(labels, rng, jitter=0.2, miss=0, false=0).boxes for _ in range(50)])
    shift = np.abs(moved - boxes) / side
    assert shift.max() <= 0.2 + 1e-6
    assert shift[:, 1].mean() == pytest.approx(0.1, abs=0.02)  # object 5 touches no border, so nothing is clipped
    assert moved.min() >= 0
    assert (moved[..., 2:] <= [160, 120]).all()
    assert (moved[..., 2:] > moved[..., :2]).all()


def test_misses_and_false_boxes_come_at_their_rates_under_their_names(labels: npt.NDArray[np.uint16]) -> None:
    rng = np.random.default_rng(2)
    names = [name for _ in range(400) for name in simulate_detections(labels, rng, miss=0.25, false=0.5).ids]
    assert sum(n.startswith("obj") for n in names) / 1200 == pytest.approx(0.75, abs=0.05)
    assert sum(n.startswith("false") for n in names) / 1200 == pytest.approx(0.5, abs=0.07)
    assert set(names) >= {"obj2", "obj5", "obj9", "false0"}


def test_an_empty_image_has_no_detections() -> None:
    assert len(simulate_detections(np.zeros((10, 10), np.uint16), np.random.default_rng(0))) == 0


@pytest.mark.parametrize(("faults", "name"), [({"jitter": 0.6}, "jitter"), ({"miss": -0.1}, "miss"), ({"false": -1.0}, "false")])
def test_a_rate_out_of_range_is_named(faults: dict[str, float], name: str, labels: npt.NDArray[np.uint16]) -> None:
    with pytest.raises(ValueError, match=f"{name} must be between"):
        simulate_detections(labels, np.random.default_rng(0), **faults)


def test_the_box_of_a_mask_is_tight_and_of_none_empty() -> None:
    mask = np.zeros((10, 20), bool)
    assert box_of_mask(mask).tolist() == [0, 0, 0, 0]
    mask[3:6, 4], mask[5, 4:9] = True, True
    assert box_of_mask(mask).tolist() == [4, 3, 9, 6]
    assert box_of_mask(mask[:, ::2]).tolist() == [2, 3, 5, 6]  # a view that is not contiguous
