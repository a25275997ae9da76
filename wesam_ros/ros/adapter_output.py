"""The way of learning out: each adapter, saved and published, and a status for each frame."""

from __future__ import annotations

import math
from array import array

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from std_msgs.msg import Header

from wesam_ros.msg import AdaptationStatus
from wesam_ros.msg import Adapter as AdapterMessage
from wesam_ros.ros.diagnostics import Diagnostics
from wesam_ros.ros.learning import NO_CANDIDATE, FrameOutcome
from wesam_ros.ros.saving import LearnerFiles
from wesam_ros.ros.subscriptions import LATCHED, create_output
from wesam_ros.sam.adapter import Adapter


class AdapterOutput:
    """Publishes adapters and statuses.

    Args:
        node: the owner of the publishers.
        diagnostics: its counters.
        files: the adapter is saved there before it is published.

    Attributes:
        header: of the image of the newest frame.
        version: of the adapter published last; 0 = none yet.
    """

    def __init__(self, node: LifecycleNode, diagnostics: Diagnostics, files: LearnerFiles) -> None:
        self.header = Header()
        self.version = 0
        self._diagnostics, self._files = diagnostics, files
        self._adapters = create_output(node, diagnostics, AdapterMessage, "adapter", LATCHED)
        self._statuses = create_output(node, diagnostics, AdaptationStatus, "~/status", QoSProfile(depth=10))

    def publish(self, adapter: Adapter) -> None:
        """Saves an adapter, then publishes it: training can go on from it, unless it cannot be written, which is counted."""
        self._files.keep(adapter)
        self.send(adapter)
        self._diagnostics.count("publications")

    def send(self, adapter: Adapter) -> None:
        """Publishes an adapter."""
        data = array("B", adapter.to_bytes())
        self.version = adapter.version
        self._adapters.publish(AdapterMessage(header=self.header, version=adapter.version, base_hash=adapter.base, data=data))

    def report(self, status: AdaptationStatus, replay_frames: int) -> None:
        """Counts a frame, and publishes its status with all counts so far."""
        self._diagnostics.count("frames_seen")
        counts = self._diagnostics.counters()
        status.version = self.version
        status.frames_seen = counts.get("frames_seen", 0)
        status.frames_accepted = counts.get("frames_accepted", 0)
        status.frames_rejected = status.frames_seen - status.frames_accepted
        status.steps = counts.get("steps", 0)
        status.publications = counts.get("publications", 0)
        status.candidates_rejected = counts.get("candidates_rejected", 0)
        status.replay_frames = replay_frames
        self._statuses.publish(status)


def unjudged_status(header: Header, state: str, reason: str) -> AdaptationStatus:
    """A status of a frame on which no candidate was judged."""
    status = AdaptationStatus(header=header, state=state, reason=reason)
    status.validation_score = status.validation_score_published = status.validation_score_frozen = status.agreement = math.nan
    return status


def learnt_status(header: Header, outcome: FrameOutcome) -> AdaptationStatus:
    """The status of a frame that was shown to the learner."""
    reason = ", ".join(filter(None, (outcome.admission.reason, *outcome.notes)))
    status = unjudged_status(header, AdaptationStatus.LEARNING, reason)
    status.accepted, status.published = outcome.admission.accepted, outcome.published
    status.loss_names, status.losses = list(outcome.losses), list(outcome.losses.values())
    status.step_seconds = outcome.step_seconds
    decision = outcome.decision
    if decision is not None and decision.scores is not None:
        status.validation_score = decision.scores.candidate.score
        status.validation_score_published = decision.scores.published.score
        status.validation_score_frozen = decision.scores.frozen.score
        status.agreement = decision.scores.candidate.agreement
    decided = [] if decision is None or decision.code in NO_CANDIDATE else [str(decision)]
    status.proposal_reason = ", ".join((*decided, *(f"restored.{why}" for why in outcome.restored)))
    return status
