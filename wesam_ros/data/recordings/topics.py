"""Which topic of a recording is what: named, usual, or the only one that may be meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wesam_ros.data.recordings import messages

NO_TOPIC = "none"
"""Given in place of a topic's name: the recording is read as if it had no such topic."""


class BagError(ValueError):
    """A recording that cannot be read or written as asked; the sentence says what is missing and what there is."""


@dataclass(frozen=True)
class BagTopics:
    """Where a recording has what a frame needs; "" = do not look for it."""

    image: str = "/camera/color/image_raw/compressed"
    depth: str = "/camera/depth/image_raw/compressedDepth"
    camera_info: str = "/camera/color/camera_info"
    detections: str = "/detections"
    prompts: str = "/prompts"
    labels: str = "/ground_truth/labels"


DEFAULT_TOPICS = BagTopics()

TYPES_OF_ROLE = {
    "image": (messages.COMPRESSED_IMAGE, messages.IMAGE),
    "depth": (messages.COMPRESSED_IMAGE, messages.IMAGE),
    "camera_info": (messages.CAMERA_INFO,),
    "detections": (messages.DETECTIONS,),
    "prompts": (messages.PROMPTS,),
    "labels": (messages.COMPRESSED_IMAGE, messages.IMAGE),
}

REQUESTS = ("detections", "prompts")
"""The roles that say what to segment; a recording needs one of them to be learnt from."""


def missing_topic(path: Path, there: Mapping[str, tuple[str, int]], *roles: str, topic: str = "") -> BagError:
    """The error where no topic, or not the one that was named, has any of some roles."""
    listing = ", ".join(f"{each} ({msgtype})" for each, (msgtype, _) in there.items()) or "none"
    text = f"bag {path} has no topic {topic + ' ' if topic else ''}for {' or '.join(roles)}; its topics are {listing}"
    return BagError(f"{text}; name the right one with {' or '.join(map(_option, roles))}")


def _option(role: str) -> str:
    return f"--{role.replace('_', '-')}-topic (of the player: {role}_topic)"


def choose_topics(path: Path, there: Mapping[str, tuple[str, int]], named: Mapping[str, str], *, detections_required: bool) -> BagTopics:
    """What `bags.find_topics` returns for a bag with these topics (type and number of messages of each), with the same errors."""
    found = {role: _find(path, there, role, named) for role in TYPES_OF_ROLE}
    if not found["image"]:
        raise missing_topic(path, there, "image")
    if detections_required and not any(found[role] for role in REQUESTS):
        raise missing_topic(path, there, *REQUESTS)
    return BagTopics(**found)


def _find(path: Path, there: Mapping[str, tuple[str, int]], role: str, named: Mapping[str, str]) -> str:
    usual, name = getattr(DEFAULT_TOPICS, role), named.get(role, "")
    if name == NO_TOPIC:
        return ""
    if name and name not in there:
        raise missing_topic(path, there, role, topic=name)
    if name or usual in there:
        check_type(path, there, role, name or usual)
        return name or str(usual)
    fits = [each for each in _candidates(there, role) if each not in named.values()]
    if len(fits) > 1:
        raise BagError(f"bag {path} has several topics for {role}: {', '.join(fits)}; name one with {_option(role)}")
    return fits[0] if fits else ""


def check_type(path: Path, there: Mapping[str, tuple[str, int]], role: str, topic: str) -> None:
    """Raises BagError if a topic is of no type that a role may have."""
    if there[topic][0] not in TYPES_OF_ROLE[role]:
        raise BagError(f"topic {topic} for {role} must be {' or '.join(TYPES_OF_ROLE[role])}, but is {there[topic][0]} in bag {path}")


def _candidates(there: Mapping[str, tuple[str, int]], role: str) -> list[str]:
    """Topics with messages whose type and name speak for a role; one for colour that says so is preferred.

    True labels are never guessed: a label image by another name may be what some model, such as our segmenter, made of the recording.
    """
    fits = [topic for topic, (msgtype, count) in there.items() if count and msgtype in TYPES_OF_ROLE[role] and role != "labels"]
    if role in REQUESTS:
        return fits
    strange = ("label", "mask", "overlay", "infra", "/ir/")
    fits = [each for each in fits if not any(word in each for word in strange) and ("depth" in each.lower()) == (role == "depth")]
    colour = [each for each in fits if "color" in each and role != "depth"]
    return colour if len(colour) == 1 else fits
