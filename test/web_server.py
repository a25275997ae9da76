"""The page with a robot that is played: `python web_server.py PORT TOKEN_FILE LOG` serves it, and writes each command to the log.

The robot shows a square that moves to the right. Its segmenter answers with a disc around the middle of the marks.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wesam_ros.web.history import History, Learnt
from wesam_ros.web.values import Asked, Asking, Marks, NodeHealth, Outcome, RobotError, SeenFrame, SeenObject

SIZE = (240, 320)
STEP_SECONDS = 0.1


def safetensors(version: int, weights: bytes) -> bytes:
    """An adapter file with a tensor of these bytes."""
    entry = {"dtype": "U8", "shape": [len(weights)], "data_offsets": [0, len(weights)]}
    header = json.dumps({"__metadata__": {"version": str(version)}, "a": entry}).encode()
    return len(header).to_bytes(8, "little") + header + weights


def disc(x: float, y: float, radius: int = 30) -> SeenObject:
    """An object with a round mask about a place."""
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    corner = max(round(x) - radius, 0), max(round(y) - radius, 0)
    box = (x - radius, y - radius, x + radius, y + radius)
    return SeenObject("0", "cup", 0.91, "model", 0, box, np.hypot(rows, columns) <= radius, corner)


class PlayedRobot:
    """A robot without a graph; `log` takes what it was asked for."""

    def __init__(self, name: str, log: Path) -> None:
        self.name, self.history = name, History()
        self.watchers: set[str] = set()
        self.waiting, self.answered = [1, 2, 3], list[int]()
        self.state = {"learning": "on", "in_use": "adapter", "adapter_version": "3", "rate_hz": "5.0"}
        self._log, self._last, self._began = log, 0, time.monotonic()
        for number in (1, 2, 3):
            self.history.publish(number, safetensors(number, bytes([number])))

    def _note(self, what: str, value: Any = None) -> None:
        with self._log.open("a") as file:
            file.write(json.dumps([self.name, what, value]) + "\n")

    def watch(self, who: str) -> None:
        self.watchers.add(who)
        self._note("watched", len(self.watchers))

    def unwatch(self, who: str) -> None:
        self.watchers.discard(who)
        self._note("watched", len(self.watchers))

    def frame(self) -> SeenFrame | None:
        step = int((time.monotonic() - self._began) / STEP_SECONDS)
        if step > self._last:
            self._last = step
            self._learn(step)
        x = 20 + step % 50 * 4
        image = np.full((*SIZE, 3), 40, np.uint8)
        image[80:140, x : x + 60] = (200, 120, 40)
        box, size = (x, 80.0, x + 60, 140.0), (0.06, 0.05, 0.04)
        found = SeenObject("a", "box", 0.87, "model+depth", 1, box, np.ones((60, 60), bool), (x, 80), size, 0.7)
        return SeenFrame(1_800_000_000_000_000_000 + step, image, [found], 3, "tiny", 12.0)

    def _learn(self, step: int) -> None:
        reason = "misplaced_boxes" if step % 4 == 0 else ""
        score = 0.8 + 0.001 * step if step % 5 == 0 else math.nan
        counts = {"version": 3, "seen": step, "took": step - step // 4, "refused": step // 4, "candidates_refused": 1}
        told = {"candidate": score, "published": score, "frozen": 0.79, "losses": {"focal": 1 / (1 + step), "dice": 0.3}}
        now = time.monotonic()
        self.history.add(Learnt(step, now, "learning", not reason, reason, **counts, **told))
        self.history.latencies.append((now, 12.0))

    def nodes(self) -> list[str]:
        return ["/segmenter", "/adapter"]

    def health(self) -> list[NodeHealth]:
        late = {"late.detections": "4"}
        return [NodeHealth("/segmenter", 0, "ok", {**self.state, **late}), NodeHealth("/adapter", 0, "ok", self.state)]

    def problem(self) -> str:
        return ""

    def is_recent(self, stamp: int) -> bool:
        return True

    async def call(self, command: str, value: Any = None) -> Outcome:
        self._note(command, value if value is None else str(value))
        if command == "pause":
            self.state["learning"] = "paused" if value else "on"
        if command == "rollback":
            before = self.history.versions[-2]
            self.history.publish(self.history.versions[-1].number + 1, safetensors(9, bytes([before.number])))
        return Outcome(True, f"{command} is done")

    def asking(self) -> Asking:
        waiting = []
        for number in self.waiting:
            image = np.full((100, 120, 3), 60 + 40 * number, np.uint8)
            image[20:80, 30:90] = (40, 120, 200)
            thing = SeenObject("", "cup", 0.4, "model", 0, (30.0, 20.0, 90.0, 80.0), np.ones((30, 60), bool), (30, 20))
            waiting.append(Asked(number, SeenFrame(number, image, [thing], 0, "", 0.0), (100, 50)))
        return Asking(tuple(waiting), len(self.answered), True)

    async def answer(self, asked: Asked | None, kind: str, found: SeenObject | None = None) -> Outcome:
        self._note("answer", [asked.id if asked else 0, kind, int(np.count_nonzero(found.mask)) if found is not None else 0])
        if asked is None:
            self.waiting.insert(0, self.answered.pop())
            return Outcome(True, "the last answer is taken back")
        self.waiting.remove(asked.id)
        self.answered.append(asked.id)
        return Outcome(True, f"{kind} is learnt from")

    async def segment(self, frame: SeenFrame, asked: Sequence[Marks], *, frozen: bool = False) -> list[SeenObject]:
        self._note("segment", [len(asked), frozen])
        found = []
        for each in asked:
            if any(not on for *_, on in each.points) and each.box is None and len(each.points) > 3:
                raise RobotError("that is too much")
            x0, y0, x1, y1 = each.box or (*each.points[0][:2], *each.points[0][:2]) if each.box or each.points else (90, 90, 90, 90)
            found.append(disc((x0 + x1) / 2, (y0 + y1) / 2, 30 if frozen else 28))
        return found

    async def teach(self, frame: SeenFrame, marks: Marks, name: str) -> None:
        self._note("teach", [name, marks.box, int(np.count_nonzero(marks.mask))])
        for _ in range(2):
            counts = {"version": 3, "seen": self._last, "took": 1, "refused": 0, "candidates_refused": 0}
            self.history.add(Learnt(frame.stamp, time.monotonic(), "learning", True, "", **counts))


class PlayedRobots:
    """Two robots."""

    def __init__(self, log: Path) -> None:
        self._robots = {name: PlayedRobot(name, log) for name in ("/", "/arm2")}

    def names(self) -> list[str]:
        return sorted(self._robots)

    def robot(self, name: str) -> PlayedRobot:
        return self._robots[name]


def main(port: int, token_file: Path, log: Path) -> None:
    """Serves until the process is ended."""
    from wesam_ros.web.security import Access, read_token
    from wesam_ros.web.server import WebSettings, make_server

    settings = WebSettings("127.0.0.1", port, Access(read_token(token_file), (), port), token_file.parent)
    make_server(PlayedRobots(log), settings).run()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
