"""From a name or a path to the dataset."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from gymnasium.spaces import Box

from zoo.datasets import identity, sources
from zoo.datasets.checks import DatasetValueError
from zoo.datasets.dataset import OfflineDataset
from zoo.datasets.episodes import LastRow
from zoo.datasets.packed import MEMORY, PackedDataset, is_packed, open_packed
from zoo.datasets.readers import arrays, d4rl, minari, ogbench


def load_dataset(
    name_or_path: str | Path,
    *,
    mode: str | None = None,
    max_episode_steps: int | None = None,
    action_space: Box | None = None,
    last_row: LastRow = "drop",
) -> OfflineDataset:
    """Load a dataset by name or path; nothing is downloaded.

    Tried in this order: an embedded name ("hopper-medium-replay"); a D4RL id ("hopper-medium-v2"), looked for in
    $D4RL_DATASET_DIR, then ~/.d4rl/datasets; a path, of an HDF5 file in D4RL's layout, an .npz file of our columns or
    of OGBench's, or the folder of a Minari dataset; an OGBench id with a task
    ("antmaze-medium-navigate-singletask-v0"), in $OGBENCH_DATASET_DIR, then ~/.ogbench/data; the id of a local Minari
    dataset ("mujoco/hopper/medium-v0").
    mode is of D4RL's layout, see zoo.datasets.readers.d4rl.read_hdf5; max_episode_steps and last_row are of files of
    columns, see zoo.from_columns. action_space defaults to
    what the file says, and where it says nothing to [-1, 1].
    Raises DatasetNotFoundError with what was tried, DatasetKeyError or DatasetValueError, all of them DatasetError,
    and ImportError where Minari's or OGBench's package is needed and not installed.
    """
    source = sources.locate(name_or_path)
    return stamped(read(source, mode, max_episode_steps, last_row, action_space), source)


def read(
    source: sources.Source,
    mode: str | None,
    max_episode_steps: int | None,
    last_row: LastRow,
    action_space: Box | None,
) -> OfflineDataset:
    """The dataset of a source, by the reader of its format. Arguments: load_dataset's."""
    columns: dict[str, Any] = {"max_episode_steps": max_episode_steps, "last_row": last_row}
    if source.format == "d4rl":
        return d4rl.read_hdf5(source.path, mode=mode, action_space=action_space, **columns)
    if mode is not None:
        raise DatasetValueError(f"mode is of D4RL's HDF5 files; {source.path} is none: leave it out.")
    if source.format == "npz":
        return arrays.read_npz(source.path, action_space=action_space, **columns)
    if max_episode_steps is not None or last_row != "drop":
        raise DatasetValueError(
            f"{source.path} says itself where episodes end and what followed: leave max_episode_steps and last_row out."
        )
    if source.format == "minari":
        return minari.read_minari(source.path, action_space=action_space)
    return ogbench.read_ogbench(source.path, name=source.name, action_space=action_space)


def stamped(dataset: OfflineDataset, source: sources.Source) -> OfflineDataset:
    """With its identity in its provenance: what finds it again, and the benchmark that it is known to be."""
    origin = identity.origin_of(source, str(dataset.provenance.get("sha256", "")))
    known = identity.benchmark_of(source, str(origin["sha256"]), dataset)
    benchmark = {} if known is None else {"benchmark": known}
    return replace(dataset, provenance={**dataset.provenance, **origin, **benchmark})


def open_dataset(name_or_path: str, memory: int = MEMORY) -> OfflineDataset | PackedDataset:
    """What load_dataset takes, or a packed folder. memory: of open_packed."""
    if not is_packed(name_or_path):
        return load_dataset(name_or_path)
    packed = open_packed(name_or_path, memory)
    return replace(packed, provenance={**packed.provenance, **identity.origin_of_packed(Path(name_or_path))})
