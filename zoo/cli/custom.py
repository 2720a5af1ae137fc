"""zoo --import: a user's own agents and environments, from a module of the current folder or an installed one."""

import importlib
import os
import sys
from collections.abc import Sequence

OPTION = "--import"


def take_imports(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The command line without its --import MODULE, and the modules. Raises ValueError for one without a module."""
    rest, modules = [], []
    given = iter(words)
    for word in given:
        if word != OPTION and not word.startswith(f"{OPTION}="):
            rest.append(word)
            continue
        module = word.partition("=")[2] or next(given, "")
        if not module or module.startswith("-"):
            raise ValueError(f"{OPTION} takes a module, such as my_robot for my_robot.py, got {module!r}")
        modules.append(module)
    return rest, modules


def import_modules(modules: Sequence[str]) -> None:
    """Imports them, here and in the processes that step environments, and enters their agents by their names."""
    from zoo.agents import AGENTS, Agent
    from zoo.evaluation.envs import IMPORTS

    sys.path.insert(0, os.getcwd())
    for name in modules:
        found = importlib.import_module(name)
        classes = [value for value in vars(found).values() if isinstance(value, type) and issubclass(value, Agent)]
        AGENTS.update({cls.__name__: cls for cls in classes if cls.__module__ == found.__name__})
    os.environ[IMPORTS] = os.pathsep.join(modules)
