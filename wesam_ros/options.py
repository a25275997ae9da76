"""Options declared once: a dataclass field carries its text, range and choices, and everything else is generated from it.

ROS parameters with their descriptors and command-line options are made from `options`.
"""

from __future__ import annotations

import argparse
import dataclasses
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Option:
    """One option of a configuration: `type` is bool, int, float or str; a bound or `choices` is None where there is none."""

    name: str
    type: type
    default: Any
    doc: str
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...] | None
    read_only: bool

    def check(self, value: Any) -> None:
        """Raises ValueError, saying what, which value and what is allowed, if `value` is not one that the option takes."""
        expected: Any = (int, float) if self.type is float else self.type
        if isinstance(value, bool) != (self.type is bool) or not isinstance(value, expected):
            raise ValueError(f"{self.name} must be of type {self.type.__name__}, but got {value!r}")
        low, high = self.minimum, self.maximum
        if not ((low is None or value >= low) and (high is None or value <= high)):  # written so that NaN fails
            raise ValueError(f"{self.name} must be {self.range_text()}, but got {value!r}")
        if self.choices is not None and value not in self.choices:
            raise ValueError(f"{self.name} must be one of {', '.join(self.choices)}, but got {value!r}")

    def range_text(self) -> str:
        """The bounds in words, "" where there are none."""
        if self.minimum is not None and self.maximum is not None:
            return f"between {self.minimum:g} and {self.maximum:g}"
        if self.minimum is not None:
            return f"at least {self.minimum:g}"
        return f"at most {self.maximum:g}" if self.maximum is not None else ""


def option(
    default: Any,
    doc: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] | None = None,
    read_only: bool = False,
) -> Any:
    """A dataclass field with a default, a text, and what values it takes; `read_only` means it cannot change while a node is active."""
    metadata = {"doc": doc, "minimum": minimum, "maximum": maximum, "choices": choices, "read_only": read_only}
    return dataclasses.field(default=default, metadata=metadata)


def options(config: Any) -> list[Option]:
    """The options of a configuration dataclass (or an instance of one), in the order they are written."""
    cls = config if isinstance(config, type) else type(config)
    types = typing.get_type_hints(cls)
    return [Option(f.name, types[f.name], f.default, **f.metadata) for f in dataclasses.fields(cls) if "doc" in f.metadata]


def validate(config: Any) -> None:
    """Raises ValueError for the first option of `config` whose value it does not take. Call it from __post_init__."""
    for each in options(config):
        each.check(getattr(config, each.name))


def overrides(config: type, given: Sequence[str]) -> dict[str, Any]:
    """The values that NAME=VALUE texts give to options of a configuration, as the command line takes them; else ValueError."""
    known = {each.name: each for each in options(config)}
    values: dict[str, Any] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or name not in known:
            raise ValueError(f"a setting is NAME=VALUE with a name of {', '.join(known)}, but got {text!r}")
        try:
            values[name] = {"true": True, "false": False}.get(value, value) if known[name].type is bool else known[name].type(value)
        except ValueError:
            raise ValueError(f"{name} must be of type {known[name].type.__name__}, but got {value!r}") from None
        known[name].check(values[name])
    return values


def positive_integer(text: str) -> int:
    """The value of a command-line option that is a whole number of at least 1; argparse prints the error."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, but got {value}")
    return value
