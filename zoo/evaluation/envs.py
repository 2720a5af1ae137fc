"""make_env: from a dataset, its name, or a Gymnasium id to the environment that the data is about."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import gymnasium
from gymnasium.spaces import Dict, Tuple
from gymnasium.spaces.utils import flatten, flatten_space
from gymnasium.wrappers import TransformObservation

from zoo.agents.core.spec import DataSpec, same_box
from zoo.datasets.dataset import EMBEDDED, OfflineDataset
from zoo.datasets.packed import PackedDataset
from zoo.datasets.readers.d4rl import CATALOG
from zoo.datasets.readers.minari import in_order_of_keys

OURS = ("zoo.collecting.mazes", "zoo.collecting.mood.rewards", "zoo.evaluation.d4rl_envs")
SAFE = (*OURS, "gymnasium_robotics", "ogbench", "shimmy")  # a file may name them: importing them only makes ids known
RENAMED = {"zoo.mazes": "zoo.collecting.mazes", "zoo.mood_rewards": "zoo.collecting.mood.rewards"}  # in older files
IMPORTS = "ZOO_IMPORT"  # variable with the modules of zoo --import, for worker processes
D4RL_KWARGS: dict[str | None, dict[str, Any]] = {
    "ant": {"use_contact_forces": True}  # D4RL's ant observes them: 111 numbers, Gymnasium's default 27
}


class UntrustedError(ValueError):
    """A file asks for something that only its user may decide; the message says what and how."""


def make_env(
    dataset_or_name_or_env_id: OfflineDataset | PackedDataset | DataSpec | str,
    seed: int | None = None,
    *,
    trust: bool = False,
    **kwargs: Any,
) -> gymnasium.Env[Any, Any]:
    """An environment to evaluate or fine-tune in; with a seed, reset once so that later resets continue that
    stream.

    D4RL's locomotion ids give Gymnasium's -v4 environments, the same tasks on today's MuJoCo (-v5 differs). D4RL's
    mazes, hands and kitchens give those of zoo.evaluation.d4rl_envs, in D4RL's convention; zoo.evaluation.protocols
    says how each differs from the simulator that D4RL measured in. A dataset's observation shape and action box are
    compared with the environment's. Nested observations are concatenated, dictionaries in the order of their keys.
    kwargs go to gymnasium.make, over those that the dataset says it was recorded with.
    trust: a file may name a module to import, and arguments for gymnasium.make. That is done only where you trust the
    file; a module that you name yourself, make_env("package:Id-v0"), is yours.
    agent.spec stands for the agent's dataset and is small: functools.partial(make_env, agent.spec) is what worker
    processes are sent.
    Raises ValueError when no environment is known, the id does not exist or the spaces differ, UntrustedError where
    trust is asked for, ImportError when the simulator is not installed.
    """
    for module in filter(None, os.environ.get(IMPORTS, "").split(os.pathsep)):
        importlib.import_module(module)  # in a worker process; elsewhere it is there already
    source = dataset_or_name_or_env_id
    name = source if isinstance(source, str) else source.name
    if not isinstance(source, str):
        env_id, recorded = environment_of(name, source.env_id, source.provenance, trust)
        kwargs = recorded | kwargs
    elif name in CATALOG:
        env_id = CATALOG[name].env_id
        kwargs = recorded_kwargs(name, {}) | kwargs
    else:
        env_id = of_today(EMBEDDED.get(name, name))
    if env_id is None:
        raise ValueError(f"no environment is known for dataset {name!r}. Pass a Gymnasium id: make_env('Hopper-v5').")
    try:
        env: gymnasium.Env[Any, Any] = gymnasium.make(env_id, **kwargs)
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        raise ImportError(
            f"{env_id} needs a package that is not installed ({error}). "
            "For MuJoCo: pip install 'gymnasium[mujoco]'; for Adroit, Fetch and mazes: gymnasium-robotics."
        ) from error
    except gymnasium.error.Error as error:
        raise ValueError(
            f"gymnasium cannot make {env_id!r} ({error}). If a package registers it, name the package too: "
            "'gymnasium_robotics:AdroitHandPen-v1'."
        ) from error
    if isinstance(getattr(env, "observation_space", None), (Dict, Tuple)):
        space = in_order_of_keys(env.observation_space)
        env = TransformObservation(env, partial(flatten, space), flatten_space(space))
    if not isinstance(source, str):
        _check_spaces(source, env)
    if seed is not None:
        env.reset(seed=seed)
        env.action_space.seed(seed)
    return env


def environment_of(
    name: str, env_id: str | None, provenance: Mapping[str, Any], trust: bool
) -> tuple[str | None, dict[str, Any]]:
    """The id and the arguments of the environment that a file names; name: of its dataset.

    Raises UntrustedError for a module that is not in SAFE, or arguments to another than our own environments, unless
    they are trusted.
    """
    env_id = env_id if env_id is None else of_today(env_id)
    module = (env_id or "").rpartition(":")[0]
    way_out = "If you trust the file: trust=True, on the command line --trust; or name the environment yourself, --env"
    if module and module not in SAFE and not trust:
        raise UntrustedError(f"{name} names the environment {env_id!r}, which would import {module}. {way_out}")
    kwargs = recorded_kwargs(name, provenance)
    if kwargs != D4RL_KWARGS.get(_family(name), {}) and module not in OURS and not trust:
        raise UntrustedError(f"{name} gives its environment the arguments {kwargs}. {way_out}")
    return env_id, kwargs


def of_today(env_id: str) -> str:
    """An id of ours that was written before its module moved, as it is now; any other one unchanged."""
    module, colon, rest = env_id.rpartition(":")
    return f"{RENAMED.get(module, module)}{colon}{rest}"


def recorded_kwargs(name: str, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments for gymnasium.make that a dataset's environment was made with."""
    try:
        recorded = json.loads(str(provenance.get("env_kwargs", "{}")))
    except (ValueError, RecursionError):
        recorded = None
    if not isinstance(recorded, dict):
        raise ValueError(f"{name}: env_kwargs must be a table in JSON, got {str(provenance['env_kwargs'])[:80]!r}")
    return D4RL_KWARGS.get(_family(name), {}) | recorded


def _family(name: str) -> str | None:
    return CATALOG[name].family if name in CATALOG else None


def _check_spaces(dataset: OfflineDataset | PackedDataset | DataSpec, env: gymnasium.Env[Any, Any]) -> None:
    if env.observation_space.shape != dataset.observation_space.shape:
        raise ValueError(
            f"{dataset.name} has observations {dataset.observation_space.shape}, {dataset.env_id} gives "
            f"{env.observation_space.shape}. Pass the keyword arguments that the data was recorded with."
        )
    box = env.action_space
    if not same_box(box, dataset.action_space):
        raise ValueError(
            f"{dataset.name} has actions in {dataset.action_space}, {dataset.env_id} takes {box}. "
            "Load the data with action_space=env.action_space if its actions are in the environment's units."
        )
