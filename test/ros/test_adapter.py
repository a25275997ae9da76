"""The adapter node in its own process: learning, publishing, services, and being killed."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from sensor_msgs.msg import CompressedImage
from std_srvs.srv import SetBool, Trigger
from wesam_ros.msg import AdaptationStatus
from wesam_ros.srv import LoadAdapter

from wesam_ros.data.messages import stamp_of
from wesam_ros.ros.children import NodeProcess
from wesam_ros.sam import Adapter

IMAGE_TRANSPORT = "compressed"


class AdapterUnderTest:
    """The adapter node's process; it takes compressed images and publishes after every step that it can judge."""

    def __init__(self, graph: Any, checkpoint: Path, folder: Path, jpeg: Callable[..., CompressedImage]) -> None:
        self.graph, self.checkpoint, self.folder, self.jpeg = graph, checkpoint, folder, jpeg
        self.saved = folder / "adapter.safetensors"
        self.start()

    def start(self) -> None:
        before = self.graph.listeners("/detections")
        self.process = NodeProcess(
            "adapter",
            {
                "checkpoint": self.checkpoint,
                "torch_threads": 1,
                "image_transport": IMAGE_TRANSPORT,
                "save_to": self.saved,
                "steps_per_frame": 1,
                "adaptation.publish_every": 1,
                "adaptation.validation_every": 2,
                "adaptation.prompt_fit": 0.0,  # the random model's masks fit no box
                "adaptation.validation_frames": 1,
                "adaptation.tolerance": 1.0,
            },
            self.folder / "adapter.log",
            {},
        )

        def subscribed() -> bool:
            self.process.check()
            return bool(self.graph.listeners("/detections") - before)

        self.graph.until(subscribed, "the adapter node's start")

    def send(self, image: CompressedImage | None = None) -> int:
        """Sends a frame to adapter and segmenter alike; returns its stamp."""
        header = self.graph.next_header()
        frame = self.graph.frame(header)
        self.graph.send(**frame, compressed=image if image is not None else self.jpeg(header))
        return stamp_of(header)

    def status(self, stamp: int) -> AdaptationStatus:
        return self.graph.until(lambda: self.graph.statuses.get(stamp), f"a status for the frame with stamp {stamp}")

    def until_published(self, sends: int = 10) -> AdaptationStatus:
        """Sends frames until one leads to a new adapter."""
        for _ in range(sends):
            status = self.status(self.send())
            if status.published:
                return status
        raise AssertionError(f"no adapter within {sends} frames: {status}")

    def call(self, name: str) -> Trigger.Response:
        return self.graph.call(Trigger, f"/adapter/{name}", Trigger.Request())


@pytest.fixture(scope="module")
def adapter(
    graph: Any,
    segmenter: NodeProcess,
    random_tiny: Path,
    tmp_path_factory: pytest.TempPathFactory,
    make_jpeg: Callable[..., CompressedImage],
) -> Iterator[AdapterUnderTest]:
    under_test = AdapterUnderTest(graph, random_tiny, tmp_path_factory.mktemp("adapter"), make_jpeg)
    yield under_test
    under_test.process.stop()


def test_learns_and_publishes_what_it_has_saved(adapter: AdapterUnderTest, sam: Any) -> None:
    status = adapter.until_published()
    assert status.accepted
    assert status.state == AdaptationStatus.LEARNING
    assert "total" in status.loss_names
    assert len(status.losses) == len(status.loss_names)
    published = adapter.graph.until(
        lambda: next((each for each in adapter.graph.adapters if each.version == status.version), None), "the adapter's message"
    )
    assert Adapter.from_bytes(published.data.tobytes(), for_sam=sam).version == status.version
    assert adapter.saved.read_bytes() == published.data.tobytes()


def test_a_truncated_jpeg_is_counted_and_has_a_status(adapter: AdapterUnderTest) -> None:
    header = adapter.graph.next_header()
    whole = adapter.jpeg(header)
    whole.data = whole.data[: len(whole.data) // 2]
    adapter.graph.send(**adapter.graph.frame(header), compressed=whole)
    status = adapter.status(stamp_of(header))
    assert not status.accepted
    assert status.reason.startswith("image: ")
    for node in ("adapter", "segmenter"):
        adapter.graph.until(lambda node=node: adapter.graph.count(node, "rejected.image.truncated") == 1, f"the count of the {node}")
    stamp = adapter.send()
    assert adapter.status(stamp).accepted
    assert len(adapter.graph.masks_of(stamp).objects) == 2


def test_the_security_policy_permits_what_the_node_does(adapter: AdapterUnderTest) -> None:
    permitted, found = adapter.graph.permitted("adapter"), adapter.graph.endpoints("adapter")
    assert found["reply"] == permitted["reply"]
    for kind in ("publish", "subscribe"):
        assert found[kind] and found[kind] <= permitted[kind], kind


def test_pause(adapter: AdapterUnderTest) -> None:
    assert adapter.graph.call(SetBool, "/adapter/pause", SetBool.Request(data=True)).success
    status = adapter.status(adapter.send())
    assert (status.state, status.accepted, list(status.losses)) == (AdaptationStatus.PAUSED, False, [])
    assert adapter.graph.call(SetBool, "/adapter/pause", SetBool.Request(data=False)).success
    assert adapter.status(adapter.send()).accepted
    assert adapter.graph.call(SetBool, "/adapter/pause", SetBool.Request(data=True)).success
    assert adapter.call("resume").success
    assert adapter.status(adapter.send()).accepted


def test_reset_rollback_and_save(adapter: AdapterUnderTest, sam: Any) -> None:
    before = adapter.until_published().version
    assert adapter.call("rollback").success
    assert Adapter.load(adapter.saved, for_sam=sam).version == before + 1
    assert adapter.call("reset").success
    fresh = Adapter.load(adapter.saved, for_sam=sam)
    assert fresh.version == before + 2
    assert not fresh.b.any()
    adapter.graph.until(lambda: adapter.graph.versions[-1] == fresh.version, "the segmenter's taking the reset adapter")
    again = adapter.call("rollback")
    assert not again.success
    assert f"no earlier adapter than version {fresh.version}" in again.message
    assert str(adapter.saved) in adapter.call("save").message


def test_load(adapter: AdapterUnderTest, sam: Any, tmp_path: Path) -> None:
    def load(path: Path) -> LoadAdapter.Response:
        return adapter.graph.call(LoadAdapter, "/adapter/load", LoadAdapter.Request(path=str(path)))

    before = adapter.until_published().version
    path = tmp_path / "other.safetensors"
    assert "No such file" in load(path).message
    path.write_bytes(adapter.saved.read_bytes()[:-100])
    assert "not a whole safetensors file" in load(path).message
    assert "not a file" in load(Path("/dev/zero")).message
    own = Adapter.load(adapter.saved, for_sam=sam)
    other = replace(own, b=own.b * 0, version=70)  # it fits as well as the frozen model, which is what a tolerance of 1 lets fall short of
    other.save(path)
    response = load(path)
    assert response.success, response.message
    assert f"published as version {before + 1}, not worse" in response.message
    adapter.graph.until(lambda: adapter.graph.versions[-1] == before + 1, "the segmenter's taking the loaded adapter")
    served = Adapter.load(adapter.saved, for_sam=sam)
    assert served.version == before + 1
    assert served.b.equal(other.b)


def test_a_disk_that_takes_nothing_is_counted_and_training_goes_on(adapter: AdapterUnderTest, sam: Any) -> None:
    before, failures = adapter.until_published().version, adapter.graph.count("adapter", "failed.save")
    pid, (_, hard) = adapter.process.process.pid, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (10_000, hard))  # writing stops in the middle of a file, as on a full disk
    try:
        after = adapter.until_published().version
        assert after > before
        adapter.graph.until(lambda: adapter.graph.count("adapter", "failed.save") > failures, "the count of the failed save")
        assert adapter.graph.diagnostics["/adapter"]["saved_version"] == str(before)
        assert not adapter.call("save").success
        adapter.graph.until(lambda: adapter.graph.versions[-1] == after, "the segmenter's taking what could not be saved")
        assert Adapter.load(adapter.saved, for_sam=sam).version == before
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
    assert Adapter.load(adapter.saved, for_sam=sam).version < adapter.until_published().version
    assert adapter.call("save").success
    names = {"adapter.log", *(adapter.saved.name + suffix for suffix in ("", ".state", ".lock"))}
    assert {each.name for each in adapter.folder.iterdir()} == names


def test_a_second_node_with_the_same_file_ends_and_may_be_started_again(adapter: AdapterUnderTest, tmp_path: Path) -> None:
    """Status 1: a supervisor's next start works as soon as the first node is gone."""
    parameters = {"checkpoint": adapter.checkpoint, "save_to": adapter.saved}
    second = NodeProcess("adapter", parameters, tmp_path / "adapter.log", {"ROS_DOMAIN_ID": "0"})
    assert second.process.wait(120) == 1
    assert "in use by another adapter node" in second.log_end()


def test_killed_in_mid_training_it_goes_on_from_the_last_saved_adapter(adapter: AdapterUnderTest) -> None:
    graph = adapter.graph
    assert adapter.call("save").success
    saved = adapter.until_published().version
    graph.until(lambda: graph.versions[-1] == saved, "the segmenter's taking the adapter")
    many = ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=1000)
    request = SetParameters.Request(parameters=[Parameter(name="steps_per_frame", value=many)])
    assert graph.call(SetParameters, "/adapter/set_parameters", request).results[0].successful
    steps = graph.count("adapter", "steps")
    adapter.send()
    graph.until(lambda: graph.count("adapter", "steps") > steps, "training")
    adapter.process.process.kill()
    adapter.process.process.wait(10)

    assert graph.masks_of(adapter.send()).adapter_version == saved

    adapter.start()
    assert f"goes on from adapter version {saved}" in adapter.process.log_end()
    assert "resumes training with" in adapter.process.log_end()
    assert adapter.until_published().version == saved + 1
    assert graph.until(lambda: graph.versions[-1] == saved + 1, "the segmenter's taking the next adapter")


def test_a_pause_survives_a_kill(adapter: AdapterUnderTest) -> None:
    assert adapter.graph.call(SetBool, "/adapter/pause", SetBool.Request(data=True)).success
    adapter.process.process.kill()
    adapter.process.process.wait(10)
    adapter.start()
    assert "learning is paused, as it was" in adapter.process.log_end()
    status = adapter.status(adapter.send())
    assert (status.state, status.accepted) == (AdaptationStatus.PAUSED, False)
    assert adapter.call("resume").success
    assert adapter.status(adapter.send()).accepted
    assert not list(adapter.folder.glob("*.paused"))
