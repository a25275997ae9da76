"""States that version 0.1 saved (format 6), converted to format 7."""

from __future__ import annotations

from typing import Any

COUNTERS = {
    "accepted": "frames_accepted",
    "depth: plane": "support_planes.found",
    "depth: no plane": "support_planes.none",
    "objects: masks trusted": "objects.masks_trusted",
    "objects: measurements trusted": "objects.measurements_trusted",
    "restored: refused": "restored.rejected",
    "refused: worse_fit": "candidates_rejected.worse_score",
}
PREFIXES = {"rejected: ": "frames_rejected.", "refused: ": "candidates_rejected.", "restored: ": "restored."}
"""Counters had other names, these and all that began so."""
OPTIONS = {"held_back": "validation_every", "judges": "validation_frames", "fit": "prompt_fit", "memory": "replay_frames"}
CONSTRAINTS = {"reach": "allowed", "core": "certain", "claims": "candidate"}


def converted(state: dict[str, Any]) -> dict[str, Any]:
    """A state of format 6 as one of format 7. LookupError, TypeError or AttributeError if it is damaged."""
    version, steps_since_restore, rejections, steps_since_proposal = state["progress"]
    buffer = {name: state[name] for name in ("misplaced", "alarms", "newest", "seen", "learnable")}
    frames = [
        {**each, "scorable": True, "constraints": {CONSTRAINTS.get(name, name): tensor for name, tensor in each["evidence"].items()}}
        for each in state["frames"]
    ]
    return {
        "format": 7,
        **{name: state[name] for name in ("seed", "rng")},
        "counters": {_counter(name): count for name, count in state["counters"].items()},
        "steps_since_proposal": steps_since_proposal,
        "rejections": rejections,
        "trainer": {**{name: state[name] for name in ("low_rank", "optimizer")}, "steps_since_restore": steps_since_restore},
        "history": {"published": state["good"], "version": version},
        "replay_buffer": {
            **buffer,
            "frames": frames,
            "reservoir": state["memory"],
            "validation": state["held_back"],
            "teacher_predictions": state["answers"],
        },
    }


def renamed_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options of AdaptationConfig that version 0.1 saved, under their names of now; others stay."""
    return {OPTIONS.get(name, name): value for name, value in options.items()}


def _counter(name: str) -> str:
    for earlier, now in PREFIXES.items():
        if name not in COUNTERS and name.startswith(earlier):
            return now + name.removeprefix(earlier)
    return COUNTERS.get(name, name)
