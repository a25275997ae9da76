"""`wesam web` beside real nodes that learn from the demo, in a real browser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

import rclpy
from browser import TOKEN, Browser, browser, free_port, need_browser, wait_for_port
from conftest import free_domain
from rclpy.context import Context

from wesam_ros.ros.children import NodeProcess
from wesam_ros.ros.robot_topics import adapter_node_of, chosen_topics, namespaces_of

DEMO = Path(__file__).parents[2] / "demo" / "tabletop.mcap"
LEARNS = {"publish_every": 1, "validation_every": 2, "validation_frames": 1, "tolerance": 1.0, "prompt_fit": 0.0, "precision": "float32"}
"""Each step leads to an adapter that is published."""
RAW, PACKED = ["sensor_msgs/msg/Image"], ["sensor_msgs/msg/CompressedImage"]


@pytest.mark.parametrize(
    ("found", "image", "problem"),
    [
        ({"/image": RAW, "/depth": RAW, "/detections": ["vision_msgs/msg/Detection2DArray"]}, "/image", ""),
        ({"/rgb/image_raw": RAW, "/rgb/image_raw/compressed": PACKED, "/depth/compressedDepth": PACKED}, "/rgb/image_raw", ""),
        ({"/depth_camera/rgb/image": RAW, "/depth_camera/depth/image": RAW}, "/depth_camera/rgb/image", ""),
        ({"/left": RAW, "/right": RAW}, "", "name it with --image"),
        ({}, "", "/arm/segmenter takes no images"),
    ],
)
def test_the_colour_image_is_found_among_the_segmenters_topics(found: dict[str, list[str]], image: str, problem: str) -> None:
    topics = chosen_topics({**found, "/a": ["wesam_ros/msg/Adapter"], "/p": ["wesam_ros/msg/Prompts"]}, "/arm/segmenter")
    assert (topics.image, topics.adapter, topics.prompts) == (image, "/a", "/p")
    assert problem in topics.problem
    assert bool(topics.problem) == bool(problem)
    assert chosen_topics(found, "/arm/segmenter", "/of_another_robot") == chosen_topics(found, "/arm/segmenter")
    assert chosen_topics({"/left": RAW, "/right": RAW}, "/arm/segmenter", "/left").image == "/left"


def test_robots_are_namespaces_with_a_segmenter() -> None:
    nodes = [("segmenter", "/b"), ("segmenter", "/a"), ("adapter", "/a"), ("camera", "/c")]
    assert namespaces_of(nodes) == ["/a", "/b"]
    assert [adapter_node_of(nodes, each) for each in ("/a", "/b")] == ["/a/adapter", "/a/adapter"]  # one learns for both
    assert adapter_node_of([*nodes, ("adapter", "/d")], "/b") == "/b/adapter"
    assert adapter_node_of([("adapter", "/")], "/") == "/adapter"


class Robot:
    """Both nodes and the demo, in processes of their own and in a graph of their own.

    The graph of the other tests has publishers of raw images, which nodes and page prefer to the compressed ones of the demo.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.domain = free_domain()
        self.environment = {"ROS_DOMAIN_ID": str(self.domain)}
        learns = {f"adaptation.{name}": value for name, value in LEARNS.items()}
        self.adapter = self._start("adapter", {"torch_threads": 1, "steps_per_frame": 1, "questions": 8, **learns})
        self.segmenter = self.start_segmenter()
        self.player = self._start("player", {"bag": DEMO, "rate": 2.0, "loop": True})

    def _start(self, name: str, parameters: dict[str, Any]) -> NodeProcess:
        return NodeProcess(name, parameters, self._folder / f"{name}.log", self.environment)

    def start_segmenter(self) -> NodeProcess:
        self.segmenter = self._start("segmenter", {"torch_threads": 1})
        return self.segmenter

    def stop(self) -> None:
        for each in (self.player, self.segmenter, self.adapter):
            each.stop()


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Robot]:
    need_browser()
    robot = Robot(tmp_path_factory.mktemp("robot"))
    yield robot
    robot.stop()


@pytest.fixture(scope="module")
def page(robot: Robot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder, port = tmp_path_factory.mktemp("page"), free_port()
    (folder / "token").write_text(TOKEN)
    words = [sys.executable, "-m", "wesam_ros.cli", "web", "--port", str(port), "--token-file", str(folder / "token")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, cwd=folder, env={**os.environ, **robot.environment})
    try:
        wait_for_port(port, lambda: process.poll() is None, folder / "log")
        assert TOKEN not in (folder / "log").read_text()
        with browser() as page:
            page.open(f"http://127.0.0.1:{port}/?token={TOKEN}")
            page.until(lambda: page.all(".masks path"), "the first masks", 180)
            yield page
        process.send_signal(2)
        assert process.wait(20) == 0
    finally:
        process.kill()


def middle_of_an_object(page: Browser) -> tuple[float, float]:
    """The place of the first caption, as shares of the picture."""
    script = "const t = document.querySelector('.captions text'); return [t.getAttribute('x') / 640, t.getAttribute('y') / 480]"
    x, y = page.driver.execute_script(script)
    return x, y


def test_a_frame_of_the_demo_arrives(page: Browser) -> None:
    page.until(lambda: page.all(".objects tbody .dot"), "the table of objects")
    page.until_text("model, depth")
    page.until(lambda: page.all(".charts svg path.curve"), "a curve")


def test_an_object_is_clicked_and_kept(page: Browser) -> None:
    place = middle_of_an_object(page)
    page.press("Add")
    page.on_picture(place)
    page.until(lambda: page.all(".proposal path"), "the segmenter's mask")
    page.press("Keep for learning")
    page.until(lambda: "Kept: it is learnt from now" in page.text(), "the learner's answer", 120)


def test_three_questions_are_answered(page: Browser) -> None:
    def waiting() -> int:
        found = re.search(r"(\d+) questions? waits?\.", page.text())
        return int(found[1]) if found else 0

    def answer(button: str, count: int) -> None:
        """Presses until it is counted: while one answers, a question may make room for a better one."""

        def counted() -> bool:
            page.press(button)
            try:
                page.until(lambda: f"{count} answers so far." in page.text(), "the count", 15)
            except AssertionError:
                return False
            return True

        page.until(counted, f"answer {count}", 120)

    page.until(lambda: waiting() >= 3, "three questions", 180)
    answer("Yes, it is", 1)
    page.press("Missing")
    page.on_picture((0.5, 0.5), of=".question-card")
    page.until(lambda: page.all(".question-card .proposal path"), "the segmenter's mask")
    page.press("Send mended")
    page.until_text("2 answers so far.")
    answer("No, it is not", 3)
    page.press("Take the last answer back")
    page.until_text("2 answers so far.")


def test_frozen_and_adapted_are_compared_and_rolled_back(page: Browser) -> None:
    page.until(lambda: len(page.all(".versions button")) >= 3, "three versions", 180)
    page.until(lambda: "adapter v" in page.text(), "a frame with an adapter", 120)
    page.press("Compare with frozen")
    page.until_text("Their masks agree to")
    page.press("Back to live")
    page.press("Learning")
    page.until_text("learning paused")
    page.press("Roll back")
    page.until_text("Go back one adapter?")
    page.press("Yes")
    page.until_text("rolled back: version")
    page.press("Use the frozen model")
    page.until(lambda: "frozen model" in page.one(".chips").text, "the frozen model's frames")


def test_a_segmenter_that_ends_is_told_of_and_comes_back(robot: Robot, page: Browser) -> None:
    robot.segmenter.stop()
    page.until_text("/segmenter does not report")
    shown: Any = page.one(".picture img").get_attribute("src")
    robot.start_segmenter()
    page.until(lambda: page.one(".picture img").get_attribute("src") != shown, "a picture of the new segmenter", 180)
    page.until(lambda: "/segmenter does not report" not in page.text(), "its report")


def test_nothing_is_subscribed_to_while_no_page_is_open(robot: Robot, page: Browser) -> None:
    context = Context()
    context.init(domain_id=robot.domain)
    node = rclpy.create_node("tester", context=context)

    def heard() -> set[str] | None:
        try:
            found = dict(node.get_subscriber_names_and_types_by_node("web", "/"))
        except RuntimeError:  # this node does not know it yet
            return None
        return {name for name, kinds in found.items() if not kinds[0].startswith("rcl_interfaces")}

    try:
        page.until(lambda: {"/segmenter/objects", "/adapter/status", "/diagnostics"} <= (heard() or set()), "the page's subscriptions")
        page.open("about:blank")
        page.until(lambda: heard() == set(), "the end of the page's subscriptions")
    finally:
        node.destroy_node()
        context.shutdown()
