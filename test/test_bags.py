"""Recordings: what is written is read, in both storages, joined by stamp; what is missing is named."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

from wesam_ros.commands.common import add_topic_options, named_topics
from wesam_ros.data import codecs
from wesam_ros.data.detections import Detections
from wesam_ros.data.frames import Frame
from wesam_ros.data.messages import detections_of
from wesam_ros.data.recordings import bags, joining, messages
from wesam_ros.data.recordings.bags import find_topics, read_bag, read_messages, write_bag
from wesam_ros.data.recordings.requests import requests_of
from wesam_ros.data.recordings.topics import BagError, BagTopics
from wesam_ros.data.requests import Request
from wesam_ros.evaluation.metrics import boxes_to_score
from wesam_ros.sam.prompts import Prompt, Prompts

CAMERA = np.array([[525, 0, 319.5], [0, 525, 239.5], [0, 0, 1]])
START = 1_700_000_000_123_456_789


def frame(index: int, **changes: Any) -> Frame:
    """A tiny frame that differs from its neighbours in everything."""
    ramp = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32)
    boxes = np.array([[1, 2, 11.5, 12], [3, 4, 20, 23.25]], np.float32)
    fields: dict[str, Any] = {
        "image": np.dstack([ramp // 4, ramp // 7, np.full_like(ramp, 40 * index)]).astype(np.uint8),
        "depth": (ramp + 500 * index).astype(np.float32) / 1000,
        "camera": CAMERA + index * np.array([[1, 0, 1], [0, 1, 1], [0, 0, 0]]),
        "detections": Detections(boxes + index, ("7", "box"), ("cup", ""), np.array([0.75, 0.5], np.float32)),
        "labels": ramp // 100 + index,
        "stamp_ns": START + index * 33_333_333,
    }
    return Frame(**{**fields, **changes})


def write_raw(path: Path, plugin: StoragePlugin, sent: Sequence[tuple[str, Any, int]]) -> Path:
    """A bag of (topic, message, time of recording), as any recorder would write it."""
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        connections = {}
        for topic, message, time_ns in sent:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=messages.typestore())
            writer.write(connections[topic], time_ns, messages.serialize(message))
    return path


def raw_message(stamp_ns: int, array: np.ndarray) -> Any:
    fields = codecs.encode_image(array)._asdict()
    data = np.frombuffer(fields.pop("data"), np.uint8)
    return messages.typestore().types[messages.IMAGE](header=messages.header(stamp_ns), data=data, **fields)


def test_a_written_bag_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "recording.mcap"
    assert write_bag(path, (frame(i) for i in range(3))) == 3
    for index, got in enumerate(read_bag(path, labels=True)):
        sent = frame(index)
        assert np.abs(got.image.astype(int) - sent.image).mean() < 3  # JPEG
        np.testing.assert_allclose(got.depth, sent.depth, rtol=1e-6)
        np.testing.assert_array_equal(got.camera, sent.camera)
        np.testing.assert_array_equal(got.labels, sent.labels)
        np.testing.assert_array_equal(got.detections.boxes, sent.detections.boxes)
        np.testing.assert_array_equal(got.detections.scores, sent.detections.scores)
        assert (got.detections.ids, got.detections.classes) == (sent.detections.ids, sent.detections.classes)
        assert (got.stamp_ns, got.sequence) == (sent.stamp_ns, "recording")
    assert index == 2


def test_the_same_frames_give_the_same_file_and_replace_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    write_bag(path, [frame(0)])
    write_bag(path, [frame(0), frame(1)])
    first = path.read_bytes()
    write_bag(path, [frame(0), frame(1)])
    assert path.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["a.mcap"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    write_bag(path, [frame(0)])
    before = path.read_bytes()
    with pytest.raises(BagError, match="stamps must grow"):
        write_bag(path, [frame(1), frame(0)])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.mcap"]


@pytest.mark.parametrize(("name", "frames", "message"), [("a.mcap", [], "no frame"), ("a.bag", [frame(0)], r"must be named \*\.mcap")])
def test_what_cannot_be_written(tmp_path: Path, name: str, frames: list[Frame], message: str) -> None:
    with pytest.raises(BagError, match=message):
        write_bag(tmp_path / name, frames)
    assert not list(tmp_path.iterdir())


def test_labels_are_only_read_on_demand(tmp_path: Path) -> None:
    write_bag(tmp_path / "a.mcap", [frame(0)])
    assert next(read_bag(tmp_path / "a.mcap")).labels is None


def test_no_boxes_is_an_empty_array_and_no_detector_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    nothing = Detections(np.zeros((0, 4), np.float32))
    write_bag(path, [frame(0, detections=nothing), frame(1, detections=None), frame(2)])
    first, second, third = read_bag(path)
    assert len(first.detections) == 0
    assert second.detections is None
    assert len(third.detections) == 2


@pytest.mark.parametrize("plugin", [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_raw_topics_in_both_storages_joined_by_exact_stamp(tmp_path: Path, plugin: StoragePlugin) -> None:
    topics = BagTopics(image="/rgb", depth="/depth", detections="/boxes", camera_info="/info", labels="/truth")
    sent: list[tuple[str, Any, int]] = [("/info", messages.camera_info(START, CAMERA, (24, 32)), START)]
    for i in range(3):
        f = frame(i)
        late = f.stamp_ns + 40_000_000  # boxes arrive after the next image
        sent += [
            ("/rgb", raw_message(f.stamp_ns, f.image), f.stamp_ns),
            ("/boxes", messages.detection_array(f.stamp_ns, f.detections), late),
        ]
        if i != 1:
            sent += [("/depth", raw_message(f.stamp_ns, f.depth), f.stamp_ns - 1), ("/truth", raw_message(f.stamp_ns, f.labels), late)]
    path = write_raw(tmp_path / "bag", plugin, sorted(sent, key=lambda item: item[2]))
    frames = list(read_bag(path, topics=topics, labels=True))
    assert [f.stamp_ns for f in frames] == [frame(i).stamp_ns for i in range(3)]
    assert [f.depth is None for f in frames] == [f.labels is None for f in frames] == [False, True, False]
    for i, f in enumerate(frames):
        np.testing.assert_array_equal(f.image, frame(i).image)
        np.testing.assert_array_equal(f.detections.boxes, frame(i).detections.boxes)
        np.testing.assert_array_equal(f.camera, CAMERA)  # the only camera info holds for all


def test_images_do_not_wait_for_ever_for_their_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "JOIN_WINDOW", 2)
    monkeypatch.setattr(joining, "JOIN_BYTES", 0)
    only_last = [frame(i, detections=None) for i in range(5)] + [frame(5)]
    write_bag(tmp_path / "a.mcap", only_last)
    read: list[int] = []
    original = bags.read_messages

    def counted(*args: Any) -> Any:
        for message in original(*args):
            read.append(message.time_ns)
            yield message

    monkeypatch.setattr(bags, "read_messages", counted)
    first = next(bags.read_frame_messages(tmp_path / "a.mcap"))
    assert first.stamp_ns == frame(0).stamp_ns
    assert max(read) == frame(2).stamp_ns


def test_missing_topics_are_named_with_those_there_are(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    write_bag(path, [frame(0, detections=None)], labels=False)
    with pytest.raises(BagError, match=r"no topic for detections or prompts; its topics are .*/image_raw/compressed.*--prompts-topic"):
        next(read_bag(path))
    with pytest.raises(BagError, match=r"no topic for labels; .* name the right one with --labels-topic"):
        next(read_bag(path, labels=True, detections_required=False))
    with pytest.raises(BagError, match="no topic /rgb"):
        next(read_bag(path, topics=BagTopics(image="/rgb")))
    with pytest.raises(BagError, match=r"must be sensor_msgs/msg/CompressedImage .* but is sensor_msgs/msg/CameraInfo"):
        next(read_bag(path, topics=BagTopics(image="/camera/color/camera_info")))
    assert next(read_bag(path, topics=BagTopics(detections=""), detections_required=False)).detections is None


def test_stamps_that_never_meet_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    f = frame(0)
    sent = [
        ("/rgb", raw_message(f.stamp_ns, f.image), START),
        ("/boxes", messages.detection_array(f.stamp_ns + 5, f.detections), START + 1),
    ]
    path = write_raw(tmp_path / "bag", StoragePlugin.MCAP, sent)
    (got,) = read_bag(path, topics=BagTopics(image="/rgb", detections="/boxes"))
    assert got.detections is None
    assert "no message on /boxes has the stamp of an image" in caplog.text


def test_messages_travel_as_they_were_serialised(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    write_bag(path, [frame(0)])
    (boxes,) = read_messages(path, ["/detections"])
    assert boxes.msgtype == "vision_msgs/msg/Detection2DArray"
    assert boxes.stamp_ns == boxes.time_ns == frame(0).stamp_ns
    assert boxes.data == messages.serialize(messages.detection_array(frame(0).stamp_ns, frame(0).detections))


def test_a_copy_without_a_topic_keeps_the_rest(tmp_path: Path) -> None:
    source, target = tmp_path / "a.mcap", tmp_path / "b.mcap"
    write_bag(source, [frame(0), frame(1)])
    bags.without_topics(source, target, ["/ground_truth/labels"])
    assert list(read_messages(target)) == [m for m in read_messages(source) if m.topic != "/ground_truth/labels"]
    assert "/ground_truth/labels" not in bags.bag_info(target)
    with pytest.raises(BagError, match="no topic /nothing"):
        bags.without_topics(source, target, ["/nothing"])


def test_ids_from_a_detector_are_made_unique() -> None:
    message = messages.detection_array(START, Detections(np.zeros((3, 4), np.float32), ("", "4", "4")))
    message.detections[0].results = []
    read = detections_of(message)
    assert read.ids == ("#0", "4", "4#2")
    assert (read.classes[0], read.scores[0]) == ("", 1.0)


SIZE = (24, 32)
MASK = np.zeros(SIZE, bool)
MASK[3:9, 5:20] = True
MASK[3, 5] = False


def prompted() -> Request:
    """A box, points and a coarse mask, alone and together."""
    points, labels = np.array([[4.5, 6], [20, 3]], np.float32), np.array([1, 0])
    box = np.array([1, 2, 12, 13], np.float32)
    objects = (Prompt(box), Prompt(points=points, point_labels=labels), Prompt(mask=MASK), Prompt(box, points, labels, MASK))
    boxes = np.array([box, (0, 0, 32, 24), (0, 0, 32, 24), box], np.float32)
    found = Detections(boxes, ("7", "p", "m", "all"), ("cup", "", "", "box"), np.array([0.5, 0.25, 1, 0], np.float32))
    return Request(Prompts(SIZE, objects), found)


def test_prompts_are_read_back_also_where_there_are_no_detections(tmp_path: Path) -> None:
    write_bag(tmp_path / "a.mcap", [frame(0, detections=None, prompted=prompted()), frame(1, detections=None)])
    first, second = read_bag(tmp_path / "a.mcap")
    assert second.prompted is None
    ((source, got),) = requests_of(first)
    assert (source, got.rejected) == ("prompts", ())
    assert (got.detections.ids, got.detections.classes) == (prompted().detections.ids, prompted().detections.classes)
    np.testing.assert_array_equal(got.detections.scores, prompted().detections.scores)
    np.testing.assert_array_equal(got.detections.boxes, prompted().detections.boxes)
    for each, sent in zip(got.prompts.objects, prompted().prompts.objects, strict=True):
        for name in ("box", "points", "point_labels", "mask"):
            np.testing.assert_array_equal(getattr(each, name), getattr(sent, name))


def test_each_bad_prompt_of_a_recording_is_rejected_alone(tmp_path: Path) -> None:
    message = messages.prompt_array(START, prompted())
    box, points, mask, _ = message.prompts
    box.box = np.full(4, np.nan, np.float32)
    points.points = points.points[:3]
    mask.mask.x = 30
    sent = [("/marks", message, START), ("/rgb", raw_message(START, frame(0).image), START)]
    (got,) = read_bag(write_raw(tmp_path / "bag", StoragePlugin.MCAP, sent))
    assert got.prompted is not None
    assert [reason for reason, _ in got.prompted.rejected] == ["nan", "prompt", "prompt"]
    assert got.prompted.detections.ids == ("all",)


def test_a_frame_with_both_has_two_requests() -> None:
    assert [source for source, _ in requests_of(frame(0, prompted=prompted()))] == ["detections", "prompts"]
    with pytest.raises(ValueError, match=r"prompts must be for the image's size \(24, 32\), but are for \(10, 10\)"):
        frame(0, prompted=Request(Prompts((10, 10), ()), Detections(np.zeros((0, 4)))))


def test_the_definitions_of_our_messages_are_those_of_the_package() -> None:
    for name, text in messages.WESAM_MSGS.items():
        file = Path(__file__).parents[1] / "msg" / f"{name.rpartition('/')[2]}.msg"
        lines = [" ".join(line.partition("#")[0].split()) for line in file.read_text().splitlines()]
        assert [line for line in lines if line] == text.splitlines()


def test_what_a_prompt_means_is_scored() -> None:
    labels = np.zeros(SIZE, np.uint16)
    labels[2:12, 3:15], labels[3:9, 18:30] = 3, 5
    background = Prompt(points=np.array([[32, 24], [20, 4]], np.float32), point_labels=np.array([1, 0]))
    on_five = Prompt(points=np.array([[19, 4], [20, 5], [4, 4]], np.float32), point_labels=np.array([1, 1, 1]))
    negative = Prompt(points=np.array([[4, 4]], np.float32), point_labels=np.array([0]))
    got = boxes_to_score(Prompts(SIZE, (*prompted().prompts.objects[:3], background, on_five, negative)), labels)
    wanted = [(1, 2, 12, 13), (3, 2, 15, 12), (5, 3, 20, 9), (0, 0, 0, 0), (18, 3, 30, 9), (0, 0, 0, 0)]
    assert got.tolist() == [list(each) for each in wanted]


def recorded(*topics: str) -> list[tuple[str, Any, int]]:
    """One message of the type that a topic's name ends with, on each."""
    pixels = raw_message(START, frame(0).image)
    makes: dict[str, Any] = {
        "compressed": messages.compressed_image(START, "jpeg", codecs.encode_jpeg(frame(0).image)),
        "camera_info": messages.camera_info(START, CAMERA, SIZE),
        "boxes": messages.detection_array(START, Detections(np.zeros((0, 4), np.float32))),
        "marks": messages.prompt_array(START, prompted()),
    }
    return [(topic, makes.get(topic.rpartition("/")[2], pixels), START) for topic in topics]


@pytest.mark.parametrize(
    ("topics", "named", "found"),
    [
        ("/rgb/image", {}, {"image": "/rgb/image"}),
        ("/rgb/image /rgb/depth /rgb/camera_info /a/boxes /b/marks", {}, None),
        ("/camera/color/image_raw/compressed /other/image", {}, {"image": "/camera/color/image_raw/compressed"}),
        ("/cam/color/image /cam/other/image", {}, {"image": "/cam/color/image"}),
        ("/cam/image /cam/infra1/image /segmenter/labels /segmenter/overlay", {}, {"image": "/cam/image"}),
        ("/a/image /b/image", {"image": "/b/image"}, {"image": "/b/image"}),
        ("/a/image /a/depth /b/depth", {"depth": "none"}, {"image": "/a/image"}),
        ("/a/image /truth", {"labels": "/truth"}, {"image": "/a/image", "labels": "/truth"}),
        ("/ground_truth/labels /a/image", {}, {"image": "/a/image", "labels": "/ground_truth/labels"}),
    ],
)
def test_topics_are_found(tmp_path: Path, topics: str, named: dict[str, str], found: dict[str, str] | None) -> None:
    roles = ("image", "depth", "camera_info", "detections", "prompts")
    wanted = found if found is not None else dict(zip(roles, topics.split(), strict=True))
    path = write_raw(tmp_path / "bag", StoragePlugin.MCAP, recorded(*topics.split()))
    nothing = dict.fromkeys((*roles, "labels"), "")
    assert find_topics(path, named) == BagTopics(**{**nothing, **wanted})


@pytest.mark.parametrize(
    ("topics", "named", "message"),
    [
        ("/a/image /b/image", {}, "several topics for image: /a/image, /b/image; name one with --image-topic"),
        ("/image /a/depth /b/depth", {}, "several topics for depth: /a/depth, /b/depth; name one with --depth-topic"),
        ("/image /a/camera_info /b/camera_info", {}, "name one with --camera-info-topic"),
        ("/image /a/boxes /b/boxes", {}, "several topics for detections: /a/boxes, /b/boxes; name one with --detections-topic"),
        ("/image /a/marks /b/marks", {}, "several topics for prompts: /a/marks, /b/marks; name one with --prompts-topic"),
        (
            "/depth /a/boxes",
            {},
            r"no topic for image; its topics are /a/boxes \(.*\), /depth \(.*\); name the right one with --image-topic",
        ),
        ("/image", {"depth": "/deep"}, r"no topic /deep for depth; its topics are /image \(.*\); name the right one with --depth-topic"),
        ("/image /a/boxes", {"prompts": "/a/boxes"}, "/a/boxes for prompts must be wesam_ros/msg/Prompts, but is vision_msgs"),
        ("/image", {}, "no topic for detections or prompts; .* name the right one with --detections-topic .* or --prompts-topic"),
    ],
)
def test_topics_that_cannot_be_told_apart_or_are_missing(tmp_path: Path, topics: str, named: dict[str, str], message: str) -> None:
    path = write_raw(tmp_path / "bag", StoragePlugin.MCAP, recorded(*topics.split()))
    with pytest.raises(BagError, match=message):
        find_topics(path, named, detections_required=True)


def test_topics_are_named_on_the_command_line() -> None:
    parser = argparse.ArgumentParser()
    add_topic_options(parser)
    args = parser.parse_args(["--image-topic", "/rgb", "--camera-info-topic=/info", "--labels-topic", "none"])
    assert named_topics(args) == {"image": "/rgb", "camera_info": "/info", "labels": "none"}
    fewer = argparse.ArgumentParser()
    add_topic_options(fewer, ("image",))
    assert named_topics(fewer.parse_args([])) == {}
