"""Learning from a stream of frames: each is shown, some steps are taken, a candidate may be published. Without rclpy."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wesam_ros.adaptation.admission import MISPLACED_BOXES, Admission
from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.guard import ADMITTED, NO_VALIDATION_FRAMES, NOT_DUE, Decision
from wesam_ros.adaptation.learner import Learner
from wesam_ros.adaptation.proposal import Proposal
from wesam_ros.adaptation.validation import Comparison
from wesam_ros.counts import Counts
from wesam_ros.sam.adapter import Adapter

if TYPE_CHECKING:
    from wesam_ros.ros.frame_request import FrameRequest

NOTHING_NEW, NOTHING_TRUSTED = "nothing_new", "nothing_trusted"
"""Notes on a frame: no step was taken, since there has been no new frame for long; no object could be learnt from."""
NOT_FINITE, REJECTED = "not_finite", "rejected"
"""Reasons for which training went back to the published adapter: a weight was no number, or too many candidates were rejected."""
NO_CANDIDATE = (NOT_DUE, NO_VALIDATION_FRAMES)
"""Codes of a decision where there was no candidate to judge."""
STALE_STEPS = 200
"""Steps without a new frame after which there is none until the next: with the detector dead, the old ones would be learnt by heart, at the
price of a processor's core. They are about three for each frame of a full replay buffer."""
UNTRUSTED_STEPS = 50
"""Steps in a row, in none of which an object could be trusted, that are told of."""
MISPLACED_FRAMES = 20
"""Frames in a row whose boxes do not belong to their depth that are told of."""


@dataclass
class FrameOutcome:
    """The outcome of one frame.

    Attributes:
        admission: into the replay buffer.
        notes: NOTHING_NEW, NOTHING_TRUSTED.
        losses: the terms of the last step; empty where there was none.
        step_seconds: mean duration of the steps; 0 where they were not all taken.
        decision: of the guard; None where it was not asked.
        published: an adapter was.
        restored: NOT_FINITE, REJECTED, each once.
    """

    admission: Admission
    notes: list[str] = field(default_factory=list)
    losses: Mapping[str, float] = field(default_factory=dict)
    step_seconds: float = 0.0
    decision: Decision | None = None
    published: bool = False
    restored: list[str] = field(default_factory=list)


class Learning:
    """Drives a learner, and remembers what has gone wrong in a row.

    Args:
        counts: diagnostics.
        publish: publishes an adapter.
        interrupted: called between two steps; True where no more shall be taken.

    Attributes:
        learner: of the configured node; else None.
        paused: frames are not learnt from. It may be set between two steps.
        version: of the adapter published last.
        last_rejection: the sentence on the candidate rejected last; "" if there was none.
    """

    def __init__(self, counts: Counts, publish: Callable[[Adapter], None], interrupted: Callable[[], bool]) -> None:
        self.learner: Learner | None = None
        self.paused = False
        self.last_rejection = ""
        self._counts, self._publish, self._interrupted = counts, publish, interrupted
        self._stale_steps = self._untrusted_steps = 0
        self._misplaced: Counter[str] = Counter()  # frames in a row, of each robot
        self._offset: dict[str, tuple[float, float]] = {}  # where the boxes of its last one would lie better, in pixels of the image
        self._scores: Comparison | None = None

    def running(self) -> Learner:
        """The learner; RuntimeError where the node is not configured."""
        if self.learner is None:
            raise RuntimeError("the adapter node is not configured; configure it first")
        return self.learner

    def learn(self, request: FrameRequest, config: AdaptationConfig, steps: int) -> FrameOutcome:
        """Shows the learner a frame, lets it train for some steps, and publishes its proposal if there is one."""
        learner = self.running()
        learner.config = config
        admission = learner.observe(request.frame, request.objects.prompts, request.source, request.robot)
        outcome = FrameOutcome(admission)
        self._counts.count("frames_accepted" if admission.accepted else f"frames_rejected.{admission.reason}")
        self._misplaced[request.robot] = self._misplaced[request.robot] + 1 if admission.reason == MISPLACED_BOXES else 0
        self._offset[request.robot] = admission.offset
        if admission.accepted:
            self._stale_steps = 0
        elif self._stale_steps >= STALE_STEPS:
            outcome.notes.append(NOTHING_NEW)
            self._counts.count(NOTHING_NEW)
            self._propose(learner, outcome)  # the published adapter may be withdrawn still, if boxes are off
            return outcome
        if self._train(learner, steps, outcome):
            if self._untrusted_steps >= steps:
                outcome.notes.append(NOTHING_TRUSTED)
            self._propose(learner, outcome)
        return outcome

    def start_anew(self) -> Adapter:
        """Has the learner forget all; the adapter to publish, which equals the frozen model."""
        self._stale_steps = 0
        return self.running().reset()

    def reject(self, decision: Decision, of: str = "") -> None:
        """Counts a rejected candidate; `of` names one from elsewhere."""
        self._counts.count("candidates_rejected")
        self.last_rejection = f"{decision}{of}"

    def _train(self, learner: Learner, steps: int, outcome: FrameOutcome) -> bool:
        """Takes the steps of one frame; False if there were none, or if the node is to stop or to pause."""
        began = time.monotonic()
        for _ in range(steps):
            result = learner.step()
            if result is None:
                return False
            self._counts.count("steps")
            self._stale_steps += 1
            self._untrusted_steps = 0 if result.measured else self._untrusted_steps + 1
            outcome.losses = result.losses
            if result.restored:
                self._restored(
                    NOT_FINITE,
                    f"a weight became NaN or infinite; training starts again from version {learner.adapter.version}; if it happens again, "
                    "lower adaptation.lr",
                    outcome,
                )
            if self._interrupted() or self.paused:
                return False
        if not steps:
            return False
        outcome.step_seconds = (time.monotonic() - began) / steps
        self._counts.timing("step_ms", outcome.step_seconds * 1e3)
        return True

    def _propose(self, learner: Learner, outcome: FrameOutcome) -> None:
        """Has the guard judge the candidate, if that is due, and publishes what it lets through."""
        before = learner.adapter.version
        proposal = learner.propose()
        outcome.decision = decision = proposal.decision
        self._scores = decision.scores or self._scores
        if proposal.adapter is not None:
            self._publish(proposal.adapter)
            outcome.published = True
        if proposal.withdraws:
            self._tell_withdrawn(before, proposal)
        if decision.code not in (*NO_CANDIDATE, ADMITTED):
            self.reject(decision)
        if proposal.restored:
            self._restored(
                REJECTED,
                f"{learner.config.patience} candidates in a row were rejected, the last one {decision}; training starts again from version "
                f"{learner.adapter.version}",
                outcome,
            )

    def _tell_withdrawn(self, before: int, proposal: Proposal) -> None:
        version = proposal.adapter.version if proposal.adapter is not None else 0
        self._counts.problem(
            "restored.below_frozen",
            f"on the newest validation frames version {before} is judged {proposal.decision}; version {version}, which changes nothing, is "
            "published instead, and training starts from there",
        )

    def _restored(self, why: str, sentence: str, outcome: FrameOutcome) -> None:
        self._counts.problem(f"restored.{why}", sentence)
        if why not in outcome.restored:
            outcome.restored.append(why)

    def values(self) -> dict[str, str]:
        """Values for /diagnostics: the learner's counters, the scores of the last candidate, and in "warning" a line for each problem."""
        counters = dict(self.learner.counters) if self.learner is not None else {}
        values = {f"learner.{name}": str(n) for name, n in counters.items()}
        values["learning"] = "paused" if self.paused else "on"
        if (scores := self._scores) is not None:
            values["guard.validation_score"] = f"{scores.candidate.score:.3f}"
            values["guard.validation_score_published"] = f"{scores.published.score:.3f}"
            values["guard.validation_score_frozen"] = f"{scores.frozen.score:.3f}"
            values["guard.agreement"] = f"{scores.candidate.agreement:.3f}"
        if self.last_rejection:
            values["last_rejection"] = self.last_rejection
        warnings = []
        for robot in self.misplaced():
            values[f"boxes_off_by{robot}"] = "{:.0f} {:.0f}".format(*self._offset[robot])
            warnings.append(
                f"nothing is learnt from {robot or '/'}: moved by the pixels in boxes_off_by{robot}, x y, its boxes would hold more of "
                "what rises from the table; see whether depth is registered to the image, and the detector is of this camera and in time; "
                "if it boxes only some of what stands there, raise adaptation.misplaced"
            )
        if self._untrusted_steps >= UNTRUSTED_STEPS:
            warnings.append(
                "nothing is learnt: in none of the last steps did a mask fit its box and the depth; see whether boxes, image and depth "
                "belong together and depth is in its unit (16UC1 millimetres, 32FC1 metres)"
            )
        return {**values, "warning": "\n".join(warnings)}

    def misplaced(self) -> list[str]:
        """The robots whose boxes have not belonged to their depth for MISPLACED_FRAMES frames."""
        return sorted(robot for robot, frames in dict(self._misplaced).items() if frames >= MISPLACED_FRAMES)  # the worker adds to it
