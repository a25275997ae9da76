"""Messages of any content to the converters, services and transitions in any order to the nodes: values or refusals, and they live on."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose
from wesam_ros.msg import Adapter as AdapterMessage
from wesam_ros.msg import Mask, Prompt, Prompts
from wesam_ros.srv import LoadAdapter, Segment

from wesam_ros.data.codecs import CodecError
from wesam_ros.data.messages import checked_camera_of, depth_of, image_of, stamp_of
from wesam_ros.data.requests import request_of
from wesam_ros.ros.children import NodeProcess
from wesam_ros.sam import Adapter, base_hash

Attempt = Callable[..., Any]
SIZE = (12, 16)
NUMBERS = st.floats(width=32) | st.sampled_from([0.0, 1.0, -1.0, 8.0, 15.5, 1e30])
COUNTS = st.integers(0, 20) | st.sampled_from([2**16, 2**31, 2**32 - 1])
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=6)
LIMIT = 3


@given(
    kind=st.sampled_from([image_of, lambda message: depth_of(message, SIZE)]),
    encoding=st.sampled_from(["rgb8", "bgra8", "mono8", "16UC1", "32FC1"]) | NAMES,
    sizes=st.tuples(COUNTS, COUNTS, COUNTS) | st.just((12, 16, 48)),
    data=st.binary(max_size=64) | st.integers(570, 580).map(bytes),
)
def test_images(attempt: Attempt, kind: Callable[[Any], Any], encoding: str, sizes: tuple[int, int, int], data: bytes) -> None:
    height, width, step = sizes
    message = Image(encoding=encoding, height=height, width=width, step=step, data=array("B", data))
    attempt(kind, message, refusal=CodecError)
    attempt(kind, CompressedImage(format=encoding, data=array("B", data)), refusal=CodecError)


@given(k=st.lists(NUMBERS, min_size=9, max_size=9), height=COUNTS, width=COUNTS)
def test_camera_infos(attempt: Attempt, k: list[float], height: int, width: int) -> None:
    camera = attempt(checked_camera_of, CameraInfo(k=k, height=height, width=width), SIZE, refusal=CodecError)
    assert camera is None or np.isfinite(camera).all()


def hypothesis_of(values: tuple[str, float]) -> ObjectHypothesisWithPose:
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id, result.hypothesis.score = values
    return result


@st.composite
def detections(draw: st.DrawFn) -> Detection2DArray:
    message = Detection2DArray()
    for _ in range(draw(st.integers(0, 5))):
        each = Detection2D(id=draw(NAMES))
        each.bbox.center.position.x, each.bbox.center.position.y = draw(NUMBERS), draw(NUMBERS)
        each.bbox.size_x, each.bbox.size_y = draw(NUMBERS), draw(NUMBERS)
        each.results = [hypothesis_of(values) for values in draw(st.lists(st.tuples(NAMES, NUMBERS), max_size=2))]
        message.detections.append(each)
    return message


@st.composite
def prompts(draw: st.DrawFn) -> Prompts:
    message = Prompts()
    for _ in range(draw(st.integers(0, 5))):
        mask = Mask(x=draw(COUNTS), y=draw(COUNTS), width=draw(COUNTS), height=draw(COUNTS), data=array("B", draw(st.binary(max_size=20))))
        each = Prompt(id=draw(NAMES), class_id=draw(NAMES), score=draw(NUMBERS), has_box=draw(st.booleans()))
        each.box = np.array(draw(st.lists(NUMBERS, min_size=4, max_size=4)), np.float32)
        each.points = array("f", draw(st.lists(NUMBERS, max_size=5)))
        each.point_labels = array("B", draw(st.lists(st.integers(0, 3), max_size=3)))
        each.mask = draw(st.just(mask) | st.just(Mask()))
        message.prompts.append(each)
    return message


@given(message=detections() | prompts())
def test_requests(attempt: Attempt, message: Any) -> None:
    """They never raise: what is bad is rejected alone, with a reason."""
    request = attempt(request_of, message, SIZE, LIMIT, refusal=ZeroDivisionError)
    sent = len(message.detections if isinstance(message, Detection2DArray) else message.prompts)
    assert len(request.prompts) == len(request.detections) <= LIMIT
    assert len(request.prompts) + len(request.rejected) == sent
    assert all(reason and sentence for reason, sentence in request.rejected)


TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "clean up": Transition.TRANSITION_CLEANUP,
}
FRAMES = ("frame", "damaged frame")
ADAPTERS = {"adapter": "whole", "damaged adapter": "damaged"}
SERVICES = {
    "adapter": (
        *("pause", "go on", "resume", "save", "reset", "roll back", "load", "load damaged", "load missing"),
        *("two steps", "negative steps", "rate that is no number"),
    ),
    "segmenter": ("use frozen", "use adapter", "segment", "segment nothing", "one box", "negative boxes", *ADAPTERS),
}
SEQUENCES = max(2, settings.default.max_examples // 10)
"""Of each node; each starts a process."""


class Refused(Exception):  # noqa: N818, it is no error: a service says no, and why
    """The answer of a service that was not fulfilled."""


class Actor:
    """Does to one node what an action's name says."""

    def __init__(self, graph: Any, node: str, process: NodeProcess, adapters: Any, base: str, files: Path) -> None:
        self.graph, self.node, self.process, self.adapters, self.base, self.files = graph, node, process, adapters, base, files
        frame = graph.frame(graph.next_header())
        prompts = Prompts(prompts=[Prompt(has_box=True, box=np.array([10, 20, 60, 90], np.float32))])
        segment = {"image": frame["image"], "depth": frame["depth"], "camera_info": frame["camera_info"], "prompts": prompts}
        self.calls: dict[str, tuple[Any, str, Any]] = {
            **{name: (SetBool, "pause", SetBool.Request(data=name == "pause")) for name in ("pause", "go on")},
            **{name: (Trigger, name.replace(" ", ""), Trigger.Request()) for name in ("resume", "save", "reset", "roll back")},
            "load": (LoadAdapter, "load", LoadAdapter.Request(path=str(files / "whole.safetensors"))),
            "load damaged": (LoadAdapter, "load", LoadAdapter.Request(path=str(files / "damaged.safetensors"))),
            "load missing": (LoadAdapter, "load", LoadAdapter.Request(path=str(files / "missing.safetensors"))),
            **{name: (SetBool, "use_frozen", SetBool.Request(data=name == "use frozen")) for name in ("use frozen", "use adapter")},
            "segment": (Segment, "segment", Segment.Request(**segment)),
            "segment nothing": (Segment, "segment", Segment.Request()),
        }
        self.settings = {
            "two steps": ("steps_per_frame", 2),
            "negative steps": ("steps_per_frame", -1),
            "rate that is no number": ("adaptation.lr", float("nan")),
            "one box": ("max_boxes", 1),
            "negative boxes": ("max_boxes", -1),
        }

    def act(self, action: str) -> None:
        """Raises Refused where a service says no. A transition that does not apply is refused without a text."""
        if action in TRANSITIONS:
            self.graph.call(ChangeState, f"{self.node}/change_state", ChangeState.Request(transition=Transition(id=TRANSITIONS[action])))
        elif action in FRAMES:
            frame = self.graph.frame(self.graph.next_header())
            if action == "damaged frame":
                frame["image"].data = frame["image"].data[:100]
            self.graph.send(**frame)
        elif action in ADAPTERS:
            data = (self.files / f"{ADAPTERS[action]}.safetensors").read_bytes()
            self.adapters.publish(AdapterMessage(version=1, base_hash=self.base, data=array("B", data)))
        elif action in self.settings:
            name, value = self.settings[action]
            request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
            (result,) = self.graph.call(SetParameters, f"{self.node}/set_parameters", request).results
            assert result.successful == (action in ("two steps", "one box")), f"{action}: {result}"
            if not result.successful:
                raise Refused(result.reason)
        else:
            kind, name, request = self.calls[action]
            answer = self.graph.call(kind, f"{self.node}/{name}", request)
            if not answer.success:
                raise Refused(answer.message)
        self.process.check()

    def subscribed(self) -> bool:
        self.process.check()
        return bool(self.graph.publishers["detections"].get_subscription_count())


@pytest.fixture(scope="module")
def files(sam: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole adapter file and a damaged one."""
    folder = tmp_path_factory.mktemp("files")
    whole = Adapter.untrained(sam, base_hash(sam), rank=4, seed=0).to_bytes()
    (folder / "whole.safetensors").write_bytes(whole)
    (folder / "damaged.safetensors").write_bytes(whole[:-100])
    return folder


@pytest.mark.parametrize("node", sorted(SERVICES))
@settings(max_examples=SEQUENCES, phases=[Phase.explicit, Phase.generate])
@given(data=st.data())
def test_services_and_transitions_in_any_order(
    attempt: Attempt,
    graph: Any,
    adapter_publisher: Any,
    random_tiny: Path,
    sam: Any,
    files: Path,
    tmp_path_factory: pytest.TempPathFactory,
    node: str,
    data: st.DataObject,
) -> None:
    """The node lives through them, says why where it says no, and afterwards works as ever."""
    actions = data.draw(st.permutations(3 * [*TRANSITIONS, *FRAMES] + 2 * list(SERVICES[node])), label="actions")
    folder = tmp_path_factory.mktemp("sequence")
    parameters: dict[str, Any] = {"checkpoint": random_tiny, "torch_threads": 1}
    if node == "adapter":
        parameters |= {"save_to": folder / "adapter.safetensors", "steps_per_frame": 1}
    process = NodeProcess(node, parameters, folder / f"{node}.log", {})
    try:
        actor = Actor(graph, node, process, adapter_publisher, base_hash(sam), files)
        graph.until(actor.subscribed, "the node's start")
        for action in actions:
            attempt(actor.act, action, refusal=Refused)
        for action in ("configure", "activate", *(["resume"] if node == "adapter" else [])):  # those that do not apply are refused
            attempt(actor.act, action, refusal=Refused)
        graph.until(actor.subscribed, "the node's subscriptions")
        header = graph.next_header()
        graph.send(**graph.frame(header))
        if node == "segmenter":
            assert graph.masks_of(header).objects
        else:
            status = graph.until(lambda: graph.statuses.get(stamp_of(header)), "a status after the sequence")
            assert status.state == "learning"
    finally:
        process.stop()
        graph.adapters.clear()  # later tests look for those of their own nodes
