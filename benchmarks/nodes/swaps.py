"""Swaps adapters while frames stream through the segmenter node: is a frame lost, mixed or late, and does memory grow?

    source scripts/env.sh
    python benchmarks/nodes/swaps.py --frames 5000 --swaps 1000 --json out/swaps.json

One frame is sent after another, the next when the masks of the last have come. In every so many-th, an adapter is published at a random
moment while the node works on it. Of each answer it is asked: did it come; are its masks those of the adapter whose version it carries, and
of no other; is that version at least what the node had said to serve before the frame was sent. Latencies, from sending to masks, are
compared between the frames in which an adapter came and the others. An engine other than torch is held against torch beside the frames:
with how many of the adapters is in the figures, and what served in the end. The exit status is 1 if an answer was missing, mixed or stale.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from array import array
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header, UInt64
from vision_msgs.msg import Detection2D, Detection2DArray
from wesam_ros.msg import Adapter as AdapterMessage
from wesam_ros.msg import ObjectArray

from wesam_ros.data.codecs import decode_compressed_image, encode_jpeg
from wesam_ros.engines import CHOICES
from wesam_ros.engines.export import random_adapter
from wesam_ros.engines.parity import scene
from wesam_ros.engines.selection import create_engine
from wesam_ros.machine import processor
from wesam_ros.ros.children import NodeProcess, enter_local_graph
from wesam_ros.ros.objects import mask_of
from wesam_ros.ros.process import spinning
from wesam_ros.ros.subscriptions import LATCHED
from wesam_ros.sam import Adapter, Prompts, load_sam

ADAPTERS = 4
"""Different ones, published in turn under ever new versions."""
ANSWER_SECONDS = 60.0
MEMORY_EVERY = 100
WARM_UP = 100
"""Frames before the first swap; the first ones find out whether the graph is connected."""


class Client(Node):
    """Sends frames and adapters, and keeps the newest answer."""

    def __init__(self) -> None:
        super().__init__("swaps")
        self.images = self.create_publisher(CompressedImage, "image/compressed", 10)
        self.boxes = self.create_publisher(Detection2DArray, "detections", 10)
        self.adapters = self.create_publisher(AdapterMessage, "adapter", LATCHED)
        self.answered = threading.Condition()
        self.answer: ObjectArray | None = None
        self.serves = 0
        self.state: dict[str, str] = {}
        """The segmenter's values in the last /diagnostics; empty until there is one since this was emptied."""
        self.create_subscription(ObjectArray, "segmenter/objects", self._on_answer, 10)
        self.create_subscription(UInt64, "segmenter/adapter_version", self._on_version, LATCHED)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _on_answer(self, message: ObjectArray) -> None:
        with self.answered:
            self.answer = message
            self.answered.notify()

    def _on_version(self, message: UInt64) -> None:
        self.serves = message.data

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "/segmenter":
                self.state = {each.key: each.value for each in status.values}

    def ask(self, number: int, jpeg: bytes, boxes: np.ndarray, timeout: float) -> ObjectArray | None:
        """The answer to frame `number`, None if none came in time."""
        header = Header(frame_id="camera")
        header.stamp.sec, header.stamp.nanosec = divmod(number * 10**7, 10**9)
        found = Detection2DArray(header=header)
        for x0, y0, x1, y1 in boxes.tolist():
            each = Detection2D(header=header)
            each.bbox.center.position.x, each.bbox.center.position.y = (x0 + x1) / 2, (y0 + y1) / 2
            each.bbox.size_x, each.bbox.size_y = x1 - x0, y1 - y0
            found.detections.append(each)
        with self.answered:
            self.answer = None
        self.boxes.publish(found)
        self.images.publish(CompressedImage(header=header, format="jpeg", data=array("B", jpeg)))
        with self.answered:
            self.answered.wait_for(lambda: self.answer is not None and self.answer.header.stamp == header.stamp, timeout)
            return self.answer if self.answer is not None and self.answer.header.stamp == header.stamp else None

    def publish(self, adapter: Adapter) -> None:
        self.adapters.publish(AdapterMessage(version=adapter.version, base_hash=adapter.base, data=array("B", adapter.to_bytes())))


def whose(answer: ObjectArray, expected: list[np.ndarray], size: tuple[int, int]) -> int:
    """The row of the expected masks (n, H, W) that the answer's agree with most: 0 the frozen model's, then those of the adapters."""
    masks = np.stack([mask_of(each.mask, size) for each in answer.objects])
    return int(
        np.argmax([np.mean([(a & b).sum() / max((a | b).sum(), 1) for a, b in zip(masks, other, strict=True)]) for other in expected])
    )


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024 / 1e6


def measure(args: argparse.Namespace, client: Client, segmenter: NodeProcess) -> dict[str, Any]:
    """Runs the frames and returns the figures."""
    sam = load_sam(args.model, args.checkpoint)
    image, prompts = scene()
    jpeg = encode_jpeg(image, 90)  # raw, it would be sent in pieces, and one that gets lost on a busy machine comes 3 s late
    image = decode_compressed_image(jpeg)
    boxes = np.stack([each.box for each in prompts.objects if each.box is not None])[: args.boxes]
    wanted = Prompts.from_boxes(boxes, prompts.size)
    adapters = [random_adapter(sam, 4, seed) for seed in range(ADAPTERS)]
    # The engine that serves: in half precision the masks of one adapter can be nearer to torch's of another.
    reference = create_engine(sam, args.engine, print).engine
    expected = [reference.segment(image, wanted, each).masks for each in (None, *adapters)]
    rng = np.random.default_rng(args.seed)
    latencies: dict[str, list[float]] = {"without": [], "with": []}
    memory: list[float] = []
    version, missing, mixed, stale = 0, [], [], []
    every = max(1, args.frames // args.swaps)
    for number in range(-WARM_UP, args.frames):
        segmenter.check()
        swap = number >= 0 and number % every == 0 and version < args.swaps
        thread = None
        if swap:
            version += 1
            moment = float(rng.uniform(0, np.median(latencies["without"] or [100.0]))) / 1e3
            thread = threading.Timer(moment, client.publish, [replace(adapters[version % ADAPTERS], version=version)])
            thread.start()
        served, began = client.serves, time.perf_counter()
        answer = client.ask(number + WARM_UP, jpeg, boxes, 1.0 if number < 0 and not latencies["without"] else ANSWER_SECONDS)
        took = (time.perf_counter() - began) * 1e3
        if thread is not None:
            thread.join()
        if number < 0 and answer is None:
            continue  # the graph is not connected yet
        if answer is None:
            missing.append(number)
            continue
        if number >= 0 or len(latencies["without"]) < WARM_UP // 2:
            latencies["with" if swap else "without"].append(took)
        carried = answer.adapter_version
        if whose(answer, expected, prompts.size) != (1 + carried % ADAPTERS if carried else 0):
            mixed.append(number)
        if carried < served:
            stale.append(number)
        if number >= 0 and number % MEMORY_EVERY == 0:
            memory.append(round(resident_mb(segmenter.process.pid), 1))
            print(f"frame {number} of {args.frames}: version {carried}, {took:.0f} ms, {memory[-1]:.0f} MB", flush=True)
    deadline = time.monotonic() + ANSWER_SECONDS
    while client.serves < version and time.monotonic() < deadline:
        time.sleep(0.01)
    client.state, deadline = {}, time.monotonic() + 5  # /diagnostics comes once a second
    while not client.state and time.monotonic() < deadline:
        time.sleep(0.01)
    return {
        "machine": processor(),
        "model": args.model,
        "engine": args.engine,
        "engine_at_last": client.state.get("engine", "unknown"),
        "adapters_checked": int(client.state.get("checked.adapter", 0)),
        "boxes": len(boxes),
        "frames": args.frames,
        "swaps": version,
        "served_last": client.serves,
        "missing": missing,
        "mixed": mixed,
        "stale": stale,
        "latency_ms": {
            name: dict(zip(("p50", "p99", "max"), np.percentile(values, (50, 99, 100)).round(1).tolist(), strict=True))
            for name, values in latencies.items()
        },
        "beyond_p99": {
            name: round(float(np.mean(np.array(values) > np.percentile(latencies["without"], 99))), 4) for name, values in latencies.items()
        },
        "memory_mb": memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=5000, help="default: %(default)s")
    parser.add_argument("--swaps", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--boxes", type=int, default=5, help="per frame, up to 12 (default: %(default)s)")
    parser.add_argument("--engine", default="torch", choices=CHOICES[1:], help="default: %(default)s")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("out/swaps.json"), help="file to write the figures to (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    enter_local_graph()
    parameters: dict[str, Any] = {
        "model": args.model,
        "engine": args.engine,
        "torch_threads": 1,
        "use_depth": False,
        "image_transport": "compressed",
    }
    if args.checkpoint is not None:
        parameters["checkpoint"] = args.checkpoint.expanduser().resolve()
    rclpy.init(args=[])
    with ExitStack() as stack:
        stack.callback(rclpy.try_shutdown)
        segmenter = NodeProcess("segmenter", parameters, args.json.expanduser().resolve().parent / "segmenter.log", {})
        stack.callback(segmenter.stop)
        client, executor = Client(), SingleThreadedExecutor()
        executor.add_node(client)
        stack.enter_context(spinning(executor))
        figures = measure(args, client, segmenter)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps({name: value for name, value in figures.items() if name != "memory_mb"}, indent=1))
    print(f"memory: {figures['memory_mb'][0]} MB at first, {figures['memory_mb'][-1]} MB at last, {max(figures['memory_mb'])} MB at most")
    sys.exit(int(bool(figures["missing"] or figures["mixed"] or figures["stale"] or figures["served_last"] != figures["swaps"])))


if __name__ == "__main__":
    main()
