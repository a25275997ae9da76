"""The segmenter without a detector: it segments everything, and publishes proposals for the adapter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

from vision_msgs.msg import Detection2DArray
from wesam_ros.msg import Prompts
from wesam_ros.srv import Segment

from wesam_ros.data.boxes import box_iou
from wesam_ros.data.messages import detections_of, stamp_of
from wesam_ros.ros.children import NodeProcess

INSIDE = np.array([(13, 23, 57, 87), (83, 33, 147, 97)], np.float32)
"""The bright rectangles of a frame, which rise."""


@pytest.fixture(scope="module")
def whole(graph: Any, random_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A segmenter that needs no detector."""
    parameters = {"checkpoint": random_tiny, "torch_threads": 1, "propose": "all", "propose_rate": 0.0, "image_transport": "raw"}
    process = NodeProcess("segmenter", parameters, tmp_path_factory.mktemp("whole") / "segmenter.log", {})
    topics = ("image", "depth", "camera_info")

    def subscribed() -> bool:
        process.check()
        found = [[each.node_name for each in graph.node.get_subscriptions_info_by_topic(f"/{topic}")] for topic in topics]
        return all("segmenter" in each for each in found)

    try:
        graph.until(subscribed, "the segmenter's start")
        for topic in topics:
            graph.until(graph.publishers[topic].get_subscription_count, "its hearing the tests")
        graph.diagnostics.pop("/segmenter", None)
        yield process
    finally:
        process.stop()


def found_all(boxes: np.ndarray) -> bool:
    """True where each of both rectangles has a box of its own."""
    return boxes.shape == (2, 4) and bool((box_iou(boxes.astype(np.float32), INSIDE).max(0) > 0.75).all())


def test_everything_is_segmented_without_a_detector(graph: Any, whole: NodeProcess) -> None:
    proposals: dict[int, Any] = {}
    graph.node.create_subscription(
        Detection2DArray, "segmenter/proposals", lambda message: proposals.update({stamp_of(message.header): message}), 10
    )
    ids = []
    for _ in range(2):
        header = graph.next_header()
        graph.send(**graph.frame(header, raised=True) | {"detections": None})
        result = graph.masks_of(header)
        assert found_all(np.stack([each.box for each in result.objects]))
        assert {each.class_id for each in result.objects} == {""}
        ids.append(sorted(each.track_id for each in result.objects))
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2
    graph.until(lambda: stamp_of(header) in proposals, "the proposals")
    assert found_all(detections_of(proposals[stamp_of(header)]).boxes)
    assert "detections" not in graph.warnings.get("/segmenter", "")
    assert "/detections" not in graph.endpoints("segmenter")["subscribe"]


def test_a_request_without_prompts_asks_for_everything(graph: Any, whole: NodeProcess) -> None:
    frame = graph.frame(graph.next_header(), raised=True)
    request = Segment.Request(image=frame["image"], depth=frame["depth"], camera_info=frame["camera_info"], prompts=Prompts())
    response = graph.call(Segment, "/segmenter/segment", request)
    assert response.success, response.message
    assert found_all(np.stack([each.box for each in response.objects.objects]))


def test_the_security_policy_permits_the_adapter_to_learn_from_proposals(graph: Any, random_tiny: Path, tmp_path: Path) -> None:
    parameters = {"checkpoint": random_tiny, "torch_threads": 1, "image_transport": "raw"}
    process = NodeProcess("adapter", parameters, tmp_path / "adapter.log", {}, {"detections": "segmenter/proposals"})

    def subscribed() -> set[str]:
        process.check()
        return {"adapter"} & {each.node_name for each in graph.node.get_subscriptions_info_by_topic("/segmenter/proposals")}

    try:
        graph.until(subscribed, "the adapter's subscription to proposals")
        assert graph.endpoints("adapter")["subscribe"] <= graph.permitted("adapter")["subscribe"]
    finally:
        process.stop()
