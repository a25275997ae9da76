"""The names of a robot's nodes and topics, as the graph tells them: a page needs no remappings of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rclpy.node import Node

SEGMENTER, ADAPTER = "segmenter", "adapter"
RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


@dataclass(frozen=True)
class RobotTopics:
    """The topics of one robot.

    Attributes:
        image: base name of the colour image; "" where it is not clear which one that is.
        adapter: of adapters; "" while the segmenter does not subscribe.
        prompts: of prompts; "" likewise.
        problem: a sentence on why there is no image; "" where there is one.
    """

    image: str
    adapter: str
    prompts: str
    problem: str = ""


def namespaces_of(nodes: Sequence[tuple[str, str]]) -> list[str]:
    """The namespaces of all segmenters, of (name, namespace) of the graph's nodes."""
    return sorted({namespace for name, namespace in nodes if name == SEGMENTER})


def adapter_node_of(nodes: Sequence[tuple[str, str]], namespace: str) -> str:
    """Full name of the adapter node that serves a namespace: its own, or the only one that there is."""
    found = sorted({each for name, each in nodes if name == ADAPTER})
    chosen = namespace if namespace in found or len(found) != 1 else found[0]
    return joined(chosen, ADAPTER)


def joined(namespace: str, name: str) -> str:
    """A name in a namespace."""
    return f"{namespace.rstrip('/')}/{name}"


def topics_of(node: Node, namespace: str, image: str = "") -> RobotTopics:
    """The topics that a robot's segmenter subscribes to; `image` names the colour image where a person has done so, without a slash in
    front in the robot's namespace."""
    try:
        found = dict(node.get_subscriber_names_and_types_by_node(SEGMENTER, namespace))
    except RuntimeError:  # rclpy's NodeNameNonExistentError: the segmenter has just gone
        found = {}
    named = image if image.startswith("/") or not image else joined(namespace, image)
    return chosen_topics(found, joined(namespace, SEGMENTER), named)


def chosen_topics(found: Mapping[str, Sequence[str]], segmenter: str, image: str = "") -> RobotTopics:
    """The topics among those that a segmenter subscribes to, by name with their types; `image` counts where it is one of them."""

    def only(kind: str) -> str:
        return next((name for name, kinds in found.items() if kind in kinds), "")

    adapter, prompts = only("wesam_ros/msg/Adapter"), only("wesam_ros/msg/Prompts")
    images = [image] if image and image in image_topics(found) else colour_images(found)
    if len(images) == 1:
        return RobotTopics(images[0], adapter, prompts)
    if not images:
        return RobotTopics("", adapter, prompts, f"{segmenter} takes no images: it is starting, not active, or gone")
    return RobotTopics("", adapter, prompts, f"it is not clear which of {', '.join(images)} is the colour image; name it with --image")


def image_topics(found: Mapping[str, Sequence[str]]) -> list[str]:
    """The base names of the topics with images, raw or compressed."""
    raw = {name for name, kinds in found.items() if RAW in kinds}
    packed = {name.removesuffix("/compressed") for name, kinds in found.items() if COMPRESSED in kinds and name.endswith("/compressed")}
    return sorted(raw | packed)


def colour_images(found: Mapping[str, Sequence[str]]) -> list[str]:
    """The base names of the topics that can be the colour image: those named after a depth are left out, where others are there."""
    images = image_topics(found)
    return [name for name in images if "depth" not in name] or [name for name in images if "rgb" in name or "color" in name] or images
