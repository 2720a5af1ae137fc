"""Who may import whom, read from the source; and what no file may do. docs/architecture.md has the reasons."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.imports import FILES, INSTALLED, circles, foreign, home, own, sources
from tests.support.paths import ROOT
from zoo.agents import AGENTS

# Lowest first. A file imports its own floor and those below.
FLOORS = [{"policies", "export/robot"}, {"export"}, {"agents"}, {"zoo"}]

# Folder -> the packages of others that it may import, and the modules of ours.
FOLDERS = {
    "policies": ({"torch"}, ("zoo.policies",)),
    "export/robot": ({"numpy", "onnxruntime"}, ("zoo_robot",)),
    "export": (
        {"torch", "numpy", "onnx", "onnxruntime", "onnxscript"},
        ("zoo.policies", "zoo.export", "zoo_robot"),
    ),
    "agents/core": ({"torch", "numpy", "gymnasium", "stable_baselines3"}, ("zoo.policies", "zoo.agents.core")),
    "agents/files": ({"torch", "safetensors"}, ("zoo.export", "zoo.agents.core", "zoo.agents.files")),
    "agents/loop": (
        {"torch", "numpy", "gymnasium", "stable_baselines3", "tqdm"},
        ("zoo.agents.core", "zoo.agents.files", "zoo.agents.loop", "zoo.export.stopping"),
    ),
    "agents/shared": (
        {"torch", "numpy"},
        ("zoo.policies", "zoo.agents.agent", "zoo.agents.core", "zoo.agents.shared"),
    ),
}
A_PAPER = ({"torch", "numpy"}, ("zoo.policies", "zoo.agents.agent", "zoo.agents.core", "zoo.agents.shared"))
PAPERS = sorted({FILES[cls.__module__] for cls in AGENTS.values()})


def each(paths: list[Path]):
    return pytest.mark.parametrize("path", paths, ids=[str(path.relative_to(ROOT)) for path in paths])


def rank(path: Path) -> int:
    return next(i for i, floor in enumerate(FLOORS) if home(path) in floor)


def within(name: str, places: tuple[str, ...]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


@each(list(FILES.values()))
def test_no_import_runs_up(path):
    assert [name for name in own(path) if rank(FILES[name]) > rank(path)] == []


def test_no_files_import_each_other_in_a_circle():
    assert circles({name: own(path) for name, path in FILES.items()}) == []


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [["a", "b", "c"]]


@pytest.mark.parametrize(("folder", "rules"), FOLDERS.items(), ids=FOLDERS)
def test_a_folder_imports_what_its_rule_says(folder, rules):
    others, places = rules
    paths = [path for path in FILES.values() if folder_of(path) == folder]
    assert paths
    for path in paths:
        assert foreign(path) <= others, path
        assert [name for name in own(path) if not within(name, places)] == [], path


def folder_of(path: Path) -> str:
    """The longest folder with a rule that a file lies in."""
    relative = path.relative_to(ROOT).as_posix()
    return max((folder for folder in FOLDERS if relative.startswith(f"{folder}/")), key=len, default="")


@pytest.mark.parametrize("cls", AGENTS.values(), ids=AGENTS)
def test_a_paper_imports_what_papers_share_and_the_paper_that_it_extends(cls):
    path = FILES[cls.__module__]
    extended = tuple(base.__module__ for base in cls.__mro__ if base in AGENTS.values())
    assert path.parent == ROOT / "agents"
    assert foreign(path) <= A_PAPER[0]
    assert [name for name in own(path) if not within(name, (*A_PAPER[1], *extended))] == []


def test_the_folder_of_agents_is_the_list_of_papers():
    assert {path.name for path in (ROOT / "agents").glob("*.py")} - {path.name for path in PAPERS} == {
        "__init__.py",
        "agent.py",
    }


def test_the_control_loop_needs_numpy_alone():
    assert foreign(FILES["zoo_robot.control"]) == {"numpy"}
    assert own(FILES["zoo_robot.control"]) == own(FILES["zoo_robot.runtime"]) == set()


@pytest.mark.parametrize(
    "code",
    [
        "import zoo_robot; print(zoo_robot.OnnxPolicy.__name__)",
        "from zoo_robot import OnnxPolicy, inspection; print(OnnxPolicy.__name__)",
    ],
)
def test_the_robots_side_is_imported_where_there_is_no_torch(code):
    blocked = "import sys; sys.modules.update(dict.fromkeys(('torch', 'gymnasium', 'zoo')))"
    result = subprocess.run([sys.executable, "-c", f"{blocked}; {code}"], capture_output=True, text=True, check=False)
    assert (result.stdout.strip(), result.stderr) == ("OnnxPolicy", "")


@pytest.mark.parametrize("name", ["zoo", "zoo.datasets.load", "zoo.cli.main"])
def test_what_needs_no_torch_does_not_import_it(name):
    code = f"import sys, {name}; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_the_names_of_zoo_are_those_it_promises():
    import zoo

    assert [name for name in zoo.__all__ if not hasattr(zoo, name)] == []
    with pytest.raises(AttributeError, match="'zoo' has no attribute 'PERS'"):
        _ = zoo.PERS


# Nowhere


EVERYTHING = sources(*INSTALLED, "tests", "benchmarks", "examples")


@each(EVERYTHING)
def test_no_file_imports_d4rl_or_a_pickle(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    modules |= {
        node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
    }
    assert not modules & {"d4rl", "pickle", "cloudpickle", "dill", "joblib", "shelve"}


def pickling(tree: ast.AST) -> Iterator[str]:
    """What would write or read a pickle through a library: torch.save, torch.load, np.load(..., allow_pickle=True)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
            if node.attr in ("load", "save"):
                yield f"torch.{node.attr} in line {node.lineno}"
        elif (
            isinstance(node, ast.ImportFrom)
            and node.module == "torch"
            and {"load", "save"} & {a.name for a in node.names}
        ):
            yield f"torch's load or save in line {node.lineno}"
        elif (
            isinstance(node, ast.keyword)
            and node.arg == "allow_pickle"
            and getattr(node.value, "value", True) is not False
        ):
            yield f"allow_pickle in line {node.value.lineno}"


@each(EVERYTHING)
def test_no_file_pickles_through_a_library(path):
    assert list(pickling(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "code",
    ["import torch\ntorch.load('x')", "from torch import save", "import numpy as np\nnp.load('x', allow_pickle=True)"],
)
def test_the_search_for_pickles_finds_them(code):
    assert len(list(pickling(ast.parse(code)))) == 1
