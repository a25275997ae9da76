"""Publishers that a node cannot read, and topics that may be meant instead, by what the graph tells of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("wesam_ros.msg", reason="wesam_ros.ros needs ROS 2")

from sensor_msgs.msg import Image

from wesam_ros.ros.publishers import instead, type_name, unreadable

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
BOXES, IN_SPACE, YOLO = "vision_msgs/msg/Detection2DArray", "vision_msgs/msg/Detection3DArray", "yolo_msgs/msg/DetectionArray"


def endpoint(kind: str, type_hash: Any = None, name: str = "driver", namespace: str = "/") -> Any:
    return SimpleNamespace(node_name=name, node_namespace=namespace, topic_type=kind, topic_type_hash=type_hash)


@pytest.mark.parametrize(
    ("topic", "types", "publishers", "words"),
    [
        ("/image", [IMAGE], [], []),
        ("/image", [IMAGE], [endpoint(IMAGE)], []),
        ("/detections", [BOXES, IN_SPACE], [endpoint(IN_SPACE)], []),
        ("/detections", [BOXES, IN_SPACE], [endpoint(YOLO)], [("/driver", YOLO, BOXES, "yolo_msgs_bridge")]),
        ("/detections", [BOXES], [endpoint(YOLO, name="yolo", namespace="/robot1")], [("/robot1/yolo",)]),
        ("/image", [IMAGE], [endpoint(IMAGE), endpoint(COMPRESSED)], [(COMPRESSED, IMAGE, "/compressed")]),
        ("/camera/image_raw/compressed", [IMAGE], [endpoint(COMPRESSED)], [("base name, /camera/image_raw,",)]),
        ("/depth/compressedDepth", [IMAGE], [endpoint(COMPRESSED)], [("base name, /depth,",)]),
        ("/image", [IMAGE], [endpoint("ffmpeg_image_transport_msgs/msg/FFMPEGPacket")], [("republish ffmpeg",)]),
        ("/depth", [IMAGE], [endpoint("std_msgs/msg/String"), endpoint("std_msgs/msg/String")], [("std_msgs/msg/String", "remap")]),
        ("/depth", [IMAGE], [endpoint("std_msgs/msg/String"), endpoint("std_msgs/msg/Empty")], [("String",), ("Empty",)]),
    ],
)
def test_a_publisher_of_another_type_is_named_with_both(topic: str, types: list[str], publishers: Any, words: Any) -> None:
    found = unreadable(topic, types, publishers)
    assert len(found) == len(words)
    for sentence, expected in zip(found, words, strict=True):
        assert sentence.startswith(f"{topic}: ")
        assert all(word in sentence for word in expected)


@pytest.mark.parametrize(
    ("theirs", "own", "told"),
    [("RIHS01_a", "RIHS01_a", 0), ("RIHS01_a", "RIHS01_b", 1), (None, "RIHS01_b", 0), ("RIHS01_a", None, 0), ("INVALID", "RIHS01_b", 0)],
)
def test_another_definition_of_the_same_type_is_named(theirs: str | None, own: str | None, told: int) -> None:
    class Hash(str):
        version = property(lambda self: 0 if self == "INVALID" else 1)

    as_hash = [None if each is None else Hash(each) for each in (theirs, own)]
    assert len(unreadable("/detections", [BOXES], [endpoint(BOXES, as_hash[0])], as_hash[1])) == told


@pytest.mark.parametrize(
    ("published", "word"),
    [
        ({}, ""),
        ({"/rosout": ["rcl_interfaces/msg/Log"], "/image2/compressed": [COMPRESSED]}, ""),
        ({"/image/compressed": [COMPRESSED]}, "/image/compressed is published"),
        ({"/image/ffmpeg": ["ffmpeg_image_transport_msgs/msg/FFMPEGPacket"]}, "republish ffmpeg"),
        ({"/image/theora": ["theora_image_transport/msg/Packet"], "/image/compressed": [COMPRESSED]}, "republish theora"),
        ({"/camera/color/image_raw": [IMAGE]}, "/camera/color/image_raw: remap"),
        ({"/a/segmenter/objects": ["wesam_ros/msg/ObjectArray"], "/a/segmenter/labels": [IMAGE]}, ""),
        ({f"/camera{i}/image_raw": [IMAGE] for i in range(5)}, "/camera2/image_raw and 2 more: remap"),
    ],
)
def test_topics_that_may_be_meant_are_named(published: dict[str, list[str]], word: str) -> None:
    sentence = instead("/image", [IMAGE], published)
    assert word in sentence
    assert bool(sentence) == bool(word)


def test_a_message_class_has_the_name_that_the_graph_has() -> None:
    assert type_name(Image) == IMAGE
