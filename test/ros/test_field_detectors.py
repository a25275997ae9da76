"""Detectors of the field at a running segmenter: two on one topic, one with a grid of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from vision_msgs.msg import Detection2DArray

pytestmark = pytest.mark.usefixtures("segmenter")


def test_two_detectors_on_one_topic(graph: Any) -> None:
    """Both answer before the image has come, which waits until they were heard."""
    frame = graph.frame(graph.next_header())
    both: Detection2DArray = frame.pop("detections")
    merged = graph.count("segmenter", "merged.detections")
    heard = graph.count("segmenter", "received.detections")
    for each in both.detections:
        graph.send(detections=Detection2DArray(header=both.header, detections=[each]))
    graph.until(lambda: graph.count("segmenter", "received.detections") == heard + 2, "the detections")
    graph.send(**frame)
    assert [each.id for each in graph.masks_of(both.header).objects] == ["a", "b"]
    graph.until(lambda: graph.count("segmenter", "merged.detections") == merged + 1, "the count")


def test_boxes_of_a_networks_input_are_told_of_until_its_size_is_set(graph: Any) -> None:
    header = graph.next_header()
    frame = graph.frame(header, boxes=[(280, 280, 360, 360)])  # in 640 x 640 with bars
    own = frame["detections"]
    graph.send(**frame)
    graph.until(lambda: graph.count("segmenter", "foreign.detections") == 1, "the count")
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value="640x640 letterbox")
    set_to = SetParameters.Request(parameters=[Parameter(name="detections_size", value=value)])
    try:
        assert graph.call(SetParameters, "segmenter/set_parameters", set_to).results[0].successful
        own.header = graph.next_header()
        graph.send(**{**graph.frame(own.header), "detections": own})
        (found,) = graph.masks_of(own.header).objects
        np.testing.assert_allclose(found.box, (70, 50, 90, 70), atol=1e-3)
        value.string_value = "letterbox"
        assert not graph.call(SetParameters, "segmenter/set_parameters", set_to).results[0].successful
    finally:
        value.string_value = ""
        assert graph.call(SetParameters, "segmenter/set_parameters", set_to).results[0].successful
