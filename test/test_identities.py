"""Scores of ids: what TrackEval is given, and what comes of right, changed and missing ids."""

from __future__ import annotations

import numpy as np
import pytest

from wesam_ros.evaluation.identities import Moment, moment_of, score_identities


def test_a_moment_has_the_ids_and_the_iou_of_the_masks() -> None:
    labels, found = np.zeros((2, 4, 8), np.uint16)
    labels[:, 0:4], labels[:, 6:8] = 5, 9
    found[:, 0:2], found[:2, 6:8] = 2, 1
    moment = moment_of(labels, found, np.array([7, 3]))
    assert (moment.true.tolist(), moment.served.tolist()) == ([5, 9], [7, 3])
    np.testing.assert_allclose(moment.iou, [[0, 0.5], [0.5, 0]])


def stream(served: list[list[int]]) -> list[Moment]:
    """Two things, 4 and 8, of which those with a positive id are served, exactly."""
    moments = []
    for ids in served:
        rows = [row for row, number in enumerate(ids) if number]
        moments.append(Moment(np.array([4, 8]), np.array([ids[row] for row in rows], np.int64), np.eye(2)[:, rows]))
    return moments


@pytest.mark.parametrize(
    ("served", "idf1", "switches"),
    [
        ([[3, 1]] * 4, 1.0, 0),
        ([[3, 1], [3, 0], [3, 1], [3, 1]], 14 / 15, 0),
        ([[3, 1], [3, 1], [3, 2], [3, 2]], 12 / 16, 1),
        ([[3, 1], [3, 1], [1, 3], [1, 3]], 8 / 16, 2),
    ],
)
def test_scores(served: list[list[int]], idf1: float, switches: int) -> None:
    pytest.importorskip("trackeval", reason="needs trackeval: pip install --no-deps -r requirements-tracks.txt")
    found = score_identities(stream(served))
    assert found.idf1 == pytest.approx(idf1)
    assert (found.switches, found.truths) == (switches, 8)
    assert (found.hota == pytest.approx(1.0)) == (idf1 == 1.0)
