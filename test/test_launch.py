"""The launch files: their arguments, and what they start. Skipped where launch_ros is missing: it has no wheels."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

launch = pytest.importorskip("launch", reason="the package launch is missing: it comes with a ROS 2 install, not with the wheels")
pytest.importorskip("launch_ros", reason="the package launch_ros is missing: it comes with a ROS 2 install, not with the wheels")
pytest.importorskip("wesam_ros.msg", reason="the package is not built: make setup")

from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction  # noqa: E402
from launch.utilities import perform_substitutions  # noqa: E402
from launch_ros.actions import Node  # noqa: E402

from wesam_ros.options import options  # noqa: E402
from wesam_ros.settings import AdapterParameters, SegmenterParameters  # noqa: E402

FOLDER = Path(__file__).parent.parent / "launch"
TOPICS = {"image", "depth", "camera_info", "detections"}
ARGUMENTS = {
    "adapt": TOPICS
    | {
        "model",
        "checkpoint",
        "device",
        "engine",
        "adapter_file",
        "bag",
        "image_transport",
        "depth_transport",
        "sync_slop",
        "respawn",
        "web",
    },
    "replay": {"bag", "out", "model", "checkpoint", "device", "adapter_file", "lock_step", "image_topic", "prompts_topic"},
}


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_launch", FOLDER / f"{name}.launch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def declared(name: str) -> dict[str, Any]:
    entities = load(name).generate_launch_description().entities
    return {each.name: each for each in entities if isinstance(each, DeclareLaunchArgument)}


def context_with(name: str, **given: str) -> Any:
    """A launch context in which the arguments have been given or have their defaults."""
    context = launch.LaunchContext()
    context.launch_configurations.update(given)
    for argument in declared(name).values():
        argument.visit(context)
    return context


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_are_declared_and_described(name: str) -> None:
    arguments = declared(name)
    assert set(arguments) >= ARGUMENTS[name]
    assert all(len(each.description) > 10 for each in arguments.values())


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_agree_with_the_nodes_parameters(name: str) -> None:
    parameters = {each.name: each for cls in (AdapterParameters, SegmenterParameters) for each in options(cls)}
    for argument in declared(name).values():
        parameter = parameters.get(argument.name)
        if parameter is None or parameter.type is bool:
            continue
        assert tuple(argument.choices or ()) == (parameter.choices or ()), argument.name
        assert perform_substitutions(launch.LaunchContext(), argument.default_value) == str(parameter.default), argument.name


def test_the_configuration_file_leaves_to_the_arguments_what_they_set() -> None:
    sections = yaml.safe_load((FOLDER.parent / "config" / "nodes.yaml").read_text())
    names = {name for section in sections.values() for name in section["ros__parameters"]}
    assert not names & declared("adapt").keys()


def test_a_value_that_is_no_choice_is_refused() -> None:
    with pytest.raises(RuntimeError, match="vit_x"):
        context_with("adapt", model="vit_x")


@pytest.mark.parametrize(("given", "started"), [({}, ["segmenter", "adapter"]), ({"bag": "a.mcap"}, ["segmenter", "adapter", "player"])])
def test_adapt_starts_the_nodes(given: dict[str, str], started: list[str]) -> None:
    context = context_with("adapt", **given)
    nodes = [each for each in load("adapt").generate_launch_description().entities if isinstance(each, Node)]
    assert [each.node_executable for each in nodes if each.condition is None or each.condition.evaluate(context)] == started


@pytest.mark.parametrize("web", ["true", "false"])
def test_adapt_serves_the_page_only_where_it_is_told_to(web: str) -> None:
    context = context_with("adapt", web=web, image="/camera/image_raw")
    (page,) = [each for each in load("adapt").generate_launch_description().entities if type(each) is ExecuteProcess]
    assert page.condition.evaluate(context) == (web == "true")
    words = [perform_substitutions(context, word) for word in page.cmd[1:]]
    assert words == ["web", "--image", "/camera/image_raw"]


@pytest.mark.parametrize(
    ("given", "options_of_the_command"),
    [
        ({}, {"--out=out/replay", "--model=tiny", "--lock-step"}),
        (
            {"lock_step": "false", "adapter_file": "a.safetensors", "image_topic": "/rgb"},
            {"--out=out/replay", "--model=tiny", "--adapter=a.safetensors", "--image-topic=/rgb"},
        ),
    ],
)
def test_replay_runs_the_command(given: dict[str, str], options_of_the_command: set[str]) -> None:
    context = context_with("replay", bag="a.mcap", **given)
    (action,) = [each for each in load("replay").generate_launch_description().entities if isinstance(each, OpaqueFunction)]
    (process,) = action.execute(context)
    subcommand, bag, *rest = [perform_substitutions(context, word) for word in process.cmd[1:]]
    assert (subcommand, bag) == ("replay", "a.mcap")
    assert set(rest) >= options_of_the_command
    assert ("--lock-step" in rest, any(word.startswith("--adapter") for word in rest)) == (not given, bool(given))
