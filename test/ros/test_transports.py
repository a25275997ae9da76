"""Inputs in a real graph: raw or compressed, whatever is published; other types on a topic; the player and its recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

import rclpy
from rclpy.context import Context
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray, Detection3DArray

from wesam_ros.data.synchronizer import SynchronizedFrame
from wesam_ros.ros import input_subscription
from wesam_ros.ros.children import NodeProcess
from wesam_ros.ros.inputs import Inputs
from wesam_ros.ros.wire import WireCompressedImage, WireImage
from wesam_ros.settings import InputParameters

DEMO = Path(__file__).parents[2] / "demo" / "tabletop.mcap"


@pytest.fixture
def frames() -> list[SynchronizedFrame]:
    return []


@pytest.fixture
def make_inputs(
    graph: Any, counts: Any, frames: list[SynchronizedFrame], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Inputs]]:
    """Makes inputs below /trial, with parameters, that look at their publishers ten times a second."""
    monkeypatch.setattr(input_subscription, "LOOK_PERIOD", 0.1)
    made: list[Inputs] = []

    def make(**parameters: Any) -> Inputs:
        declared: Any = SimpleNamespace(value=InputParameters(**parameters))
        made.append(Inputs(graph.node, declared, counts, frames.append, prefix="trial/"))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def stranger() -> Iterator[Any]:
    """A node of another participant: one participant has one type for a topic."""
    context = Context()
    rclpy.init(context=context)
    node = rclpy.create_node("stranger", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def listened(graph: Any, topic: str) -> bool:
    return any(each.node_name == "tester" for each in graph.node.get_subscriptions_info_by_topic(topic))


@pytest.mark.parametrize(("kind", "read"), [(Image, WireImage), (CompressedImage, WireCompressedImage)])
def test_auto_takes_what_is_published_from_its_first_message_on(
    graph: Any, make_inputs: Callable[..., Inputs], stranger: Any, frames: list[SynchronizedFrame], kind: Any, read: Any
) -> None:
    make_inputs()
    topic = "trial/image" + ("" if kind is Image else "/compressed")
    image, boxes = stranger.create_publisher(kind, topic, 5), stranger.create_publisher(Detection2DArray, "trial/detections", 5)
    graph.until(lambda: boxes.get_subscription_count(), "the match")
    header = graph.next_header()
    image.publish(kind(header=header))
    boxes.publish(Detection2DArray(header=header))
    graph.until(lambda: frames, "the frame")
    assert type(frames[0].image) is read


def test_raw_goes_first_and_compressed_comes_back(graph: Any, make_inputs: Callable[..., Inputs], stranger: Any) -> None:
    inputs = make_inputs()
    image = inputs.subscriptions["image"]
    assert listened(graph, "/trial/image") and listened(graph, "/trial/image/compressed")
    packed = stranger.create_publisher(CompressedImage, "trial/image/compressed", 5)
    graph.until(lambda: image.topic == "/trial/image/compressed", "the compressed ones")
    raw = stranger.create_publisher(Image, "trial/image", 5)
    graph.until(lambda: image.topic == "/trial/image" and not listened(graph, "/trial/image/compressed"), "the raw ones")
    stranger.destroy_publisher(raw)
    graph.until(packed.get_subscription_count, "the compressed ones again")
    packed.publish(CompressedImage())
    graph.until(lambda: image.heard, "an image")


def test_a_picture_that_comes_both_ways_counts_once(graph: Any, make_inputs: Callable[..., Inputs]) -> None:
    """image_transport publishes both, and for a second the raw one may not be seen."""
    came: list[Any] = []
    image = make_inputs().subscriptions["image"]
    image._receive = came.append
    header = graph.next_header()
    for way, subscription in image._open.items():
        subscription._receive(way.kind(header=header))
    assert [type(each) for each in came] == [Image]


def test_what_is_published_beside_a_transport_that_was_chosen_is_named(
    graph: Any, make_inputs: Callable[..., Inputs], stranger: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wesam_ros.ros.input_health.SILENT_SECONDS", 0.0)
    inputs = make_inputs(image_transport="raw")
    assert not listened(graph, "/trial/image/compressed")
    stranger.create_publisher(CompressedImage, "trial/image/compressed", 5)
    graph.until(lambda: "but /trial/image/compressed is published" in inputs.health.missing(), "its name")


@pytest.mark.parametrize(("topic", "kind"), [("detections", Detection2D), ("image", CompressedImage), ("depth", Header)])
def test_another_type_on_a_topic_is_named_until_it_is_gone(
    graph: Any, make_inputs: Callable[..., Inputs], stranger: Any, topic: str, kind: Any
) -> None:
    inputs = make_inputs()
    publisher = stranger.create_publisher(kind, f"trial/{topic}", 5)

    def told() -> bool:
        begin = f"/trial/{topic}: /stranger publishes"
        return any(line.startswith(begin) and kind.__name__ in line for line in inputs.health.missing().splitlines())

    graph.until(told, "both types")
    assert not inputs.subscriptions[topic].publishers()
    stranger.destroy_publisher(publisher)
    graph.until(lambda: not told(), "its end")


def test_boxes_in_space_are_heard_by_their_type_and_boxes_in_the_image_again(
    graph: Any, make_inputs: Callable[..., Inputs], stranger: Any
) -> None:
    inputs = make_inputs().subscriptions["detections"]
    in_space = stranger.create_publisher(Detection3DArray, "trial/detections", 5)
    graph.until(in_space.get_subscription_count, "the match")
    in_space.publish(Detection3DArray(header=graph.next_header()))
    heard = graph.until(lambda: inputs.heard, "boxes in space")
    assert not inputs.foreign()
    stranger.destroy_publisher(in_space)
    graph.until(lambda: not inputs.publishers(), "its end")
    flat = stranger.create_publisher(Detection2DArray, "trial/detections", 5)
    graph.until(flat.get_subscription_count, "the match")
    flat.publish(Detection2DArray(header=graph.next_header()))
    graph.until(lambda: inputs.heard > heard, "boxes in the image")


def test_the_player_is_heard_in_whatever_its_recording_has(
    graph: Any, make_inputs: Callable[..., Inputs], frames: list[SynchronizedFrame], tmp_path: Path
) -> None:
    """With the defaults of both: images and depth of the demo are compressed."""
    make_inputs()
    player = NodeProcess("player", {"bag": DEMO, "rate": 5.0}, tmp_path / "player.log", {}, {"__ns": "/trial"})
    try:
        graph.until(lambda: len(frames) >= 5, "five frames")
    finally:
        player.stop()
    assert all(type(each.image) is type(each.depth) is WireCompressedImage and each.camera_info is not None for each in frames)
