"""The subscriptions of a robot: QoS that follows the publishers, and inputs that have stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from wesam_ros.ros.input_health import SILENT_SECONDS
from wesam_ros.ros.inputs import Inputs
from wesam_ros.settings import InputParameters


@pytest.fixture
def inputs(graph: Any, counts: Any) -> Iterator[Inputs]:
    declared: Any = SimpleNamespace(value=InputParameters())
    found = Inputs(graph.node, declared, counts, lambda frame: None, prefix="probe/")
    yield found
    found.close()


def test_an_input_is_reliable_again_when_no_best_effort_publisher_is_left(graph: Any, inputs: Inputs, counts: Any) -> None:
    def subscribed(policy: ReliabilityPolicy) -> bool:
        found = graph.node.get_subscriptions_info_by_topic("/probe/image")
        return {each.qos_profile.reliability for each in found} == {policy}

    assert subscribed(ReliabilityPolicy.RELIABLE)
    camera = graph.node.create_publisher(Image, "probe/image", QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT))
    graph.until(lambda: subscribed(ReliabilityPolicy.BEST_EFFORT), "subscribing as best effort")
    recording = graph.node.create_publisher(Image, "probe/image", 5)
    graph.until(lambda: camera.get_subscription_count() and recording.get_subscription_count(), "the match of both")
    graph.node.destroy_publisher(camera)
    graph.until(lambda: subscribed(ReliabilityPolicy.RELIABLE), "subscribing as reliable")
    graph.until(recording.get_subscription_count, "the match")
    recording.publish(Image(header=graph.next_header()))
    graph.until(lambda: counts["received.probe/image"], "the image")
    graph.node.destroy_publisher(recording)


def test_an_input_that_has_stopped_is_named_while_images_come(graph: Any, inputs: Inputs, counts: Any) -> None:
    kinds = {"image": Image, "depth": Image, "detections": Detection2DArray}
    publishers = {name: graph.node.create_publisher(kind, f"probe/{name}", 5) for name, kind in kinds.items()}
    graph.until(lambda: all(each.get_subscription_count() for each in publishers.values()), "the match")
    header = graph.next_header()
    publishers["image"].publish(Image(header=header))
    graph.until(lambda: counts["received.probe/image"], "the image")
    assert inputs.health.missing() == ""  # what was never heard may be nobody's
    publishers["depth"].publish(Image(header=header))
    publishers["detections"].publish(Detection2DArray(header=header))
    graph.until(lambda: counts["received.probe/depth"] and counts["received.probe/detections"], "depth and detections")
    assert inputs.health.missing() == ""

    def silence(kind: str) -> None:
        for each in inputs.subscriptions[kind]._open.values():
            each.heard = time.monotonic() - SILENT_SECONDS - 1

    depth, detections = "nothing comes on /probe/depth any more: no 3D output", "nothing comes on /probe/detections any more"
    silence("detections")
    assert inputs.health.missing().startswith(f"{detections}: its publisher is there")
    silence("depth")
    assert inputs.health.missing().startswith(depth)
    graph.node.destroy_publisher(publishers["depth"])  # it makes no difference whether its publisher is there
    assert inputs.health.missing().startswith(depth)
    silence("image")
    assert inputs.health.missing().startswith("nothing comes on /probe/image: it has a publisher")
    assert "any more" not in inputs.health.missing()
    for name in ("image", "detections"):
        graph.node.destroy_publisher(publishers[name])
