"""The adapting model over a stream: observe a frame, take steps, propose adapters. The nodes and the offline command both drive this."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from wesam_ros.adaptation.anchor import large_enough, with_anchor
from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.guard import (
    Comparison,
    ValidationScore,
    fallen,
    first_reason,
    least_gain,
    objection,
    score_adapter,
    scored_objects,
    together,
)
from wesam_ros.adaptation.replay_buffer import BufferedFrame, ReplayBuffer
from wesam_ros.adaptation.step import StepResult, training_step
from wesam_ros.data.frames import Frame
from wesam_ros.sam.adapter import Adapter, base_hash
from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene.constraints import gather, misplacement, moved, rough_boxes
from wesam_ros.scene.support import Support, find_support

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

MISPLACED = "misplaced_boxes"
"""Why a frame is rejected whose boxes do not belong to its depth."""
BANK = 64
"""Prototypes of earlier frames' objects that serve as negatives."""


@dataclass(frozen=True)
class Admission:
    """Whether a frame was taken into the memory, and why not: "no_prompts", "small_objects", "misplaced_boxes", or "" if it was.

    `offset` is where misplaced boxes would lie better: x y in pixels of the image.
    """

    accepted: bool
    reason: str = ""
    offset: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Proposal:
    """An adapter to publish, or None and why there is none.

    The reason of an adapter is "admitted", "no_held_back_frames" if it came from elsewhere and could not be judged, or "below_frozen (...)"
    if it is an untrained one, because the last good one has come to judge worse than the frozen model. `judged` is None where no
    candidate was judged; of several robots, it is what the frames of the one that gains least say.
    """

    adapter: Adapter | None
    reason: str
    judged: Comparison | None = None


class Learner:
    """Adapts a model to a stream of frames with prompts, without labels.

    Deterministic for a seed, in float32 on one thread of a CPU bit for bit.
    """

    def __init__(self, sam: Sam, config: AdaptationConfig, seed: int, adapter: Adapter | None = None) -> None:
        """Starts from `adapter`, or from an untrained one.

        Args:
            sam: a model from load_sam; it is not changed.
            config: settings.
            seed: of the adapter's first values, and of every draw.
            adapter: of this model, to go on from.
        """
        self.sam, self.config, self.seed = sam, config, seed
        self.rng = np.random.default_rng(seed)
        self.counters: Counter[str] = Counter()
        self.good = [adapter or self._untrained()]
        self._version = self.good[0].version
        self._judged: WeakKeyDictionary[BufferedFrame, ValidationScore] = WeakKeyDictionary()  # of the last good adapter
        self._frozen: WeakKeyDictionary[BufferedFrame, ValidationScore] = WeakKeyDictionary()  # of the frozen model
        self._begin(self.good[0])

    def _begin(self, adapter: Adapter) -> None:
        """Trains on from `adapter`, with a fresh optimizer and an empty memory."""
        self.replay_buffer = ReplayBuffer(self.config.replay_frames, self.config.validation_every, self.rng, self.config.validation_frames)
        self._restore(adapter)
        self._since_proposal = 0

    def _restore(self, adapter: Adapter) -> None:
        """Trains on from what `adapter`, as it is served, was scaled from."""
        served = (adapter.a, adapter.b / self.config.strength)
        a, b = (tensor.detach().clone().to(self.sam.device).requires_grad_() for tensor in served)
        self.low_rank = (a, b)
        self.optimizer = torch.optim.Adam(self.low_rank, lr=self.config.lr, weight_decay=self.config.weight_decay)
        self._steps_since_restore = self._refused = 0
        self.replay_buffer.teacher_predictions.clear()  # they were another teacher's

    @property
    def progress(self) -> tuple[int, int, int, int]:
        """Version, steps since the last restore, refusals in a row, steps since the last proposal: what `go_on` takes."""
        return self._version, self._steps_since_restore, self._refused, self._since_proposal

    def go_on(self, low_rank: tuple[Tensor, Tensor], optimizer: dict[str, Any], progress: tuple[int, int, int, int]) -> None:
        """Trains on from saved tensors, optimizer and progress (state.py)."""
        a, b = (tensor.detach().clone().to(self.sam.device).requires_grad_() for tensor in low_rank)
        self.low_rank = (a, b)
        self.optimizer = torch.optim.Adam(self.low_rank, lr=self.config.lr, weight_decay=self.config.weight_decay)
        self.optimizer.load_state_dict(optimizer)
        self._version, self._steps_since_restore, self._refused, self._since_proposal = progress

    def go_on_from(self, adapter: Adapter) -> None:
        """Trains on from an adapter that was published after what has been learnt so far was saved; the frames stay."""
        self.good.append(adapter)
        self._version = max(self._version, adapter.version)
        self._judged.clear()
        self._restore(adapter)

    @property
    def adapter(self) -> Adapter:
        """The last good adapter."""
        return self.good[-1]

    @property
    def candidate(self) -> tuple[Tensor, Tensor]:
        """What would be served of the trained tensors: weights between the frozen model's and the trained ones.

        They are surer than either, and forget less (WiSE-FT: Wortsman et al., CVPR 2022, eq. 1). For W + BA that is a scaled B.
        """
        a, b = (tensor.detach() for tensor in self.low_rank)
        return a, b * self.config.strength

    def observe(self, frame: Frame, prompts: Prompts, source: str = "", robot: str = "") -> Admission:
        """Takes a frame into the memory, if there is something to learn from it.

        Args:
            frame: its image is used, its labels never are.
            prompts: of its objects, in pixels of the image.
            source: where its prompts come from, such as a robot's detector: frames of each source are held back.
            robot: one of several that learn together: none may come to be worse off.
        """
        self.counters["frames"] += 1
        if not len(prompts):
            return self._rejected("no_prompts")
        large = large_enough(prompts, self.config.least_side)
        if not large.any():
            return self._rejected("small_objects")
        prompts = prompts.select(np.flatnonzero(large))
        self.replay_buffer.validation_every, self.replay_buffer.validation_frames = (
            self.config.validation_every,
            self.config.validation_frames,
        )
        grid_side = self.sam.prompt_encoder.mask_input_size[0]
        support = self._support(frame, prompts, grid_side)
        constraints = gather(prompts, support, self.sam.image_encoder.img_size, grid_side)
        share, offset = misplacement(constraints, support)
        misplaced = share > self.config.misplaced
        hold = support is not None and self.replay_buffer.note_placement(robot, misplaced)
        if misplaced:
            scale = max(prompts.size) / grid_side
            way = (offset[0] * scale, offset[1] * scale)
            if hold:
                self._hold_misplaced(frame, prompts, support, way, robot)
            return self._rejected(MISPLACED, way)
        kept = with_anchor(self.sam, frame, prompts, constraints, self.config.precision)
        self.replay_buffer.add(kept, source, robot, may_judge=bool(scored_objects(kept, self.config).any()))
        self.counters["accepted"] += 1
        return Admission(True)

    def _rejected(self, reason: str, offset: tuple[float, float] = (0.0, 0.0)) -> Admission:
        self.counters[f"rejected: {reason}"] += 1
        return Admission(False, reason, offset)

    def _hold_misplaced(self, frame: Frame, prompts: Prompts, support: Support | None, way: tuple[float, float], robot: str) -> None:
        """Keeps a misplaced frame to judge by: an adapter's masks of the boxes as they come, which are what is served, against the frozen
        model's masks of the boxes where they belong, as depth corrects them."""
        as_they_came, right = moved(prompts, way, self.config.least_side)
        if not len(right):
            return
        constraints = gather(right, support, self.sam.image_encoder.img_size, self.sam.prompt_encoder.mask_input_size[0])
        kept = replace(with_anchor(self.sam, frame, right, constraints, self.config.precision), prompts=as_they_came)
        if scored_objects(kept, self.config).any():
            self.replay_buffer.hold_misplaced(kept, robot)

    def _support(self, frame: Frame, prompts: Prompts, low_res_side: int) -> Support | None:
        """What depth knows of the frame's support surface, on the decoder's grid; None where there is no depth, or no plane."""
        if frame.depth is None or frame.camera is None or not self.config.depth:
            return None
        found = find_support(frame.image, frame.depth, frame.camera, rough_boxes(prompts), low_res_side, self.rng)
        self.counters["depth: plane" if found is not None else "depth: no plane"] += 1
        return found

    def step(self) -> StepResult | None:
        """One training step on a frame of the memory; None while there is none."""
        frame = self.replay_buffer.draw(self.config.recent)
        if frame is None:
            return None
        self._steps_since_restore += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * min(1.0, self._steps_since_restore / self.config.warm_up)
            group["weight_decay"] = self.config.weight_decay
        others = [kept.anchor_prototypes for kept in self.replay_buffer.frames if kept is not frame]
        bank = torch.cat([frame.anchor_prototypes[:0], *others])[-BANK:]
        result = training_step(
            self.sam,
            self.low_rank,
            self.optimizer,
            frame,
            self.replay_buffer.teacher_predictions,
            bank,
            self.config,
            self.rng,
            self.counters["steps"],
        )
        self.counters["steps"] += 1
        self.counters["objects"] += result.objects
        self.counters["objects: masks trusted"] += result.agreed
        self.counters["objects: measurements trusted"] += result.measured
        self._since_proposal += 1
        if not all(bool(torch.isfinite(tensor).all()) for tensor in self.low_rank):
            self.counters["restored: not_finite"] += 1
            self._restore(self.adapter)
        return result

    def propose(self) -> Proposal:
        """Every `publish_every` steps: the trained adapter, if the held-back frames do not object.

        Where they do, training goes back to the last good one after some time. Where that one is now worse than the frozen model,
        because the scene is another, an untrained one is proposed, which changes nothing.
        """
        if (withdrawn := self._review()) is not None:
            return withdrawn
        if self._since_proposal < self.config.publish_every:
            return Proposal(None, "not_due")
        if not (frames := self._held_back() | self._misplaced()):
            return Proposal(None, "no_held_back_frames")
        self._since_proposal = 0
        found, candidate = self._judge(self.candidate, frames)
        judged = least_gain(found)
        reason = first_reason(found, lambda each: objection(each, self.config))
        if reason is not None:
            self.counters[f"refused: {reason.split(' ')[0]}"] += 1
            self._refused += 1
            if (below := first_reason(found, lambda each: fallen(each, self.config))) is not None:
                return self._withdraw(below, judged)
            if self._refused >= self.config.patience:
                self.counters["restored: refused"] += 1
                self._restore(self.adapter)
            return Proposal(None, reason, judged)
        adapter = self._publish(*self.candidate)
        self._judged.update(candidate)
        return Proposal(adapter, "admitted", judged)

    def _review(self) -> Proposal | None:
        """Withdraws the last good adapter at once where a robot's boxes are off, and the frames of that say that it has fallen.

        Nothing is learnt from them, so that it may be long until there is a candidate, or there may be none.
        """
        frames = self._misplaced()
        if not self.adapter.b.any() or all(frame in self._judged for each in frames.values() for frame in each):
            return None
        found, _ = self._judge(None, frames)
        below = first_reason(found, lambda each: fallen(each, self.config))
        return None if below is None else self._withdraw(below, least_gain(found))

    def _withdraw(self, reason: str, judged: Comparison) -> Proposal:
        """Publishes an untrained adapter, and trains on from there."""
        self.counters["restored: below_frozen"] += 1
        self._restore(self._untrained())
        return Proposal(self._publish(*self.candidate), reason, judged)

    def consider(self, adapter: Adapter) -> Proposal:
        """Judges an adapter from elsewhere beside the last good one, and if it fits at least as well publishes it and trains on from there.

        It has to be of this model. Where no frame has been held back yet it is taken unjudged; the proposal's reason says so.
        """
        candidate: dict[BufferedFrame, ValidationScore] = {}
        judged: Comparison | None = None
        if frames := self._held_back() | self._misplaced():
            # Training may dip a little on its way; another adapter is taken only for being better.
            found, candidate = self._judge(self._on_device(adapter), frames)
            judged, strict = least_gain(found), replace(self.config, tolerance=0.0)
            reason = first_reason(found, lambda each: objection(each, strict))
            if reason is not None:
                self.counters[f"refused: {reason.split(' ')[0]}"] += 1
                return Proposal(None, reason, judged)
        self._restore(adapter)
        self._since_proposal = 0
        adapter = self._publish(adapter.a, adapter.b)
        self._judged.update(candidate)
        return Proposal(adapter, "admitted" if candidate else "no_held_back_frames", judged)

    def _held_back(self) -> dict[str, list[BufferedFrame]]:
        """The newest held-back frames of each robot."""
        return {robot or "/": list(each)[-self.config.validation_frames :] for robot, each in self.replay_buffer.validation.items()}

    def _misplaced(self) -> dict[str, list[BufferedFrame]]:
        """Those of each robot whose boxes are off."""
        return {
            f"{robot or '/'} with misplaced boxes": list(each)[-self.config.validation_frames :]
            for robot, each in self.replay_buffer.misplaced.items()
        }

    def _judge(
        self, low_rank: tuple[Tensor, Tensor] | None, newest: Mapping[str, Sequence[BufferedFrame]]
    ) -> tuple[dict[str, Comparison], dict[BufferedFrame, ValidationScore]]:
        """What held-back frames say of an adapter's tensors, or with None of the last good one again, beside the last good one and the
        frozen model; and each of the frames alone."""
        frames = [frame for each in newest.values() for frame in each]
        last, good, candidate = self._on_device(self.adapter), self._judged, dict[BufferedFrame, ValidationScore]()
        for frame in frames:
            if frame not in good:
                good[frame] = score_adapter(self.sam, last, frame, self.config)
            candidate[frame] = good[frame] if low_rank is None else score_adapter(self.sam, low_rank, frame, self.config)
            if frame not in self._frozen:
                self._frozen[frame] = score_adapter(self.sam, None, frame, self.config)

        def compare(some: Sequence[BufferedFrame]) -> Comparison:
            of_candidate, of_good, of_frozen = (together([of[frame] for frame in some]) for of in (candidate, good, self._frozen))
            return Comparison(of_candidate, of_good, of_frozen)

        found = {robot: replace(compare(each), newest=compare(each[len(each) // 2 :])) for robot, each in newest.items()}
        return found, candidate

    def _untrained(self) -> Adapter:
        """An adapter that leaves the frozen model as it is."""
        return Adapter.untrained(self.sam, base_hash(self.sam), self.config.rank, self.seed)

    def _on_device(self, adapter: Adapter) -> tuple[Tensor, Tensor]:
        return adapter.a.to(self.sam.device), adapter.b.to(self.sam.device)

    def _publish(self, a: Tensor, b: Tensor) -> Adapter:
        self._version += 1
        self._refused = 0
        self._judged.clear()
        self.good.append(Adapter(a.detach().cpu().clone(), b.detach().cpu().clone(), base_hash(self.sam), self._version))
        del self.good[:-10]
        self.counters["published"] += 1
        return self.adapter

    def rollback(self) -> Adapter:
        """Publishes the adapter before the last good one again, under a new version, and trains on from there.

        Raises:
            ValueError: none before it is known.
        """
        if len(self.good) < 2:
            raise ValueError(
                f"there is no earlier adapter than version {self.adapter.version}; call ~/reset to start anew, or segmenter/use_frozen"
            )
        self.good.pop()
        back = self.good.pop()
        self._restore(back)
        return self._publish(back.a, back.b)

    def reset(self) -> Adapter:
        """Publishes an untrained adapter, and forgets all frames."""
        fresh = self._untrained()
        self.good.clear()
        self._begin(fresh)
        return self._publish(fresh.a, fresh.b)
