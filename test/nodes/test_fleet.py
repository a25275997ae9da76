"""One adapter node that learns from two robots and serves both, each with a segmenter in a namespace of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import UInt64
from vision_msgs.msg import Detection2DArray
from wesam_ros.msg import AdaptationStatus

from wesam_ros.nodes.children import NodeProcess
from wesam_ros.nodes.conversions import stamp_of
from wesam_ros.nodes.inputs import LATCHED


class Robot:
    """A camera and a detector in a namespace, and what its segmenter says of adapters."""

    def __init__(self, graph: Any, namespace: str) -> None:
        self.graph = graph
        kinds = {"image": Image, "depth": Image, "camera_info": CameraInfo, "detections": Detection2DArray}
        self.publishers = {name: graph.node.create_publisher(kind, f"{namespace}/{name}", 10) for name, kind in kinds.items()}
        self.versions: list[int] = []
        graph.node.create_subscription(
            UInt64, f"{namespace}/segmenter/adapter_version", lambda message: self.versions.append(message.data), LATCHED
        )

    def status(self) -> AdaptationStatus:
        """Sends a frame and waits for what the adapter node makes of it."""
        header = self.graph.next_header()
        for name, message in self.graph.frame(header).items():
            self.publishers[name].publish(message)
        return self.graph.until(lambda: self.graph.statuses.get(stamp_of(header)), "a status")


@pytest.fixture(scope="module")
def robots(graph: Any, random_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Robot]]:
    folder = tmp_path_factory.mktemp("fleet")
    shared = {"checkpoint": random_tiny, "torch_threads": 1}
    learning = {"namespaces": "/robot1, /robot2", "steps_per_frame": 1, "adaptation.publish_every": 1}
    learning |= {"adaptation.held_back": 2, "adaptation.judges": 1, "adaptation.tolerance": 1.0, "adaptation.fit": 0.0}
    processes = []
    try:
        for name in ("robot1", "robot2"):
            log = folder / name / "segmenter.log"
            processes.append(NodeProcess("segmenter", shared, log, {}, {"__ns": f"/{name}", "adapter": "/adapter"}))
        processes.append(NodeProcess("adapter", {**shared, **learning}, folder / "adapter.log", {}))
        found = [Robot(graph, "/robot1"), Robot(graph, "/robot2")]

        def subscribed() -> bool:
            for each in processes:
                each.check()
            return all(robot.publishers["detections"].get_subscription_count() == 2 for robot in found)

        graph.until(subscribed, "the start of two segmenters and an adapter node")
        yield found
    finally:
        for each in processes:
            each.stop()


def test_both_are_learnt_from_and_both_get_the_adapters(graph: Any, robots: list[Robot]) -> None:
    published, learnable = 0, []
    for turn in range(10):
        status = robots[turn % 2].status()
        assert status.accepted
        learnable.append(status.memory_frames)
        published = status.version
        if published and turn >= 3:
            break
    assert published
    assert learnable[:4] == [1, 2, 2, 2]  # the second frame of each robot is held back
    for robot in robots:
        graph.until(lambda robot=robot: robot.versions and robot.versions[-1] == published, "the segmenter's taking the newest adapter")
    for name in ("/robot1", "/robot2"):
        graph.until(lambda name=name: graph.count("adapter", f"received.{name}/image") >= 2, "the count of a robot's images")
