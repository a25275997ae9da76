"""`wesam replay` in lock step: player, segmenter and adapter in processes of their own, and the report."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

from recorded import Row, raw, write
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import UInt64
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray
from wesam_ros.msg import AdaptationStatus, ObjectArray
from wesam_ros.msg import Prompts as PromptsMessage

from wesam_ros import cli
from wesam_ros.commands.replay import Replay, add_arguments
from wesam_ros.data import codecs
from wesam_ros.data.boxes import boxes_of_labels
from wesam_ros.data.detections import Detections
from wesam_ros.data.frames import Frame
from wesam_ros.data.recordings import messages
from wesam_ros.data.recordings.bags import write_bag
from wesam_ros.data.recordings.topics import BagTopics
from wesam_ros.data.requests import Request, request_of
from wesam_ros.nodes.player import Player
from wesam_ros.ros.answers import PlayerError
from wesam_ros.ros.children import NodeProcess
from wesam_ros.ros.subscriptions import LATCHED
from wesam_ros.ros.transform_listener import STATIC
from wesam_ros.sam.prompts import Prompt, Prompts

FRAMES = 4
SIZE = (120, 160)


def frames() -> Iterator[Frame]:
    """Two coloured rectangles that move to the right."""
    noise = np.random.default_rng(0)
    for i in range(FRAMES):
        labels = np.zeros(SIZE, np.uint16)
        labels[20:70, 10 + 8 * i : 60 + 8 * i] = 1
        labels[80:115, 30 + 8 * i : 100 + 8 * i] = 2
        colours = np.array([[60, 60, 60], [200, 40, 40], [40, 40, 200]], np.uint8)
        image = colours[labels] + noise.integers(0, 30, (*SIZE, 3), dtype=np.uint8)
        depth = np.where(labels > 0, 0.9, 1.2).astype(np.float32)
        camera = np.array([[130.0, 0, 80], [0, 130, 60], [0, 0, 1]])
        ids, boxes = boxes_of_labels(labels)
        yield Frame(image, depth, camera, Detections(boxes, tuple(map(str, ids))), labels, stamp_ns=10**9 + i * 10**8)


def prompted(frame: Frame) -> Request:
    """A point on the first rectangle and a coarse mask of the second."""
    assert frame.labels is not None
    (y, x), *_ = np.argwhere(frame.labels == 1) + 10
    point = Prompt(points=np.array([[x, y]], np.float32), point_labels=np.ones(1, np.int64))
    whole = np.tile(np.array([0, 0, SIZE[1], SIZE[0]], np.float32), (2, 1))
    return Request(Prompts(SIZE, (point, Prompt(mask=frame.labels == 2))), Detections(whole, ("p", "m")))


SETTINGS = ("publish_every=1", "validation_every=2", "validation_frames=1", "tolerance=1.0", "prompt_fit=0", "precision=float32")
"""Something is learnt from masks that fit no box, as a random model's; in bfloat16 two processes need not compute the same bits."""
METHOD = [word for setting in SETTINGS for word in ("--set", setting)]


def run(bag: Path, checkpoint: Path, out: Path, *options: str) -> dict[str, Any]:
    """Plays a bag in a graph of its own; the summary."""
    domain = 1 + (int(os.environ["ROS_DOMAIN_ID"]) + 50) % 100
    command = [sys.executable, "-m", "wesam_ros.cli", "replay", str(bag), "--lock-step", "--out", str(out), "--domain-id", str(domain)]
    command += ["--checkpoint", str(checkpoint), "--steps-per-frame", "1", "--seed", "3", "--timeout", "90"]
    done = subprocess.run([*command, *METHOD, *options], cwd=out.parent, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads((out / "summary.json").read_text()))


def test_lock_step_is_deterministic_and_labels_do_not_reach_it(random_tiny: Path, tmp_path: Path) -> None:
    write_bag(tmp_path / "with.mcap", frames())
    write_bag(tmp_path / "without.mcap", frames(), labels=False)
    scored = run(tmp_path / "with.mcap", random_tiny, tmp_path / "a")
    unscored = run(tmp_path / "without.mcap", random_tiny, tmp_path / "b")
    adapters = [(tmp_path / out / "adapter.safetensors").read_bytes() for out in ("a", "b")]
    assert adapters[0] == adapters[1]
    assert scored["frames"] == unscored["frames"] == FRAMES
    assert scored["adapter_versions"] >= 1
    assert scored["seed"] == 3
    assert 0 <= scored["miou_frozen"] <= 1
    assert 0 <= scored["miou_adapted"] <= 1
    assert unscored["miou_adapted"] is None
    assert "<svg" in (tmp_path / "a" / "report.html").read_text()


def test_recorded_detections_and_prompts_are_both_learnt_from_and_offline_as_in_the_nodes(random_tiny: Path, tmp_path: Path) -> None:
    made = [replace(each, prompted=prompted(each)) for each in frames()]
    made[1] = replace(made[1], detections=None, prompted=None)
    made[2] = replace(made[2], detections=None)
    bag = tmp_path / "bag.mcap"
    write_bag(bag, made, topics=BagTopics(image="/rgb/compressed", depth="/depth", prompts="/marks"))
    summary = run(bag, random_tiny, tmp_path / "run")
    assert (summary["frames"], summary["frames_accepted"], summary["instances_scored"]) == (5, 5, 10)
    command = ["adapt", str(bag), "--checkpoint", str(random_tiny), "--out", str(tmp_path / "adapt"), "--steps-per-frame", "1"]
    assert cli.main([*command, "--seed", "3", "--threads", str(len(os.sched_getaffinity(0))), *METHOD]) == 0
    adapters = [(tmp_path / out / "adapter.safetensors").read_bytes() for out in ("run", "adapt")]
    assert adapters[0] == adapters[1]


@contextmanager
def nodes_answer(graph: Any, topic: str, kind: Any, status: dict[str, Any], served: int | None = None) -> Iterator[list[Any]]:
    """Answers, as segmenter and adapter node would, what comes on a topic, with a status of these fields and with the version that serves,
    if any; the messages that came."""
    node, came = graph.node, list[Any]()
    objects = node.create_publisher(ObjectArray, "segmenter/objects", 10)
    statuses = node.create_publisher(AdaptationStatus, "adapter/status", 10)
    versions = node.create_publisher(UInt64, "segmenter/adapter_version", LATCHED)

    def answer(message: Any) -> None:
        came.append(message)
        objects.publish(ObjectArray(header=message.header))
        statuses.publish(AdaptationStatus(header=message.header, **status))
        if served is not None:
            versions.publish(UInt64(data=served))

    listeners = [node.create_subscription(kind, topic, each, 10) for each in (answer, lambda _: None)]
    try:
        yield came
    finally:
        for listener in listeners:
            node.destroy_subscription(listener)
        for each in (objects, statuses, versions):
            node.destroy_publisher(each)


def play_in_lock_step(folder: Path) -> None:
    """Plays a folder's bag.mcap to its end."""
    player = NodeProcess("player", {"bag": folder / "bag.mcap", "lock_step": True, "timeout": 30.0}, folder / "player.log", {})
    try:
        assert player.process.wait(60) == 0, player.log_end()
    finally:
        player.stop()


def test_a_player_finds_prompts_and_leaves_out_frames_that_nothing_is_asked_for_in(graph: Any, tmp_path: Path) -> None:
    made = [replace(each, detections=None, prompted=prompted(each)) for each in frames()]
    write_bag(tmp_path / "bag.mcap", [replace(made[0], prompted=None), *made[1:]], topics=BagTopics(prompts="/marks"))
    images: list[CompressedImage] = []
    subscription = graph.node.create_subscription(CompressedImage, "image/compressed", images.append, 10)
    with nodes_answer(graph, "prompts", PromptsMessage, {}) as sent:
        play_in_lock_step(tmp_path)
    graph.node.destroy_subscription(subscription)
    assert len(sent) == len(images) == FRAMES - 1
    assert request_of(sent[0], SIZE, 100).detections.ids == ("p", "m")


def test_a_player_sends_the_transforms_of_a_recording(graph: Any, tmp_path: Path) -> None:
    types = messages.typestore().types
    sent = [row for row in unsynchronised() if row[0] != "/rgb/compressed"] + good_images()
    times = [10**9 + k * 5 * 10**7 for k in range(60)]
    sent += [
        (topic, types["tf2_msgs/msg/TFMessage"](transforms=[]), time)
        for topic, time in [("/tf_static", 10**9)] + [("/tf", t) for t in times]
    ]
    bag = write(tmp_path / "bag", sent=sorted(sent, key=lambda row: row[2]))
    counts = {"/tf": 0, "/tf_static": 0, "image": 0}

    def count(name: str) -> Callable[[Any], None]:
        return lambda message: counts.__setitem__(name, counts[name] + (name == "image" or not message.transforms))  # others' have some

    node = graph.node
    heard = [node.create_subscription(TFMessage, "/tf", count("/tf"), 100)]
    heard.append(node.create_subscription(TFMessage, "/tf_static", count("/tf_static"), STATIC))
    heard.append(node.create_subscription(Image, "image", count("image"), 10))
    player = NodeProcess("player", {"bag": bag, "rate": 20.0}, tmp_path / "player.log", {})
    try:
        graph.until(lambda: counts["image"] == FRAMES and counts["/tf"] == 12, "images and transforms up to a little behind them", 40)
        assert counts["/tf_static"] == 1
    finally:
        player.stop()
        for each in heard:
            node.destroy_subscription(each)


def test_a_player_that_is_interrupted_ends_cleanly(graph: Any, tmp_path: Path) -> None:
    write_bag(tmp_path / "bag.mcap", frames())
    seen: list[CompressedImage] = []
    subscription = graph.node.create_subscription(CompressedImage, "image/compressed", seen.append, 10)
    player = NodeProcess("player", {"bag": tmp_path / "bag.mcap", "loop": True, "rate": 200.0}, tmp_path / "player.log", {})
    graph.until(lambda: len(seen) > FRAMES, "playing")
    player.stop()
    graph.node.destroy_subscription(subscription)
    assert player.process.returncode == 0, player.log_end()


class Enough(Exception):  # noqa: N818, it is no error
    """Raised when as many frames were sent as were asked for."""


@pytest.mark.usefixtures("graph")
@pytest.mark.parametrize(("rate", "period"), [(5.0, 0.2), (0.0, 0.1)])
def test_a_recording_that_begins_again_does_so_after_a_period(tmp_path: Path, rate: float, period: float, monkeypatch: Any) -> None:
    write_bag(tmp_path / "bag.mcap", frames())
    player = Player(bag=str(tmp_path / "bag.mcap"), loop=True, rate=rate)
    due: list[float] = []
    monkeypatch.setattr(player, "_wait_for_listeners", lambda: None)
    monkeypatch.setattr(player, "_sleep_until", due.append)

    def progress(sent: int) -> None:
        if sent == 2 * FRAMES:
            raise Enough

    with pytest.raises(Enough):
        player.play(progress)
    player.destroy_node()
    assert np.diff(due) == pytest.approx(period)


@pytest.mark.parametrize("served", [7, 0])
def test_lock_step_goes_on_when_the_adapter_is_taken_also_by_a_segmenter_that_uses_the_frozen_model(
    graph: Any, tmp_path: Path, served: int
) -> None:
    """Each frame leads to an adapter of version 7; the segmenter says which one serves: that, or 0."""
    write_bag(tmp_path / "bag.mcap", frames())
    with nodes_answer(graph, "detections", Detection2DArray, {"published": True, "version": 7}, served) as sent:
        play_in_lock_step(tmp_path)
    assert len(sent) == FRAMES


MS = 10**6
BAD_IMAGE, BAD_DEPTH = 1, 3


def unsynchronised() -> Iterator[Row]:
    """Depth 1 ms before its image, every other one missing, one not registered; an image cut short; a camera_info of one stamp."""
    for i, frame in enumerate(frames()):
        stamp = frame.stamp_ns
        assert frame.depth is not None
        assert frame.camera is not None
        yield "/info", messages.camera_info(10**9, frame.camera, frame.size), stamp
        if i != 2:
            depth = (frame.depth * 1000).astype(np.uint16)
            yield "/depth", raw(stamp - MS, depth[::2, ::2] if i == BAD_DEPTH else depth), stamp
        jpeg = codecs.encode_jpeg(frame.image)
        cut = jpeg[: len(jpeg) // 2] if i == BAD_IMAGE else jpeg
        yield "/rgb/compressed", messages.compressed_image(stamp, "rgb8; jpeg compressed bgr8", cut), stamp
        yield "/boxes", messages.detection_array(stamp, frame.detections), stamp + 20 * MS


def facts(report: Path) -> str:
    return re.sub(r"<[^>]+>", " ", report.read_text())


@pytest.fixture(scope="module")
def nasty() -> Any:
    """benchmarks/nodes/nasty.py."""
    spec = spec_from_file_location("nasty", Path(__file__).parents[2] / "benchmarks" / "nodes" / "nasty.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_nasty_recording_costs_its_bad_messages_only_and_offline_as_in_the_nodes(random_tiny: Path, nasty: Any, tmp_path: Path) -> None:
    rows = list(nasty.nasty_rows(frames(), "yuy2"))
    depths = [place for place, row in enumerate(rows) if row[0] == "/camera/depth/image_raw"]
    topic, _, time = rows[depths[1]]
    rows[depths[1]] = topic, nasty.raw(time, "16UC1", np.full((SIZE[0] // 2, SIZE[1] // 2), 1000, np.uint16)), time  # not registered
    bag = nasty.write_split(tmp_path / "bag", rows)
    slop = ["--sync-slop", str(nasty.SLOP)]
    summary = run(bag, random_tiny, tmp_path / "run", *slop)
    assert (summary["frames"], summary["instances_scored"]) == (FRAMES - 1, 2 * (FRAMES - 1))
    command = ["adapt", str(bag), "--checkpoint", str(random_tiny), "--out", str(tmp_path / "adapt"), "--steps-per-frame", "1"]
    assert cli.main([*command, "--seed", "3", "--threads", str(len(os.sched_getaffinity(0))), *METHOD, *slop]) == 0
    assert json.loads((tmp_path / "adapt" / "summary.json").read_text())["frames"] == FRAMES - 1
    adapters = [(tmp_path / out / "adapter.safetensors").read_bytes() for out in ("run", "adapt")]
    assert adapters[0] == adapters[1]
    for out in ("run", "adapt"):
        assert "1 depth.wrong_size, 1 image.truncated" in facts(tmp_path / out / "report.html")


def test_a_recording_whose_clock_starts_again_is_played_and_compared_run_by_run(random_tiny: Path, tmp_path: Path) -> None:
    once = [
        (topic, message, stamp)
        for stamp, frame in zip((2 * 10**9, 4 * 10**9), frames(), strict=False)
        for topic, message in (("/rgb", raw(stamp, frame.image)), ("/boxes", messages.detection_array(stamp, frame.detections)))
    ]
    again = [(topic, message, time + 10**10) for topic, message, time in once]
    summary = run(write(tmp_path / "bag", sent=[*once, *again]), random_tiny, tmp_path / "run", "--steps-per-frame", "0")
    assert summary["frames"] == 4


def test_in_lock_step_an_empty_depth_says_that_none_comes(graph: Any, tmp_path: Path) -> None:
    write(tmp_path / "bag", sent=[row for row in unsynchronised() if row[0] != "/rgb/compressed"] + good_images())
    (tmp_path / "bag.mcap").symlink_to(next((tmp_path / "bag").glob("*.mcap")))
    depths: list[Image] = []
    subscription = graph.node.create_subscription(Image, "depth", depths.append, 10)
    with nodes_answer(graph, "detections", Detection2DArray, {}) as asked:
        play_in_lock_step(tmp_path)
    graph.node.destroy_subscription(subscription)
    assert len(asked) == 4
    assert [len(each.data) > 0 for each in depths] == [True, False, True, False, False, True, False]


@pytest.mark.usefixtures("graph")
@pytest.mark.parametrize("answered", [True, False])
def test_a_replay_that_breaks_off_reports_what_was_answered(answered: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bag(tmp_path / "bag.mcap", frames())
    reported: list[float] = []

    def breaks_off(_: Replay) -> None:
        raise PlayerError("no answer")

    monkeypatch.setattr(Replay, "_start_nodes", lambda self: None)
    monkeypatch.setattr(Replay, "_play", breaks_off)
    monkeypatch.setattr(Replay, "_report", lambda self, seconds: reported.append(seconds))
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    replay = Replay(parser.parse_args([str(tmp_path / "bag.mcap")]), tmp_path)
    if answered:
        replay.recorder.objects[0, 1] = [ObjectArray()]
    with pytest.raises(PlayerError):
        replay.run()
    replay.player.destroy_node()
    assert len(reported) == answered


def good_images() -> list[Row]:
    return [("/rgb", raw(each.stamp_ns, each.image), each.stamp_ns) for each in frames()]
