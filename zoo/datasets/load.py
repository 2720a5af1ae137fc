"""From a name or a path to the dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoo.datasets import identity, sources
from zoo.datasets.checks import DatasetError, DatasetNotFoundError, DatasetValueError
from zoo.datasets.dataset import Limits, OfflineDataset
from zoo.datasets.download import check_hash
from zoo.datasets.download import download as download_all
from zoo.datasets.episodes import LastRow
from zoo.datasets.mapping.logmap import MapLike
from zoo.datasets.mapping.logs import Recording, mapped, source_of, table_of_dataset
from zoo.datasets.packed import MEMORY, PackedDataset, is_packed, open_packed
from zoo.datasets.readers import anything, arrays, d4rl, minari, ogbench
from zoo.datasets.readers.formats import open_raw


def load_dataset(
    name_or_path: str | Path,
    *,
    mode: str | None = None,
    max_episode_steps: int | None = None,
    action_space: Limits | None = None,
    last_row: LastRow | None = None,
    map: MapLike | None = None,
    download: bool = False,
) -> OfflineDataset:
    """Load a dataset by name or path; nothing is downloaded unless download is True.

    Tried in this order: an embedded name ("hopper-medium-replay"); a D4RL id ("hopper-medium-v2"), looked for in
    $D4RL_DATASET_DIR, then ~/.d4rl/datasets; a path, of an HDF5 file in D4RL's layout, an .npz file of our columns or
    of OGBench's, the folder of a Minari dataset, or a log of any of zoo.datasets.readers.formats.FORMATS; an OGBench id
    with a task ("antmaze-medium-navigate-singletask-v0"), in $OGBENCH_DATASET_DIR, then ~/.ogbench/data; the id of a
    local Minari dataset ("mujoco/hopper/medium-v0").
    mode is of D4RL's layout, see zoo.datasets.readers.d4rl.read_hdf5; max_episode_steps and last_row are of files of
    columns, see zoo.from_columns. action_space defaults to what the file says, and where it says nothing to [-1, 1].
    map: what the columns of a log are, see zoo.datasets.mapping.logmap.LogMap; of a dataset that needs none it may
    state names, units and the rate. download: fetches a benchmark's id that is not here (zoo.datasets.download).
    Raises DatasetNotFoundError with what was tried, DatasetKeyError or DatasetValueError, all of them DatasetError,
    and ImportError where the package of a format is needed and not installed.
    """
    if download:
        fetch_missing(str(name_or_path))
    source = sources.locate(name_or_path)
    if source.name is not None and source.format in ("d4rl", "ogbench"):
        check_hash(source.path)
    if map is not None or source.format == "table":
        if mode is not None or max_episode_steps is not None:
            raise DatasetValueError(f"mode and max_episode_steps are said in the map of {source.path}: leave them out.")
        return read_logs([name_or_path], map, action_space=action_space, last_row=last_row)
    return stamped(read(source, mode, max_episode_steps, last_row, action_space), source)


def read(
    source: sources.Source,
    mode: str | None,
    max_episode_steps: int | None,
    last_row: LastRow | None,
    action_space: Limits | None,
) -> OfflineDataset:
    """The dataset of a source that needs no map, by the reader of its format. Arguments: load_dataset's."""
    columns: dict[str, Any] = {"max_episode_steps": max_episode_steps, "last_row": last_row or "drop"}
    if source.format == "d4rl":
        return d4rl.read_hdf5(source.path, mode=mode, action_space=action_space, **columns)
    if mode is not None:
        raise DatasetValueError(f"mode is of D4RL's HDF5 files; {source.path} is none: leave it out.")
    if source.format == "npz":
        return arrays.read_npz(source.path, action_space=action_space, **columns)
    if max_episode_steps is not None or last_row is not None:
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


def fetch_missing(name: str) -> None:
    """Downloads a benchmark's dataset that is not on this machine. Raises as zoo.datasets.download.download."""
    try:
        sources.locate(name)
    except DatasetNotFoundError:
        list(download_all((name,)))


def read_logs(
    paths: Sequence[str | Path],
    map: MapLike | None = None,
    *,
    name: str | None = None,
    action_space: Limits | None = None,
    last_row: LastRow | None = None,
) -> OfflineDataset:
    """One or more files of one layout as a dataset; the other arguments are load_dataset's.

    Its provenance has the files' names and a hash of their contents. Raises as load_dataset.
    """
    files = [Path(path).expanduser() for path in paths]
    if not files:
        raise DatasetValueError("no files were given.")
    recordings = [open_recording(path) for path in files]
    title = name or (recordings[0].name if len(files) == 1 else files[0].parent.name or "logs")
    data = mapped(recordings, map, title, action_space=action_space, last_row=last_row)
    return replace(data, provenance={**data.provenance, **source_of(files, map)})


def open_recording(path: str | Path) -> Recording:
    """A file of any format before a map, as columns or topics; a dataset that needs no map as its columns."""
    source = sources.locate(path)
    if source.format == "table":
        return open_raw(source.path)
    try:
        return table_of_dataset(load_dataset(path))
    except DatasetError:
        if source.format not in ("d4rl", "npz"):
            raise
        return anything.read(source.path)  # it needs a map; what no map can mend is refused here, too


def open_dataset(name_or_path: str, memory: int = MEMORY) -> OfflineDataset | PackedDataset:
    """What load_dataset takes, or a packed folder. memory: of open_packed."""
    if not is_packed(name_or_path):
        return load_dataset(name_or_path)
    packed = open_packed(name_or_path, memory)
    return replace(packed, provenance={**packed.provenance, **identity.origin_of_packed(Path(name_or_path))})
