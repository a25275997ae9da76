"""Kills the segmenter or the adapter node with SIGKILL at random moments while a recording plays, and starts it again at once.

    source scripts/env.sh
    python benchmarks/nodes/faults.py demo/tabletop.mcap --kills 200 --json out/faults.json
    python benchmarks/nodes/faults.py demo/tabletop.mcap --kills 60 --node adapter --save-minutes 0.05 --json out/faults_state.json

After each kill: how long until masks flow again, and whether the saved adapter is a whole one of this model, at least as new as any that
was published before; and whether the state of the training, where one was saved, is whole, and the next process goes on with as many
frames. A row per kill; a run that was stopped goes on with the kills that are missing. The exit status is 1 if masks came later than
--within seconds, or an adapter or a state was lost.

Which node is killed, and when, is drawn by the seed: within 0.2 to --longest seconds after both nodes work again, so that some kills hit a
node that is about to save. The adapter publishes as often as it can.

The graph is that of config/loopback.xml, unless ROS_AUTOMATIC_DISCOVERY_RANGE is set, to compare with: LOCALHOST takes shared memory.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import torch
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from wesam_ros.msg import AdaptationStatus, ObjectArray
from wesam_ros.msg import Adapter as AdapterMessage

from wesam_ros.files import write_json
from wesam_ros.machine import processor
from wesam_ros.nodes.player import Player
from wesam_ros.ros.answers import PlayerError
from wesam_ros.ros.children import NodeProcess, enter_local_graph, set_up_by
from wesam_ros.ros.process import spinning
from wesam_ros.ros.subscriptions import LATCHED
from wesam_ros.sam.adapter import Adapter
from wesam_ros.sam.checkpoints import load_sam

PROFILE = Path(__file__).parents[2] / "config" / "loopback.xml"
NODES = ("segmenter", "adapter")
START_SECONDS = 300.0
"""For the first masks, and for masks after a kill, before the run is given up: a busy machine loads a model slowly."""
SETTLE_SECONDS = 0.2
"""Masks that a killed segmenter had sent may come so long after it; a new one does not serve as soon."""
OFTEN = {"adaptation.publish_every": 1, "adaptation.validation_every": 2, "adaptation.validation_frames": 1, "adaptation.tolerance": 1.0}
"""The adapter publishes, and so saves, after nearly every frame."""


class Watcher(Node):
    """Notes when masks came last, and the newest version that was published."""

    def __init__(self) -> None:
        super().__init__("watcher")
        self.masks_at, self.status_at, self.version, self.frames = 0.0, 0.0, 0, 0
        self.create_subscription(ObjectArray, "segmenter/objects", self._on_masks, 10)
        self.create_subscription(AdaptationStatus, "adapter/status", self._on_status, 10)
        self.create_subscription(AdapterMessage, "adapter", self._on_adapter, LATCHED)

    def _on_masks(self, _: ObjectArray) -> None:
        self.masks_at = time.monotonic()

    def _on_status(self, message: AdaptationStatus) -> None:
        self.status_at, self.frames = time.monotonic(), message.replay_frames

    def _on_adapter(self, message: AdapterMessage) -> None:
        self.version = max(self.version, message.version)


class Graph:
    """The player in this process, the two nodes in theirs."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.out = args, args.json.parent / "faults"
        self.file = self.out / "adapter.safetensors"
        self.player = Player(bag=str(args.bag.expanduser().resolve()), rate=args.rate, loop=True, timeout=START_SECONDS)
        self.watcher = Watcher()
        self.executor = SingleThreadedExecutor()
        for node in (self.player, self.watcher):
            self.executor.add_node(node)
        self.sam = load_sam(self.args.model, self.args.checkpoint)  # to check adapters against
        self.nodes = {name: self.start(name) for name in ("segmenter", "adapter")}
        self.failed: list[BaseException] = []
        self.spinning = ExitStack()
        self.spinning.enter_context(spinning(self.executor))
        threading.Thread(target=self._play, daemon=True).start()

    def _play(self) -> None:
        try:
            self.player.play()
        except (PlayerError, ValueError) as error:
            self.failed.append(error)
        except Exception as error:  # the context is shut down at the end of the run, while the player waits
            if rclpy.ok():
                self.failed.append(error)

    def start(self, name: str) -> NodeProcess:
        """A node's process, new; its log is kept apart from those of the processes before."""
        parameters: dict[str, Any] = {"model": self.args.model, "torch_threads": 1, **self.player.inputs}
        if self.args.checkpoint is not None:
            parameters["checkpoint"] = self.args.checkpoint.expanduser().resolve()
        if name == "segmenter":
            parameters["adapter"] = self.file if self.file.exists() else ""
        else:
            parameters |= {"save_to": self.file, "save_minutes": self.args.save_minutes, **OFTEN}
        return NodeProcess(name, parameters, self.out / f"{name}.log", {})

    def wait_for(self, what: str, after: float) -> float | None:
        """Seconds from `after` until "masks" or a "status" of the adapter came; None if they did not."""
        began = time.monotonic()
        while getattr(self.watcher, f"{what}_at") <= after:
            if self.failed:
                raise SystemExit(f"the player ended: {self.failed[0]}")
            if time.monotonic() - began > START_SECONDS:
                return None
            time.sleep(0.005)
        return float(getattr(self.watcher, f"{what}_at")) - after

    def kill(self, name: str) -> dict[str, Any]:
        """Kills a node, starts it again at once, and says what came of it."""
        process = self.nodes[name].process
        version = self.watcher.version
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        killed_at = time.monotonic()
        saved, trouble = self.saved()
        frames, damage = self.state_frames() if name == "adapter" else (None, "")
        self.nodes[name] = self.start(name)
        settle = SETTLE_SECONDS if name == "segmenter" else 0.0
        seconds = self.wait_for("masks", killed_at + settle)
        seconds = None if seconds is None else seconds + settle
        if seconds is not None:  # the next kill hits two nodes that work
            self.wait_for("status", killed_at + SETTLE_SECONDS)
            if frames is not None and self.watcher.frames < frames:
                damage = f"the saved state has {frames} frames, but the node went on with {self.watcher.frames}"
        lost = trouble or damage or (f"version {version} was published, but {saved} is saved" if (saved or 0) < version else "")
        return {"node": name, "published": version, "saved": saved, "state_frames": frames, "lost": lost, "seconds_to_masks": seconds}

    def saved(self) -> tuple[int | None, str]:
        """The version of the saved adapter, None if none was saved yet; and what is wrong with it."""
        if not self.file.exists():
            return None, ""
        try:
            return Adapter.load(self.file, for_sam=self.sam).version, ""
        except (ValueError, OSError) as error:
            return None, str(error)

    def state_frames(self) -> tuple[int | None, str]:
        """The number of frames to learn from in the saved state, None if none was saved yet; and what is wrong with it."""
        path = self.file.with_name(self.file.name + ".state")
        if not path.exists():
            return None, ""
        try:
            return len(torch.load(path, weights_only=True, mmap=True)["replay_buffer"]["reservoir"]), ""
        except Exception as error:  # torch raises many kinds for a damaged file
            return None, f"{path.name}: {type(error).__name__}: {error}"

    def stop(self) -> None:
        """Ends all processes."""
        for node in self.nodes.values():
            node.stop()
        self.spinning.close()
        rclpy.try_shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bag", type=Path)
    parser.add_argument("--kills", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--node", choices=NODES, action="append", help="to kill, again for another (default: both)")
    parser.add_argument(
        "--save-minutes", type=float, default=10.0, help="between two savings of the training's state (default: %(default)g)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--within", type=float, default=5.0, metavar="S", help="masks must flow again by then (default: %(default)g)")
    parser.add_argument("--longest", type=float, default=5.0, metavar="S", help="between masks and the next kill (default: %(default)g)")
    parser.add_argument("--rate", type=float, default=5.0, metavar="HZ", help="frames per second (default: %(default)g)")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--json", type=Path, default=Path("out/faults.json"), help="file with the rows (default: %(default)s)")
    args = parser.parse_args()
    args.json = args.json.expanduser().resolve()
    rows: list[dict[str, Any]] = json.loads(args.json.read_text()) if args.json.exists() else []
    graph_of = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", PROFILE.name)
    if graph_of == PROFILE.name:
        os.environ |= set_up_by(PROFILE)
    enter_local_graph()
    rclpy.init(args=[])
    graph = Graph(args)
    known = {"seed": args.seed, "graph": graph_of, "model": args.model, "save_minutes": args.save_minutes, "device": processor()}
    try:
        if graph.wait_for("masks", time.monotonic()) is None or graph.wait_for("status", 0.0) is None:
            raise SystemExit(f"no masks, or no status of the adapter, within {START_SECONDS:g} s; see the logs in {graph.out}")
        # Each kill has a seed of its own, so that a run that goes on draws what it would have drawn.
        for number in range(len(rows), args.kills):
            rng = np.random.default_rng([args.seed, number])
            time.sleep(rng.uniform(0.2, args.longest))
            rows.append({"kill": number, **known, **graph.kill(str(rng.choice(args.node or NODES)))})
            write_json(args.json, rows)
            print(f"kill {number + 1} of {args.kills}: {rows[-1]}", flush=True)
            if rows[-1]["seconds_to_masks"] is None:
                raise SystemExit(f"no masks within {START_SECONDS:g} s after the kill; see the logs in {graph.out}")
    finally:
        graph.stop()
    sys.exit(report(rows, args.within))


def report(rows: list[dict[str, Any]], within: float) -> int:
    """Prints the outcome; 1 if a promise was broken."""
    for name in NODES:
        times = [math.inf if row["seconds_to_masks"] is None else row["seconds_to_masks"] for row in rows if row["node"] == name]
        if times:
            print(f"{name}: {len(times)} kills, masks again after {np.median(times):.2f} s (median), {max(times):.2f} s at most")
    late = [row["kill"] for row in rows if row["seconds_to_masks"] is None or row["seconds_to_masks"] > within]
    lost = [row["kill"] for row in rows if row["lost"]]
    states = sum(row.get("state_frames") is not None for row in rows)
    print(f"later than {within:g} s: {late or 'none'}; adapters or states lost: {lost or 'none'}; states gone on from: {states}")
    return int(bool(late or lost))


if __name__ == "__main__":
    main()
