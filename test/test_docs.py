"""README and docs keep to their sizes, and every link, path, command and line of Python in them works."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import pytest
import yaml

import wesam_ros
from wesam_ros.cli import COMMANDS, REMEDIES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "wesam_ros"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "examples" / "README.md", PACKAGE / "weights" / "tiny.md"])
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""Pages that speak of the repository as it is."""
WORDS = {"README.md": 1400, "docs/method.md": 2500}
"""The most words of a page, with code and tables, as wc counts them."""

FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^ {4}[^\n]*\n)+", re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
EXTENSIONS = "c|cfg|css|csv|html|jpg|json|mcap|md|msg|png|py|pt|pth|rviz|safetensors|sh|srv|toml|txt|xml|yaml|yml"
PATH = re.compile(rf"[\w.*-]+(?:/[\w.*-]+)*(?:/|\.(?:{EXTENSIONS}))(?![\w/])")
ABROAD = ("out/", "install/", "build/", "src/", ".venv/", "~/", "/")
"""Beginnings of paths that are no part of the repository."""
ALWAYS = {"--help", "--verbose"}
"""Options that every command has."""


def name(page: Path) -> str:
    """A page's path from the root."""
    return page.relative_to(ROOT).as_posix()


def prose_of(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", page.read_text())


def code_of(page: Path) -> Iterator[str]:
    """Lines of code in blocks, continued ones in one piece, and code between words."""
    text = page.read_text()
    blocks = [match.group(3) for match in FENCE.finditer(text)] + INDENTED.findall(FENCE.sub("", text))
    for block in blocks:
        yield from (line.strip().partition(" #")[0] for line in re.sub(r"\\\n\s*", " ", block).splitlines())
    yield from INLINE.findall(re.sub(r"\s*\n\s*(?=[^`\n]*`)", " ", INDENTED.sub("", FENCE.sub("", text))))


def anchors_of(page: Path) -> set[str]:
    """GitHub's anchors of a page's headings."""
    texts = (LINK.sub(lambda match: match.group(0)[1:].partition("]")[0], each) for each in HEADING.findall(prose_of(page)))
    plain = (re.sub(r"[^\w\s-]", "", each) for each in texts)
    return {each.strip().lower().replace(" ", "-") for each in plain}


@pytest.mark.parametrize("page", WORDS)
def test_pages_keep_to_their_size(page: str) -> None:
    assert len((ROOT / page).read_text().split()) <= WORDS[page]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for target in LINK.findall(prose_of(page)):
        path, _, anchor = target.partition("#")
        if re.match(r"\w+:", target):
            continue
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors_of(there)):
            wrong.append(target)
    assert not wrong


@pytest.mark.parametrize("page", CURRENT, ids=name)
def test_paths_exist(page: Path) -> None:
    rooms = {path.name for path in ROOT.iterdir()} | {path.name for path in PACKAGE.iterdir()}
    wrong = []
    for code in code_of(page):
        for word in code.split():
            match = PATH.fullmatch(word.strip("'\",;:()[]").partition(":")[0])
            if match is None or word.startswith(ABROAD) or word.split("/")[0] not in rooms:
                continue
            if not any(any(base.glob(match.group(0).rstrip("/"))) for base in (ROOT, PACKAGE, page.parent)):
                wrong.append(word)
    assert not wrong


def options_of(command: str, action: str) -> set[str] | None:
    """The options of a command of `wesam`, and of one of its actions; None where there is no such action."""
    parser = argparse.ArgumentParser()
    try:
        import_module(COMMANDS[command][0]).add_arguments(parser)
    except ModuleNotFoundError as error:
        pytest.skip(f"wesam {command} needs {error.name}")
    found = set(parser._option_string_actions)
    for each in parser._actions:
        if isinstance(each, argparse._SubParsersAction):
            if action not in each.choices:
                return None
            found |= set(each.choices[action]._option_string_actions)
    return found


def commands_in(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Each command of `wesam` on a page, with its words."""
    for code in code_of(page):
        for part in re.split(r"&&|;|\|", code):
            words = [word for word in part.split() if not re.match(r"\w+=|\$$", word)]
            if words[:1] == ["wesam"] and re.fullmatch(r"[a-z]+", " ".join(words[1:2])):
                yield words[1], words[2:]


@pytest.mark.parametrize("page", CURRENT, ids=name)
def test_commands_and_their_options_exist(page: Path) -> None:
    wrong = []
    for command, words in commands_in(page):
        options = options_of(command, words[0] if words else "") if command in COMMANDS else None
        given = {word.partition("=")[0].rstrip(",.;)") for word in words if word.startswith("--")} - ALWAYS
        if options is None or not given <= options:
            wrong.append(" ".join(["wesam", command, *words]))
    assert not wrong


def launch_arguments(file: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The arguments that a launch file declares, with stand-ins for the package launch, which the wheels lack."""
    declared: list[str] = []
    modules: dict[str, Any] = {}
    for each in re.findall(r"^(?:from|import) (launch(?:_ros)?[\w.]*)", file.read_text(), re.MULTILINE):
        for depth in range(1, each.count(".") + 2):
            modules[".".join(each.split(".")[:depth])] = MagicMock()
    modules["launch.actions"].DeclareLaunchArgument = lambda name, **_: declared.append(name)
    for each, module in modules.items():
        monkeypatch.setitem(sys.modules, each, module)
    space = ModuleType(file.stem)
    monkeypatch.setitem(sys.modules, space.__name__, space)
    exec(compile(file.read_text(), str(file), "exec"), space.__dict__)
    space.generate_launch_description()
    return set(declared)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_launch_files_and_their_arguments_exist(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = []
    for code in code_of(page):
        match = re.search(r"ros2 launch wesam_ros (\S+)(.*)", code)
        if match is None:
            continue
        file = ROOT / "launch" / match.group(1)
        given = set(re.findall(r"(\w+):=", match.group(2)))
        if not file.exists() or not given <= launch_arguments(file, monkeypatch):
            wrong.append(code)
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_executables_and_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wrong = []
    for code in code_of(page):
        wrong += [each for each in re.findall(r"ros2 run wesam_ros (\w+)", code) if not (ROOT / "bin" / each).exists()]
        wrong += [each for each in re.findall(r"^make ([a-z]+)", code) if each not in targets]
    assert not wrong


def test_the_readmes_python_runs(tmp_path: Path) -> None:
    blocks = [code for _, language, code in FENCE.findall((ROOT / "README.md").read_text()) if language == "python"]
    assert blocks
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    command = [sys.executable, "-c", "\n".join(blocks) + "\nassert masks.any((1, 2)).all()"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_in_the_docs_compiles(page: Path) -> None:
    for _, language, code in FENCE.findall(page.read_text()):
        if language == "python":
            compile(code, name(page), "exec")


def recommended_extras() -> set[str]:
    """The extras that the docs and the errors tell to install."""
    texts = [page.read_text() for page in PAGES] + [path.read_text() for path in PACKAGE.rglob("*.py")]
    assert not [text for text in texts if re.search(r"pip install '?wesam_ros\b", text)], "no index has wesam_ros"
    found = {extra for text in texts for extras in re.findall(r"pip install -e '\.\[([\w,]+)\]'", text) for extra in extras.split(",")}
    assert {"onnx", "sim"} <= found
    return found


def test_the_extras_can_be_installed_as_told(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "wesam_ros", ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, tmp_path)
    told = f".[{','.join(sorted(recommended_extras()))}]"
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-deps", "--no-build-isolation", "-e", told]
    done = subprocess.run(pip, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "does not provide the extra" not in done.stderr


def test_errors_tell_of_packages_in_the_extras() -> None:
    extras = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    for package, remedy in REMEDIES.items():
        for extra in re.findall(r"pip install -e '\.\[(\w+)\]'", remedy):
            assert re.search(rf'^{extra} = \[.*"{package}\b', extras, re.MULTILINE)


def test_the_version_stands_once() -> None:
    assert f"<version>{wesam_ros.__version__}</version>" in (ROOT / "package.xml").read_text()
    given = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert given is None or given.group(1) == wesam_ros.__version__


def test_hooks_and_workflows_are_as_the_project_is() -> None:
    pinned = dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    for each in (package for hook in hooks for package in hook.get("additional_dependencies", ())):
        assert pinned[each.partition("==")[0]] == each.partition("==")[2]
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in (ROOT / ".github" / "workflows").iterdir():
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            made = {each for step in job["steps"] for each in re.findall(r"(?:^|&& )make ([a-z]+)", step.get("run", ""))}
            assert "test" in made <= targets
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text())
    required = {each["id"] for each in form["body"] if each.get("validations", {}).get("required")}
    assert {"doctor", "camera", "detector"} <= required
