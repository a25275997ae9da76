"""A ROS graph for the tests: nodes in processes of their own, and one node here that talks to them."""

from __future__ import annotations

import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TransformStamped
from lifecycle_msgs.srv import GetState
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header, UInt64
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose
from wesam_ros.msg import AdaptationStatus, Adapter, ObjectArray, Prompt, Prompts

from wesam_ros.data.codecs import encode_jpeg
from wesam_ros.data.messages import stamp_of
from wesam_ros.ros.children import NodeProcess
from wesam_ros.ros.objects import image_message
from wesam_ros.ros.process import spinning
from wesam_ros.ros.subscriptions import LATCHED
from wesam_ros.sam.checkpoints import load_sam

POLICY = Path(__file__).parents[2] / "config" / "security_policy.xml"
SIZE = (120, 160)
BOXES = ((10, 20, 60, 90), (80, 30, 150, 100))
WAIT = 180.0
"""Seconds after which something that should have happened has not; generous, since the machine may be busy: then torch alone takes a minute
to import."""
PING = 2.0
"""Seconds after which a node is asked again."""


def picture(seed: int = 0) -> np.ndarray:
    """(120, 160, 3) RGB with a bright rectangle in each box of BOXES."""
    image = np.random.default_rng(seed).integers(0, 60, (*SIZE, 3), dtype=np.uint8)
    for x0, y0, x1, y1 in BOXES:
        image[y0 + 3 : y1 - 3, x0 + 3 : x1 - 3] += 150
    return image


class Graph:
    """The tests' own node: publishes inputs, keeps what the nodes publish, and waits for it."""

    def __init__(self) -> None:
        self.node = rclpy.create_node("tester")
        self.publishers = {
            "image": self.node.create_publisher(Image, "image", 10),
            "compressed": self.node.create_publisher(CompressedImage, "image/compressed", 10),
            "depth": self.node.create_publisher(Image, "depth", 10),
            "camera_info": self.node.create_publisher(CameraInfo, "camera_info", 10),
            "detections": self.node.create_publisher(Detection2DArray, "detections", 10),
            "prompts": self.node.create_publisher(Prompts, "prompts", 10),
        }
        self.objects: dict[int, ObjectArray] = {}
        self.labels: dict[int, Image] = {}
        self.statuses: dict[int, AdaptationStatus] = {}
        self.adapters: list[Adapter] = []
        self.versions: list[int] = []
        self.diagnostics: dict[str, dict[str, str]] = {}
        self.clocks: dict[str, int] = {}
        self.levels: dict[str, bytes] = {}
        self.warnings: dict[str, str] = {}
        self.permitted = permitted
        for kind, topic, take, qos in (
            (ObjectArray, "segmenter/objects", lambda m: self.objects.update({stamp_of(m.header): m}), 10),
            (Image, "segmenter/labels", lambda m: self.labels.update({stamp_of(m.header): m}), 10),
            (AdaptationStatus, "adapter/status", lambda m: self.statuses.update({stamp_of(m.header): m}), 10),
            (Adapter, "adapter", self.adapters.append, LATCHED),
            (UInt64, "segmenter/adapter_version", lambda m: self.versions.append(m.data), LATCHED),
            (DiagnosticArray, "/diagnostics", self._take_diagnostics, 10),
        ):
            self.node.create_subscription(kind, topic, take, qos)
        self._stamp = 1000 * 10**9
        self._clients: dict[str, Any] = {}
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.diagnostics[status.name] = {each.key: each.value for each in status.values}
            self.clocks[status.name] = message.header.stamp.sec
            self.levels[status.name] = status.level
            self.warnings[status.name] = status.message

    def until(self, condition: Callable[[], Any], what: str, timeout: float = WAIT) -> Any:
        """The first true value of `condition`; fails, saying `what` did not happen, after `timeout` seconds."""
        end = time.monotonic() + timeout
        while not (value := condition()):
            assert time.monotonic() < end, f"{what} did not happen within {timeout:g} s; diagnostics: {self.diagnostics}"
            time.sleep(0.01)
        return value

    def count(self, node: str, counter: str) -> int:
        """A counter of a node as /diagnostics last had it."""
        return int(self.diagnostics.get(f"/{node}", {}).get(counter, 0))

    def next_header(self) -> Header:
        """A header with a stamp of its own."""
        self._stamp += 10**8
        header = Header(frame_id="camera")
        header.stamp.sec, header.stamp.nanosec = divmod(self._stamp, 10**9)
        return header

    def endpoints(self, node: str) -> dict[str, set[str]]:
        """Names of the topics that a node publishes and subscribes to, and of its services."""
        kinds: dict[str, Callable[[str, str], Any]] = {
            "publish": self.node.get_publisher_names_and_types_by_node,
            "subscribe": self.node.get_subscriber_names_and_types_by_node,
            "reply": self.node.get_service_names_and_types_by_node,
        }
        return {kind: {name for name, _ in found(node, "/")} for kind, found in kinds.items()}

    def listeners(self, topic: str) -> set[bytes]:
        """The subscribers of a topic. One that was killed stays for a while, so that counting them would not tell of a new one."""
        return {bytes(each.endpoint_gid) for each in self.node.get_subscriptions_info_by_topic(topic)}

    def send(self, **messages: Any) -> None:
        """Publishes messages by input; detections and prompts, if any, last."""
        for name in sorted(messages, key=lambda name: name in ("detections", "prompts")):
            if messages[name] is not None:
                self.publishers[name].publish(messages[name])

    def frame(self, header: Header, boxes: Sequence[Sequence[float]] = BOXES, seed: int = 0, raised: bool = False) -> dict[str, Any]:
        """The messages of a valid frame: image, depth (1 m, and where `raised` 0.9 m on the bright rectangles), camera_info, boxes."""
        info = CameraInfo(header=header, height=SIZE[0], width=SIZE[1])
        info.k = [130.0, 0.0, 80.0, 0.0, 130.0, 60.0, 0.0, 0.0, 1.0]
        return {
            "image": image_message(header, picture(seed)),
            "depth": image_message(header, np.where(raised & (picture(seed).max(2) > 100), 900, 1000).astype(np.uint16)),
            "camera_info": info,
            "detections": detections(header, boxes),
        }

    def masks_of(self, frame: Header | int) -> ObjectArray:
        """The segmenter's answer to a frame, by its header or stamp."""
        stamp = frame if isinstance(frame, int) else stamp_of(frame)
        return self.until(lambda: self.objects.get(stamp), f"masks for the frame with stamp {stamp}")

    def answer(self, **changes: Any) -> ObjectArray:
        """Sends a valid frame, with some of its messages changed, and waits for its masks."""
        header = self.next_header()
        self.send(**{**self.frame(header), **changes})
        return self.masks_of(header)

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """The response of a service of a lifecycle node."""
        # A node that was killed stays in the graph for a while, as if it could answer, and one that has just started drops its first
        # responses to clients that it has not seen yet. So the node is asked for its state until it answers, and called then.
        state = self._client(GetState, f"{name.rpartition('/')[0]}/get_state")
        client = self._client(kind, name)
        self.until(lambda: self._answered(state.call_async(GetState.Request()), PING), f"an answer of {state.srv_name}")
        future = client.call_async(request)
        assert self._answered(future, WAIT), f"a response of {name} did not come within {WAIT:g} s; diagnostics: {self.diagnostics}"
        return future.result()

    def _client(self, kind: Any, name: str) -> Any:
        """Each is made once: what is new is seen late."""
        client = self._clients.get(name) or self._clients.setdefault(name, self.node.create_client(kind, name))
        assert client.wait_for_service(WAIT), f"there is no service {name}"
        return client

    def _answered(self, future: Any, seconds: float) -> bool:
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        return done.wait(seconds)


def permitted(node: str) -> dict[str, set[str]]:
    """Names of the topics and services that the SROS 2 policy permits a node, as `Graph.endpoints` has them."""
    (profile,) = ElementTree.parse(POLICY).iterfind(f".//profile[@node='{node}']")
    names: dict[str, set[str]] = {"publish": set(), "subscribe": set(), "reply": set()}
    for group in profile:
        for kind in names.keys() & group.attrib.keys():
            names[kind] |= {str(PurePosixPath("/", each.text.replace("~", node))) for each in group}
    return names


def detections(header: Header, boxes: Sequence[Sequence[float]]) -> Detection2DArray:
    """Boxes x0 y0 x1 y1, named a, b, ... and scored 0.9, 0.8, ..."""
    message = Detection2DArray(header=header)
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        each = Detection2D(header=header, id=chr(ord("a") + i) if i < 26 else str(i))
        each.bbox.center.position.x, each.bbox.center.position.y = (x0 + x1) / 2, (y0 + y1) / 2
        each.bbox.size_x, each.bbox.size_y = float(x1 - x0), float(y1 - y0)
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = "cup", max(0.9 - i / 10, 0.0)
        each.results = [hypothesis]
        message.detections.append(each)
    return message


class Counts(Counter[str]):
    """In place of diagnostics: counts, and keeps the last sentence on each problem."""

    def __init__(self) -> None:
        super().__init__()
        self.sentences: dict[str, str] = {}

    def count(self, name: str, n: int = 1) -> None:
        self[name] += n

    def problem(self, name: str, sentence: str, n: int = 1, of: str = "") -> None:
        self[name] += n
        self.sentences[name] = sentence

    def timing(self, name: str, milliseconds: float) -> None:
        assert milliseconds >= 0


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture(scope="session")
def random_tiny(untrained_tiny: Path) -> Path:
    """The checkpoint of the nodes of these tests."""
    return untrained_tiny


@pytest.fixture(scope="session")
def sam(random_tiny: Path) -> Any:
    """The model that the nodes of these tests run."""
    return load_sam("tiny", random_tiny)


@pytest.fixture(scope="session")
def graph() -> Iterator[Graph]:
    rclpy.init()
    graph = Graph()
    with spinning(graph.executor):
        yield graph
    rclpy.try_shutdown()


@pytest.fixture(scope="module")
def adapter_publisher(graph: Graph) -> Iterator[Any]:
    """Of the module's own: what is latched must not reach the next module's segmenter."""
    publisher = graph.node.create_publisher(Adapter, "adapter", LATCHED)
    yield publisher
    graph.node.destroy_publisher(publisher)


@pytest.fixture(scope="module")
def segmenter(
    graph: Graph, random_tiny: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[NodeProcess]:
    """A segmenter with random weights, for raw images or as the module's IMAGE_TRANSPORT says; its log is shown where it ends."""
    log = tmp_path_factory.mktemp("segmenter") / "segmenter.log"
    parameters = {"checkpoint": random_tiny, "torch_threads": 1, "target_frame": "base", "tf_wait": 0.0, "refine": "off", "carry_frames": 0}
    parameters["image_transport"] = getattr(request.module, "IMAGE_TRANSPORT", "raw")
    parameters |= getattr(request.module, "NODE_PARAMETERS", {})
    process = NodeProcess("segmenter", parameters, log, {})

    def subscribed() -> bool:  # a node that an earlier test has killed stays in the graph for some seconds
        process.check()
        found = [each.node_name for each in graph.node.get_subscriptions_info_by_topic("/detections")]
        return "segmenter" in found and graph.publishers["detections"].get_subscription_count() >= len(found)

    try:
        graph.until(subscribed, "the segmenter's start")
        graph.diagnostics.pop("/segmenter", None)  # counters of an earlier module's segmenter
        yield process
    finally:
        process.stop()


@pytest.fixture
def camera_in_base(graph: Graph) -> Iterator[Callable[[], None]]:
    """Publishes that the camera is 5 m along z of `base`, until the test ends: other modules' nodes must not know."""
    publisher = graph.node.create_publisher(TFMessage, "/tf_static", LATCHED)

    def publish() -> None:
        transform = TransformStamped(header=Header(frame_id="base"), child_frame_id="camera")
        transform.transform.translation.z = 5.0
        publisher.publish(TFMessage(transforms=[transform]))

    yield publish
    graph.node.destroy_publisher(publisher)


@pytest.fixture
def valid_prompts() -> Callable[[Header], Prompts]:
    """Makes the prompts message of a valid frame: one box."""

    def make(header: Header) -> Prompts:
        prompt = Prompt(id="p", has_box=True, box=np.array(BOXES[0], np.float32))
        return Prompts(header=header, prompts=[prompt])

    return make


@pytest.fixture(scope="session")
def make_jpeg() -> Callable[[Header], CompressedImage]:
    """Makes the compressed image of a valid frame."""

    def make(header: Header) -> CompressedImage:
        return CompressedImage(header=header, format="rgb8; jpeg compressed bgr8", data=array("B", encode_jpeg(picture())))

    return make
