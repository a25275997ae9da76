"""The plan of a run of `wesam adapt`: recordings, settings, and where the results go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from wesam_ros.adaptation.config import STEPS_PER_FRAME, AdaptationConfig
from wesam_ros.adaptation.together import Together
from wesam_ros.data.detection_grid import grid_of
from wesam_ros.data.recordings.topics import NO_TOPIC, REQUESTS
from wesam_ros.data.stamps import SLOP_SECONDS


@dataclass(frozen=True)
class Plan:
    """A run: what is learnt from, how, and where the results go.

    Attributes:
        bags: recordings, in the order in which they are learnt from.
        out: folder of the adapter, the state and the report.
        topics: the recordings' topics that were named, by role; others are found by their types.
        adapter: file of the adapter to start from; None is the frozen model.
        passes: how often the recordings are gone through.
        steps_per_frame: training steps after each request.
        save_every: frames between two saved states.
        sync_slop: seconds that the stamp of a depth may be off its image's.
        seed: of everything that is drawn.
        model, checkpoint, device: as of load_sam.
        detections_size: grid of the detections' boxes, as the nodes' parameter; "" is the image's.
        rectified: whether images are rectified, as the nodes' parameter.
        propose: of PROPOSE_CHOICES but "missing"; with "all" the recordings' detections and prompts are not read.
        config: options of the method.
    """

    bags: tuple[Path, ...]
    out: Path
    topics: Mapping[str, str] = field(default_factory=dict)
    adapter: Path | None = None
    passes: int = 1
    steps_per_frame: int = STEPS_PER_FRAME
    save_every: int = 50
    sync_slop: float = SLOP_SECONDS
    seed: int = 0
    model: str = "tiny"
    checkpoint: Path | None = None
    device: str = "cpu"
    detections_size: str = ""
    rectified: str = "auto"
    propose: str = "off"
    config: AdaptationConfig = field(default_factory=AdaptationConfig)

    def __post_init__(self) -> None:
        for name in ("passes", "steps_per_frame", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, but got {getattr(self, name)}")
        grid_of(self.detections_size)
        if self.propose not in ("off", "all"):
            raise ValueError(f"propose must be off or all, but got {self.propose!r}")

    def share_of(self, together: Together) -> Plan:
        """The run of one of several processes: every so many-th recording is its own.

        Raises:
            ValueError: there are fewer recordings than processes.
        """
        if together.size > len(self.bags):
            raise ValueError(f"{together.size} processes need at least as many recordings, but there are {len(self.bags)}: start fewer")
        return replace(self, bags=self.bags[together.rank :: together.size])

    @property
    def named_topics(self) -> dict[str, str]:
        """The topics that were named, by role; no request's where nothing has to be asked for."""
        return {**self.topics, **(dict.fromkeys(REQUESTS, NO_TOPIC) if self.propose == "all" else {})}
