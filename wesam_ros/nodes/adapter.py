"""The adapter node: learns from the frames that it sees, in a thread beside the executor, and publishes better adapters.

It can crash or be killed at any time: what it publishes it saves first, and a restarted node goes on from there.
"""

from __future__ import annotations

import math
import time
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.exceptions import NameValidationException
from rclpy.qos import QoSProfile
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from wesam_ros.adaptation.admission import MISPLACED_BOXES
from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.learner import Learner
from wesam_ros.adaptation.validation import Comparison
from wesam_ros.msg import AdaptationStatus
from wesam_ros.msg import Adapter as AdapterMessage
from wesam_ros.ros.frame_node import PAUSED, FrameNode, FrameRequest
from wesam_ros.ros.parameters import declare
from wesam_ros.ros.process import run_node
from wesam_ros.ros.saving import LearnerFiles
from wesam_ros.ros.subscriptions import LATCHED
from wesam_ros.ros.synchronizer import SynchronizedFrame
from wesam_ros.sam.adapter import Adapter
from wesam_ros.settings import AdapterParameters
from wesam_ros.srv import LoadAdapter

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

PREFIX = "adaptation."
"""The parameters of the method are named with it."""
STALE_STEPS = 200
"""After so many steps without a new frame there is none until the next: with the detector dead, the old ones would be learnt by heart, at
the price of a processor's core. They are about three for each frame of a full memory."""
UNTRUSTED_STEPS = 50
"""So many steps in a row in which no object could be trusted are told of."""
MISPLACED_FRAMES = 20
"""So many frames in a row whose boxes do not belong to their depth are told of."""
RESTORED = "restored."
"""The learner's counters of goings back begin with it."""


class AdapterNode(FrameNode[AdapterParameters]):
    """See the module. Topics, services and parameters are listed in docs/."""

    def __init__(self) -> None:
        super().__init__("adapter", AdapterParameters)
        for each in self.prefixes():
            try:
                self.resolve_topic_name(f"{each}image")
            except NameValidationException as error:
                raise ValueError(f"parameter namespaces must be ROS namespaces separated by commas: {error}") from error
        self._adaptation = declare(self, AdaptationConfig, PREFIX)
        self._learner: Learner | None = None
        path = Path(self.parameters.save_to).expanduser() if self.parameters.save_to else None
        self._files = LearnerFiles(path, self.diagnostics, self.get_logger())
        self._paused = False
        self._pause_mark = path.with_name(path.name + PAUSED) if path is not None else None
        self._stale_steps = self._untrusted_steps = 0
        self._misplaced: Counter[str] = Counter()  # frames in a row, of each robot
        self._offset: dict[str, tuple[float, float]] = {}  # where the boxes of its last one would lie better, in pixels of the image
        self._last_refusal = ""
        self._judged: Comparison | None = None
        self._error = ""
        self._last_header = Header()
        self._version = 0
        self._adapters = self.output(AdapterMessage, "adapter", LATCHED)
        self._status = self.output(AdaptationStatus, "~/status", QoSProfile(depth=10))
        services = ReentrantCallbackGroup()  # they wait for the worker; nothing else may wait for them
        self.create_service(SetBool, "~/pause", self._on_pause, callback_group=services)
        self.create_service(Trigger, "~/resume", self._on_resume, callback_group=services)
        self.create_service(LoadAdapter, "~/load", self._on_load, callback_group=services)
        for name, action in (("reset", self._reset), ("save", self._save), ("rollback", self._roll_back)):
            self.create_service(Trigger, f"~/{name}", self._service(action), callback_group=services)

    def prefixes(self) -> list[str]:
        names = [each.strip() for each in self.parameters.namespaces.split(",")]
        return [f"{each.rstrip('/')}/" if each else "" for each in names]

    def prepare(self, sam: Sam) -> None:
        resume = self.parameters.save_minutes > 0
        self._learner = self._files.learner(sam, self._adaptation.value, self.parameters.seed, resume=resume)
        self._version = self._learner.adapter.version
        self._learner.replay_buffer.keep_only(
            {each.rstrip("/") for each in self.prefixes()}
        )  # nobody serves one of an earlier process any more
        if self.remembered(self._pause_mark):
            self._paused = True
            self.get_logger().warning("learning is paused, as it was when this node ended; call ~/resume to go on")

    def discard(self) -> None:
        self._learner = None
        self._files.release()

    def started(self) -> None:
        # Also one that changes nothing: a segmenter may have one of a process that was killed, and has not saved it.
        adapter = self._running().adapter
        if adapter.version != self._files.saved_version:
            self._files.keep(adapter)
        self._send(adapter)

    def stopped(self, ended: bool) -> None:
        if self._learner is not None and ended:  # in the middle of a step there is no state to save; what was published is saved
            self._files.close(self._learner, self.parameters.save_minutes)

    def state(self) -> dict[str, str]:
        counters = dict(self._learner.counters) if self._learner is not None else {}
        values = {f"learner.{name}": str(n) for name, n in counters.items()}
        values |= {
            "adapter_version": str(self._version),
            "learning": "paused" if self._paused else "on",
            "save_to": self.parameters.save_to,
            "saved_version": str(self._files.saved_version),
        }
        if (judged := self._judged) is not None:
            fits = {
                "validation_score": judged.candidate,
                "validation_score_published": judged.published,
                "validation_score_frozen": judged.frozen,
            }
            values |= {f"guard.{name}": f"{each.score:.3f}" for name, each in fits.items()}
            values["guard.agreement"] = f"{judged.candidate.agreement:.3f}"
        refused = str(self._files.refused or "")
        told = {"last_refusal": self._last_refusal, "refused_file": refused, "error": self._error}
        for robot in sorted(each for each, frames in dict(self._misplaced).items() if frames >= MISPLACED_FRAMES):  # the worker adds to it
            values[f"boxes_off_by{robot}"] = "{:.0f} {:.0f}".format(*self._offset[robot])
            told["warning"] = told.get("warning", "") + (
                f"nothing is learnt from {robot or '/'}: moved by the pixels in boxes_off_by{robot}, x y, its boxes would hold more of "
                "what rises from the table; see whether depth is registered to the image, and the detector is of this camera and in time; "
                "if it boxes only some of what stands there, raise adaptation.misplaced\n"
            )
        if self._untrusted_steps >= UNTRUSTED_STEPS:
            told["warning"] = told.get("warning", "") + (
                "nothing is learnt: in none of the last steps did a mask fit its box and the depth; see whether boxes, image and depth "
                "belong together and depth is in its unit (16UC1 millimetres, 32FC1 metres)"
            )
        return values | {name: text for name, text in told.items() if text}

    def process(self, work: FrameRequest, began: float) -> None:
        status = unjudged(work.joined.image.header)
        self._last_header = status.header
        self.diagnostics.count("frames_seen")
        if self._paused:
            status.state, status.reason = AdaptationStatus.PAUSED, "paused"
        else:
            status.state = AdaptationStatus.LEARNING
            self._learn(work, status)
        self._error = ""
        self._files.frame_done(self._running(), self.parameters.save_minutes)
        self._finish(status)
        self.diagnostics.timing("frame_ms", (time.monotonic() - began) * 1e3)
        self.diagnostics.frame_done()

    def refused(self, joined: SynchronizedFrame, sentence: str) -> None:
        """A frame that cannot be learnt from has a status, too: a player in lock step waits for it."""
        failed = not sentence.startswith("image: ")
        self._error = f"training failed: {sentence}" if failed else ""
        self.diagnostics.count("frames_seen")
        status = unjudged(joined.image.header)
        status.state, status.reason = AdaptationStatus.FAILED if failed else AdaptationStatus.LEARNING, sentence
        self._finish(status)

    def _running(self) -> Learner:
        if self._learner is None:
            raise RuntimeError("the adapter node is not configured; configure it first")
        return self._learner

    def _learn(self, work: FrameRequest, status: AdaptationStatus) -> None:
        """Shows the learner a frame, lets it train, and publishes its proposal if there is one."""
        learner = self._running()
        learner.config = self._adaptation.value
        before = dict(learner.counters)
        source = self.worker.source if self.worker is not None else ""
        robot = source.removesuffix(work.joined.source).rstrip("/")
        admission = learner.observe(work.frame, work.request.prompts, source, robot)
        status.accepted, status.reason = admission.accepted, admission.reason
        self.diagnostics.count("frames_accepted" if admission.accepted else f"frames_rejected.{admission.reason}")
        self._misplaced[robot], self._offset[robot] = self._misplaced[robot] + 1 if admission.reason == MISPLACED_BOXES else 0, admission.offset
        if admission.accepted:
            self._stale_steps = 0
        elif self._stale_steps >= STALE_STEPS:
            status.reason += ", nothing_new"
            self.diagnostics.count("nothing_new")
            self._propose(learner, status)  # what is served may be withdrawn still, if boxes are off
            return
        if self._train(learner, status):
            if self._untrusted_steps >= self.parameters.steps_per_frame:
                status.reason = ", ".join(filter(None, (status.reason, "nothing_trusted")))
            self._propose(learner, status)
        self._tell_restores(learner, before, status)

    def _propose(self, learner: Learner, status: AdaptationStatus) -> None:
        """Has the guard judge what was learnt, if that is due, and publishes what it lets through."""
        proposal = learner.propose()
        decision = proposal.decision
        if decision.scores is not None:
            self._judged = judged = decision.scores
            status.validation_score, status.validation_score_published, status.validation_score_frozen = (
                judged.candidate.score,
                judged.published.score,
                judged.frozen.score,
            )
            status.agreement = judged.candidate.agreement
        if proposal.adapter is not None:
            before = self._version
            self._publish(proposal.adapter)
            status.published = True
            if proposal.withdraws:
                self.diagnostics.problem(
                    "restored.below_frozen",
                    f"on the newest held-back frames version {before} is judged {decision}; version {self._version}, which changes "
                    "nothing, is published instead, and training starts from there",
                )
        if decision.scores is not None and not decision.admits:
            self.diagnostics.count("candidates_refused")
            self._last_refusal = str(decision)
        status.proposal_reason = "" if decision.scores is None else str(decision)

    def _tell_restores(self, learner: Learner, before: Mapping[str, int], status: AdaptationStatus) -> None:
        """Says where training went back since the learner's counters were as `before`; a withdrawn adapter has been told of."""
        good = learner.adapter.version
        sentences = {
            "not_finite": f"a weight became NaN or infinite; training starts again from version {good}; if it happens again, lower "
            "adaptation.lr",
            "rejected": f"{learner.config.patience} candidates in a row were refused, the last one {status.proposal_reason}; "
            f"training starts again from version {good}",
        }
        for why, sentence in sentences.items():
            if times := learner.counters[RESTORED + why] - before.get(RESTORED + why, 0):
                self.diagnostics.problem(f"restored.{why}", sentence, times)
                status.proposal_reason = ", ".join(filter(None, (status.proposal_reason, f"restored.{why}")))

    def _train(self, learner: Learner, status: AdaptationStatus) -> bool:
        """Takes the steps of one frame; False if there were none, or if the node is to stop or to pause."""
        count = self.parameters.steps_per_frame
        began = time.monotonic()
        for _ in range(count):
            result = learner.step()
            if result is None:
                return False
            self.diagnostics.count("steps")
            self._stale_steps += 1
            self._untrusted_steps = 0 if result.measured else self._untrusted_steps + 1
            status.loss_names, status.losses = list(result.losses), list(result.losses.values())
            if self.worker is not None:
                self.worker.run_calls()
                if self.worker.stopping:
                    return False
            if self._paused:
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
        status.candidates_rejected = counts.get("candidates_refused", 0)
        status.memory_frames = len(self._learner.replay_buffer) if self._learner is not None else 0
        self._status.publish(status)

    def _publish(self, adapter: Adapter) -> None:
        """Saves an adapter, then publishes it: what a segmenter uses can be gone on from, unless it cannot be written, which is counted."""
        self._files.keep(adapter)
        self._send(adapter)
        self.diagnostics.count("publications")

    def _send(self, adapter: Adapter) -> None:
        data = array("B", adapter.to_bytes())
        self._version = adapter.version
        self._adapters.publish(AdapterMessage(header=self._last_header, version=adapter.version, base_hash=adapter.base, data=data))

    async def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._pause(request.data)
        response.success, response.message = True, "paused" if request.data else "learning"
        if request.data and self.worker is not None:  # answered after the step or publication at hand: nothing follows
            await self._answer(lambda: "paused", response)
        return response

    def _pause(self, paused: bool) -> None:
        if paused != self._paused:
            self.get_logger().info("learning is paused" if paused else "learning goes on")
        self._paused = paused
        self.remember(self._pause_mark, paused)

    def _on_resume(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._pause(False)
        response.success, response.message = True, "learning"
        return response

    async def _on_load(self, request: LoadAdapter.Request, response: LoadAdapter.Response) -> LoadAdapter.Response:
        await self._answer(lambda: self._load(Path(request.path).expanduser()), response)
        return response

    def _service(self, action: Callable[[], str]) -> Callable[[Any, Any], Any]:
        async def answer(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            await self._answer(action, response)
            return response

        return answer

    async def _answer(self, action: Callable[[], str], response: Any) -> None:
        """Fills success and message of a service's response with what `action` returns, or raises, in the worker thread."""
        try:
            response.message = await self.in_worker(action)
            response.success = True
        except Exception as error:
            response.success, response.message = False, str(error)
        self.get_logger().info(f"a service was called: {response.message}")

    def _reset(self) -> str:
        self._files.forget()  # first: a kill, or a full disk, must not bring the forgotten frames back
        self._publish(self._running().reset())
        self._stale_steps = 0
        if self.parameters.save_minutes:
            self._files.keep_state(self._running())
        return f"starts anew; version {self._version} equals the frozen model"

    def _roll_back(self) -> str:
        self._publish(self._running().rollback())
        return f"rolled back: version {self._version} is the one before the last"

    def _load(self, path: Path) -> str:
        learner = self._running()
        adapter = Adapter.load(path, for_sam=learner.sam)
        proposal = learner.consider(adapter)
        if proposal.adapter is None:
            self.diagnostics.count("candidates_refused")
            self._last_refusal = f"{proposal.decision}, of {path}"
            raise ValueError(f"{path} is refused: {proposal.decision}; version {self._version} stays")
        self._publish(proposal.adapter)
        judged = "not worse than the last good one" if proposal.decision.admits else "unjudged: no frame has been held back yet"
        return f"version {adapter.version} of {path} is published as version {self._version}, {judged}"

    def _save(self) -> str:
        return self._files.save(self._running(), self.parameters.save_minutes)


def unjudged(header: Header) -> AdaptationStatus:
    """A status that says that no candidate was judged."""
    return AdaptationStatus(
        header=header, validation_score=math.nan, validation_score_published=math.nan, validation_score_frozen=math.nan, agreement=math.nan
    )


def main(args: list[str] | None = None) -> int:
    """Runs the node until it is interrupted; returns the exit status."""
    return run_node(AdapterNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
