"""Proposals of the learner: an adapter to publish, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from wesam_ros.adaptation.guard import BELOW_FROZEN, Decision
from wesam_ros.sam.adapter import Adapter


@dataclass(frozen=True)
class Proposal:
    """An adapter to publish, or None, and the decision on it.

    Attributes:
        adapter: admitted by the guard; or one from elsewhere that could not be scored, with the code "no_validation_frames"; or an
            untrained one, with the code "below_frozen", because the published adapter now scores worse than the frozen model.
        decision: of the guard.
        restored: training went back to the published adapter, after a row of rejected candidates.
    """

    adapter: Adapter | None
    decision: Decision
    restored: bool = False

    @property
    def withdraws(self) -> bool:
        """True if the adapter is untrained, and takes the place of one that fell below the frozen model."""
        return self.adapter is not None and self.decision.code == BELOW_FROZEN

    @property
    def rejects(self) -> bool:
        """True if an adapter was scored and not admitted: a candidate, or the published one that is withdrawn."""
        return self.decision.scores is not None and not self.decision.admits
