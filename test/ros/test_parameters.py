"""ROS parameters made from a dataclass of options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

import rclpy
import yaml
from rclpy.node import Node
from rclpy.parameter import Parameter

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.options import option, options, validate
from wesam_ros.ros.parameters import declare
from wesam_ros.settings import AdapterParameters, SegmenterParameters

CONFIG = Path(__file__).parents[2] / "config" / "nodes.yaml"


@dataclass(frozen=True)
class Colours:
    """An example with every kind of option."""

    name: str = option("red", "the colour", choices=("red", "green"))
    count: int = option(3, "how many", minimum=1, maximum=5)
    share: float = option(0.5, "how much", minimum=0.0)
    on: bool = option(True, "whether at all")
    fixed: int = option(7, "cannot change", read_only=True)
    guess: str = option("auto", "a choice with words that YAML takes for bool", choices=("auto", "true", "false"))

    def __post_init__(self) -> None:
        validate(self)


@pytest.fixture
def context(graph: Any) -> Any:
    return graph.node.context


def node(context: Any, **values: Any) -> Node:
    return rclpy.create_node(
        "coloured", context=context, parameter_overrides=[Parameter(name, value=value) for name, value in values.items()]
    )


def test_values_and_descriptors(context: Any) -> None:
    made = node(context, count=5)
    assert declare(made, Colours).value == Colours(count=5)
    count, name, share, fixed = (made.describe_parameter(each) for each in ("count", "name", "share", "fixed"))
    assert (count.description, count.integer_range[0].from_value, count.integer_range[0].to_value) == ("how many", 1, 5)
    assert name.additional_constraints == "one of red, green"
    assert share.floating_point_range[0].from_value == 0.0
    assert fixed.read_only
    made.destroy_node()


@pytest.mark.parametrize("wrong", [{"count": 9}, {"count": "many"}, {"name": "blue"}, {"share": -1.0}, {"share": float("nan")}])
def test_a_wrong_value_at_the_start_is_named(context: Any, wrong: dict[str, Any]) -> None:
    made = node(context, **wrong)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        declare(made, Colours)
    made.destroy_node()


@pytest.mark.parametrize(("given", "value"), [(True, "true"), (False, "false"), ("true", "true"), ("auto", "auto")])
def test_a_choice_of_true_and_false_may_come_as_bool(context: Any, given: bool | str, value: str) -> None:
    """`-p rectified:=true` gives a bool."""
    made = node(context, guess=given)
    declared = declare(made, Colours)
    assert declared.value.guess == value
    assert made.set_parameters([Parameter("guess", value="auto")])[0].successful
    assert made.set_parameters([Parameter("guess", value=given)])[0].successful
    assert declared.value.guess == value
    assert not made.set_parameters([Parameter("guess", value="maybe")])[0].successful
    made.destroy_node()


def test_changes_at_run_time(context: Any) -> None:
    made = node(context)
    declared = declare(made, Colours)
    before = declared.value
    for name, value in (("name", "blue"), ("count", 0), ("share", float("nan")), ("fixed", 8)):
        (result,) = made.set_parameters([Parameter(name, value=value)])
        assert not result.successful
        assert result.reason
        assert declared.value is before
    (result,) = made.set_parameters([Parameter("name", value="blue")])
    assert result.reason == "name must be one of red, green, but got 'blue'"
    assert made.set_parameters([Parameter("name", value="green")])[0].successful
    assert declared.value == Colours(name="green")
    made.destroy_node()


@pytest.mark.parametrize(("name", "cls"), [("segmenter", SegmenterParameters), ("adapter", AdapterParameters)])
def test_the_configuration_file_has_the_defaults_and_is_read_in_any_namespace(context: Any, tmp_path: Path, name: str, cls: Any) -> None:
    found = yaml.safe_load(CONFIG.read_text())[f"/**/{name}"]["ros__parameters"]
    assert found == {each: getattr(cls(), each) for each in found}
    changed = tmp_path / "changed.yaml"
    changed.write_text(CONFIG.read_text().replace("max_boxes: 100", "max_boxes: 7"))
    for namespace in ("", "robot1"):
        arguments = ["--ros-args", "--params-file", str(changed)]
        made = rclpy.create_node(name, context=context, namespace=namespace, cli_args=arguments, use_global_arguments=False)
        assert declare(made, cls).value == cls(max_boxes=7)
        made.destroy_node()


def test_the_methods_options_with_a_prefix(context: Any) -> None:
    made = node(context, **{"adaptation.lr": 0.01})
    declared = declare(made, AdaptationConfig, "adaptation.")
    assert declared.value == AdaptationConfig(lr=0.01)
    assert made.has_parameter(f"adaptation.{options(AdaptationConfig)[0].name}")
    made.destroy_node()
