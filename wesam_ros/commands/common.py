"""Options that several commands have, each declared once. Texts, defaults and choices are those of the nodes' settings."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.data.recordings.topics import DEFAULT_TOPICS, NO_TOPIC, TYPES_OF_ROLE
from wesam_ros.machine import resolve_device
from wesam_ros.options import Option, options, overrides
from wesam_ros.settings import AdapterParameters, SegmenterParameters

SETTINGS: dict[str, Option] = {each.name: each for cls in (SegmenterParameters, AdapterParameters) for each in options(cls)}
"""The nodes' parameters by name, which command options are made from."""


def add_setting(parser: argparse.ArgumentParser, name: str) -> None:
    """Adds the node parameter `name` as an option, such as --steps-per-frame of steps_per_frame, with its text, choices and default."""
    each = SETTINGS[name]
    default = f" (default: {each.default})" if each.default != "" else ""
    parser.add_argument(_flag(name), type=_value_of(each), choices=each.choices, default=each.default, help=f"{each.doc}{default}")


def _value_of(each: Option) -> Callable[[str], Any]:
    """The function that makes an option's value of a text, within its range; argparse prints what is wrong."""

    def value_of(text: str) -> Any:
        value = each.type(text)
        try:
            each.check(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        return value

    value_of.__name__ = each.type.__name__  # argparse names it for a text that is no number
    return value_of


def add_model_options(parser: argparse.ArgumentParser, *, device: bool = True) -> None:
    """Adds --model and --checkpoint, a path or None, and --device, which `device_of` resolves."""
    add_setting(parser, "model")
    parser.add_argument("--checkpoint", type=_file, metavar="FILE", help=SETTINGS["checkpoint"].doc)
    if device:
        add_setting(parser, "device")


def _file(text: str) -> Path | None:
    return Path(text).expanduser() if text else None


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def device_of(args: argparse.Namespace) -> str:
    """The torch device that --device names."""
    return resolve_device(args.device)


def add_threads(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Adds --threads; 0, the default, leaves the number to torch."""
    parser.add_argument("--threads", type=int, default=0, metavar="N", help=f"threads of torch; 0: one for each core{more} (default: 0)")


def use_threads(args: argparse.Namespace) -> None:
    """Sets torch's number of threads to what --threads says."""
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)


def add_method_settings(parser: argparse.ArgumentParser) -> None:
    """Adds --set, which `method_config` reads."""
    names = ", ".join(each.name for each in options(AdaptationConfig))
    text = f"an option of the method, may be repeated: {names}"
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=text)


def method_config(args: argparse.Namespace) -> AdaptationConfig:
    """The method's options that --set gives, the others as they are by default. Raises ValueError for a name or value that is none."""
    return AdaptationConfig(**overrides(AdaptationConfig, args.set))


def add_topic_options(parser: argparse.ArgumentParser, roles: Collection[str] = tuple(TYPES_OF_ROLE)) -> None:
    """Adds an option for each role of BagTopics, such as --image-topic, to the parser of a command that reads these of a recording."""
    text = f"found by their types; name one where several may be meant, or {NO_TOPIC} to leave it out"
    group = parser.add_argument_group("topics of the recordings", text)
    for role in roles:
        usual = getattr(DEFAULT_TOPICS, role)
        default = f"{usual}, if there" if role == "labels" else f"{usual}, else the only one that there is"
        group.add_argument(f"{_flag(role)}-topic", default="", metavar="TOPIC", help=f"default: {default}")


def named_topics(args: argparse.Namespace) -> dict[str, str]:
    """The topics that `add_topic_options` got from the command line, by role; roles without a name are left out."""
    return {role: topic for role in TYPES_OF_ROLE if (topic := getattr(args, f"{role}_topic", ""))}
