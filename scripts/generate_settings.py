"""Writes config/nodes.yaml and docs/parameters.md from the options that are declared in the package.

    python scripts/generate_settings.py

A test holds both files against what this writes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.options import Option, options
from wesam_ros.settings import (
    LAUNCH_ARGUMENTS,
    SET_BY_ADAPTER_FILE,
    AdapterParameters,
    InputParameters,
    PlayerParameters,
    SegmenterParameters,
)

ROOT = Path(__file__).parents[1]
WIDTH = 120
YAML_HEAD = """\
# Written by scripts/generate_settings.py: the parameters of both nodes that are no arguments of adapt.launch.py, with their defaults.
# To change some, copy this file and give the copy:
#     ros2 launch wesam_ros adapt.launch.py config:=/path/to/copy.yaml ...
# or, without launch: ros2 run wesam_ros segmenter --ros-args --params-file copy.yaml
# A parameter adaptation.NAME of the adapter node sets an option of the method. docs/parameters.md lists all parameters.
"""
PAGE_HEAD = """\
# Parameters

Written by `scripts/generate_settings.py` from the options in the package. `ros2 param describe /segmenter NAME` says the same.
A parameter that may change while the node runs is marked *live*. Launch arguments of the same name set the parameters of both nodes.
"""


def nodes_yaml() -> str:
    """The text of config/nodes.yaml."""
    left_out = {*LAUNCH_ARGUMENTS, *SET_BY_ADAPTER_FILE}
    lines = [YAML_HEAD.rstrip()]
    for node, cls in (("segmenter", SegmenterParameters), ("adapter", AdapterParameters)):
        lines += [f"/**/{node}:", "  ros__parameters:"]
        for each in options(cls):
            if each.name not in left_out:
                lines += textwrap.wrap(each.doc, WIDTH, initial_indent="    # ", subsequent_indent="    # ")
                lines.append(f"    {each.name}: {_literal(each)}")
    return "\n".join(lines) + "\n"


def parameters_page() -> str:
    """The text of docs/parameters.md."""
    shared = {each.name for each in options(InputParameters)}
    sections = [PAGE_HEAD]
    for title, found in (
        ("Segmenter and adapter node", options(InputParameters)),
        ("Segmenter", [each for each in options(SegmenterParameters) if each.name not in shared]),
        ("Adapter node", [each for each in options(AdapterParameters) if each.name not in shared]),
        ("Method: adaptation.NAME of the adapter node, and --set NAME=VALUE of the commands", options(AdaptationConfig)),
        ("Player", options(PlayerParameters)),
    ):
        sections.append(f"\n## {title}\n\n| name | default | values | meaning |\n| --- | --- | --- | --- |\n{_rows(found)}")
    return "".join(sections)


def _rows(found: Iterable[Option]) -> str:
    return "".join(f"| `{each.name}` | {_default(each)} | {_values(each)} | {each.doc.replace('|', '/')} |\n" for each in found)


def _default(each: Option) -> str:
    return f"`{_literal(each)}`" if each.default != "" else "empty"


def _values(each: Option) -> str:
    """The type, the choices or range, and whether it may change while the node runs."""
    words = [", ".join(f"`{choice}`" for choice in each.choices) if each.choices else each.type.__name__]
    words += [each.range_text()] * bool(each.range_text()) + ["*live*"] * (not each.read_only)
    return "; ".join(words)


def _literal(each: Option) -> str:
    """The default as YAML has it."""
    if each.type is bool:
        return str(each.default).lower()
    return f'"{each.default}"' if each.type is str else repr(each.default)


def main() -> None:
    """Writes both files."""
    for path, text in ((ROOT / "config" / "nodes.yaml", nodes_yaml()), (ROOT / "docs" / "parameters.md", parameters_page())):
        path.write_text(text, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
