"""The settings of the nodes, without ROS."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
import yaml

from wesam_ros import __version__
from wesam_ros.engines import CHOICES
from wesam_ros.machine import resolve_device
from wesam_ros.options import options
from wesam_ros.sam.architectures import ARCHITECTURES
from wesam_ros.settings import (
    LAUNCH_ARGUMENTS,
    MODELS,
    SET_BY_ADAPTER_FILE,
    AdapterParameters,
    PlayerParameters,
    SegmenterParameters,
    launch_argument,
)

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("device", "gpu", "taken"), [("auto", False, "cpu"), ("auto", True, "cuda"), ("cpu", True, "cpu"), ("cuda", True, "cuda")]
)
def test_device(device: str, gpu: bool, taken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert resolve_device(device) == taken


@pytest.mark.parametrize("cls", [SegmenterParameters, AdapterParameters, PlayerParameters])
def test_defaults_are_allowed_and_described(cls: type) -> None:
    cls()
    assert all(each.doc for each in options(cls))


def test_models_are_those_that_there_are() -> None:
    assert tuple(ARCHITECTURES) == MODELS


def test_launch_files_get_their_arguments_without_torch() -> None:
    program = (
        "import sys; sys.modules['torch'] = None; from wesam_ros import settings as s; print(s.launch_argument('model')['choices'][0])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "tiny\n"


def test_a_launch_argument_has_default_choices_and_text_of_its_parameter() -> None:
    parameters = {each.name: each for cls in (SegmenterParameters, AdapterParameters) for each in options(cls)}
    for name in LAUNCH_ARGUMENTS:
        argument = launch_argument(name)
        assert argument["default_value"] == str(parameters[name].default).lower()
        assert argument["description"] == parameters[name].doc
    assert launch_argument("engine")["choices"] == CHOICES
    assert launch_argument("lock_step")["choices"] == ["true", "false"]


def test_generated_files_are_up_to_date() -> None:
    """`python scripts/generate_settings.py` writes them."""
    spec = importlib.util.spec_from_file_location("generate_settings", ROOT / "scripts" / "generate_settings.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    assert (ROOT / "config" / "nodes.yaml").read_text() == generator.nodes_yaml()
    assert (ROOT / "docs" / "parameters.md").read_text() == generator.parameters_page()
    values = yaml.safe_load(generator.nodes_yaml())
    for node, cls in (("/**/segmenter", SegmenterParameters), ("/**/adapter", AdapterParameters)):
        given = values[node]["ros__parameters"]
        assert given == {each.name: each.default for each in options(cls) if each.name in given}
        assert not given.keys() & {*LAUNCH_ARGUMENTS, *SET_BY_ADAPTER_FILE}


def test_the_version_stands_once() -> None:
    assert ElementTree.parse(ROOT / "package.xml").findtext("version") == __version__
    assert 'version = { attr = "wesam_ros.__version__" }' in (ROOT / "pyproject.toml").read_text()
