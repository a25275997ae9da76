"""Two robots, each with a segmenter in a namespace of its own: one adapter node that learns from both and serves both, or one each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import UInt64
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2DArray
from wesam_ros.msg import AdaptationStatus
from wesam_ros.srv import LoadAdapter

from wesam_ros.data.messages import stamp_of
from wesam_ros.ros.children import NodeProcess
from wesam_ros.ros.subscriptions import LATCHED
from wesam_ros.sam import load_sam
from wesam_ros.sam.adapter import Adapter


class Robot:
    """A camera and a detector in a namespace, and what its segmenter and the adapter node that serves it say."""

    def __init__(self, graph: Any, namespace: str, adapter: str) -> None:
        self.graph = graph
        kinds = {"image": Image, "depth": Image, "camera_info": CameraInfo, "detections": Detection2DArray}
        self.publishers = {name: graph.node.create_publisher(kind, f"{namespace}/{name}", 10) for name, kind in kinds.items()}
        self.versions: list[int] = []
        graph.node.create_subscription(
            UInt64, f"{namespace}/segmenter/adapter_version", lambda message: self.versions.append(message.data), LATCHED
        )
        self._statuses: dict[int, AdaptationStatus] = {}
        graph.node.create_subscription(
            AdaptationStatus, f"{adapter}/status", lambda message: self._statuses.update({stamp_of(message.header): message}), 10
        )

    def status(self, raised: bool = False) -> AdaptationStatus:
        """Sends a frame and waits for what the adapter node makes of it."""
        header = self.graph.next_header()
        for name, message in self.graph.frame(header, raised=raised).items():
            self.publishers[name].publish(message)
        return self.graph.until(lambda: self._statuses.get(stamp_of(header)), "a status")


def started(graph: Any, processes: list[NodeProcess], robots: list[Robot]) -> None:
    """Waits until a segmenter and an adapter node listen to each robot."""

    def subscribed() -> bool:
        for each in processes:
            each.check()
        return all(robot.publishers["detections"].get_subscription_count() == 2 for robot in robots)

    graph.until(subscribed, "the start of segmenters and adapter nodes")


@pytest.fixture(scope="module")
def robots(graph: Any, random_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Robot]]:
    folder = tmp_path_factory.mktemp("fleet")
    shared = {"checkpoint": random_tiny, "torch_threads": 1}
    learning = {"namespaces": "/robot1, /robot2", "steps_per_frame": 1, "adaptation.publish_every": 1}
    learning |= {
        "adaptation.validation_every": 2,
        "adaptation.validation_frames": 1,
        "adaptation.tolerance": 1.0,
        "adaptation.prompt_fit": 0.0,
    }
    processes = []
    try:
        for name in ("robot1", "robot2"):
            log = folder / name / "segmenter.log"
            processes.append(NodeProcess("segmenter", shared, log, {}, {"__ns": f"/{name}", "adapter": "/adapter"}))
        processes.append(NodeProcess("adapter", {**shared, **learning}, folder / "adapter.log", {}))
        found = [Robot(graph, namespace, "/adapter") for namespace in ("/robot1", "/robot2")]
        started(graph, processes, found)
        yield found
    finally:
        for each in processes:
            each.stop()


def test_both_are_learnt_from_and_both_get_the_adapters(graph: Any, robots: list[Robot]) -> None:
    published, learnable = 0, []
    for turn in range(10):
        status = robots[turn % 2].status()
        assert status.accepted
        learnable.append(status.replay_frames)
        published = status.version
        if published and turn >= 3:
            break
    assert published
    assert learnable[:4] == [1, 2, 2, 2]  # the second frame of each robot is held back
    for robot in robots:
        graph.until(lambda robot=robot: robot.versions and robot.versions[-1] == published, "the segmenter's taking the newest adapter")
    for name in ("/robot1", "/robot2"):
        graph.until(lambda name=name: graph.count("adapter", f"received.{name}/image") >= 2, "the count of a robot's images")


def test_of_the_adapters_of_two_nodes_the_better_one_comes_to_be_served(graph: Any, tmp_path: Path) -> None:
    """Both see the same table, and only one learns. Each is asked what it thinks of the other's."""
    shared: dict[str, Any] = {"torch_threads": 1}
    guard: dict[str, Any] = {"adaptation.validation_every": 2, "adaptation.validation_frames": 1}
    guard |= {
        "adaptation.prompt_fit": 0.0,
        "adaptation.lead": 0.0,
        "adaptation.divergence": 0.0,
    }  # what is boxed in the test's pictures is no thing
    own: dict[str, dict[str, Any]] = {"learning": {"steps_per_frame": 10, "adaptation.tolerance": 1.0}, "idle": {"steps_per_frame": 0}}
    files = {name: tmp_path / f"{name}.safetensors" for name in own}
    processes = []
    try:
        for name, settings in own.items():
            namespace, parameters = {"__ns": f"/{name}"}, {**shared, **guard, **settings, "save_to": files[name]}
            processes.append(NodeProcess("segmenter", shared, tmp_path / f"{name}_segmenter.log", {}, namespace))
            processes.append(NodeProcess("adapter", parameters, tmp_path / f"{name}.log", {}, namespace))
        robots = {name: Robot(graph, f"/{name}", f"/{name}/adapter") for name in own}
        started(graph, processes, list(robots.values()))
        for name, frames in (("learning", 4), ("idle", 2)):
            for _ in range(frames):
                assert robots[name].status(raised=True).accepted
            assert graph.call(Trigger, f"/{name}/adapter/save", Trigger.Request()).success
        answers = {
            by: graph.call(LoadAdapter, f"/{by}/adapter/load", LoadAdapter.Request(path=str(files[other])))
            for by, other in (("learning", "idle"), ("idle", "learning"))
        }
        assert not answers["learning"].success
        assert "worse_score" in answers["learning"].message
        assert answers["idle"].success, answers["idle"].message
        learnt, served = (Adapter.load(files[name], for_sam=load_sam("tiny")) for name in ("learning", "idle"))
        assert learnt.version > 1
        assert served.version == 1
        assert served.b.any()
        assert served.b.equal(learnt.b)
        for robot, version in ((robots["learning"], learnt.version), (robots["idle"], served.version)):
            graph.until(lambda robot=robot, version=version: robot.versions[-1:] == [version], "the segmenter's taking the better adapter")
    finally:
        for each in processes:
            each.stop()
