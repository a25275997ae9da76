"""The segmenter beside a detector that misses things: they are proposed, or carried from the frames before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

from wesam_ros.data.boxes import box_iou

NODE_PARAMETERS = {"propose": "missing", "propose_rate": 0.001, "refine": "all", "target_frame": "", "carry_frames": 10}
"""Things are proposed in the first frame only: the next one is due in a quarter of an hour."""
INSIDE = [[13.0, 23.0, 57.0, 87.0], [83.0, 33.0, 147.0, 97.0]]
"""The bright rectangles of a frame, which rise."""

pytestmark = pytest.mark.usefixtures("segmenter")


def test_what_is_missed_is_added_once_and_then_carried(graph: Any) -> None:
    def objects(boxes: list[list[float]]) -> Any:
        header = graph.next_header()
        graph.send(**graph.frame(header, boxes, raised=True))
        return graph.masks_of(header).objects

    asked, added = objects(INSIDE[:1])
    assert [(each.id, each.class_id) for each in (asked, added)] == [("a", "cup"), ("#1", "")]
    np.testing.assert_array_equal(asked.box, INSIDE[0])
    assert box_iou(np.array([added.box], np.float32), np.array(INSIDE[1:], np.float32))[0, 0] > 0.75
    tracks = [asked.track_id, added.track_id]

    both = objects(INSIDE)
    assert [(each.id, each.class_id) for each in both] == [("a", "cup"), ("b", "cup")]
    assert [each.track_id for each in both] == tracks

    detected, carried = objects(INSIDE[:1])
    assert (detected.id, carried.id, carried.class_id) == ("a", "#1", "cup")
    assert [each.track_id for each in (detected, carried)] == tracks
    assert carried.source.split("+")[-1] == "track" and "track" not in detected.source
    assert carried.detection_score == pytest.approx(both[1].detection_score)
    assert box_iou(np.array([carried.box], np.float32), np.array(INSIDE[1:], np.float32))[0, 0] > 0.75
