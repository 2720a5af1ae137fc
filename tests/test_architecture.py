"""Who may import whom, read from the source; and what no file may do."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("policies", "agents", "export", "zoo")
SHARED = {
    "base",
    "training",
    "run",
    "spec",
    "checkpoint",
    "saving",
    "vector",
}  # they know gymnasium and SB3
STDLIB = sys.stdlib_module_names

# Only for who asks: agent.export_onnx is a method, and onnx an extra; `python -m export.runtime` has commands, and
# `python -m export.precision` knows datasets and environments by name.
ON_DEMAND = {("agents/base.py", "export"), ("export/runtime.py", "export"), ("export/precision.py", "zoo")}


def sources(*packages: str) -> list[Path]:
    found = [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]
    assert found
    return found


def imports(path: Path) -> set[str]:
    """Top-level names of every module that a file imports, wherever in it, beyond the standard library."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            names.add(node.module.split(".")[0])
    relative = str(path.relative_to(ROOT))
    return {name for name in names if name not in STDLIB and (relative, name) not in ON_DEMAND}


def ids(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def each(paths: list[Path]):
    return pytest.mark.parametrize("path", paths, ids=ids(paths))


def paper_files() -> list[Path]:
    return [path for path in sources("agents") if path.stem not in SHARED]


@each(sources("policies"))
def test_policies_import_torch_alone(path):
    assert imports(path) <= {"torch", "policies"}


@each(paper_files())
def test_a_papers_file_imports_torch_numpy_policies_and_its_siblings(path):
    assert imports(path) <= {"torch", "numpy", "policies", "agents"}


@each(sources("agents"))
def test_agents_import_neither_export_nor_zoo(path):
    assert not imports(path) & {"export", "zoo"}


@each(sources("export"))
def test_export_does_not_import_zoo(path):
    assert "zoo" not in imports(path)


def test_the_runtime_imports_numpy_and_onnxruntime_alone():
    assert imports(ROOT / "export" / "runtime.py") <= {"numpy", "onnxruntime"}
    assert imports(ROOT / "export" / "inspection.py") <= {"numpy", "onnxruntime", "export"}
    assert imports(ROOT / "export" / "disagreement.py") <= {"numpy", "onnxruntime"}
    assert imports(ROOT / "export" / "control.py") <= {"numpy"}
    assert imports(ROOT / "export" / "__init__.py") == set()


def test_the_runtime_is_imported_where_there_is_no_torch():
    blocked = "import sys; sys.modules.update(dict.fromkeys(('torch', 'gymnasium', 'policies', 'agents', 'zoo')))"
    code = f"{blocked}; import export.runtime, export.inspection; print(export.runtime.OnnxPolicy.__name__)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.stdout.strip(), result.stderr) == ("OnnxPolicy", "")


# Nowhere


EVERYTHING = sources(*PACKAGES, "tests", "benchmarks", "examples")


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
