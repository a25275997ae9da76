"""The cost of ROS per frame in the segmenter, without the model: messages taken, synchronised, decoded, filled and serialised.

    source scripts/env.sh
    python benchmarks/nodes/ros_path.py --json out/ros_path.json

640 x 480, 10 objects, depth and camera_info; images raw (rgb8), compressed (JPEG, depth as PNG), yuy2 (yuv422_yuy2) or bayer (bayer_rggb8),
the last two with raw depth. Twice:

- by stages, in one process without middleware: rclpy's own conversion from and to the wire format is part of it, the network is not;
- through the segmenter node, one frame after another, less the model's own time: "in the node", from the moment at which the last message
  of a frame is there until its objects are published, as every ObjectArray says (latency_ms less model_ms), and "round trip", from before
  this process publishes the detections, the last of a frame's messages, until it has the objects, so with the middleware and this client's
  own conversions. Messages are sent some time apart: pieces of several large ones at once do not fit into the sockets' usual buffers.
"""

from __future__ import annotations

import argparse
import threading
import time
from array import array
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray
from wesam_ros.msg import ObjectArray

from wesam_ros.data import codecs
from wesam_ros.data.messages import camera_of, depth_of, image_of
from wesam_ros.data.requests import request_of
from wesam_ros.data.synchronizer import SynchronizedFrame, Synchronizer
from wesam_ros.files import write_json
from wesam_ros.machine import keep_freed_memory, processor
from wesam_ros.ros.children import NodeProcess, enter_local_graph
from wesam_ros.ros.objects import image_message, object_messages
from wesam_ros.ros.process import spinning
from wesam_ros.ros.wire import from_wire, image_on_wire, is_read_here
from wesam_ros.sam.masks import Masks
from wesam_ros.scene.geometry import locate

HEIGHT, WIDTH, OBJECTS = 480, 640, 10
COMPRESSED = "image/compressed", "depth/compressedDepth"
TRANSPORTS = "raw", "compressed", "yuy2", "bayer"
START_SECONDS, ANSWER_SECONDS = 120.0, 10.0
PAUSE = 0.03
"""Seconds between two messages of a frame."""
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


def colour_message(header: Header, image: np.ndarray, transport: str) -> Image:
    """The image as a raw message; a grey one in the encodings of cameras, whose cost is the same."""
    if transport == "raw":
        return image_message(header, image)
    grey = np.ascontiguousarray(image[..., 1])
    if transport == "bayer":
        return Image(header=header, height=HEIGHT, width=WIDTH, encoding="bayer_rggb8", step=WIDTH, data=array("B", grey.tobytes()))
    data = array("B", np.stack([grey, np.full_like(grey, 128)], 2).tobytes())
    return Image(header=header, height=HEIGHT, width=WIDTH, encoding="yuv422_yuy2", step=2 * WIDTH, data=data)


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
    if transport != "compressed":
        colour, range_image = colour_message(header, image, transport), image_message(header, depth)
    else:
        colour = CompressedImage(header=header, format="jpeg", data=array("B", codecs.encode_jpeg(image)))
        kind, data = codecs.encode_compressed_depth(depth.astype(np.float32) / np.float32(1000))
        range_image = CompressedImage(header=header, format=kind, data=array("B", data))
    return {name: serialize_message(each) for name, each in
            {"image": colour, "depth": range_image, "camera_info": info, "detections": found}.items()}  # fmt: skip


def one_frame(data: dict[str, bytes], transport: str, masks: Masks, lap: Callable[[str], None], oriented: bool) -> None:
    """Everything that the segmenter does for a frame but the model; `lap` is called at the end of each stage with its name."""
    kind = CompressedImage if transport == "compressed" else Image
    kinds: dict[str, Any] = {"image": kind, "depth": kind, "camera_info": CameraInfo, "detections": Detection2DArray}
    taken = {name: bytes(bytearray(each)) if is_read_here(kinds[name]) else each for name, each in data.items()}  # as rclpy hands them on
    messages = {name: (from_wire if is_read_here(kinds[name]) else deserialize_message)(taken[name], kinds[name]) for name in kinds}
    lap("take")
    complete: list[SynchronizedFrame] = []
    synchronizer = Synchronizer(30, complete.append, lambda name: None)
    for name in kinds:
        synchronizer.add(name, 0, messages[name], 0.0, BOTH)
    (frame,) = complete
    lap("synchronise")
    image = image_of(frame.image)
    size = image.shape[:2]
    depth, camera = depth_of(frame.depth, size), camera_of(frame.camera_info, size)
    lap("decode")
    request = request_of(frame.request, size, 100)
    lap("check boxes")
    labels = masks.label_image()
    lap("label image")
    located = locate(labels, depth, camera, masks.crops, None, oriented)
    lap("3D")
    header = frame.image.header
    objects = ObjectArray(header=header, objects=object_messages(masks, request.detections, located, header.frame_id), model="tiny")
    lap("fill messages")
    serialize_message(objects)
    image_on_wire(header, labels)
    lap("serialise")


class Client(Node):
    """Publishes frames, and has the newest answer."""

    def __init__(self, transport: str) -> None:
        super().__init__("ros_path")
        kind, image, depth = (CompressedImage, *COMPRESSED) if transport == "compressed" else (Image, "image", "depth")
        topics = {"camera_info": (CameraInfo, "camera_info"), "depth": (kind, depth), "image": (kind, image)}
        topics["detections"] = (Detection2DArray, "detections")
        self._outputs = {name: self.create_publisher(type_, topic, 10) for name, (type_, topic) in topics.items()}
        self._messages = {name: deserialize_message(data, topics[name][0]) for name, data in inputs(transport).items()}
        self._answered = threading.Condition()
        self._answer: ObjectArray | None = None
        self.create_subscription(ObjectArray, "segmenter/objects", self._on_answer, 10)

    def _on_answer(self, message: ObjectArray) -> None:
        with self._answered:
            self._answer = message
            self._answered.notify()

    def ask(self, number: int, timeout: float) -> tuple[ObjectArray, float] | None:
        """The answer to a frame and how many milliseconds it took; None if it did not come in time."""
        for message in self._messages.values():
            message.header.stamp.sec, message.header.stamp.nanosec = divmod((number + 1) * 10**8, 10**9)
        stamp = self._messages["image"].header.stamp
        *sensors, last = self._outputs
        for name in sensors:
            self._outputs[name].publish(self._messages[name])
            time.sleep(PAUSE)
        began = time.perf_counter()
        self._outputs[last].publish(self._messages[last])
        with self._answered:
            came = self._answered.wait_for(lambda: self._answer is not None and self._answer.header.stamp == stamp, timeout)
            return (self._answer, (time.perf_counter() - began) * 1e3) if came and self._answer is not None else None


def through_the_node(transport: str, repeats: int, log: Path) -> dict[str, Any]:
    """p50 and p99 in milliseconds; and the model's time, which is not in them, and how many frames were lost."""
    parameters = {"engine": "torch", "torch_threads": 1}
    if transport == "compressed":
        parameters |= {"image_transport": "compressed", "depth_transport": "compressedDepth"}
    times: dict[str, list[float]] = {"in the node": [], "round trip": [], "model": []}
    lost = 0
    with ExitStack() as stack:
        segmenter = NodeProcess("segmenter", parameters, log, {})
        stack.callback(segmenter.stop)
        client, executor = Client(transport), SingleThreadedExecutor()
        stack.callback(client.destroy_node)
        executor.add_node(client)
        stack.enter_context(spinning(executor))
        deadline = time.monotonic() + START_SECONDS
        for number in count():
            segmenter.check()
            found = client.ask(number, 1.0 if not times["model"] else ANSWER_SECONDS)
            if found is None and times["model"]:
                lost += 1
            elif found is None and time.monotonic() > deadline:
                raise SystemExit(f"no answer within {START_SECONDS:g} s; see {log}")
            elif found is not None:
                answer, took = found
                times["in the node"].append(answer.latency_ms - answer.model_ms)
                times["round trip"].append(took - answer.model_ms)
                times["model"].append(answer.model_ms)
            if len(times["model"]) + lost >= repeats + 20:
                break
    figures: dict[str, Any] = {
        name: {"p50": float(np.percentile(each[20:], 50)), "p99": float(np.percentile(each[20:], 99))} for name, each in times.items()
    }
    return {**figures, "frames": len(times["model"]) - 20, "lost": lost}


def measure(
    transport: str, repeats: int, oriented: bool = True, clock: Callable[[], float] = time.perf_counter
) -> dict[str, dict[str, float]]:
    """p50 and p99 in milliseconds, by a clock, of each stage and of all together, with the objects' oriented boxes or without."""
    data = inputs(transport)
    _, _, boxes, found = scene()
    around = boxes.astype(int) + np.array((-4, -4, 4, 4))  # the logits' rectangles are a little larger than the masks
    within = tuple((slice(y0, y1), slice(x0, x1)) for x0, y0, x1, y1 in around.tolist())
    times: dict[str, list[float]] = {}
    for _ in range(repeats + 5):
        began = last = clock()

        def lap(name: str) -> None:
            nonlocal last
            now = clock()
            times.setdefault(name, []).append((now - last) * 1e3)
            last = now

        rest = np.ones(OBJECTS, np.float32), np.zeros((OBJECTS, 1, 1), np.float32)
        masks = Masks(found, *rest, within)  # as the model gives them, each time
        one_frame(data, transport, masks, lap, oriented)
        times.setdefault("all", []).append((clock() - began) * 1e3)
    return {name: {"p50": float(np.percentile(each[5:], 50)), "p99": float(np.percentile(each[5:], 99))} for name, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=300, help="frames of each (default: %(default)s)")
    parser.add_argument("--transports", nargs="+", choices=TRANSPORTS, default=TRANSPORTS, help="default: all")
    parser.add_argument("--cpu", action="store_true", help="the stages alone, in processor time, for a machine that does other work")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args()
    enter_local_graph()
    keep_freed_memory()  # as the node does
    rclpy.init(args=[])
    log = (args.json.expanduser().resolve().parent if args.json else Path("out").resolve()) / "ros_path.log"
    figures: dict[str, Any] = {"machine": processor()}
    clock = time.thread_time if args.cpu else time.perf_counter
    for transport in args.transports:
        stages = {f"stages{name}": measure(transport, args.repeats, not name, clock) for name in ("", " without boxes")}
        figures[transport] = stages if args.cpu else stages | {"node": through_the_node(transport, args.repeats, log)}
        for part, rows in figures[transport].items():
            print(f"{transport}, {part}, milliseconds per frame:")
            for name, each in rows.items():
                print(f"  {name:14} " + (f"p50 {each['p50']:7.3f}  p99 {each['p99']:7.3f}" if isinstance(each, dict) else str(each)))
    rclpy.try_shutdown()
    if args.json is not None:
        write_json(args.json, figures)


if __name__ == "__main__":
    main()
