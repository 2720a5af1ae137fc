"""Minari: local datasets, read with its own library. Nothing is downloaded.

Source: Farama-Foundation/Minari. A dataset lies in <root>/<id>/data, root being $MINARI_DATASETS_PATH or
~/.minari/datasets.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Dict, Space, Tuple
from gymnasium.spaces.utils import flatten_space

from zoo.datasets.checks import Array, DatasetNotFoundError, DatasetValueError
from zoo.datasets.dataset import Limits, OfflineDataset
from zoo.datasets.places import home
from zoo.datasets.readers.arrays import Episode, from_episodes

if TYPE_CHECKING:
    from minari import MinariDataset

KEPT = ("algorithm_name", "author", "code_permalink", "description", "minari_version", "ref_min_score", "ref_max_score")


def root() -> Path:
    """Where Minari keeps its datasets."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or home() / ".minari" / "datasets")


def find_folder(name: str) -> Path | None:
    """The data folder of a local dataset id; None if there is none."""
    folder = root() / name / "data"
    return folder if (folder / "metadata.json").is_file() else None


def data_folder(path: Path) -> Path | None:
    """The data folder of a dataset given by its own folder, its data folder or its main file; None if it is none."""
    folder = path if path.is_dir() else path.parent
    for candidate in (folder, folder / "data"):
        if (candidate / "metadata.json").is_file():
            return candidate
    return None


def local_ids() -> list[str]:
    """Ids of the datasets on this machine, sorted."""
    return sorted(str(path.parents[1].relative_to(root())) for path in root().glob("**/data/metadata.json"))


def read_minari(path: Path, *, action_space: Limits | None = None) -> OfflineDataset:
    """Read a local Minari dataset, by the folder that holds it; its observations may be nested boxes.

    Dict and Tuple observations are concatenated, dictionaries in the order of their keys, as zoo.make_env does. The
    dataset's own action space is used unless one is given.
    Raises DatasetNotFoundError, DatasetValueError, or ImportError without the minari package.
    """
    folder = data_folder(path)
    if folder is None:
        raise DatasetNotFoundError(f"{path} holds no Minari dataset: no metadata.json in it or in its data folder.")
    dataset = _open(folder)
    space = dataset.action_space
    if not isinstance(space, Box) or len(space.shape) != 1:
        raise DatasetValueError(f"{dataset.id}: actions are {space}, expected a Box of one axis: continuous actions.")
    observations = in_order_of_keys(dataset.observation_space)
    _check_observations(dataset.id, observations)
    metadata = dataset.storage.metadata
    spec = dataset.env_spec
    provenance: dict[str, str | int | float] = {"file": dataset.id}
    for key in KEPT:
        if key in metadata:
            value = metadata[key]
            provenance[key] = value if isinstance(value, (str, int, float)) else ", ".join(sorted(value))
    if spec is not None and spec.kwargs:
        provenance["env_kwargs"] = json.dumps(spec.kwargs)
    nested = not isinstance(observations, Box) or len(observations.shape) > 1
    try:
        return from_episodes(
            _episodes(dataset, observations),
            action_space=_float32(space) if action_space is None else action_space,
            observation_space=_float32(flatten_space(observations)),
            name=dataset.id,
            env_id=None if spec is None else _env_id(spec),
            provenance=provenance,
            warnings=(f"observations are {_entries(observations)}, concatenated",) if nested else (),
        )
    except OSError as error:
        raise DatasetValueError(f"{dataset.id} in {folder} is damaged ({error}): copy or download it again.") from error


def package(purpose: str) -> ModuleType:
    """Minari's package. Raises ImportError that names the purpose and the extra."""
    try:
        return importlib.import_module("minari")
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs Minari's package ({error}): pip install 'offline-agent-zoo[minari]'"
        ) from error


def _open(folder: Path) -> MinariDataset:
    minari = package(f"reading {folder}")
    try:
        return minari.MinariDataset(folder)
    except (KeyError, ValueError, TypeError, AssertionError) as error:  # of a broken metadata.json
        raise DatasetValueError(
            f"minari cannot open {folder} ({type(error).__name__}: {error}): copy or download it again, "
            "or install the version of minari that wrote it."
        ) from error


def _env_id(spec: EnvSpec) -> str:
    """The id under which gymnasium.make finds the environment, with the package that registers it."""
    if spec.id in gymnasium.registry or not isinstance(spec.entry_point, str):
        return spec.id
    return f"{spec.entry_point.split(':')[0].split('.')[0]}:{spec.id}"


def _episodes(dataset: MinariDataset, space: Space[Any]) -> Iterator[Episode]:
    for i, episode in enumerate(dataset.iterate_episodes()):
        early = np.flatnonzero(episode.truncations[:-1])
        if len(early):
            raise DatasetValueError(
                f"{dataset.id}: episode {i} is truncated in step {early[0]} and goes on for "
                f"{len(episode) - 1 - early[0]} more. A truncation ends its episode: store two."
            )
        yield Episode(
            observations=_flat(space, episode.observations),
            actions=episode.actions,
            rewards=episode.rewards,
            terminations=episode.terminations,
        )


def in_order_of_keys(space: Space[Any]) -> Space[Any]:
    """The space with its dictionaries sorted. Minari sorts them; an environment may have another order."""
    if isinstance(space, Dict):
        return Dict({key: in_order_of_keys(part) for key, part in sorted(space.spaces.items())})
    if isinstance(space, Tuple):
        return Tuple([in_order_of_keys(part) for part in space.spaces])
    return space


def _flat(space: Space[Any], values: Any) -> Array:
    """Observations of a whole episode, (T + 1, O), in the order of gymnasium.spaces.flatten."""
    if isinstance(space, Dict):
        return np.concatenate([_flat(part, values[key]) for key, part in space.spaces.items()], axis=1)
    if isinstance(space, Tuple):
        return np.concatenate([_flat(part, value) for part, value in zip(space.spaces, values, strict=True)], axis=1)
    return np.asarray(values).reshape(len(values), -1)


def _check_observations(name: str, space: Space[Any]) -> None:
    if isinstance(space, (Dict, Tuple)):
        for part in space.spaces.values() if isinstance(space, Dict) else space.spaces:
            _check_observations(name, part)
    elif not isinstance(space, Box) or (space.dtype == np.uint8 and len(space.shape) > 1):
        raise DatasetValueError(
            f"{name}: observations hold {space}, expected boxes of numbers: the agents read vectors, neither images "
            "nor categories. Encode them, and build the dataset with zoo.from_episodes."
        )


def _entries(space: Space[Any]) -> str:
    return ", ".join(space.spaces) if isinstance(space, Dict) else str(space)


def _float32(space: Space[Any]) -> Box:
    assert isinstance(space, Box)  # boxes flatten to one box
    return Box(space.low.astype(np.float32), space.high.astype(np.float32))
