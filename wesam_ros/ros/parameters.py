"""ROS parameters made from the options of a dataclass: descriptors, checks and values come from one place."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from wesam_ros.options import Option, options

T = TypeVar("T")

_INT_LIMIT = 2**63 - 1
_FLOAT_LIMIT = 1.7976931348623157e308


class Declared(Generic[T]):
    """A dataclass of options as ROS parameters of a node; `value` is always a valid instance with the current values.

    A change at run time is checked by the option itself and refused with its sentence; a valid one replaces `value` as a whole,
    so that a reader in another thread never sees half of a change.
    """

    def __init__(self, node: Node, cls: type[T], prefix: str = "") -> None:
        self._options = {prefix + each.name: each for each in options(cls)}
        declared = {}
        for name, each in self._options.items():
            try:
                declared[each.name] = _value(each, node.declare_parameter(name, each.default, _descriptor(each)).value)
            except (InvalidParameterTypeException, InvalidParameterValueException) as error:
                allowed = f" ({each.range_text()})" if each.range_text() else ""
                raise ValueError(f"parameter {name} must be of type {each.type.__name__}{allowed}: {error}") from error
        self.value: T = cls(**declared)
        node.add_on_set_parameters_callback(self._check)
        node.add_post_set_parameters_callback(self._take)

    def _check(self, parameters: Sequence[Parameter[Any]]) -> SetParametersResult:
        try:
            dataclasses.replace(self.value, **self._changes(parameters))  # type: ignore[type-var]
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _take(self, parameters: Sequence[Parameter[Any]]) -> None:
        self.value = dataclasses.replace(self.value, **self._changes(parameters))  # type: ignore[type-var]

    def _changes(self, parameters: Sequence[Parameter[Any]]) -> dict[str, Any]:
        known = [(self._options[each.name], each.value) for each in parameters if each.name in self._options]
        return {each.name: _value(each, value) for each, value in known}


def declare(node: Node, cls: type[T], prefix: str = "") -> Declared[T]:
    """Declares the options of dataclass `cls` as parameters `prefix + name` of `node` and reads them.

    Raises:
        ValueError: a value given at the start is of the wrong type or not allowed; the message says which and what is.
    """
    return Declared(node, cls, prefix)


def _takes_yaml_bool(each: Option) -> bool:
    """True for a choice of words of which YAML makes a bool before it comes here, as of `-p name:=true` and `-p name:=off`."""
    return each.type is str and each.choices is not None and not {"true", "off"}.isdisjoint(each.choices)


def _value(each: Option, value: Any) -> Any:
    if not (_takes_yaml_bool(each) and isinstance(value, bool)):
        return value
    return "off" if not value and each.choices is not None and "off" in each.choices else str(value).lower()


def _descriptor(each: Option) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=each.doc, read_only=each.read_only, dynamic_typing=_takes_yaml_bool(each))
    if each.choices is not None:
        descriptor.additional_constraints = "one of " + ", ".join(each.choices)
    bounded = each.minimum is not None or each.maximum is not None
    if bounded and each.type is int:
        low = -_INT_LIMIT if each.minimum is None else int(each.minimum)
        high = _INT_LIMIT if each.maximum is None else int(each.maximum)
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=0)]
    elif bounded and each.type is float:
        low_f = -_FLOAT_LIMIT if each.minimum is None else float(each.minimum)
        high_f = _FLOAT_LIMIT if each.maximum is None else float(each.maximum)
        descriptor.floating_point_range = [FloatingPointRange(from_value=low_f, to_value=high_f, step=0.0)]
    return descriptor
