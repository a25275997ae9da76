"""The house rules of the code, held by parsing it: arrows of imports, sizes, words and docstrings."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "wesam_ros"
TESTS = ROOT / "test"

ALONE: frozenset[str] = frozenset()
BOTTOM = frozenset({"counts", "files", "options", "machine", "worker"})
MODEL = BOTTOM | {"sam", "data"}
LEARNING = MODEL | {"scene", "adaptation"}
MESSAGES = frozenset({"msg", "srv"})
ARROWS = {
    **dict.fromkeys(BOTTOM, ALONE),
    "sam": BOTTOM,
    "data": BOTTOM | {"sam"},
    "drawing": frozenset({"sam", "data"}),
    "scene": MODEL,
    "engines": BOTTOM | {"sam"},
    "hand_over": BOTTOM | {"sam", "engines"},
    "settings": LEARNING | {"engines"},
    "adaptation": MODEL | {"scene"},
    "methods": LEARNING,
    "pretraining": MODEL | {"scene", "engines", "drawing"},
    "evaluation": LEARNING | {"engines", "methods", "drawing"},
    "web": frozenset({"data", "drawing"}),
    "ros": LEARNING | {"engines", "drawing", "settings", "web"} | MESSAGES,
    "nodes": LEARNING | {"engines", "drawing", "settings", "ros", "web"} | MESSAGES,
    "commands": LEARNING
    | {"engines", "drawing", "settings", "methods", "evaluation", "pretraining", "hand_over", "ros", "nodes", "web"}
    | MESSAGES,
    "cli": ALONE,  # it imports the chosen command by name
}
"""A room of the package (a folder, or a module beside them), and the rooms that it may import, in a function or for types as well."""
NODES = {"__init__.py", "segmenter.py", "adapter.py", "player.py"}

FILE_LINES, CLASS_LINES, FUNCTION_LINES, NODE_LINES = 400, 200, 50, 150
QUESTION = re.compile(r"(What|Which|Whether|Why|How|Who|Whose|Whom|Where|When|As)\b")
OLD_NAMES = {
    "Found", "Verdict", "verdict", "Opinion", "opinion", "said", "Answer", "Evidence", "reach", "core", "claims", "claimed", "Gated",
    "gated", "lent", "good", "fallen", "objection", "Joined", "KeptFrame", "FrameMemory", "Judgement", "held_back", "judges", "rollbacks",
    "last_good", "AdapterGate", "baselines", "fit_last_good", "fit_frozen",
}  # fmt: skip
"""Words of the private language that the field's terms have replaced (docs/architecture.md)."""


@cache
def sources(folder: Path) -> dict[Path, ast.Module]:
    """The Python files below a folder, parsed."""
    return {path: ast.parse(path.read_text()) for path in sorted(folder.rglob("*.py"))}


def module_of(path: Path) -> str:
    """The dotted name of a file of the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in sources(PACKAGE)}


def imports_of(tree: ast.Module) -> Iterator[str]:
    """The modules of ours that a file imports, wherever in it; a generated one by its package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else str(node.module) for name in inner]
        else:
            continue
        yield from (name for name in names if name.partition(".")[0] == PACKAGE.name)


def room_of(module: str) -> str:
    """The folder of the package that a module is in, or its own name beside them; "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of each docstring, those below assignments as well."""
    for node in ast.walk(tree):
        for statement in node.body if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) else ():
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str):
                yield statement.lineno, statement.value.value


def name(path: Path, line: int = 0) -> str:
    """A place, as an editor takes it."""
    return f"{path.relative_to(ROOT)}:{line}" if line else str(path.relative_to(ROOT))


def test_no_module_imports_itself_over_others() -> None:
    graph = {module_of(path): set(imports_of(tree)) - {module_of(path)} for path, tree in sources(PACKAGE).items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_the_arrows_are_no_circle() -> None:
    TopologicalSorter(ARROWS).prepare()


def test_no_arrow_points_upwards() -> None:
    wrong = []
    for path, tree in sources(PACKAGE).items():
        room = room_of(module_of(path))
        allowed = ARROWS.get(room, ALONE) | {room, ""}
        wrong += [f"{name(path)} imports {module}" for module in imports_of(tree) if room_of(module) not in allowed]
    assert not wrong


def test_data_takes_values_from_the_model_and_no_more() -> None:
    wrong = []
    for path, tree in sources(PACKAGE / "data").items():
        wrong += [
            f"{name(path)} imports {module}"
            for module in imports_of(tree)
            if room_of(module) == "sam" and module not in ("wesam_ros.sam.prompts", "wesam_ros.sam.masks")
        ]
    assert not wrong


def test_every_room_has_its_arrows() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - {"__init__"} == set(ARROWS)


def test_there_are_three_nodes() -> None:
    assert {path.name for path in (PACKAGE / "nodes").glob("*.py")} == NODES


def test_only_ros_and_nodes_import_ros() -> None:
    ros = {"rclpy", "sensor_msgs", "std_msgs", "vision_msgs", "geometry_msgs", "diagnostic_msgs", "lifecycle_msgs", "tf2_msgs", "std_srvs"}
    wrong = []
    for path, tree in sources(PACKAGE).items():
        if room_of(module_of(path)) in ("ros", "nodes"):
            continue
        for node in tree.body:  # a command that needs ROS imports it in a function
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            wrong += [f"{name(path, node.lineno)} imports {each}" for each in names if each.partition(".")[0] in ros]
    assert not wrong


@pytest.mark.parametrize("folder", [PACKAGE, TESTS], ids=["package", "tests"])
def test_files_classes_and_functions_are_small(folder: Path) -> None:
    wrong = []
    for path, tree in sources(folder).items():
        lines = len(path.read_text().splitlines())
        if lines > (NODE_LINES if path.parent == PACKAGE / "nodes" else FILE_LINES):
            wrong.append(f"{name(path)} has {lines} lines")
        for node in ast.walk(tree):
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > (CLASS_LINES if isinstance(node, ast.ClassDef) else FUNCTION_LINES):
                wrong.append(f"{name(path, node.lineno)} {node.name} has {length} lines")
    assert not wrong


@pytest.mark.parametrize("folder", [PACKAGE, TESTS, ROOT / "benchmarks", ROOT / "launch", ROOT / "examples"], ids=lambda path: path.name)
def test_docstrings_say_what_a_thing_is(folder: Path) -> None:
    wrong = [
        f"{name(path, line)} {text.strip().splitlines()[0][:60]}"
        for path, tree in sources(folder).items()
        for line, text in docstrings(tree)
        if QUESTION.match(text.strip())
    ]
    assert not wrong


def test_public_names_are_documented() -> None:
    wrong = []
    for path, tree in sources(PACKAGE).items():
        if ast.get_docstring(tree) is None and tree.body:
            wrong.append(name(path))
        public = [node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")]
        # What a class overrides is documented where it is declared.
        inner = [each for node in public if isinstance(node, ast.ClassDef) and not node.bases for each in node.body]
        methods = [node for node in inner if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
        wrong += [f"{name(path, node.lineno)} {node.name}" for node in [*public, *methods] if ast.get_docstring(node) is None]
    assert not wrong


@pytest.mark.parametrize("folder", [PACKAGE, TESTS, ROOT / "benchmarks", ROOT / "launch", ROOT / "examples"], ids=lambda path: path.name)
def test_no_name_is_an_old_word(folder: Path) -> None:
    wrong = []
    for path in sorted(folder.rglob("*.py")):
        with tokenize.open(path) as file:
            for token in tokenize.generate_tokens(file.readline):
                if token.type == tokenize.NAME and token.string.strip("_") in OLD_NAMES:
                    wrong.append(f"{name(path, token.start[0])} {token.string}")
    assert not wrong


def test_no_message_field_is_an_old_word() -> None:
    wrong = []
    for path in sorted([*(ROOT / "msg").iterdir(), *(ROOT / "srv").iterdir()]):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            words = set(re.findall(r"\w+", line.partition("#")[0]))
            wrong += [f"{name(path, number)} {word}" for word in words & OLD_NAMES]
    assert not wrong
