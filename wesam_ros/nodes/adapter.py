"""The adapter node: learns from the frames that it sees, in a thread beside the executor, and publishes better adapters.

It can crash or be killed at any time: what it has published it has saved before, and a restarted node goes on from there.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.qos import QoSProfile
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.learner import Learner
from wesam_ros.msg import AdaptationStatus
from wesam_ros.msg import Adapter as AdapterMessage
from wesam_ros.nodes.frame_node import FrameNode, FrameRequest
from wesam_ros.nodes.inputs import LATCHED
from wesam_ros.nodes.joining import Joined
from wesam_ros.nodes.parameters import AdapterParameters, declare
from wesam_ros.nodes.process import run_node
from wesam_ros.sam.lora import Adapter

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

PREFIX = "adaptation."
"""The parameters of the method are named with it."""
NO_CANDIDATE = ("not_due", "no_held_back_frames")
"""Reasons of a proposal that say that there was no candidate to judge."""


class AdapterNode(FrameNode[AdapterParameters]):
    """See the module. Topics, services and parameters are listed in docs/."""

    def __init__(self) -> None:
        super().__init__("adapter", AdapterParameters)
        self._adaptation = declare(self, AdaptationConfig, PREFIX)
        self._learner: Learner | None = None
        self._paused = False
        self._error = ""
        self._last_header = Header()
        self._version = 0
        self._adapters = self.create_lifecycle_publisher(AdapterMessage, "adapter", LATCHED)
        self._status = self.create_lifecycle_publisher(AdaptationStatus, "~/status", QoSProfile(depth=10))
        services = ReentrantCallbackGroup()  # they wait for the worker; nothing else may wait for them
        self.create_service(SetBool, "~/pause", self._on_pause, callback_group=services)
        for name, action in (("reset", self._reset), ("save", self._save), ("rollback", self._roll_back)):
            self.create_service(Trigger, f"~/{name}", self._service(action), callback_group=services)

    def prepare(self, sam: Sam) -> None:
        path = self._file()
        adapter = Adapter.load(path, for_sam=sam) if path is not None and path.exists() else None
        if adapter is not None:
            self.get_logger().info(f"goes on from adapter version {adapter.version} in {path}")
        elif path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.get_logger().info(f"starts anew: there is no {path} yet")
        self._learner = Learner(sam, self._adaptation.value, self.parameters.seed, adapter)
        self._version = adapter.version if adapter is not None else 0

    def discard(self) -> None:
        self._learner = None

    def started(self) -> None:
        if self._version:
            self._publish(self._running().adapter)

    def stopped(self) -> None:
        if self._version and self._file() is not None:
            self._save()

    def state(self) -> dict[str, str]:
        counters = dict(self._learner.counters) if self._learner is not None else {}
        values = {f"learner.{name}": str(n) for name, n in counters.items()}
        values |= {
            "adapter_version": str(self._version),
            "learning": "paused" if self._paused else "on",
            "save_to": self.parameters.save_to,
        }
        return values | ({"error": self._error} if self._error else {})

    def process(self, work: FrameRequest, began: float) -> None:
        status = AdaptationStatus(header=work.joined.image.header)
        self._last_header = status.header
        self.diagnostics.count("frames_seen")
        if self._paused:
            status.state, status.reason = AdaptationStatus.PAUSED, "paused"
        else:
            status.state = AdaptationStatus.LEARNING
            self._learn(work, status)
        self._error = ""
        self._finish(status)
        self.diagnostics.timing("frame_ms", (time.monotonic() - began) * 1e3)
        self.diagnostics.frame_done()

    def refused(self, joined: Joined, sentence: str) -> None:
        """A frame that cannot be learnt from has a status, too: a player in lock step waits for it."""
        failed = not sentence.startswith("image: ")
        self._error = f"training failed: {sentence}" if failed else ""
        self.diagnostics.count("frames_seen")
        state = AdaptationStatus.FAILED if failed else AdaptationStatus.LEARNING
        self._finish(AdaptationStatus(header=joined.image.header, state=state, reason=sentence))

    def _running(self) -> Learner:
        if self._learner is None:
            raise RuntimeError("the adapter node is not configured; configure it first")
        return self._learner

    def _learn(self, work: FrameRequest, status: AdaptationStatus) -> None:
        """Shows the learner a frame, lets it train, and publishes its proposal if there is one."""
        learner = self._running()
        learner.config = self._adaptation.value
        verdict = learner.observe(work.frame, work.request.prompts)
        status.accepted, status.reason = verdict.accepted, verdict.reason
        self.diagnostics.count("frames_accepted" if verdict.accepted else f"frames_rejected.{verdict.reason}")
        if not self._train(learner, status):
            return
        proposal = learner.propose()
        if proposal.adapter is not None:
            self._publish(proposal.adapter)
            status.published = True
        elif proposal.reason not in NO_CANDIDATE:
            self.diagnostics.count("candidates_refused")
        status.proposal_reason = "" if proposal.reason in NO_CANDIDATE else proposal.reason

    def _train(self, learner: Learner, status: AdaptationStatus) -> bool:
        """Takes the steps of one frame; False if there were none, or if the node is to stop."""
        count = self.parameters.steps_per_frame
        began = time.monotonic()
        for _ in range(count):
            result = learner.step()
            if result is None:
                return False
            self.diagnostics.count("steps")
            status.loss_names, status.losses = list(result.losses), list(result.losses.values())
            if self.worker is not None:
                self.worker.run_calls()
                if self.worker.stopping:
                    return False
        if not count:
            return False
        status.step_seconds = (time.monotonic() - began) / count
        self.diagnostics.timing("step_ms", status.step_seconds * 1e3)
        return True

    def _finish(self, status: AdaptationStatus) -> None:
        counts = self.diagnostics.counters()
        status.version = self._version
        status.frames_seen = counts.get("frames_seen", 0)
        status.frames_accepted = counts.get("frames_accepted", 0)
        status.frames_rejected = status.frames_seen - status.frames_accepted
        status.steps = counts.get("steps", 0)
        status.publications = counts.get("publications", 0)
        status.rollbacks = counts.get("candidates_refused", 0)
        status.memory_frames = len(self._learner.memory) if self._learner is not None else 0
        self._status.publish(status)

    def _publish(self, adapter: Adapter) -> None:
        """Saves an adapter, then publishes it: what a segmenter uses can always be gone on from."""
        path = self._file()
        if path is not None:
            adapter.save(path)
        data = array("B", adapter.to_bytes())
        self._version = adapter.version
        self._adapters.publish(AdapterMessage(header=self._last_header, version=adapter.version, base_hash=adapter.base, data=data))
        self.diagnostics.count("publications")

    def _file(self) -> Path | None:
        return Path(self.parameters.save_to).expanduser() if self.parameters.save_to else None

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._paused = request.data
        response.success, response.message = True, "paused" if request.data else "learning"
        return response

    def _service(self, action: Callable[[], str]) -> Callable[[Any, Any], Any]:
        async def answer(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            try:
                response.message = await self.in_worker(action)
                response.success = True
            except Exception as error:
                response.success, response.message = False, str(error)
            return response

        return answer

    def _reset(self) -> str:
        self._publish(self._running().reset())
        return f"starts anew; version {self._version} equals the frozen model"

    def _roll_back(self) -> str:
        self._publish(self._running().rollback())
        return f"rolled back: version {self._version} is the one before the last"

    def _save(self) -> str:
        path = self._file()
        if path is None:
            raise ValueError("there is no file to save to; start the node with the parameter save_to")
        adapter = self._running().adapter
        adapter.save(path)
        return f"version {adapter.version} saved to {path}"


def main(args: list[str] | None = None) -> int:
    """Runs the node until it is interrupted; returns the exit status."""
    return run_node(AdapterNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
