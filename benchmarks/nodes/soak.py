"""Plays a recording round and round through both nodes: do memory, threads, open files and latency stay what they were?

    source scripts/env.sh
    python benchmarks/nodes/soak.py demo/tabletop.mcap --frames 20000 --rate 4 --json out/soak.json

At a rate at which the segmenter drops no frame, this is what ROS gives in such a time; the adapter learns from as many frames as it can.
Every --every seconds the nodes' own figures are noted from /diagnostics. The file has them, and their medians over each tenth of the run.
The graph is that of config/loopback.xml, unless ROS_AUTOMATIC_DISCOVERY_RANGE is set.
The exit status is 1 if a node ended, or if its figures grew from the second tenth to the last: threads or open files at all, memory by more
than 5 %, the segmenter's latency or the time of a training step by more than 25 %.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from wesam_ros.msg import ObjectArray

from wesam_ros.files import write_atomically
from wesam_ros.machine import processor
from wesam_ros.nodes.player import Player
from wesam_ros.ros.answers import PlayerError
from wesam_ros.ros.children import ChildError, NodeProcess, enter_local_graph, set_up_by
from wesam_ros.ros.process import spinning

PROFILE = Path(__file__).parents[2] / "config" / "loopback.xml"
NODES = ("segmenter", "adapter")
FLAT = {"memory_mib": 1.05, "threads": 1.0, "open_files": 1.0, "latency_ms_p50": 1.25, "latency_ms_p99": 1.25, "step_ms_p50": 1.25}
"""Largest ratio of a node's figures in the last tenth of a run to those in its second tenth."""
TENTHS = 10
START_SECONDS, LAST_SECONDS = 300.0, 5.0
"""For the nodes to subscribe, and for the answers to the last frames."""


class Enough(Exception):  # noqa: N818, it is no error
    """All frames that were asked for have been sent."""


class Watcher(Node):
    """Counts masks, and keeps the newest values of each node."""

    def __init__(self) -> None:
        super().__init__("watcher")
        self.masks, self.versions = 0, 0
        self.values: dict[str, dict[str, str]] = {}
        self.create_subscription(ObjectArray, "segmenter/objects", self._on_masks, 100)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _on_masks(self, message: ObjectArray) -> None:
        self.masks += 1
        self.versions = max(self.versions, message.adapter_version)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.values[status.name.rsplit("/", 1)[-1]] = {each.key: each.value for each in status.values}


def sample(watcher: Watcher, began: float, sent: int) -> dict[str, Any]:
    """The figures of this moment."""
    row: dict[str, Any] = {"seconds": round(time.monotonic() - began, 1), "sent": sent, "masks": watcher.masks, "version": watcher.versions}
    for name in NODES:
        values = watcher.values.get(name, {})
        row |= {f"{name}.{key}": float(values[key]) for key in (*FLAT, "frames") if key in values}
    return row


def tenths(rows: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Medians of the nodes' figures over each tenth of the rows."""
    keys = [f"{name}.{key}" for name in NODES for key in FLAT]
    parts = [[rows[i] for i in part] for part in np.array_split(np.arange(len(rows)), TENTHS)]
    return [
        {key: float(np.median([row[key] for row in part if key in row])) for key in keys if any(key in row for row in part)}
        for part in parts
    ]


def grown(parts: list[dict[str, float]]) -> list[str]:
    """The figures that are larger in the last tenth than they may be."""
    texts = []
    for key, after in parts[-1].items():
        before, most = parts[1].get(key), FLAT[key.split(".")[1]]
        if before is not None and after > most * before:
            texts.append(f"{key} grew from {before:g} to {after:g}")
    return texts


def soak(args: argparse.Namespace, player: Player, watcher: Watcher, nodes: list[NodeProcess]) -> dict[str, Any]:
    """Plays, notes, and returns the figures."""
    rows: list[dict[str, Any]] = []
    sent, ended = 0, threading.Event()

    def progress(count: int) -> None:
        nonlocal sent
        sent = count
        if count >= args.frames:
            ended.set()
            raise Enough

    failed: list[BaseException] = []

    def play() -> None:
        try:
            player.play(progress)
        except Enough:
            return
        except (PlayerError, ValueError, ExternalShutdownException) as error:
            failed.append(error)
            ended.set()

    began = time.monotonic()
    threading.Thread(target=play, daemon=True).start()
    while not ended.wait(args.every):
        for node in nodes:
            node.check()
        if not sent:
            began = time.monotonic()
            continue
        rows.append(sample(watcher, began, sent))
        print(", ".join(f"{key} {value:g}" for key, value in rows[-1].items()), flush=True)
    if failed:
        raise failed[0]
    if len(rows) < 2 * TENTHS:
        raise PlayerError(f"{len(rows)} rows are too few to compare tenths of; give more --frames, or fewer seconds as --every")
    seconds = time.monotonic() - began
    time.sleep(LAST_SECONDS)
    counters = {name: {key: int(text) for key, text in watcher.values.get(name, {}).items() if text.isdigit()} for name in NODES}
    parts = tenths(rows)
    return {
        "machine": processor(),
        "model": args.model,
        "graph": args.graph,
        "rate_hz": args.rate,
        "seconds": round(seconds, 1),
        "sent": sent,
        "masks": watcher.masks,
        "adapters": watcher.versions,
        "grown": grown(parts),
        "tenths": parts,
        "last_counters": counters,
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bag", type=Path)
    parser.add_argument("--frames", type=int, default=20000, help="default: %(default)s")
    parser.add_argument("--rate", type=float, default=5.0, metavar="HZ", help="frames per second (default: %(default)g)")
    parser.add_argument("--every", type=float, default=10.0, metavar="S", help="between two rows (default: %(default)g)")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--json", type=Path, default=Path("out/soak.json"), help="file to write the figures to (default: %(default)s)")
    args = parser.parse_args()
    args.json = args.json.expanduser().resolve()
    args.graph = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", PROFILE.name)
    if args.graph == PROFILE.name:
        os.environ |= set_up_by(PROFILE)
    enter_local_graph()
    rclpy.init(args=[])
    with ExitStack() as stack:
        stack.callback(rclpy.try_shutdown)
        out = args.json.parent / "soak"
        shutil.rmtree(out, ignore_errors=True)  # an earlier soak's adapter
        player = Player(bag=str(args.bag.expanduser().resolve()), rate=args.rate, loop=True, timeout=START_SECONDS)
        watcher, executor = Watcher(), SingleThreadedExecutor()
        for node in (player, watcher):
            executor.add_node(node)
        shared: dict[str, Any] = {"model": args.model, **player.inputs}
        if args.checkpoint is not None:
            shared["checkpoint"] = args.checkpoint.expanduser().resolve()
        nodes = []
        for name, parameters in (("segmenter", shared), ("adapter", {**shared, "save_to": out / "adapter.safetensors"})):
            nodes.append(NodeProcess(name, parameters, out / f"{name}.log", {}))
            stack.callback(nodes[-1].stop)
        stack.enter_context(spinning(executor))
        try:
            figures = soak(args, player, watcher, nodes)
        except (ChildError, PlayerError) as error:
            sys.exit(f"soak: {error}")
    rows = ",\n".join(json.dumps(row) for row in figures.pop("rows"))
    write_atomically(args.json, (json.dumps(figures, indent=1).removesuffix("\n}") + f',\n "rows": [\n{rows}\n]}}\n').encode())
    print(json.dumps({name: value for name, value in figures.items() if name != "tenths"}, indent=1))
    sys.exit(int(bool(figures["grown"])))


if __name__ == "__main__":
    main()
