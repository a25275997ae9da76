"""The topics of a recording by role: named, usual, or the only one that may be meant."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from wesam_ros.data.recordings import messages

NO_TOPIC = "none"
"""Given in place of a topic's name: the recording is read as if it had no such topic."""


class BagError(ValueError):
    """A recording that cannot be read or written as asked; the sentence says what is missing and what there is."""


@dataclass(frozen=True)
class BagTopics:
    """A recording's topics, by what a frame needs; "" = do not look for it."""

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
    "detections": (messages.DETECTIONS, messages.DETECTIONS_3D),
    "prompts": (messages.PROMPTS,),
    "labels": (messages.COMPRESSED_IMAGE, messages.IMAGE),
}

REQUESTS = ("detections", "prompts")
"""The roles that say what to segment; a recording needs one of them to be learnt from."""


def missing_topic(path: Path, there: Mapping[str, tuple[str, int]], *roles: str, topic: str = "") -> BagError:
    """The error where no topic, or not the one that was named, has any of some roles."""
    listing = ", ".join(f"{each} ({msgtype})" for each, (msgtype, _) in there.items()) or "none"
    text = f"bag {path} has no topic {topic + ' ' if topic else ''}for {' or '.join(roles)}; its topics are {listing}"
    return BagError(f"{text}; name the right one with {' or '.join(map(option_of, roles))}")


def option_of(role: str) -> str:
    """The option that names the topic of a role, and the player's parameter."""
    return f"--{role.replace('_', '-')}-topic (of the player: {role}_topic)"


def choose_topics(path: Path, there: Mapping[str, tuple[str, int]], named: Mapping[str, str], *, detections_required: bool) -> BagTopics:
    """The result of `bags.find_topics` for a bag with these topics (type and number of messages of each), with the same errors."""
    found: dict[str, str] = {}
    for role in TYPES_OF_ROLE:  # the image first: depth and camera info are those of its camera
        found[role] = _find(path, there, role, named, found.get("image", ""))
    if not found["image"]:
        raise missing_topic(path, there, "image")
    if detections_required and not any(found[role] for role in REQUESTS):
        raise missing_topic(path, there, *REQUESTS)
    return BagTopics(**found)


def _find(path: Path, there: Mapping[str, tuple[str, int]], role: str, named: Mapping[str, str], image: str) -> str:
    usual, name = getattr(DEFAULT_TOPICS, role), named.get(role, "")
    if name == NO_TOPIC:
        return ""
    if name and name not in there:
        raise missing_topic(path, there, role, topic=name)
    if name or usual in there:
        check_type(path, there, role, name or usual)
        return name or str(usual)
    fits = [each for each in _candidates(there, role, image) if each not in named.values()]
    if len(fits) > 1:
        raise BagError(f"bag {path} has several topics for {role}: {', '.join(fits)}; name one with {option_of(role)}")
    return fits[0] if fits else ""


def check_type(path: Path, there: Mapping[str, tuple[str, int]], role: str, topic: str) -> None:
    """Raises BagError if a topic is of no type that a role may have."""
    if there[topic][0] not in TYPES_OF_ROLE[role]:
        raise BagError(f"topic {topic} for {role} must be {' or '.join(TYPES_OF_ROLE[role])}, but is {there[topic][0]} in bag {path}")


NO_CAMERA = ("label", "mask", "overlay", "infra", "/ir/")
NO_PICTURE = (
    "debug",
    "annotated",
    "detection",
    "result",
    "visual",
    "rviz",
    "disparity",
    "costmap",
    "heatmap",
    "thermal",
    "stereo",
    "segment",
)
BESIDE = ("gray", "grey", "mono", "/left", "/right", "_raw/", "/raw/")
"""Of several colour pictures, those that a stereo camera's driver has beside the corrected one of its first camera."""
DEPTH, REGISTERED = ("depth", "/stereo/"), ("aligned", "registered", "depth_to_color", "depth_to_rgb")
TRANSPORTS = ("", "/compressedDepth", "/compressed")
"""Ends of topics on which image_transport sends one picture in several ways; where messages are as many, the first is taken."""
NAMES = ("image_rect_color", "image_rect", "image_color", "image_raw")
"""Names of one camera's colour pictures, the best first: image_proc's corrected ones, then the camera's own."""


def _candidates(there: Mapping[str, tuple[str, int]], role: str, image: str) -> list[str]:
    """Topics with messages whose type and name speak for a role, narrowed down to one where names and numbers of messages allow it.

    True labels are never guessed: a label image by another name may be what some model, such as our segmenter, made of the recording.
    """
    fits = [topic for topic, (msgtype, count) in there.items() if count and msgtype in TYPES_OF_ROLE[role] and role != "labels"]
    if role in REQUESTS:  # boxes in the image before boxes in space, which some drivers publish beside them
        return _narrowed(fits, lambda each: there[each][0] == TYPES_OF_ROLE[role][0])
    fits = [each for each in fits if not _has(each, NO_CAMERA)]
    named = [each for each in fits if "depth" in _base(each).lower()]
    if role == "depth":
        fits = named or [each for each in fits if _has(each, DEPTH)]
        fits = _narrowed(fits, lambda each: _has(each, REGISTERED))
        return _one_transport(_of_camera(fits, image), there)
    fits = [each for each in fits if each not in named and not each.endswith("/compressedDepth")]
    if role == "camera_info":
        sibling = f"{_base(image).rpartition('/')[0]}/camera_info"
        return [sibling] if sibling in fits else _of_camera(fits, image)
    fits = _narrowed(fits, lambda each: not _has(each, NO_PICTURE))
    fits = _narrowed(fits, lambda each: _has(each, ("color", "rgb")))
    fits = _narrowed(fits, lambda each: not _has(each, BESIDE))
    fits = _one_transport(fits, there)
    if len({each.rpartition("/")[0] for each in map(_base, fits)}) == 1:  # pictures of one camera
        best = next((name for name in NAMES if any(_base(each).endswith(f"/{name}") for each in fits)), "")
        fits = _narrowed(fits, lambda each: _base(each).endswith(f"/{best}"))
    return fits


def _has(topic: str, words: Collection[str]) -> bool:
    return any(word in topic.lower() for word in words)


def _narrowed(topics: list[str], test: Callable[[str], bool]) -> list[str]:
    """The topics that pass, or all where none does."""
    return [each for each in topics if test(each)] or topics


def _base(topic: str) -> str:
    return next((topic.removesuffix(end) for end in TRANSPORTS[1:] if topic.endswith(end)), topic)


def _one_transport(topics: list[str], there: Mapping[str, tuple[str, int]]) -> list[str]:
    """One topic of each picture that was recorded in several ways: the one with the most messages."""
    ways: dict[str, list[str]] = {}
    for topic in topics:
        ways.setdefault(_base(topic), []).append(topic)
    return [max(each, key=lambda topic: (there[topic][1], -TRANSPORTS.index(topic.removeprefix(base)))) for base, each in ways.items()]


def _of_camera(topics: list[str], image: str) -> list[str]:
    """The topics that share the longest part of their names, from the left, with the image's."""

    def shared(topic: str) -> int:
        pairs = zip(topic.split("/"), image.split("/"), strict=False)
        return next((place for place, (mine, its) in enumerate(pairs) if mine != its), len(image))

    return [each for each in topics if shared(each) == max(map(shared, topics))]
