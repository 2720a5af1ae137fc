"""Datasets for others' tools: D4RL's HDF5 layout, and Minari. A file is read back before it is kept."""

from __future__ import annotations

import copy
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from zoo.datasets import packing, sources
from zoo.datasets.checks import DatasetValueError
from zoo.datasets.dataset import STORED, OfflineDataset
from zoo.datasets.load import load_dataset
from zoo.datasets.packed import is_packed
from zoo.datasets.readers import d4rl, minari
from zoo.datasets.readers.arrays import STATED
from zoo.datasets.sealed import SEAL, sealed_hdf5
from zoo.evaluation.envs import UntrustedError, environment_of, recorded_kwargs
from zoo.evaluation.scores import REFERENCES
from zoo.export.files import Lock, whole, whole_folder

OWN_PROVENANCE = (
    "file",
    "path",
    "source",
    "sha256",
    SEAL,
    "mode",
    "rows_in_file",
)  # of the file that was read, not of the one written


def export(path: str, out: str, format: str, overwrite: bool = False) -> str:
    """zoo data export: writes `out`, a file, a folder or the id of a Minari dataset. Returns what to tell the user."""
    if format != "minari" and Path(out).exists():
        if not overwrite:
            raise FileExistsError(f"{out} is already there; --overwrite replaces it, or give another name")
        if format == "packed" and not is_packed(out):
            raise FileExistsError(f"{out} is no packed dataset, and --overwrite replaces only those; give another name")
    if format == "packed":
        source = sources.locate(path)
        if source.format == "d4rl" and source.name is None:  # the one kind that may not fit into memory
            packing.convert_hdf5(source.path, Path(out), overwrite=overwrite)
        else:
            packing.write_packed(load_dataset(path), Path(out), overwrite=overwrite)
        return f"wrote {out}; zoo train takes it, and zoo.open_packed"
    if format == "d4rl":
        file = write_d4rl(load_dataset(path), Path(out))
        return f"wrote {file}, {file.stat().st_size:,} bytes"
    folder = write_minari(load_dataset(path), out)
    return f"wrote {folder}; read it with minari.load_dataset({out!r})"


def write(dataset: OfflineDataset, out: Path, overwrite: bool = False) -> Path:
    """The dataset as an HDF5 file, or packed in a folder where `out` has no suffix. Returns the path.

    Raises DatasetValueError for another suffix, FileExistsError where something is there and is not to be replaced.
    """
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} is already there; --overwrite replaces it, or give another name")
    return write_d4rl(dataset, out) if out.suffix else packing.write_packed(dataset, out, overwrite=overwrite)


def write_d4rl(dataset: OfflineDataset, path: Path) -> Path:
    """The dataset as an HDF5 file that d4rl's tools and load_dataset read; whole or not at all. Returns the path.

    Beside D4RL's keys it has next_observations and, as attributes, the spaces, env_id and the provenance, so that
    load_dataset gives the same dataset again under the file's name. An episode that goes on after a termination
    ends by timeouts alone, as D4RL's AntMaze has it; the attribute episode_ends says so.
    Raises DatasetValueError for another suffix than .hdf5 or .h5, for a name that is D4RL's own, and where the file
    does not read back equal: a state inside an episode that is not the one before's successor.
    """
    if path.suffix not in d4rl.SUFFIXES:
        raise DatasetValueError(f"{path} must end in {' or '.join(d4rl.SUFFIXES)}")
    if path.name in d4rl.BY_FILE_NAME:
        raise DatasetValueError(f"{path.name} is the file of D4RL's own {d4rl.BY_FILE_NAME[path.name].name}: rename it")
    last = last_rows(dataset)
    walks_on = bool((dataset.terminations & ~last).any())
    columns = {
        "observations": dataset.observations,
        "actions": dataset.actions,
        "rewards": dataset.rewards,
        "next_observations": dataset.next_observations,
        "terminals": dataset.terminations,
        "timeouts": last if walks_on else dataset.truncations,
    }
    attributes: dict[str, Any] = {key: value for key, value in dataset.provenance.items() if key not in OWN_PROVENANCE}
    attributes |= {"action_low": dataset.action_space.low, "action_high": dataset.action_space.high}
    attributes |= {"observation_low": dataset.observation_space.low, "observation_high": dataset.observation_space.high}
    attributes |= {"env_id": dataset.env_id} if dataset.env_id else {}
    attributes |= {"episode_ends": "timeouts"} if walks_on else {}
    attributes |= {STATED: json.dumps(dataset.stated)} if dataset.stated else {}

    # An attribute of more than 64 kB needs HDF5's newer layout.
    layout = "latest" if max(len(str(value)) for value in attributes.values()) > 60_000 else None
    with whole(path) as temporary:
        with sealed_hdf5(temporary, path, layout) as (file, check_disk):
            for key, column in columns.items():
                file.create_dataset(key, data=column, compression="gzip", shuffle=True)
                check_disk()
            file.attrs.update(attributes)
        _compare(dataset, d4rl.read_hdf5(temporary, mode="full"), STORED)
    return path


def write_minari(dataset: OfflineDataset, dataset_id: str) -> Path:
    """The dataset as a local Minari dataset, whole or not at all. Returns its folder.

    Minari's episodes end at their first termination and have one observation more than actions: an episode is split
    after a termination and where a state is not the one before's successor, and the description says how often. The
    environment's spec goes in where Gymnasium knows env_id, and D4RL's reference returns where the dataset has some.
    Raises DatasetValueError for an id that is malformed or taken, ImportError without the minari package.
    """
    library = minari.package(f"writing {dataset_id}")
    from minari.dataset.minari_dataset import parse_dataset_id
    from minari.dataset.minari_storage import MinariStorage

    try:
        parse_dataset_id(dataset_id)
    except (ValueError, TypeError) as error:
        raise DatasetValueError(
            f"{dataset_id!r} is no Minari id; expected (namespace/)name-v0, with a namespace of two letters or more"
        ) from error
    root = minari.root()
    target = root / dataset_id
    if target.exists():
        raise DatasetValueError(f"{target} exists: choose another version, or minari.delete_dataset({dataset_id!r})")
    ends = minari_ends(dataset)
    with Lock(target), whole_folder(target) as folder:
        storage = MinariStorage.new(
            folder / "data",
            observation_space=dataset.observation_space,
            action_space=dataset.action_space,
            env_spec=_env_spec(dataset),
        )
        about = _about(dataset, splits=int(ends.sum()) - dataset.num_episodes)
        storage.update_metadata({"dataset_id": dataset_id, "minari_version": library.__version__, **about})
        storage.update_episodes(_buffers(dataset, np.flatnonzero(ends)))
        _compare(dataset, minari.read_minari(folder), STORED[:5])  # episodes may be split
    return target


def last_rows(dataset: OfflineDataset) -> NDArray[np.bool_]:
    """Which rows end an episode, (N,)."""
    return np.append(np.diff(dataset.episode_ids) == 1, True)


def minari_ends(dataset: OfflineDataset) -> NDArray[np.bool_]:
    """Which rows end an episode of T transitions and T + 1 observations that ends at its first termination, (N,)."""
    gaps = (dataset.observations[1:] != dataset.next_observations[:-1]).any(axis=1)
    return last_rows(dataset) | dataset.terminations | np.append(gaps, True)


def _buffers(dataset: OfflineDataset, ends: NDArray[np.int64]) -> Iterator[Any]:
    """Minari's episodes, one in memory at a time; ends: the last row of each."""
    from minari.data_collector import EpisodeBuffer

    for start, end in zip(np.append(0, ends[:-1] + 1), ends, strict=True):
        rows = slice(start, end + 1)
        truncations = np.zeros(end + 1 - start, bool)
        truncations[-1] = not dataset.terminations[end]
        yield EpisodeBuffer(
            observations=np.append(dataset.observations[rows], dataset.next_observations[end : end + 1], axis=0),
            actions=dataset.actions[rows],
            rewards=dataset.rewards[rows],
            terminations=dataset.terminations[rows],
            truncations=truncations,
        )


def _about(dataset: OfflineDataset, splits: int) -> dict[str, Any]:
    provenance = json.dumps(dict(dataset.provenance))
    description = f"{dataset.name}, exported by Offline Agent Zoo. Provenance: {provenance}"
    if splits:
        description += f". Split {splits} times inside an episode, after a termination or at a gap."
    about: dict[str, Any] = {"description": description}
    if "algorithm_name" in dataset.provenance:
        about["algorithm_name"] = str(dataset.provenance["algorithm_name"])
    if dataset.name in d4rl.CATALOG:
        about["ref_min_score"], about["ref_max_score"] = REFERENCES[dataset.name]
    return about


def _env_spec(dataset: OfflineDataset) -> EnvSpec | None:
    """What Gymnasium knows of the dataset's environment; None for an id that it does not know here, or not without
    importing a module because a file names it.
    """
    try:
        env_id, kwargs = environment_of(dataset.name, dataset.env_id, dataset.provenance, trust=False)
    except UntrustedError:
        env_id, kwargs = dataset.env_id, recorded_kwargs(dataset.name, dataset.provenance)
        if ":" in (env_id or ""):
            return None
    if env_id is None:
        return None
    module, _, name = env_id.rpartition(":")
    try:
        if module:
            importlib.import_module(module)
        spec = copy.deepcopy(gymnasium.spec(name))
    except (ImportError, gymnasium.error.Error):
        return None
    spec.kwargs |= kwargs
    return spec


def _compare(dataset: OfflineDataset, read_back: OfflineDataset, names: tuple[str, ...]) -> None:
    """Raises DatasetValueError where a column reads back differently from what was to be written."""
    for name in names:
        ours, theirs = dataset.column(name), read_back.column(name)
        if not np.array_equal(ours, theirs):
            same = ours.shape == theirs.shape
            row = int((ours != theirs).reshape(len(ours), -1).any(axis=1).argmax()) if same else len(theirs)
            raise DatasetValueError(
                f"{dataset.name} cannot be kept in this layout: {name} reads back differently from row {row} on. "
                "Inside an episode each next_observations row must be the next row's observations: give the rows "
                "after a gap an episode id of their own."
            )
