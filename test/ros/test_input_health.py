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
    rest = {"publishers": lambda: 1, "foreign": list, "instead": lambda: ""}
    return {name: SimpleNamespace(topic=f"/{name}", heard=at, **rest) for name, at in heard.items()}


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
    inputs["image"].publishers, inputs["image"].instead = lambda: 0, lambda: "; but /image/compressed is"
    assert health.missing() == "nothing comes on /image: nobody publishes it; but /image/compressed is"


def test_each_silent_input_is_named(inputs: dict[str, Any], counts: Any) -> None:
    health = InputHealth(counts, "", inputs)
    silent(inputs["detections"])
    assert health.missing().startswith("nothing comes on /detections any more: its publisher is there")
    inputs["detections"].publishers = lambda: 0  # that of prompts is there, and was never heard
    assert health.missing().startswith("nothing comes on /detections any more: its publisher has gone")
    silent(inputs["depth"])
    assert health.missing().splitlines() == ["nothing comes on /depth any more: no 3D output"]
    inputs["prompts"].publishers = inputs["detections"].publishers = lambda: 0
    assert "nobody publishes /detections or /prompts" in health.missing()


def test_a_publisher_of_another_type_is_told_of_at_once_and_not_as_nobody(inputs: dict[str, Any], counts: Any) -> None:
    health = InputHealth(counts, "", inputs)
    inputs["detections"].foreign, inputs["image"].foreign = lambda: ["/detections: another"], lambda: ["/image: another"]
    assert health.missing().splitlines() == ["/image: another", "/detections: another"]
    inputs["detections"].publishers = inputs["prompts"].publishers = inputs["image"].publishers = lambda: 0
    silent(inputs["image"])
    assert health.missing().splitlines() == ["/image: another", "/detections: another"]


def test_a_detector_that_has_sent_nothing_yet_is_no_problem_and_can_be_seen(inputs: dict[str, Any], counts: Any) -> None:
    health = InputHealth(counts, "/robot1/", inputs)
    inputs["detections"].heard = None
    assert health.missing() == ""
    assert health.quiet().keys() == {"quiet./robot1/detections", "quiet./robot1/prompts"}
    inputs["prompts"].publishers = lambda: 0
    assert health.quiet().keys() == {"quiet./robot1/detections"}
    inputs["detections"].heard = time.monotonic()
    assert not health.quiet()


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
