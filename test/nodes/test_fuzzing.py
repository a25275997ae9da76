"""Messages of any content to the converters, services and transitions in any order to a node: values or refusals, and it lives on."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

from hypothesis import given
from hypothesis import strategies as st
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose
from wesam_ros.msg import Mask, Prompt, Prompts

from wesam_ros.data.codecs import CodecError
from wesam_ros.nodes.children import NodeProcess
from wesam_ros.nodes.conversions import camera_of, depth_of, image_of, request_of

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
    camera = attempt(camera_of, CameraInfo(k=k, height=height, width=width), SIZE, refusal=CodecError)
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


ACTIONS = ("pause", "go on", "save", "reset", "rollback", "configure", "activate", "deactivate", "cleanup", "frame", "bad frame")
TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}
SEQUENCES = 3
LENGTH = 12


def act(graph: Any, action: str) -> None:
    """One action; a service answers in any state of the node, be it with a refusal that says why."""
    if action in TRANSITIONS:
        request = ChangeState.Request(transition=Transition(id=TRANSITIONS[action]))
        graph.call(ChangeState, "adapter/change_state", request)
    elif action in ("pause", "go on"):
        assert graph.call(SetBool, "adapter/pause", SetBool.Request(data=action == "pause")).success
    elif action in ("save", "reset", "rollback"):
        answer = graph.call(Trigger, f"adapter/{action}", Trigger.Request())
        assert answer.message, f"{action} says nothing: {answer}"
    else:
        header = graph.next_header()
        frame = graph.frame(header)
        if action == "bad frame":
            frame["image"].data = frame["image"].data[:100]
        graph.send(**frame)


def subscribed(graph: Any, process: NodeProcess) -> bool:
    process.check()
    return bool(graph.publishers["detections"].get_subscription_count())


@pytest.mark.parametrize("seed", range(SEQUENCES))
def test_services_and_transitions_in_any_order(graph: Any, random_tiny: Path, tmp_path: Path, seed: int) -> None:
    """The node lives through them, and afterwards learns from a frame as ever."""
    rng = np.random.default_rng(seed)
    parameters = {"checkpoint": random_tiny, "torch_threads": 1, "save_to": tmp_path / "adapter.safetensors", "steps_per_frame": 1}
    process = NodeProcess("adapter", parameters, tmp_path / "adapter.log", {})
    try:
        graph.until(lambda: subscribed(graph, process), "the adapter's start")
        for action in rng.choice(ACTIONS, LENGTH):
            act(graph, str(action))
            process.check()
        for action in ("configure", "activate", "go on"):  # those that do not apply are refused
            act(graph, action)
        graph.until(lambda: subscribed(graph, process), "the adapter's subscriptions")
        header = graph.next_header()
        stamp = header.stamp.sec * 10**9 + header.stamp.nanosec
        graph.send(**graph.frame(header))
        status = graph.until(lambda: graph.statuses.get(stamp), "a status after the sequence")
        assert status.state == "learning"
    finally:
        process.stop()
