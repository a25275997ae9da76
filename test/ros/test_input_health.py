"""The inputs that do not come, and why, without ROS."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("wesam_ros.msg", reason="wesam_ros.ros needs ROS 2")

from wesam_ros.ros.input_health import SILENT_SECONDS, InputHealth


@pytest.fixture
def inputs() -> dict[str, Any]:
    """Each has a publisher, and was heard just now, but for prompts."""
    heard = {"image": time.monotonic(), "depth": time.monotonic(), "detections": time.monotonic(), "prompts": None}
    return {name: SimpleNamespace(topic=f"/{name}", heard=at, publishers=lambda: 1) for name, at in heard.items()}


def silent(*inputs: Any) -> None:
    for each in inputs:
        each.heard -= SILENT_SECONDS + 1


def test_nothing_is_missed(inputs: dict[str, Any], counts: Any) -> None:
    assert InputHealth(counts, "", inputs).missing() == ""


def test_images_that_were_never_heard_are_missed_after_a_while(
    inputs: dict[str, Any], counts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs["image"].heard = None
    health = InputHealth(counts, "", inputs)
    assert health.missing() == ""
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + SILENT_SECONDS + 1)
    assert health.missing().startswith("nothing comes on /image: it has a publisher")
    inputs["image"].publishers = lambda: 0
    assert health.missing().startswith("nothing comes on /image: nobody publishes it")


def test_each_silent_input_is_named(inputs: dict[str, Any], counts: Any) -> None:
    health = InputHealth(counts, "", inputs)
    silent(inputs["detections"])
    assert health.missing() == "nothing comes on /detections any more: nothing is segmented"
    silent(inputs["depth"])
    assert health.missing().splitlines() == ["nothing comes on /depth any more: no 3D output"]
    inputs["prompts"].publishers = inputs["detections"].publishers = lambda: 0
    assert "nobody publishes /detections or /prompts" in health.missing()


def test_without_depth_it_is_not_missed(inputs: dict[str, Any], counts: Any) -> None:
    del inputs["depth"]
    assert InputHealth(counts, "", inputs).missing() == ""


def test_messages_without_a_partner_are_counted_by_robot(inputs: dict[str, Any], counts: Any) -> None:
    health = InputHealth(counts, "/robot1/", inputs)
    for name in ("late.detections", "unused.image", "missing.depth", "jumped.image", "unmatched.prompts"):
        health.unsynchronized(name)
    assert counts == {
        "late./robot1/detections": 1,
        "unused./robot1/image": 1,
        "missing./robot1/depth": 1,
        "jumped./robot1/image": 1,
        "unmatched./robot1/prompts": 1,
    }
    assert counts.sentences.keys() == counts.keys() - {"unused./robot1/image"}  # each with a remedy
