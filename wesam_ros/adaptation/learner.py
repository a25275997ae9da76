"""The adapting model over a stream: observe a frame, take steps, propose adapters. The nodes and the offline command both drive this."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from wesam_ros.adaptation.admission import Admission, admit
from wesam_ros.adaptation.buffering import buffered_frame
from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.guard import NO_VALIDATION_FRAMES, NOT_DUE, Decision, Guard
from wesam_ros.adaptation.history import AdapterHistory
from wesam_ros.adaptation.proposal import Proposal
from wesam_ros.adaptation.replay_buffer import ReplayBuffer
from wesam_ros.adaptation.step import StepResult
from wesam_ros.adaptation.together import ALONE, Together
from wesam_ros.adaptation.trainer import Trainer
from wesam_ros.data.frames import Frame
from wesam_ros.sam.adapter import Adapter, base_hash
from wesam_ros.sam.prompts import Prompts

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

BANK = 64
"""Prototypes of earlier frames' objects that serve as negatives."""


class Learner:
    """Adapts a model to a stream of frames with prompts, without labels.

    It puts its parts to work: trainer, history of published adapters, guard, replay buffer. `config` may be replaced between two calls.
    Deterministic for a seed, in float32 on one thread of a CPU bit for bit.
    """

    def __init__(self, sam: Sam, config: AdaptationConfig, seed: int, adapter: Adapter | None = None, together: Together = ALONE) -> None:
        """Starts from `adapter`, or from an untrained one.

        Args:
            sam: a model from load_sam; it is not changed.
            config: settings.
            seed: of the adapter's first values, and of every draw.
            adapter: of this model, to go on from.
            together: processes that train one adapter; their learners step and propose at the same time.
        """
        self.sam, self.config, self.seed = sam, config, seed
        self.rng = np.random.default_rng([seed, together.rank] if together.rank else seed)
        self.counters: Counter[str] = Counter()
        self.history = AdapterHistory(adapter or self._untrained())
        self.trainer = Trainer(sam, self.adapter, config, together)
        self.guard = Guard(sam, together)
        self.replay_buffer = self._empty_buffer()
        self._steps_since_proposal = self._rejections = 0

    @property
    def adapter(self) -> Adapter:
        """The adapter that was published last."""
        return self.history.last

    @property
    def candidate(self) -> tuple[Tensor, Tensor]:
        """The tensors a and b that would be published now."""
        return self.trainer.candidate(self.config)

    def observe(self, frame: Frame, prompts: Prompts, source: str = "", robot: str = "") -> Admission:
        """Takes a frame into the replay buffer, if there is something to learn from it.

        Args:
            frame: its image is used, its labels never are.
            prompts: of its objects, in pixels of the image.
            source: of its prompts, such as a robot's detector: of each source some frames are for validation.
            robot: one of several that learn together: none may come to be worse off.
        """
        self.counters["frames"] += 1
        admission, observation = admit(self.sam, frame, prompts, self.config, self.rng)
        if observation is not None:
            if observation.has_depth:
                self.counters["support_planes.found" if observation.support is not None else "support_planes.none"] += 1
            buffer, config = self.replay_buffer, self.config
            buffer.validation_every, buffer.validation_frames = config.validation_every, config.validation_frames
            wanted = observation.support is not None and buffer.note_placement(robot, not admission.accepted)
            kept = buffered_frame(self.sam, frame, observation, admission, config) if admission.accepted or wanted else None
            if kept is not None:
                buffer.add(kept, source, robot, misplaced=not admission.accepted)
        self.counters["frames_accepted" if admission.accepted else f"frames_rejected.{admission.reason}"] += 1
        return admission

    def step(self) -> StepResult | None:
        """One training step on a frame of the replay buffer; None while there is none, so that at most other processes' count."""
        frame = self.replay_buffer.draw(self.config.recent, self.config.answers)
        result = None
        if frame is None and not self.trainer.follow(self.config):
            return None
        if frame is not None:
            bank = self.replay_buffer.other_prototypes(frame, BANK)
            predictions, now = self.replay_buffer.teacher_predictions, self.counters["steps"]
            result = self.trainer.step(frame, predictions, bank, self.config, self.rng, now)
            self.counters.update({"objects": result.objects, "objects.masks_trusted": result.agreed})
            self.counters["objects.measurements_trusted"] += result.measured
        self.counters["steps"] += 1
        self._steps_since_proposal += 1
        if self.trainer.is_finite:
            return result
        self._restore(self.adapter, "not_finite")
        return None if result is None else replace(result, restored=True)

    def propose(self) -> Proposal:
        """Every `publish_every` steps: the trained adapter, if the guard admits it.

        After a row of rejected candidates training goes back to the published adapter. Where that one now scores worse than the frozen
        model, because the scene is another, an untrained one is proposed, which changes nothing.
        """
        frames = self.replay_buffer.validation_by_robot(self.config.validation_frames)
        if (withdrawal := self._review_misplaced()) is not None:
            return withdrawal
        if self._steps_since_proposal < self.config.publish_every:
            return Proposal(None, Decision(NOT_DUE))
        decision = self.guard.decide(self.candidate, self.adapter, frames, self.config)
        if decision.code == NO_VALIDATION_FRAMES:
            return Proposal(None, decision)
        self._steps_since_proposal = 0
        if decision.admits:
            return Proposal(self._publish(*self.candidate, was_candidate=True), decision)
        self.counters[f"candidates_rejected.{decision.code}"] += 1
        self._rejections += 1
        if (reason := self.guard.review(self.adapter, frames, self.config)) is not None:
            return self._withdraw(replace(reason, scores=decision.scores))
        if restored := self._rejections >= self.config.patience:
            self._restore(self.adapter, "rejected")
        return Proposal(None, decision, restored)

    def _review_misplaced(self) -> Proposal | None:
        """Withdraws the published adapter at once where a robot's boxes are off, and the frames of that show it below the frozen model:
        nothing is learnt from them, so that it may be long until there is a candidate."""
        frames = self.replay_buffer.misplaced_by_robot(self.config.validation_frames)
        if not self.adapter.trained:
            return None
        reason = self.guard.review(self.adapter, {} if self.guard.knows(frames) else frames, self.config)
        return None if reason is None else self._withdraw(reason)

    def _withdraw(self, decision: Decision) -> Proposal:
        """Publishes an untrained adapter, and trains on from there."""
        self._restore(self._untrained(), "below_frozen")
        return Proposal(self._publish(*self.candidate), decision)

    def consider(self, adapter: Adapter) -> Proposal:
        """Publishes an adapter of this model from elsewhere, if it scores no worse than the published one, and trains on from there.

        Where there is no validation frame yet it is taken all the same; the decision's code tells.
        """
        decision = Decision(NO_VALIDATION_FRAMES)
        if frames := self.replay_buffer.validation_by_robot(self.config.validation_frames):
            strict = replace(self.config, tolerance=0.0)  # training may dip on its way; another adapter is taken only for being better
            decision = self.guard.decide(adapter.low_rank, self.adapter, frames, strict)
            if not decision.admits:
                self.counters[f"candidates_rejected.{decision.code}"] += 1
                return Proposal(None, decision)
        self._restore(adapter)
        self._steps_since_proposal = 0
        return Proposal(self._publish(adapter.a, adapter.b, was_candidate=decision.admits), decision)

    def rollback(self) -> Adapter:
        """Publishes the adapter before the last one again, and trains on from there. ValueError if there is none."""
        earlier = self.history.roll_back()
        self._restore(earlier)
        return self._publish(earlier.a, earlier.b)

    def reset(self) -> Adapter:
        """Publishes an untrained adapter, and forgets all frames, but for a person's answers."""
        untrained, answered = self._untrained(), self.replay_buffer.answered
        self.history.clear()
        self.replay_buffer = self._empty_buffer()
        self.replay_buffer.answered = answered
        self._restore(untrained)
        self._steps_since_proposal = 0
        return self._publish(untrained.a, untrained.b)

    def continue_from(self, adapter: Adapter) -> None:
        """Trains on from an adapter that was published after what has been learnt so far was saved; the frames stay."""
        self.history.append(adapter)
        self.guard.published_changed()
        self._restore(adapter)

    def _restore(self, adapter: Adapter, reason: str = "") -> None:
        """Trains on from `adapter`, as it is served; counts it where there is a reason to be told."""
        if reason:
            self.counters[f"restored.{reason}"] += 1
        self.trainer.restore(adapter, self.config)
        self.replay_buffer.teacher_predictions.clear()  # they were another teacher's
        self._rejections = 0

    def _publish(self, a: Tensor, b: Tensor, *, was_candidate: bool = False) -> Adapter:
        self._rejections = 0
        self.guard.published_changed(to_candidate=was_candidate)
        adapter = self.history.publish(a, b, base_hash(self.sam))
        self.counters["published"] += 1
        return adapter

    def _untrained(self) -> Adapter:
        """An adapter that leaves the frozen model as it is."""
        return Adapter.untrained(self.sam, base_hash(self.sam), self.config.rank, self.seed)

    def _empty_buffer(self) -> ReplayBuffer:
        return ReplayBuffer(self.config.replay_frames, self.config.validation_every, self.rng, self.config.validation_frames)

    def state_dict(self) -> dict[str, Any]:
        """The states of all parts that have one, and the learner's own."""
        return {
            "seed": self.seed,
            "rng": self.rng.bit_generator.state,
            "counters": dict(self.counters),
            "steps_since_proposal": self._steps_since_proposal,
            "rejections": self._rejections,
            "trainer": self.trainer.state_dict(),
            "history": self.history.state_dict(),
            "replay_buffer": self.replay_buffer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on exactly where a learner was. ValueError if that one was of another seed or model."""
        if state["seed"] != self.seed:
            raise ValueError("the saved state is of another seed; give the one that it was begun with, or start anew")
        self.history.load_state_dict(state["history"])
        self.rng.bit_generator.state = state["rng"]
        self.counters = Counter(state["counters"])
        self._steps_since_proposal, self._rejections = state["steps_since_proposal"], state["rejections"]
        self.trainer.load_state_dict(state["trainer"], self.config)
        self.replay_buffer.load_state_dict(state["replay_buffer"], self.sam.device)
