"""The segmenter node in its own process: masks, refusals, adapters, services, lifecycle."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

import torch
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool
from wesam_ros.msg import Adapter as AdapterMessage
from wesam_ros.msg import Mask, ObjectArray, Prompt, Prompts
from wesam_ros.srv import Segment

from wesam_ros.data.codecs import decode_labels
from wesam_ros.data.frames import Frame
from wesam_ros.data.messages import camera_of, depth_of, image_of, stamp_of
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.ros.objects import mask_of
from wesam_ros.ros.subscriptions import LATCHED
from wesam_ros.sam import Adapter, base_hash
from wesam_ros.sam import Prompts as PromptValues
from wesam_ros.scene.object_points import MIN_POINTS
from wesam_ros.scene.refiner import Refiner

pytestmark = pytest.mark.usefixtures("segmenter")
SIZE = (120, 160)
FULL = [0.0, 0.0, 160.0, 120.0]


def expected(sam: Any, message: dict[str, Any], objects: ObjectArray, adapter: Adapter | None = None) -> np.ndarray:
    """The masks that the model gives in this process for the boxes of a result."""
    boxes = np.stack([each.box for each in objects.objects])
    return TorchEngine(sam).segment(image_of(message["image"]), PromptValues.from_boxes(boxes, SIZE), adapter).masks


def agree(objects: ObjectArray, masks: np.ndarray) -> bool:
    """True where the masks of a result are `masks`, but for a few pixels: the number of threads may change the last digits."""
    found = np.stack([mask_of(each.mask, SIZE) for each in objects.objects])
    return found.shape == masks.shape and float((found != masks).mean()) < 1e-3


def wait_for_answer(graph: Any, frame: dict[str, Any]) -> ObjectArray:
    return graph.masks_of(frame["image"].header)


def test_masks_for_a_frame(graph: Any, sam: Any) -> None:
    frame = graph.frame(graph.next_header())
    graph.send(**frame)
    result = wait_for_answer(graph, frame)
    assert [each.id for each in result.objects] == ["a", "b"]
    assert [each.class_id for each in result.objects] == ["cup", "cup"]
    assert result.objects[1].box.tolist() == [80, 30, 150, 100]
    assert result.adapter_version == 0
    assert 0 < result.model_ms < result.latency_ms
    assert agree(result, expected(sam, frame, result))
    labels = decode_labels(graph.until(lambda: graph.labels.get(stamp_of(result.header)), "a label image"))
    for each in result.objects:
        assert each.has_3d == (np.count_nonzero(labels == each.label) >= MIN_POINTS)
        assert each.frame_id == ("camera" if each.has_3d else "")
        assert each.centroid.z == pytest.approx(1.0 if each.has_3d else 0.0)
    assert any(each.has_3d for each in result.objects)


def broken_image(**changes: Any) -> Callable[[Any, Any], dict[str, Any]]:
    def make(graph: Any, header: Any) -> dict[str, Any]:
        return _changed(graph.frame(header), "image", changes)

    return make


def broken_depth(**changes: Any) -> Callable[[Any, Any], dict[str, Any]]:
    def make(graph: Any, header: Any) -> dict[str, Any]:
        return _changed(graph.frame(header), "depth", changes)

    return make


def broken_info(**changes: Any) -> Callable[[Any, Any], dict[str, Any]]:
    def make(graph: Any, header: Any) -> dict[str, Any]:
        return _changed(graph.frame(header), "camera_info", changes)

    return make


def _changed(frame: dict[str, Any], name: str, changes: dict[str, Any]) -> dict[str, Any]:
    for field, value in changes.items():
        setattr(frame[name], field, value)
    return frame


def boxes(*given: tuple[float, float, float, float]) -> Callable[[Any, Any], dict[str, Any]]:
    return lambda graph, header: graph.frame(header, given)


def alone(graph: Any, header: Any) -> dict[str, Any]:
    return {"detections": graph.frame(header)["detections"]}


def prompts(**fields: Any) -> Callable[[Any, Any], dict[str, Any]]:
    def make(graph: Any, header: Any) -> dict[str, Any]:
        frame = graph.frame(header)
        del frame["detections"]
        return {**frame, "prompts": Prompts(header=header, prompts=[Prompt(**fields)])}

    return make


NAN = float("nan")
MALFORMED: dict[str, tuple[str, Callable[[Any, Any], dict[str, Any]]]] = {
    "image with a wrong step": ("rejected.image.wrong_step", broken_image(step=7)),
    "image with an unknown encoding": ("rejected.image.unknown_encoding", broken_image(encoding="yuv410")),
    "image without pixels": ("rejected.image.empty", broken_image(data=array("B"), height=0, width=0)),
    "image cut short": ("rejected.image.truncated", broken_image(data=array("B", bytes(100)))),
    "depth with a wrong step": ("rejected.depth.wrong_step", broken_depth(step=7)),
    "depth with an unknown encoding": ("rejected.depth.unknown_encoding", broken_depth(encoding="rgb8")),
    "depth without pixels": ("rejected.depth.empty", broken_depth(data=array("B"))),
    "depth of another size": ("rejected.depth.wrong_size", broken_depth(height=60)),
    "camera_info of zeros": ("rejected.camera_info.uncalibrated", broken_info(k=[0.0] * 9)),
    "camera_info with NaN": ("rejected.camera_info.not_finite", broken_info(k=[NAN] * 9)),
    "camera_info of another size": ("rejected.camera_info.wrong_size", broken_info(height=60)),
    "box with NaN": ("rejected.detections.nan", boxes((10, NAN, 60, 90))),
    "box that is inverted": ("rejected.detections.inverted", boxes((60, 90, 10, 20))),
    "box outside the image": ("rejected.detections.outside", boxes((200, 200, 260, 260))),
    "box without area": ("rejected.detections.empty", boxes((10, 10, 10, 10))),
    "500 boxes": ("rejected.detections.over_limit", boxes(*[(10 + i % 50, 20, 60 + i % 50, 90) for i in range(500)])),
    "detections with a stamp never seen": ("unmatched.detections", alone),
    "prompt with a NaN point": ("rejected.prompts.prompt", prompts(points=[NAN, 3.0], point_labels=[1])),
    "prompt with an unknown label": ("rejected.prompts.prompt", prompts(points=[3.0, 3.0], point_labels=[7])),
    "prompt with a box outside": ("rejected.prompts.outside", prompts(has_box=True, box=np.array([200, 200, 260, 260], np.float32))),
    "prompt with a mask cut short": ("rejected.prompts.prompt", prompts(mask=Mask(width=10, height=10, data=array("B", bytes(9))))),
    "prompt of nothing": ("rejected.prompts.prompt", prompts()),
}
ADAPTERS = {
    "adapter of garbage": "garbage",
    "adapter of another model": "base",
    "adapter of another shape": "shape",
    "adapter with another version than it says": "version",
    "adapter that is not finite": "not_finite",
}


def adapter_of(sam: Any, version: int, value: float = 0.5) -> Adapter:
    """An adapter that changes the model's masks."""
    fresh = Adapter.untrained(sam, base_hash(sam), 4, seed=0)
    noise = torch.empty_like(fresh.b).normal_(std=value, generator=torch.Generator().manual_seed(1))
    return Adapter(fresh.a, noise, fresh.base, version)


def adapter_message(adapter: Adapter, version: int | None = None) -> AdapterMessage:
    version = adapter.version if version is None else version
    return AdapterMessage(version=version, base_hash=adapter.base, data=array("B", adapter.to_bytes()))


def malformed_adapters(sam: Any) -> dict[str, AdapterMessage]:
    sound = adapter_of(sam, 9)
    infinite = sound.to_bytes().replace(sound.b.numpy()[0, :1].tobytes(), np.array([np.inf], np.float32).tobytes())
    return {
        "garbage": AdapterMessage(version=9, data=array("B", b"\x08\0\0\0\0\0\0\0 no json")),
        "base": adapter_message(Adapter(sound.a, sound.b, "0" * 64, 9)),
        "shape": adapter_message(Adapter(sound.a[:, :300], sound.b, sound.base, 9)),
        "version": adapter_message(sound, version=10),
        "not_finite": AdapterMessage(version=9, data=array("B", infinite)),
    }


@pytest.fixture(scope="module")
def after_malformed(graph: Any, segmenter: Any, sam: Any) -> ObjectArray:
    """The answer to a valid frame after every malformed message; /diagnostics has counted them by then."""
    for _, make in MALFORMED.values():
        broken = make(graph, graph.next_header())
        graph.send(**broken)
        # A valid frame comes after it, and is answered when the node has done with it: it asks through the other input, which has a slot of
        # its own, so that it cannot replace the malformed one there.
        barrier = graph.next_header()
        sound = graph.frame(barrier)
        if "detections" in broken:
            del sound["detections"]
            sound["prompts"] = Prompts(header=barrier, prompts=[Prompt(has_box=True, box=np.array(FULL, np.float32))])
        graph.send(**sound)
        graph.masks_of(barrier)
    publisher = graph.node.create_publisher(AdapterMessage, "adapter", LATCHED)
    graph.until(publisher.get_subscription_count, "the segmenter's subscription to adapters")
    for reason, message in malformed_adapters(sam).items():
        publisher.publish(message)
        graph.until(lambda reason=reason: graph.count("segmenter", f"rejected.adapter.{reason}"), f"refusal of adapter: {reason}")
    graph.node.destroy_publisher(publisher)
    graph.until(lambda: graph.count("segmenter", "unmatched.detections"), "the count of detections without an image")
    return graph.answer()


@pytest.mark.parametrize(
    "counter",
    [*dict.fromkeys(counter for counter, _ in MALFORMED.values()), *(f"rejected.adapter.{reason}" for reason in ADAPTERS.values())],
)
def test_malformed_messages_are_counted(graph: Any, after_malformed: ObjectArray, counter: str) -> None:
    wanted = sum(1 for each, _ in MALFORMED.values() if each == counter) or 1
    wanted = {"rejected.detections.over_limit": 400}.get(counter, wanted)
    assert graph.count("segmenter", counter) == wanted


def test_masks_go_on_after_malformed_messages(after_malformed: ObjectArray) -> None:
    assert len(after_malformed.objects) == 2
    assert after_malformed.adapter_version == 0


def test_a_frame_without_a_valid_box_has_an_empty_answer(graph: Any) -> None:
    header = graph.next_header()
    graph.send(**graph.frame(header, [(200, 200, 260, 260)]))
    assert not graph.masks_of(header).objects


def test_points_and_coarse_masks(graph: Any) -> None:
    header = graph.next_header()
    frame = graph.frame(header)
    del frame["detections"]
    by_point = Prompt(id="point", points=[35.0, 55.0, 5.0, 5.0], point_labels=[1, 0])
    by_mask = Prompt(id="mask", mask=Mask(x=80, y=30, width=70, height=70, data=array("B", b"\xff" * 4900)))
    graph.send(**frame, prompts=Prompts(header=header, prompts=[by_point, by_mask]))
    assert [each.id for each in graph.masks_of(header).objects] == ["point", "mask"]


def test_an_adapter_takes_effect_with_the_next_frame(graph: Any, sam: Any, adapter_publisher: Any, valid_prompts: Any) -> None:
    adapter = adapter_of(sam, 3)
    adapter_publisher.publish(adapter_message(adapter))
    graph.until(lambda: graph.versions and graph.versions[-1] == 3, "the segmenter's taking version 3")
    header = graph.next_header()
    frame = graph.frame(header)
    graph.send(**frame)
    result = wait_for_answer(graph, frame)
    assert result.adapter_version == 3
    assert agree(result, expected(sam, frame, result, adapter))
    assert not agree(result, expected(sam, frame, result))

    asked = Segment.Request(image=frame["image"], prompts=valid_prompts(header))
    for frozen, version in ((False, 3), (True, 0)):
        asked.frozen = frozen
        assert graph.call(Segment, "/segmenter/segment", asked).objects.adapter_version == version
    assert graph.answer().adapter_version == 3  # the service changes nothing for the stream

    assert graph.call(SetBool, "/segmenter/use_frozen", SetBool.Request(data=True)).success
    served = graph.answer()
    assert served.adapter_version == 0
    assert agree(served, expected(sam, frame, served))
    assert graph.call(SetBool, "/segmenter/use_frozen", SetBool.Request(data=False)).message == "adapter version 3"
    assert graph.answer().adapter_version == 3


def test_segment_service(graph: Any, valid_prompts: Any) -> None:
    header = graph.next_header()
    frame = graph.frame(header)
    request = Segment.Request(image=frame["image"], depth=frame["depth"], camera_info=frame["camera_info"], prompts=valid_prompts(header))
    response = graph.call(Segment, "/segmenter/segment", request)
    assert response.success, response.message
    assert [each.id for each in response.objects.objects] == ["p"]
    assert decode_labels(response.labels).shape == SIZE


def set_parameter(graph: Any, name: str, value: int | str) -> Any:
    kinds = {int: (ParameterType.PARAMETER_INTEGER, "integer_value"), str: (ParameterType.PARAMETER_STRING, "string_value")}
    kind, field = kinds[type(value)]
    parameter = Parameter(name=name, value=ParameterValue(type=kind, **{field: value}))
    return graph.call(SetParameters, "/segmenter/set_parameters", SetParameters.Request(parameters=[parameter])).results[0]


def test_parameters_at_run_time(graph: Any) -> None:
    refused = set_parameter(graph, "max_boxes", 0)
    assert not refused.successful
    assert "max_boxes" in refused.reason
    assert not set_parameter(graph, "ring_length", 5).successful  # read-only
    assert set_parameter(graph, "max_boxes", 1).successful
    assert [each.id for each in graph.answer().objects] == ["a"]
    assert set_parameter(graph, "max_boxes", 100).successful


def test_refined_masks_are_served_with_their_sources(graph: Any, sam: Any) -> None:
    frame = graph.frame(graph.next_header(), raised=True)
    assert not set_parameter(graph, "refine", "everything").successful
    assert set_parameter(graph, "refine", "all").successful
    try:
        graph.send(**frame)
        result = wait_for_answer(graph, frame)
    finally:
        assert set_parameter(graph, "refine", "off").successful
    image, prompts = image_of(frame["image"]), PromptValues.from_boxes(np.stack([each.box for each in result.objects]), SIZE)
    depth, camera = depth_of(frame["depth"], SIZE), camera_of(frame["camera_info"], SIZE, "auto")
    wanted = Refiner().refine(Frame(image, depth, camera), prompts, TorchEngine(sam).segment(image, prompts))
    assert agree(result, wanted.masks)
    assert [each.source for each in result.objects] == list(wanted.sources)
    assert [each.score for each in result.objects] == pytest.approx(wanted.scores.tolist(), abs=1e-2)


def test_positions_in_the_target_frame(graph: Any, camera_in_base: Callable[[], None]) -> None:
    assert graph.count("segmenter", "missing.transform")  # so far nobody published it
    camera_in_base()

    def placed() -> ObjectArray | None:
        result = graph.answer()
        return result if any(each.frame_id == "base" for each in result.objects) else None

    result = graph.until(placed, "3D output in the target frame")
    assert all(each.centroid.z == pytest.approx(6.0) for each in result.objects if each.has_3d)


def test_lifecycle(graph: Any) -> None:
    def change(transition: int) -> bool:
        return bool(graph.call(ChangeState, "/segmenter/change_state", ChangeState.Request(transition=Transition(id=transition))).success)

    assert change(Transition.TRANSITION_DEACTIVATE)
    graph.until(lambda: not graph.publishers["image"].get_subscription_count(), "the end of the subscriptions")
    graph.until(lambda: "the node is inactive" in graph.warnings["/segmenter"], "the warning that it is inactive")
    assert graph.diagnostics["/segmenter"]["lifecycle"] == "inactive"
    assert "not active" in graph.call(Segment, "/segmenter/segment", Segment.Request()).message
    assert change(Transition.TRANSITION_CLEANUP)
    assert change(Transition.TRANSITION_CONFIGURE)
    assert change(Transition.TRANSITION_ACTIVATE)
    graph.until(graph.publishers["detections"].get_subscription_count, "the subscriptions")
    assert len(graph.answer().objects) == 2


def test_a_best_effort_publisher_is_heard(graph: Any) -> None:
    publisher = graph.node.create_publisher(Image, "depth", QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT))
    graph.until(publisher.get_subscription_count, "a subscription as best effort")
    graph.node.destroy_publisher(publisher)
    assert len(graph.answer().objects) == 2


def test_inputs_that_vanish_and_come_back(graph: Any) -> None:
    """Camera driver and detector are started anew: their publishers are others then."""
    for name in ("image", "detections"):
        kind = graph.publishers[name].msg_type
        graph.node.destroy_publisher(graph.publishers[name])
        graph.publishers[name] = graph.node.create_publisher(kind, name, 10)
    graph.until(lambda: all(graph.publishers[name].get_subscription_count() for name in ("image", "detections")), "the subscriptions")
    assert len(graph.answer().objects) == 2


def test_a_wrong_checkpoint_ends_the_node_with_a_sentence(tmp_path: Path) -> None:
    from wesam_ros.ros.children import NodeProcess

    process = NodeProcess("segmenter", {"checkpoint": tmp_path / "none.pth"}, tmp_path / "log", {"ROS_DOMAIN_ID": "0"})
    assert process.process.wait(60) == 2
    assert "there is no checkpoint file" in process.log_end()
