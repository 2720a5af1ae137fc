"""Who imports whom, read from the source: every import of every file, those inside functions too."""

import ast
import sys
from pathlib import Path

from tests.support.paths import ROOT

# Folder of the repository -> the name under which it is installed (setup.cfg, package_dir). The longest match counts.
INSTALLED = {
    "policies": "zoo.policies",
    "export/robot": "zoo_robot",
    "export": "zoo.export",
    "agents": "zoo.agents",
    "zoo": "zoo",
}


def sources(*folders: str) -> list[Path]:
    """Every file below the folders. A file belongs to its own package: export/robot is not export's."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")) if home(path) == folder]
    found = [path for path in paths if "build" not in path.parts]  # what pip leaves behind
    assert found
    return found


def home(path: Path) -> str:
    """The package that a file belongs to, or for tests and the like the first folder of its path."""
    relative = path.relative_to(ROOT).as_posix()
    owners = [folder for folder in INSTALLED if relative.startswith(f"{folder}/")]
    return max(owners, key=len) if owners else relative.split("/")[0]


def module(path: Path) -> str:
    """agents/core/batch.py -> zoo.agents.core.batch; a package's __init__.py has the package's name."""
    folder = home(path)
    parts = path.with_suffix("").relative_to(ROOT / folder).parts
    name = [INSTALLED.get(folder, folder), *parts]
    return ".".join(name[:-1] if name[-1] == "__init__" else name)


FILES = {module(path): path for path in sources(*INSTALLED)}


def named(path: Path) -> set[str]:
    """Full names of all that a file imports: zoo.agents.core.batch, numpy.typing, ..."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module(path) if path.name == "__init__.py" else module(path).rpartition(".")[0]
                base = ".".join(filter(None, [package, base]))
            inner = {f"{base}.{alias.name}" for alias in node.names}
            names |= (inner & FILES.keys()) or {base}
            if inner - FILES.keys() and inner & FILES.keys():
                names.add(base)
    return names


def own(path: Path) -> set[str]:
    """The project's own modules that a file imports."""
    return {name for name in named(path) if name in FILES}


def foreign(path: Path) -> set[str]:
    """Top-level names of the packages of others that a file imports, beyond the standard library."""
    tops = {name.split(".")[0] for name in named(path) if name not in FILES}
    return {name for name in tops if name not in sys.stdlib_module_names and name not in ("zoo", "zoo_robot")}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of names each of which leads to all others of its group (Tarjan 1972), groups of one left out."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for following in graph[name]:
            if following not in index:
                visit(following)
                low[name] = min(low[name], low[following])
            elif following in stack:
                low[name] = min(low[name], index[following])
        if low[name] == index[name]:
            group = [stack.pop()]
            while group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1 or name in graph[name]:
                groups.append(sorted(group))

    for name in graph:
        if name not in index:
            visit(name)
    return groups
