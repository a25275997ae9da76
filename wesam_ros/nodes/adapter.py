"""The adapter node: learns from the frames that it sees, in a thread beside the executor, and publishes better adapters.

Frames come as in the segmenter (nodes/segmenter.py), to `_process` here; ros/learning.py learns from them, ros/adapter_output.py
publishes adapters and a status for each frame, ros/saving.py keeps both adapter and training, ros/questioning.py asks a person.

It can crash or be killed at any time: each adapter is saved before it is published, and a restarted node goes on from there.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_msgs.msg import Header

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.msg import AdaptationStatus
from wesam_ros.ros.adapter_output import AdapterOutput, learnt_status, unjudged_status
from wesam_ros.ros.diagnostics import Diagnostics
from wesam_ros.ros.frame_request import FrameRequest
from wesam_ros.ros.intake import Intake, topic_prefixes
from wesam_ros.ros.learner_services import LearnerServices
from wesam_ros.ros.learning import Learning
from wesam_ros.ros.lifecycle import Lifecycle
from wesam_ros.ros.parameters import declare
from wesam_ros.ros.persisted_flag import PAUSED, PersistedFlag
from wesam_ros.ros.process import run_node
from wesam_ros.ros.questioning import Questioning
from wesam_ros.ros.saving import LearnerFiles
from wesam_ros.settings import AdapterParameters

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

PREFIX = "adaptation."
"""The parameters of the method are named with it."""


class AdapterNode(LifecycleNode):
    """Holds the parts and connects them. Topics, services and parameters are listed in docs/."""

    def __init__(self) -> None:
        super().__init__("adapter")
        self.declared = declare(self, AdapterParameters)
        self.adaptation = declare(self, AdaptationConfig, PREFIX)
        self.diagnostics = Diagnostics(self, self._values)
        prefixes = topic_prefixes(self, self.declared.value.namespaces)
        self.intake = Intake(self, self.declared, self.diagnostics, self._process, self._rejected, prefixes)
        self.lifecycle = Lifecycle(
            self, self.declared, self.intake, prepare=self._prepare, discard=self._discard, start=self._start, stop=self._stop
        )
        path = Path(self.declared.value.save_to).expanduser() if self.declared.value.save_to else None
        self.files = LearnerFiles(path, self.diagnostics, self.get_logger())
        self.output = AdapterOutput(self, self.diagnostics, self.files)
        self.learning = Learning(self.diagnostics, self.output.publish, self.intake.interrupted)
        self.questioning = Questioning(self, self.declared, self.adaptation, self.intake, self.learning, self.diagnostics, path)
        self._pause_flag = PersistedFlag(path, PAUSED, self.diagnostics)
        self.learner_services = LearnerServices(self, self.declared, self.intake, self.learning, self.output, self.files, self._pause_flag)
        self._error = ""

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.lifecycle.configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.lifecycle.activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.lifecycle.deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.lifecycle.cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.lifecycle.shutdown(state)

    def _prepare(self, sam: Sam) -> None:
        parameters = self.declared.value
        learner = self.files.learner(sam, self.adaptation.value, parameters.seed, resume=parameters.save_minutes > 0)
        # Nobody serves a robot of an earlier process any more.
        learner.replay_buffer.keep_only({each.rstrip("/") for each in self.intake.prefixes})
        self.learning.learner = learner
        self.questioning.prepare(learner)
        self.output.version = learner.adapter.version
        if self._pause_flag.is_set:
            self.learning.paused = True
            self.get_logger().warning("learning is paused, as it was when this node ended; call ~/resume to go on")

    def _discard(self) -> None:
        self.learning.learner = None
        self.files.release()

    def _start(self) -> None:
        # Also one that changes nothing: a segmenter may have one of a process that was killed, and has not saved it.
        adapter = self.learning.running().adapter
        if adapter.version != self.files.saved_version:
            self.files.keep(adapter)
        self.output.send(adapter)
        self.questioning.publish()

    def _stop(self, ended: bool) -> None:
        if self.learning.learner is not None and ended:  # in the middle of a step there is no state to save; published adapters are saved
            self.files.close(self.learning.learner, self.declared.value.save_minutes)

    def _process(self, request: FrameRequest) -> None:
        self.output.header = request.header
        if self.learning.paused:
            status = unjudged_status(request.header, AdaptationStatus.PAUSED, "paused")
        else:
            outcome = self.learning.learn(request, self.adaptation.value, self.declared.value.steps_per_frame)
            status = learnt_status(request.header, outcome)
        self._error = ""
        learner = self.learning.running()
        self.files.frame_done(learner, self.declared.value.save_minutes)
        if status.accepted:
            self.questioning.consider(request)
        self.output.report(status, len(learner.replay_buffer))
        self.diagnostics.timing("frame_ms", (time.monotonic() - request.began) * 1e3)
        self.diagnostics.frame_done()

    def _rejected(self, header: Header, sentence: str, failed: bool) -> None:
        """Gives a frame that cannot be learnt from a status, too: a player in lock step waits for it."""
        self._error = f"training failed: {sentence}" if failed else ""
        status = unjudged_status(header, AdaptationStatus.FAILED if failed else AdaptationStatus.LEARNING, sentence)
        self.output.report(status, len(self.learning.running().replay_buffer))

    def _values(self) -> list[dict[str, str]]:
        own = {
            "adapter_version": str(self.output.version),
            "save_to": self.declared.value.save_to,
            "saved_version": str(self.files.saved_version),
        }
        told = {"refused_file": str(self.files.refused or ""), "error": self._error}
        own |= self.questioning.values()
        return [self.lifecycle.values(), self.learning.values(), own, {name: text for name, text in told.items() if text}]


def main(args: list[str] | None = None) -> int:
    """Runs the node until it is interrupted; returns the exit status."""
    return run_node(AdapterNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
