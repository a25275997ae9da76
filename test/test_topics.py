"""Topics of recordings of whole robots: the right ones are found by types, names and numbers of messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from wesam_ros.data.recordings import messages
from wesam_ros.data.recordings.topics import BagError, choose_topics

IMAGE, COMPRESSED, INFO = messages.IMAGE, messages.COMPRESSED_IMAGE, messages.CAMERA_INFO
OTHER = {f"/robot/topic_{number}": ("std_msgs/msg/Float64", 900) for number in range(40)}
DETECTIONS = {"/detections": (messages.DETECTIONS, 90)}


def kinds(text: str) -> dict[str, tuple[str, int]]:
    """Topics with their types by their names, and 100 messages each, or the number behind a colon."""
    found = {}
    for word in text.split():
        topic, _, count = word.partition(":")
        kind = INFO if topic.endswith("camera_info") else COMPRESSED if "ompressed" in topic else IMAGE
        found[topic] = (kind, int(count or 100))
    return found


ROBOTS = {
    "RealSense, all": (
        "/camera/camera/color/image_raw /camera/camera/color/image_raw/compressed /camera/camera/color/camera_info "
        "/camera/camera/depth/image_rect_raw /camera/camera/depth/camera_info /camera/camera/infra1/image_rect_raw "
        "/camera/camera/infra1/camera_info /camera/camera/aligned_depth_to_color/image_raw "
        "/camera/camera/aligned_depth_to_color/image_raw/compressedDepth /camera/camera/aligned_depth_to_color/camera_info",
        "/camera/camera/color/image_raw",
        "/camera/camera/aligned_depth_to_color/image_raw",
        "/camera/camera/color/camera_info",
    ),
    "compressed, as the raw one was recorded for a moment only": (
        "/camera/color/image_raw:3 /camera/color/image_raw/compressed /camera/color/camera_info "
        "/camera/depth/image_raw:2 /camera/depth/image_raw/compressedDepth /camera/depth/image_raw/compressed",
        "/camera/color/image_raw/compressed",
        "/camera/depth/image_raw/compressedDepth",
        "/camera/color/camera_info",
    ),
    "OAK-D": (
        "/oak/rgb/image_raw /oak/rgb/image_raw/compressed /oak/rgb/camera_info /oak/stereo/image_raw /oak/stereo/image_raw/compressedDepth "
        "/oak/stereo/camera_info",
        "/oak/rgb/image_raw",
        "/oak/stereo/image_raw",
        "/oak/rgb/camera_info",
    ),
    "ZED": (
        "/zed/zed_node/rgb/image_rect_color /zed/zed_node/rgb/camera_info /zed/zed_node/depth/depth_registered "
        "/zed/zed_node/depth/camera_info /zed/zed_node/rgb/image_rect_color/compressed",
        "/zed/zed_node/rgb/image_rect_color",
        "/zed/zed_node/depth/depth_registered",
        "/zed/zed_node/rgb/camera_info",
    ),
    "ZED, all": (
        "/zed/zed_node/rgb/image_rect_color /zed/zed_node/rgb/camera_info /zed/zed_node/rgb_raw/image_raw_color "
        "/zed/zed_node/rgb_gray/image_rect_gray /zed/zed_node/left/image_rect_color /zed/zed_node/left/camera_info "
        "/zed/zed_node/right/image_rect_color /zed/zed_node/stereo/image_rect_color /zed/zed_node/depth/depth_registered "
        "/zed/zed_node/depth/camera_info /zed/zed_node/confidence/confidence_map",
        "/zed/zed_node/rgb/image_rect_color",
        "/zed/zed_node/depth/depth_registered",
        "/zed/zed_node/rgb/camera_info",
    ),
    "ZED, as its newer driver names them": (
        "/zed/zed_node/rgb/color/rect/image /zed/zed_node/rgb/color/rect/camera_info /zed/zed_node/rgb/gray/rect/image "
        "/zed/zed_node/rgb/gray/rect/camera_info /zed/zed_node/depth/depth_registered /zed/zed_node/depth/depth_registered/camera_info "
        "/zed/zed_node/left/color/rect/image /zed/zed_node/left/color/rect/camera_info /zed/zed_node/rgb/color/raw/image "
        "/zed/zed_node/right/color/rect/image",
        "/zed/zed_node/rgb/color/rect/image",
        "/zed/zed_node/depth/depth_registered",
        "/zed/zed_node/rgb/color/rect/camera_info",
    ),
    "Gazebo": (
        "/rgbd_camera/image /rgbd_camera/depth_image /rgbd_camera/camera_info",
        "/rgbd_camera/image",
        "/rgbd_camera/depth_image",
        "/rgbd_camera/camera_info",
    ),
    "Azure Kinect": (
        "/rgb/image_raw /rgb/camera_info /depth_to_rgb/image_raw /depth_to_rgb/camera_info /depth/image_raw /ir/image_raw",
        "/rgb/image_raw",
        "/depth_to_rgb/image_raw",
        "/rgb/camera_info",
    ),
    "noetic's openni": (
        "/camera/rgb/image_raw /camera/rgb/image_color /camera/rgb/image_rect_color /camera/rgb/camera_info "
        "/camera/depth_registered/image_raw /camera/depth/image_raw /camera/ir/image_raw",
        "/camera/rgb/image_rect_color",
        "/camera/depth_registered/image_raw",
        "/camera/rgb/camera_info",
    ),
    "a detector's pictures": (
        "/cam/image_raw /cam/camera_info /detections/image /yolo/dbg_image/debug /cam/depth/image",
        "/cam/image_raw",
        "/cam/depth/image",
        "/cam/camera_info",
    ),
    "two cameras, one named for its colour": (
        "/front/color/image_raw /front/color/camera_info /front/depth/image_raw /rear/image_raw /rear/camera_info /rear/depth/image_raw",
        "/front/color/image_raw",
        "/front/depth/image_raw",
        "/front/color/camera_info",
    ),
}


@pytest.mark.parametrize("name", ROBOTS)
def test_topics_of_robots(name: str) -> None:
    text, image, depth, camera_info = ROBOTS[name]
    found = choose_topics(Path("bag"), {**OTHER, **kinds(text), **DETECTIONS}, {}, detections_required=True)
    assert (found.image, found.depth, found.camera_info, found.detections) == (image, depth, camera_info, "/detections")


@pytest.mark.parametrize(
    ("text", "role"),
    [
        ("/left/color/image_raw /right/color/image_raw", "--image-topic"),
        ("/image /a/depth /b/depth", "--depth-topic"),
        ("/a/color/image_raw /b/depth/image_raw /c/depth/image_raw", "--depth-topic"),
    ],
)
def test_what_cannot_be_told_apart_is_asked_for(text: str, role: str) -> None:
    with pytest.raises(BagError, match=role):
        choose_topics(Path("bag"), kinds(text), {}, detections_required=False)


def test_a_named_image_decides_the_camera() -> None:
    there = kinds("/left/color/image_raw /left/depth/image /left/color/camera_info /right/color/image_raw /right/depth/image")
    found = choose_topics(Path("bag"), there, {"image": "/right/color/image_raw"}, detections_required=False)
    assert found.depth == "/right/depth/image"
