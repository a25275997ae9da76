"""Every file in examples/ runs, or parses and refers to what exists. The node of python_detector.py runs in test/ros."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def published() -> set[str]:
    """The topics that segmenter and adapter publish, by the SROS 2 policy, which other tests hold against the nodes."""
    policy = ElementTree.parse(ROOT / "config" / "security_policy.xml")
    topics = {"/tf", "/tf_static", "/diagnostics"}
    for node in ("segmenter", "adapter"):
        names = policy.iterfind(f".//profile[@node='{node}']/topics[@publish]/topic")
        topics |= {str(PurePosixPath("/", str(each.text).replace("~", node))) for each in names}
    return topics


def load(name: str) -> Any:
    """An example as a module."""
    spec = spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def box(x: float, y: float, width: float, height: float, theta: float = 0.0, **more: Any) -> SimpleNamespace:
    """A stand-in for yolo_msgs/Detection, with the fields that its message definition has."""
    center = SimpleNamespace(position=SimpleNamespace(x=x, y=y), theta=theta)
    bbox = SimpleNamespace(center=center, size=SimpleNamespace(x=width, y=height))
    return SimpleNamespace(**{"class_id": 39, "class_name": "bottle", "score": 0.9, "id": "", "bbox": bbox, **more})


def test_masks_of_boxes_are_drawn(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "masks_of_boxes.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^object (\d): \d+ pixels", done.stdout, re.MULTILINE) == ["1", "2"]
    drawn, image = (np.asarray(Image.open(path).convert("RGB")).astype(int) for path in (tmp_path / "overlay.png", EXAMPLES / "table.jpg"))
    changed = np.abs(drawn - image).sum(2) > 0
    assert changed[275:433, 27:124].mean() > 0.3  # the bottle's box
    assert not changed[:100].any()


def test_masks_of_boxes_takes_an_image_and_boxes(tmp_path: Path) -> None:
    Image.new("RGB", (80, 60), (90, 20, 20)).save(tmp_path / "photo.png")
    options = ["--image", "photo.png", "--box", "10", "10", "50", "50", "--out", "drawn.png"]
    command = [sys.executable, str(EXAMPLES / "masks_of_boxes.py"), *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("object ") == 1
    assert Image.open(tmp_path / "drawn.png").size == (80, 60)


def test_boxes_of_yolo_become_detections() -> None:
    messages = pytest.importorskip("vision_msgs.msg", reason="needs ROS 2 and the built messages")
    header_of = pytest.importorskip("std_msgs.msg").Header
    from wesam_ros.data.messages import detections_of

    header = header_of(frame_id="camera")
    header.stamp.sec = 7
    found = [box(30, 40, 20, 10, id="3"), box(60, 50, 8, 4, class_name="", score=0.25), box(50, 50, 20, 10, theta=math.pi / 2)]
    converted = load("yolo_msgs_bridge").convert(SimpleNamespace(header=header, detections=found))
    assert isinstance(converted, messages.Detection2DArray)
    assert converted.header == header
    detections = detections_of(converted)
    np.testing.assert_allclose(detections.boxes, [(20, 35, 40, 45), (56, 48, 64, 52), (45, 40, 55, 60)], atol=1e-4)
    assert detections.ids[0] == "3" and len(set(detections.ids)) == 3
    assert detections.classes == ("bottle", "39", "bottle")
    np.testing.assert_allclose(detections.scores, [0.9, 0.25, 0.9])


def test_the_bridge_says_what_it_lacks(tmp_path: Path) -> None:
    pytest.importorskip("vision_msgs.msg", reason="needs ROS 2 and the built messages")
    without = "import runpy, sys; sys.modules['yolo_msgs'] = None; runpy.run_path(sys.argv[1], run_name='__main__')"
    command = [sys.executable, "-c", without, str(EXAMPLES / "yolo_msgs_bridge.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "yolo_ros" in done.stderr and "Traceback" not in done.stderr


def test_rviz_shows_what_is_published() -> None:
    manager = yaml.safe_load((EXAMPLES / "rviz.rviz").read_text())["Visualization Manager"]
    topics = {each["Topic"]["Value"] for each in manager["Displays"] if "Topic" in each}
    assert topics == {"/segmenter/detections_3d", "/segmenter/overlay", "/segmenter/points"}
    assert topics <= published()
    assert "rviz_default_plugins/TF" in {each["Class"] for each in manager["Displays"]}
    assert next(each for each in manager["Displays"] if "PointCloud2" in each["Class"])["Channel Name"] == "instance"


def test_foxglove_shows_what_is_published() -> None:
    layout = json.loads((EXAMPLES / "foxglove.json").read_text())
    assert set(panels(layout["layout"])) == set(layout["configById"])
    by_kind = {name.partition("!")[0]: config for name, config in layout["configById"].items()}
    topics = {by_kind["Image"]["imageMode"]["imageTopic"], *by_kind["3D"]["topics"], by_kind["DiagnosticSummary"]["topicToRender"]}
    assert topics <= published()
    fields = status_fields()
    for config in layout["configById"].values():
        for path in config.get("paths", ()):
            topic, _, field = path["value"].partition(".")
            name, _, index = field.partition("[")
            assert topic in published() and bool(index) == fields[name]


def panels(node: Any) -> list[str]:
    """The panels of a layout's tree."""
    return [node] if isinstance(node, str) else [*panels(node["first"]), *panels(node["second"])]


def status_fields() -> dict[str, bool]:
    """The fields of AdaptationStatus, and whether each is an array."""
    text = (ROOT / "msg" / "AdaptationStatus.msg").read_text()
    return {name: bool(array) for array, name in re.findall(r"^[\w/]+(\[\])? (\w+)(?!=)\b", text, re.MULTILINE)}


def test_every_example_is_listed() -> None:
    listed = set(re.findall(r"\]\((\S+?)\)", (EXAMPLES / "README.md").read_text())) | {"README.md", "table.jpg"}
    files = {path.name for path in EXAMPLES.iterdir() if path.is_file()}
    assert files <= listed
