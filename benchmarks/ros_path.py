"""What ROS costs per frame in the segmenter, without the model: messages taken, joined, decoded, filled and serialised.

    source scripts/env.sh
    python benchmarks/ros_path.py --json out/ros_path.json

640 x 480, 10 objects, raw images or JPEG and PNG. One process, no middleware: rclpy's own conversion from and to the wire format is part of
it, the network is not.
"""

from __future__ import annotations

import argparse
import json
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray
from wesam_ros.msg import ObjectArray

from wesam_ros.data import codecs
from wesam_ros.nodes.conversions import camera_of, depth_of, image_of, request_of
from wesam_ros.nodes.geometry import locate
from wesam_ros.nodes.joining import Joiner
from wesam_ros.nodes.objects import image_message, object_messages
from wesam_ros.sam.masks import Masks

HEIGHT, WIDTH, OBJECTS = 480, 640, 10
BOTH = frozenset({"depth", "camera_info"})


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Image, depth in mm, boxes and masks of ten ellipses of about 100 x 100 pixels."""
    random = np.random.default_rng(0)
    image = random.integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    depth = np.full((HEIGHT, WIDTH), 1200, np.uint16)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    masks = np.zeros((OBJECTS, HEIGHT, WIDTH), bool)
    boxes = np.zeros((OBJECTS, 4))
    for i in range(OBJECTS):
        y, x = 120 + 240 * (i // 5), 70 + 120 * (i % 5)
        masks[i] = ((rows - y) / 50) ** 2 + ((columns - x) / 55) ** 2 <= 1
        boxes[i] = x - 55, y - 50, x + 56, y + 51
        depth[masks[i]] = 900 + 10 * i
    return image, depth, boxes, masks


def inputs(transport: str) -> dict[str, bytes]:
    """The serialised messages of one frame."""
    image, depth, boxes, _ = scene()
    header = Header(frame_id="camera")
    info = CameraInfo(header=header, height=HEIGHT, width=WIDTH, k=[525.0, 0.0, 320.0, 0.0, 525.0, 240.0, 0.0, 0.0, 1.0])
    found = Detection2DArray(header=header)
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        each = Detection2D(header=header, id=str(i))
        each.bbox.center.position.x, each.bbox.center.position.y = (x0 + x1) / 2, (y0 + y1) / 2
        each.bbox.size_x, each.bbox.size_y = x1 - x0, y1 - y0
        found.detections.append(each)
    if transport == "raw":
        colour, range_image = image_message(header, image), image_message(header, depth)
    else:
        colour = CompressedImage(header=header, format="jpeg", data=array("B", codecs.encode_jpeg(image)))
        kind, data = codecs.encode_compressed_depth(depth.astype(np.float32) / np.float32(1000))
        range_image = CompressedImage(header=header, format=kind, data=array("B", data))
    return {name: serialize_message(each) for name, each in
            {"image": colour, "depth": range_image, "camera_info": info, "detections": found}.items()}  # fmt: skip


def one_frame(data: dict[str, bytes], transport: str, masks: Masks, lap: Callable[[str], None]) -> None:
    """Everything that the segmenter does for a frame but the model; `lap` is called at the end of each stage with its name."""
    kind = Image if transport == "raw" else CompressedImage
    kinds: dict[str, Any] = {"image": kind, "depth": kind, "camera_info": CameraInfo, "detections": Detection2DArray}
    messages = {name: deserialize_message(data[name], kinds[name]) for name in kinds}
    lap("take")
    joiner = Joiner(30, lambda name: None)
    (joined,) = [each for name in kinds for each in joiner.add(name, 0, messages[name], 0.0, BOTH)]
    lap("join")
    image = image_of(joined.image)
    size = image.shape[:2]
    depth, camera = depth_of(joined.depth, size), camera_of(joined.camera_info, size)
    lap("decode")
    request = request_of(joined.request, size, 100)
    lap("check boxes")
    labels = masks.label_image()
    lap("label image")
    located = locate(labels, depth, camera, masks.crops)
    lap("3D")
    header = joined.image.header
    objects = ObjectArray(header=header, objects=object_messages(masks, request.detections, located, header.frame_id), model="tiny")
    label_message = image_message(header, labels)
    lap("fill messages")
    serialize_message(objects)
    serialize_message(label_message)
    lap("serialise")


def measure(transport: str, repeats: int) -> dict[str, dict[str, float]]:
    """p50 and p99 in milliseconds of each stage and of all together."""
    data = inputs(transport)
    _, _, _, found = scene()
    times: dict[str, list[float]] = {}
    for _ in range(repeats + 5):
        began = last = time.perf_counter()

        def lap(name: str) -> None:
            nonlocal last
            now = time.perf_counter()
            times.setdefault(name, []).append((now - last) * 1e3)
            last = now

        masks = Masks(found, np.ones(OBJECTS, np.float32), np.zeros((OBJECTS, 1, 1), np.float32))  # as the model gives them, each time
        one_frame(data, transport, masks, lap)
        times.setdefault("all", []).append((time.perf_counter() - began) * 1e3)
    return {name: {"p50": float(np.percentile(each[5:], 50)), "p99": float(np.percentile(each[5:], 99))} for name, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args()
    figures = {transport: measure(transport, args.repeats) for transport in ("raw", "compressed")}
    for transport, stages in figures.items():
        print(f"{transport}, milliseconds per frame:")
        for name, each in stages.items():
            print(f"  {name:14} p50 {each['p50']:7.3f}  p99 {each['p99']:7.3f}")
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
