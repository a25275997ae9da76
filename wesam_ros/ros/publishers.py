"""The publishers of a topic as the graph knows them: those that cannot be read, and topics that may be meant instead. Pure Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wesam_ros.data.codecs import republish_command, unread_transport

NAMED = 3
"""Topics that one sentence names."""
OBJECTS = "wesam_ros/msg/ObjectArray"
"""A segmenter's; what it publishes beside them is no input."""
COMPRESSED = "sensor_msgs/msg/CompressedImage"
REMEDIES = {
    "yolo_msgs/msg/DetectionArray": "examples/yolo_msgs_bridge.py converts it",
    "vision_msgs/msg/Detection2D": "publish an array, also of one",
    "vision_msgs/msg/BoundingBox2DArray": "publish Detection2DArray, which has the image's stamp",
}
"""Remedies by the type that is published."""


def type_name(kind: Any) -> str:
    """ "package/msg/Name" of a message class."""
    return f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"


def unreadable(topic: str, types: Sequence[str], publishers: Iterable[Any], own_hash: Any = None) -> list[str]:
    """A sentence for each kind of publisher on a topic that a node cannot hear, or would misread.

    Args:
        topic: its full name.
        types: the message types that the node reads on it; the first is what it subscribes to.
        publishers: of the topic, as rclpy's TopicEndpointInfo: node_name, node_namespace, topic_type and, where rclpy has it,
            topic_type_hash.
        own_hash: the hash of the node's own definition of the first type; None where it is not known.
    """
    sentences = []
    for each in publishers:
        who = f"{each.node_namespace.rstrip('/')}/{each.node_name}"
        theirs = getattr(each, "topic_type_hash", None)
        if each.topic_type not in types:
            remedy = _remedy(topic, types[0], each.topic_type)
            sentences.append(f"{topic}: {who} publishes {each.topic_type}, but this node reads {' or '.join(types)}{remedy}")
        elif each.topic_type == types[0] and _known(theirs) and _known(own_hash) and str(theirs) != str(own_hash):
            sentences.append(
                f"{topic}: {who} publishes another definition of {each.topic_type} than this node has; "
                f"build both with the same version of {each.topic_type.partition('/')[0]}"
            )
    return list(dict.fromkeys(sentences))


def _known(type_hash: Any) -> bool:
    """True for a hash that is set: a publisher of an older distribution has none, which reads as version -1 or 0."""
    return type_hash is not None and getattr(type_hash, "version", 1) not in (-1, 0)


def _remedy(topic: str, wanted: str, published: str) -> str:
    if transport := unread_transport(published):
        return f"; have it decoded: {republish_command(transport, topic)}"
    base = topic.rpartition("/")[0]
    if published == COMPRESSED and topic.endswith(("/compressed", "/compressedDepth")):
        return f"; give the base name, {base}, and leave the transport at auto"
    if published == COMPRESSED:
        return "; publish it on this name with /compressed or /compressedDepth behind it"
    if published in REMEDIES:
        return f"; {REMEDIES[published]}"
    return f"; remap the topic to one of {wanted}, or convert it"


def instead(topic: str, types: Sequence[str], published: Mapping[str, Sequence[str]]) -> str:
    """The topics that may be meant where nobody publishes `topic`, with the remedy, as the end of a sentence; "" if there are none.

    What a segmenter publishes is never meant.

    Args:
        topic: the full name that is listened to.
        types: message types that are read.
        published: types by name of all topics that have a publisher.
    """
    siblings = {name: kinds[0] for name, kinds in published.items() if name.startswith(f"{topic}/") and kinds}
    for name, kind in siblings.items():
        transport = unread_transport(name) or unread_transport(kind)
        if transport is not None:
            return f"; but {name} is published: {republish_command(transport, topic)}"
    readable = [name for name, kind in siblings.items() if kind == COMPRESSED]
    if readable:
        return f"; but {readable[0]} is published: leave the transport at auto"
    own = tuple(name.removesuffix("objects") for name, kinds in published.items() if OBJECTS in kinds and name.endswith("/objects"))
    others = [name for name, kinds in sorted(published.items()) if set(kinds) & set(types) and not name.startswith(own)]
    if not others:
        return ""
    more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
    return f"; of its type there are {', '.join(others[:NAMED])}{more}: remap it"
