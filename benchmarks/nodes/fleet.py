"""One adapter node on a computer, two robots, and a network that fails: each in a network namespace of its own. Linux, and only as root.

    source scripts/env.sh
    python benchmarks/nodes/fleet.py demo/tabletop.mcap --json out/fleet.json

Each robot plays the recording round and round and segments it; the computer learns from both and serves both, over Ethernet that the kernel
simulates. When both robots have had an adapter, all goes on for --seconds; then the second robot's cable is pulled out for --seconds,
and put in again. Noted: frames sent, masks, adapter versions, and the bytes on each cable. The exit status is 1 if a robot lost more than
one frame of a phase, the other robot got no adapters meanwhile, or the cut one did not get the newest afterwards.

Fast DDS is set up by config/network.xml, unless ROS_AUTOMATIC_DISCOVERY_RANGE is set, to compare with: SUBNET is what ROS takes by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from wesam_ros.files import write_json
from wesam_ros.machine import processor
from wesam_ros.ros.children import NodeProcess, set_up_by

COMPUTER, ROBOTS = "wesam-computer", ("wesam-robot1", "wesam-robot2")
"""Names of the network namespaces."""
PROFILE = Path(__file__).parents[2] / "config" / "network.xml"
START_SECONDS = 300.0
"""Until both robots must have had an adapter, and until the cut one must have the newest again."""
LEARNING = {"adaptation.publish_every": 3, "adaptation.validation_every": 2, "adaptation.validation_frames": 1, "adaptation.tolerance": 1.0}
"""A new version every few steps: what is tried here is the network."""


def graph() -> str:
    """The variables that set up Fast DDS."""
    return os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", PROFILE.name)


def environment() -> dict[str, str]:
    """Of the processes in the namespaces."""
    return {**os.environ, "ROS_DOMAIN_ID": "1", **(set_up_by(PROFILE) if graph() == PROFILE.name else {})}


def ip(*words: str) -> str:
    """Runs `ip`, and returns what it prints."""
    return subprocess.run(("ip", *words), check=True, capture_output=True, text=True).stdout


@contextmanager
def network() -> Iterator[None]:
    """A namespace for the computer with a bridge in it, and one for each robot with a cable to that bridge."""
    with ExitStack() as stack:
        for name in (COMPUTER, *ROBOTS):
            ip("netns", "add", name)
            stack.callback(ip, "netns", "delete", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", COMPUTER, "link", "add", "bridge", "type", "bridge")
        ip("-n", COMPUTER, "address", "add", "10.77.0.1/24", "dev", "bridge")
        ip("-n", COMPUTER, "link", "set", "bridge", "up")
        for number, name in enumerate(ROBOTS, 1):
            ip("-n", COMPUTER, "link", "add", cable(name), "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("-n", COMPUTER, "link", "set", cable(name), "master", "bridge", "up")
            ip("-n", name, "address", "add", f"10.77.0.{number + 1}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
        yield


def cable(robot: str) -> str:
    """The computer's end of a robot's cable."""
    return robot.removeprefix("wesam-")


def traffic(robot: str) -> dict[str, int]:
    """Bytes so far from and to a robot."""
    (found,) = json.loads(ip("-n", COMPUTER, "-s", "-j", "link", "show", "dev", cable(robot)))
    return {"from_robot": found["stats64"]["rx"]["bytes"], "to_robot": found["stats64"]["tx"]["bytes"]}


def start(namespace: str, role: str, args: argparse.Namespace, out: Path) -> subprocess.Popen[bytes]:
    """This script again, in a network namespace, as `role`, with shared memory of its own; it ends when its standard input does."""
    command = ["ip", "netns", "exec", namespace, "sh", "-c", 'mount -t tmpfs tmpfs /dev/shm; exec "$@"', "sh"]
    command += [sys.executable, __file__, str(args.bag.resolve())]
    command += ["--role", role, "--rate", str(args.rate), "--json", str(out / f"{role}.jsonl")]
    with (out / f"{role}.log").open("wb") as log:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment())


def play_role(args: argparse.Namespace) -> None:
    """Runs in a namespace: the adapter node, or a robot's player and segmenter; a line of figures five times a second."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node
    from std_msgs.msg import UInt64
    from wesam_ros.msg import ObjectArray

    from wesam_ros.nodes.player import Player
    from wesam_ros.ros.process import spinning
    from wesam_ros.ros.subscriptions import LATCHED

    shared: dict[str, Any] = {"torch_threads": 1}
    robot = args.role != "computer"
    rclpy.init(args=["--ros-args", "-r", f"__ns:=/{args.role}"] if robot else [])
    out = args.json.parent
    figures = {"masks": 0, "sent": 0, "version": 0}
    executor = SingleThreadedExecutor()
    player = Player(bag=str(args.bag), rate=args.rate, loop=True, timeout=START_SECONDS)
    if robot:
        watcher = Node("watcher")

        def on_masks(_: ObjectArray) -> None:
            figures["masks"] += 1

        watcher.create_subscription(ObjectArray, "segmenter/objects", on_masks, 100)
        watcher.create_subscription(UInt64, "segmenter/adapter_version", lambda message: figures.update(version=message.data), LATCHED)
        executor.add_node(player)
        executor.add_node(watcher)
        remappings = {"__ns": f"/{args.role}", "adapter": "/adapter"}
        node = NodeProcess("segmenter", {**shared, **player.inputs}, out / f"{args.role}_segmenter.log", {}, remappings)
        threading.Thread(target=player.play, args=(lambda sent: figures.update(sent=sent),), daemon=True).start()
    else:
        learning = {"namespaces": ", ".join(f"/{cable(name)}" for name in ROBOTS), **LEARNING}
        node = NodeProcess("adapter", {**shared, **player.inputs, **learning}, out / "adapter.log", {})

    def end_with_parent() -> None:
        sys.stdin.read()
        node.stop()
        os._exit(0)

    threading.Thread(target=end_with_parent, daemon=True).start()
    with spinning(executor), args.json.open("a", buffering=1) as file:
        while True:
            node.check()
            file.write(json.dumps({"at": time.monotonic(), **figures}) + "\n")
            time.sleep(0.2)


class Robot:
    """The notes of a robot."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def rows(self) -> list[dict[str, Any]]:
        """All of it."""
        return [json.loads(line) for line in self._file.read_text().splitlines()] if self._file.exists() else []

    def phase(self, began: float, ended: float) -> dict[str, int]:
        """Frames sent, masks, and versions that were taken, between two moments."""
        rows = [row for row in self.rows() if began <= row["at"] <= ended]
        found = {key: rows[-1][key] - rows[0][key] for key in ("sent", "masks")}
        return {**found, "versions_taken": len({row["version"] for row in rows}) - 1, "newest_version": rows[-1]["version"]}


def wait_for(what: str, condition: Callable[[], bool], processes: dict[str, subprocess.Popen[bytes]], out: Path) -> float:
    """Waits; returns the seconds that it took."""
    began = time.monotonic()
    while not condition():
        for name, process in processes.items():
            if process.poll() is not None:
                raise SystemExit(f"{name} ended with status {process.returncode}; see {out}")
        if time.monotonic() - began > START_SECONDS:
            raise SystemExit(f"no {what} within {START_SECONDS:g} s; see the logs in {out}")
        time.sleep(0.2)
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bag", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each phase (default: %(default)g)")
    parser.add_argument("--rate", type=float, default=1.0, metavar="HZ", help="frames per second of each robot (default: %(default)g)")
    parser.add_argument("--json", type=Path, default=Path("out/fleet.json"), help="file to write the figures to (default: %(default)s)")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.json = args.json.expanduser().resolve()
    if args.role:
        play_role(args)
    out = args.json.parent / "fleet"
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.jsonl"):
        old.unlink()
    processes: dict[str, subprocess.Popen[bytes]] = {}
    with ExitStack() as stack:
        stack.enter_context(network())
        for name in (COMPUTER, *ROBOTS):
            role = cable(name)
            processes[role] = process = start(name, role, args, out)
            stack.callback(process.wait)
            stack.callback(process.stdin.close)  # type: ignore[union-attr]
        one, two = (Robot(out / f"{cable(name)}.jsonl") for name in ROBOTS)
        first = wait_for("adapter on both robots", lambda: all(r.rows() and r.rows()[-1]["version"] for r in (one, two)), processes, out)
        phases: dict[str, Any] = {}

        def phase(name: str) -> None:
            before, began = {each: traffic(each) for each in ROBOTS}, time.monotonic()
            time.sleep(args.seconds)
            ended = time.monotonic()
            phases[name] = {}
            for each, robot in zip(ROBOTS, (one, two), strict=True):
                after = traffic(each)
                rates = {f"kb_per_s_{way}": round((after[way] - before[each][way]) / 1e3 / (ended - began), 1) for way in after}
                phases[name][cable(each)] = {**robot.phase(began, ended), **rates}
            print(f"{name}: {phases[name]}", flush=True)

        phase("connected")
        ip("-n", COMPUTER, "link", "set", cable(ROBOTS[1]), "down")
        phase("second robot cut off")
        ip("-n", COMPUTER, "link", "set", cable(ROBOTS[1]), "up")
        newest = one.rows()[-1]["version"]
        again = wait_for("newest adapter on the second robot", lambda: two.rows()[-1]["version"] >= newest, processes, out)
        phase("connected again")
    figures = {
        "device": processor(),
        "graph": graph(),
        "rate": args.rate,
        "seconds": args.seconds,
        "seconds_to_first_adapter": round(first, 1),
    }
    figures |= {"seconds_to_newest_adapter_after_the_cut": round(again, 1), "phases": phases}
    write_json(args.json, figures)
    lost = [
        f"{robot} had {row['masks']} masks for {row['sent']} frames while {name}"
        for name, each in phases.items()
        for robot, row in each.items()
        if row["masks"] < row["sent"] - 1
    ]
    if not phases["second robot cut off"][cable(ROBOTS[0])]["versions_taken"]:
        lost.append("the first robot got no adapter while the second was cut off")
    print(f"the second robot had the newest adapter {again:.1f} s after its cable was back; " + ("; ".join(lost) or "nothing was lost"))
    sys.exit(int(bool(lost)))


if __name__ == "__main__":
    main()
