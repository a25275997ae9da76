"""Cost of the page: frames a second of the segmenter with the page open and closed, and memory of the page's process over many frames.

    source scripts/env.sh
    python benchmarks/nodes/page.py --pairs 8 --seconds 20 --frames 3000 --json out/page.json

Frames of the demo are sent one after another, the next when the masks of the last have come: as fast as the segmenter can. Spells with the
page open in a browser and spells with the page closed take turns, so that what else the machine does falls on both. Beside frames a second
there is the processor time of the segmenter's process per frame, which does not depend on how busy the machine is. The browser runs here
as well, at the lowest priority; on a robot it is another computer's. Then the page stays open for `--frames` frames.

Needs Chromium with chromedriver, and selenium (requirements-web.txt).
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray
from wesam_ros.msg import ObjectArray

from wesam_ros.data.codecs import encode_jpeg
from wesam_ros.data.frames import Frame
from wesam_ros.data.recordings.bags import read_bag
from wesam_ros.files import write_json
from wesam_ros.machine import processor
from wesam_ros.ros.children import NodeProcess, enter_local_graph
from wesam_ros.ros.process import spinning

DEMO = Path(__file__).parents[2] / "demo" / "tabletop.mcap"
ANSWER_SECONDS = 60.0
MEMORY_EVERY = 100
WARM_UP = 30
"""Frames before anything is measured."""


class Client(Node):
    """Sends the frames of a recording over and over, one when the masks of the last have come."""

    def __init__(self, frames: list[Frame]) -> None:
        super().__init__("page_benchmark")
        self.images = self.create_publisher(CompressedImage, "image/compressed", 10)
        self.boxes = self.create_publisher(Detection2DArray, "detections", 10)
        self.create_subscription(ObjectArray, "segmenter/objects", self._on_objects, 10)
        self.sent = 0
        self._answered, self._stamp = threading.Condition(), 0
        self._frames = cycle([(encode_jpeg(each.image), each.detections) for each in frames])

    def _on_objects(self, message: ObjectArray) -> None:
        with self._answered:
            self._stamp = message.header.stamp.sec
            self._answered.notify()

    def turn(self) -> None:
        """Sends a frame, and waits for its masks. TimeoutError: none came."""
        self.sent += 1
        jpeg, found = next(self._frames)
        header = Header(frame_id="camera")
        header.stamp.sec = self.sent
        boxes = Detection2DArray(header=header)
        for x0, y0, x1, y1 in found.boxes.tolist() if found is not None else []:
            each = Detection2D(header=header)
            each.bbox.center.position.x, each.bbox.center.position.y = (x0 + x1) / 2, (y0 + y1) / 2
            each.bbox.size_x, each.bbox.size_y = x1 - x0, y1 - y0
            boxes.detections.append(each)
        self.images.publish(CompressedImage(header=header, format="jpeg", data=jpeg))
        self.boxes.publish(boxes)
        with self._answered:
            if not self._answered.wait_for(lambda: self._stamp == self.sent, ANSWER_SECONDS):
                raise TimeoutError(f"no masks came for frame {self.sent}")


def processor_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium without a window, at the lowest priority."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1300,1400"):
        options.add_argument(flag)
    options.binary_location = str(shutil.which("chromium"))
    service = Service(shutil.which("chromedriver"), popen_kw={"preexec_fn": lambda: os.nice(19)})
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()


@contextmanager
def page_process(folder: Path) -> Iterator[tuple[int, str]]:
    """`wesam web`: its process id and address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "wesam_ros.cli", "web", "--port", str(port), "--token-file", str(folder / "token")]
    with (folder / "web.log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    try:
        until(lambda: process.poll() is not None or listens(port), "the page's start")
        yield process.pid, f"http://127.0.0.1:{port}/"
    finally:
        process.send_signal(2)
        process.wait(30)


def listens(port: int) -> bool:
    """True where somebody listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(condition: Callable[[], Any], event: str, seconds: float = 180.0) -> None:
    """Waits for a condition. TimeoutError: it did not come to hold."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{event} did not happen within {seconds:g} s")
        time.sleep(0.1)


def spell(client: Client, segmenter: int, page: int, seconds: float) -> dict[str, float]:
    """Frames a second, processor milliseconds of the segmenter per frame, and the page's share of a core, over some seconds."""
    before, began, first = (processor_seconds(segmenter), processor_seconds(page)), time.monotonic(), client.sent
    while time.monotonic() - began < seconds:
        client.turn()
    took, frames = time.monotonic() - began, client.sent - first
    return {
        "rate_hz": frames / took,
        "segmenter_ms": 1e3 * (processor_seconds(segmenter) - before[0]) / frames,
        "page_share": (processor_seconds(page) - before[1]) / took,
    }


def measure(client: Client, segmenter: int, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures."""
    spells: dict[str, list[dict[str, float]]] = {"open": [], "closed": []}
    memory: list[float] = []
    with page_process(folder) as (page, address), browser() as driver:
        for _ in range(args.pairs):
            for state, place in (("open", address), ("closed", "about:blank")):
                driver.get(place)
                if state == "open":
                    shown = "return document.querySelectorAll('.picture img').length"
                    begun = time.monotonic()
                    while not driver.execute_script(shown):
                        client.turn()
                        if time.monotonic() - begun > 120:
                            raise TimeoutError("the page showed no picture")
                spells[state].append(spell(client, segmenter, page, args.seconds))
                print(state, spells[state][-1], flush=True)
        driver.get(address)
        for number in range(args.frames):
            client.turn()
            if number % MEMORY_EVERY == 0:
                memory.append(round(resident_mb(page), 1))
    medians = {
        state: {name: round(float(np.median([each[name] for each in rows])), 3) for name in rows[0]} for state, rows in spells.items()
    }
    lost = [1 - a["rate_hz"] / b["rate_hz"] for a, b in zip(spells["open"], spells["closed"], strict=True)]
    more = [a["segmenter_ms"] / b["segmenter_ms"] - 1 for a, b in zip(spells["open"], spells["closed"], strict=True)]
    half = len(memory) // 2
    return {
        "machine": processor(),
        "pairs": args.pairs,
        "seconds": args.seconds,
        "medians": medians,
        "lost_rate": {"median": round(float(np.median(lost)), 4), "each": [round(each, 4) for each in lost]},
        "more_segmenter_time": {"median": round(float(np.median(more)), 4), "each": [round(each, 4) for each in more]},
        "memory_frames": args.frames,
        "page_memory_mib": memory,
        "page_memory_growth_of_second_half_mib": round(memory[-1] - memory[half], 1) if memory else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=8, help="spells with the page open, and closed (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of a spell (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=3000, help="frames with the page open, for its memory (default: %(default)s)")
    parser.add_argument("--json", type=Path, default=Path("out/page.json"), help="file of the figures (default: %(default)s)")
    args = parser.parse_args()
    enter_local_graph()
    frames = [each for each, _ in zip(read_bag(DEMO), range(20), strict=False)]
    rclpy.init()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        client, executor = Client(frames), SingleThreadedExecutor()
        executor.add_node(client)
        stack.enter_context(spinning(executor))
        segmenter = NodeProcess("segmenter", {"torch_threads": 1, "use_depth": False}, folder / "segmenter.log", {})
        stack.callback(segmenter.stop)
        until(lambda: client.boxes.get_subscription_count() and client.images.get_subscription_count(), "the segmenter's start")
        for _ in range(WARM_UP):
            client.turn()
        write_json(args.json, measure(client, segmenter.process.pid, args, folder))
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
