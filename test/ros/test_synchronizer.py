"""Joining by stamp, without ROS."""

from __future__ import annotations

import pytest

pytest.importorskip("wesam_ros.msg", reason="wesam_ros.nodes needs ROS 2")

from wesam_ros.ros.synchronizer import IMAGE_WAIT, JUMP_NS, Synchronizer

ALL = frozenset({"depth", "camera_info"})
NONE: frozenset[str] = frozenset()


@pytest.fixture
def counted() -> list[str]:
    return []


@pytest.fixture
def joiner(counted: list[str]) -> Synchronizer:
    return Synchronizer(3, counted.append)


@pytest.mark.parametrize(
    "order",
    [
        ["image", "detections"],
        ["detections", "image"],
        ["image", "depth", "camera_info", "detections"],
        ["detections", "camera_info", "depth", "image"],
    ],
)
def test_the_order_of_arrival_does_not_matter(joiner: Synchronizer, order: list[str]) -> None:
    expected = ALL & set(order)
    ready = [joiner.add(kind, 5, f"{kind} 5", 0.0, expected) for kind in order]
    assert ready[:-1] == [[]] * (len(order) - 1)
    (joined,) = ready[-1]
    assert (joined.stamp, joined.source, joined.request, joined.image) == (5, "detections", "detections 5", "image 5")
    assert joined.depth == ("depth 5" if "depth" in order else None)


def test_another_stamp_is_not_joined(joiner: Synchronizer, counted: list[str]) -> None:
    joiner.add("image", 5, "image", 0.0, NONE)
    assert joiner.add("detections", 6, "boxes", 0.0, NONE) == []
    assert joiner.expire(IMAGE_WAIT - 0.1, 0.0, NONE) == []
    assert counted == []
    joiner.expire(IMAGE_WAIT, 0.0, NONE)
    assert counted == ["unmatched.detections"]


def test_a_late_detection_finds_its_image_in_the_ring(joiner: Synchronizer, counted: list[str]) -> None:
    for stamp in (1, 2, 3, 4):
        joiner.add("image", stamp, f"image {stamp}", 0.0, NONE)
    assert counted == ["unused.image"]  # 1 has left the ring of three
    assert joiner.add("detections", 2, "boxes", 0.0, NONE)[0].image == "image 2"
    joiner.add("detections", 1, "boxes", 0.0, NONE)
    joiner.expire(IMAGE_WAIT, 0.0, NONE)
    assert counted[1:] == ["late.detections"]


def test_a_frame_waits_for_its_depth_and_goes_without(joiner: Synchronizer, counted: list[str]) -> None:
    joiner.add("image", 1, "image", 0.0, ALL)
    joiner.add("camera_info", 1, "info", 0.0, ALL)
    assert joiner.add("detections", 1, "boxes", 0.0, ALL) == []
    assert joiner.expire(0.4, 0.5, ALL) == []
    (joined,) = joiner.expire(0.5, 0.5, ALL)
    assert joined.depth is None
    assert counted == ["missing.depth"]


def test_a_later_depth_ends_the_wait(joiner: Synchronizer) -> None:
    expected = frozenset({"depth"})
    joiner.add("image", 1, "image", 0.0, expected)
    joiner.add("detections", 1, "boxes", 0.0, expected)
    (joined,) = joiner.add("depth", 2, "depth", 0.1, expected)
    assert joined.depth is None


def test_an_earlier_camera_info_serves(joiner: Synchronizer, counted: list[str]) -> None:
    joiner.add("camera_info", 1, "info 1", 0.0, NONE)
    joiner.add("image", 2, "image", 0.0, NONE)
    assert joiner.add("detections", 2, "boxes", 0.0, NONE)[0].camera_info == "info 1"
    assert counted == []


def test_both_kinds_of_request_get_the_same_image(joiner: Synchronizer) -> None:
    joiner.add("image", 1, "image", 0.0, NONE)
    sources = [joiner.add(kind, 1, "request", 0.0, NONE)[0].source for kind in ("detections", "prompts")]
    assert sources == ["detections", "prompts"]


def test_after_the_clock_went_back_nothing_later_is_joined(counted: list[str]) -> None:
    joiner, second = Synchronizer(10, counted.append), JUMP_NS
    for stamp in (100 * second, 101 * second):
        joiner.add("depth", stamp, "old depth", 0.0, ALL)
        joiner.add("image", stamp, "old image", 0.0, NONE)
    joiner.add("detections", 103 * second, "old boxes", 0.0, NONE)
    joiner.add("depth", 5 * second, "new depth", 0.0, ALL)
    joiner.add("image", 5 * second, "new image", 0.0, NONE)
    assert counted == ["unused.image", "unused.image", "jumped.image", "jumped.detections"]
    (joined,) = joiner.add("detections", 5 * second, "new boxes", 0.0, frozenset({"depth"}))
    assert (joined.image, joined.depth) == ("new image", "new depth")
    assert joiner.add("detections", 100 * second, "new boxes", 0.0, NONE) == []  # its image is still to come
    (joined,) = joiner.add("image", 100 * second, "new image", 0.0, NONE)
    assert joined.image == "new image"


def test_images_that_change_places_are_no_jump(joiner: Synchronizer, counted: list[str]) -> None:
    joiner.add("image", 10 * JUMP_NS, "second", 0.0, NONE)
    joiner.add("image", 10 * JUMP_NS - JUMP_NS // 2, "first", 0.0, NONE)
    assert joiner.add("detections", 10 * JUMP_NS, "boxes", 0.0, NONE)[0].image == "second"
    assert counted == []
