"""The guard decides, without labels, which adapters are served: by their scores on validation frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from torch import Tensor

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.replay_buffer import ANSWERS, BufferedFrame
from wesam_ros.adaptation.together import ALONE, Together
from wesam_ros.adaptation.validation import Comparison, ValidationScore, mean_score, score_adapter
from wesam_ros.sam.adapter import Adapter

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

ADMITTED = "admitted"
WORSE_SCORE, BELOW_FROZEN, DIVERGED, COLLAPSED = "worse_score", "below_frozen", "diverged", "collapsed"
"""Reasons not to serve an adapter."""
NOT_DUE, NO_VALIDATION_FRAMES = "not_due", "no_validation_frames"
"""Reasons that no adapter was scored."""
MOST_FILLED = 0.5
"""Share of an adapter's masks that may fill their boxes where the anchor's do not (validation.fills_box); more are a collapse."""
SENTENCES = {
    WORSE_SCORE: " ({:.3f} after {:.3f})",
    BELOW_FROZEN: " ({:.3f}, frozen {:.3f} and a lead of {:.3f})",
    DIVERGED: " ({:.3f} after {:.3f}, frozen {:.3f})",
    COLLAPSED: " ({:.3f} of the masks fill their boxes)",
}
"""The values of a decision in words, after its code."""

Scores = WeakKeyDictionary[BufferedFrame, ValidationScore]
Frames = Mapping[str, Sequence[BufferedFrame]]
"""Validation frames of each robot, at least one of each, oldest first."""


@dataclass(frozen=True)
class Decision:
    """One decision on an adapter.

    Attributes:
        code: one of the constants above.
        values: the figures that it rests on, in the order of SENTENCES.
        robot: whose frames gave the reason; "" where all frames are of one kind.
        on_newest: the newer half of the frames gave it.
        scores: on the frames of the robot that gains least; None where nothing was scored.
    """

    code: str
    values: tuple[float, ...] = ()
    robot: str = ""
    on_newest: bool = False
    scores: Comparison | None = None

    @property
    def admits(self) -> bool:
        """True if the adapter was scored and may be served."""
        return self.code == ADMITTED

    def __str__(self) -> str:
        """The decision in words, beginning with its code."""
        figures = SENTENCES.get(self.code, "").format(*self.values)
        newest = " on the newest ones" if self.on_newest else ""
        return f"{self.code}{figures}{newest}" + (f" on the frames of {self.robot}" if self.robot else "")


Rule = Callable[[Comparison], Decision | None]


class Guard:
    """Compares adapters on validation frames. Scores of the published adapter and the frozen model are kept as long as their frames are.

    It has no state to save: scores are computed again where they are missing.
    """

    def __init__(self, sam: Sam, together: Together = ALONE) -> None:
        """For the model `sam`; of several processes that train together each asks its own frames, and none may come to be worse off."""
        self.sam, self._together = sam, together
        self._published, self._frozen, self._candidate = Scores(), Scores(), Scores()

    def knows(self, frames: Frames) -> bool:
        """True if the published adapter has been scored on all of these frames of each robot."""
        return all(frame in self._published for each in frames.values() for frame in each)

    def decide(
        self,
        candidate: tuple[Tensor, Tensor],
        published: Adapter,
        frames: Frames,
        config: AdaptationConfig,
    ) -> Decision:
        """Admits or rejects a candidate.

        Args:
            candidate: its stacked tensors.
            published: the adapter that it would replace.
            frames: of each robot; of none nothing is known.
            config: the limits.
        """
        self._candidate.clear()
        own = self._decide(candidate, published, frames, config) if frames else Decision(NO_VALIDATION_FRAMES)
        decisions = self._together.everyones(own)
        known = [each for each in decisions if each.code != NO_VALIDATION_FRAMES]
        return next((each for each in known if not each.admits), known[0] if known else own)

    def _decide(self, candidate: tuple[Tensor, Tensor], published: Adapter, frames: Frames, config: AdaptationConfig) -> Decision:
        """The decision by this process's frames."""
        self._score_missing(self._candidate, candidate, frames, config)
        comparisons = self._compare(self._candidate, published, frames, config)
        rejection = _first(comparisons, lambda each: rejection_of_candidate(each, config))
        return replace(rejection or Decision(ADMITTED), scores=_least_gain(comparisons))

    def review(self, published: Adapter, frames: Frames, config: AdaptationConfig) -> Decision | None:
        """The reason to withdraw the published adapter; None if it may go on being served. Of no frames nothing is known."""
        own = self._review(published, frames, config) if frames else None
        return next((each for each in self._together.everyones(own) if each is not None), None)

    def _review(self, published: Adapter, frames: Frames, config: AdaptationConfig) -> Decision | None:
        comparisons = self._compare(self._published, published, frames, config)
        reason = _first(comparisons, lambda each: rejection_of_published(each, config))
        return None if reason is None else replace(reason, scores=_least_gain(comparisons))

    def published_changed(self, *, to_candidate: bool = False) -> None:
        """Takes note that another adapter is published; `to_candidate` if it is the one that was decided on last."""
        self._published = Scores(self._candidate) if to_candidate else Scores()

    def _compare(self, candidate: Scores, published: Adapter, frames: Frames, config: AdaptationConfig) -> dict[str, Comparison]:
        """The comparison on the frames of each robot."""
        self._score_missing(self._published, published.low_rank, frames, config)
        self._score_missing(self._frozen, None, frames, config)

        def compare(some: Sequence[BufferedFrame]) -> Comparison:
            means = [mean_score([scores[frame] for frame in some]) for scores in (candidate, self._published, self._frozen)]
            return Comparison(means[0], means[1], means[2])

        def change(frame: BufferedFrame) -> float:
            return candidate[frame].score - max(self._published[frame].score, self._frozen[frame].score)

        # Of answers, which may be wrong, the one that gains most and the one that loses most are left out. Things do not age as scenes do.
        return {
            robot: compare(sorted(each, key=change)[1:-1])
            if robot == ANSWERS
            else replace(compare(each), newest=compare(each[len(each) // 2 :]))
            for robot, each in frames.items()
        }

    def _score_missing(
        self,
        scores: Scores,
        low_rank: tuple[Tensor, Tensor] | None,
        frames: Frames,
        config: AdaptationConfig,
    ) -> None:
        """Computes scores of an adapter's tensors, None for the frozen model, on the frames that it has none of yet."""
        missing = [frame for each in frames.values() for frame in each if frame not in scores]
        if low_rank is not None and missing:
            low_rank = (low_rank[0].to(self.sam.device), low_rank[1].to(self.sam.device))
        for frame in missing:
            scores[frame] = score_adapter(self.sam, low_rank, frame, config)


def below_frozen(adapted: ValidationScore, frozen: ValidationScore, config: AdaptationConfig) -> Decision | None:
    """The reason to serve the frozen model rather than an adapter, both scored on the same frames; None if there is none.

    An adapter is trained for its score, so its score gains more than its true IoU. The frozen model is not. The more an adapter's masks
    differ from the anchor's, the more it therefore has to lead (`lead`; how it was chosen: docs/reliability.md).
    """
    lead = config.lead * max(0.0, frozen.agreement - adapted.agreement)
    if adapted.score < frozen.score + lead - config.tolerance:
        return Decision(BELOW_FROZEN, (adapted.score, frozen.score, lead))
    return None


def rejection_of_published(scores: Comparison, config: AdaptationConfig) -> Decision | None:
    """The reason to withdraw the published adapter; None if there is none."""
    return below_frozen(scores.published, scores.frozen, config) or _on_newest(
        scores, lambda each: below_frozen(each.published, each.frozen, config)
    )


def rejection_of_candidate(scores: Comparison, config: AdaptationConfig) -> Decision | None:
    """The reason not to replace the published adapter by a candidate; None if there is none.

    A comparison with the published one alone is not enough: with a tolerance each time, a row of candidates could creep below the frozen
    model, and away from its masks.
    """
    candidate, published, frozen = scores.candidate, scores.published, scores.frozen
    if candidate.score < published.score - config.tolerance:
        return Decision(WORSE_SCORE, (candidate.score, published.score))
    below = below_frozen(candidate, frozen, config) or _on_newest(scores, lambda each: below_frozen(each.candidate, each.frozen, config))
    if below is not None:
        return below
    if candidate.agreement < config.divergence * max(published.agreement, frozen.agreement):
        return Decision(DIVERGED, (candidate.agreement, published.agreement, frozen.agreement))
    if candidate.filled > MOST_FILLED:
        return Decision(COLLAPSED, (candidate.filled,))
    return None


def _on_newest(scores: Comparison, rule: Rule) -> Decision | None:
    """A reason that the newer half of the frames gives."""
    reason = rule(scores.newest) if scores.newest is not None else None
    return None if reason is None else replace(reason, on_newest=True)


def _first(comparisons: Mapping[str, Comparison], rule: Rule) -> Decision | None:
    """The first reason that the frames of a robot give, with its name where there are several kinds.

    Each robot is asked by itself: over the frames of all, what one gains would hide what another loses.
    """
    for robot, each in comparisons.items():
        if (reason := rule(each)) is not None:
            return replace(reason, robot=robot) if len(comparisons) > 1 else reason
    return None


def _least_gain(comparisons: Mapping[str, Comparison]) -> Comparison:
    """The comparison on the frames of that robot that a candidate gains least for, against the better of what could be served instead."""
    return min(comparisons.values(), key=lambda each: each.candidate.score - max(each.published.score, each.frozen.score))
