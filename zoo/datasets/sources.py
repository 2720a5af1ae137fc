"""locate: from the name or path of a dataset to the file that holds it, and the reader that can read it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from zoo.datasets import packed
from zoo.datasets.checks import DatasetNotFoundError, DatasetValueError
from zoo.datasets.dataset import EMBEDDED
from zoo.datasets.readers import arrays, d4rl, minari, ogbench
from zoo.datasets.readers.formats import FORMATS, format_of

Format = Literal["d4rl", "minari", "ogbench", "npz", "table"]

SUFFIXES = (*d4rl.SUFFIXES, ".npz")


@dataclass(frozen=True)
class Source:
    """Where a dataset is: the format of its file or folder, its path, and the id it was asked for by, if any."""

    format: Format
    path: Path
    name: str | None = None


def locate(name_or_path: str | Path) -> Source:
    """Names win over paths: an embedded name, a D4RL id, a path, an OGBench id, the id of a local Minari dataset.

    Nothing is downloaded. Raises DatasetNotFoundError that lists what was tried, or DatasetValueError for a path of
    no known format.
    """
    name = str(name_or_path)
    if name in EMBEDDED:
        return Source("d4rl", Path(str(resources.files("zoo.datasets") / "embedded" / f"{name}.hdf5")), name)
    if name in d4rl.CATALOG:
        return Source("d4rl", d4rl.find_file(name), name)
    path = Path(name_or_path).expanduser()
    if path.exists():
        return _of_path(path)
    if ogbench.ID.fullmatch(name):
        return Source("ogbench", ogbench.find_file(name), name)
    folder = minari.find_folder(name)
    if folder is not None:
        return Source("minari", folder, name)
    raise DatasetNotFoundError(_tried(name, path))


def _of_path(path: Path) -> Source:
    if minari.data_folder(path) is not None and (path.is_dir() or path.name == "main_data.hdf5"):
        return Source("minari", path)
    if format_of(path) is not None and not packed.is_packed(path):
        return Source("table", path)
    if path.is_file() and path.suffix in d4rl.SUFFIXES:
        return Source("d4rl", path)
    if path.is_file() and path.suffix == ".npz":
        keys = set(arrays.npz_keys(path))
        # Beside rewards "terminals" are failures, without, or with masks, the ends of OGBench's trajectories.
        published = "terminals" in keys and ("rewards" not in keys or "masks" in keys)
        return Source("ogbench" if published else "npz", path)
    if packed.is_packed(path):
        raise DatasetValueError(
            f"{path} is data left in its file: zoo.open_packed(path) opens it for agents, and zoo train takes it."
        )
    what = "a folder without a Minari dataset" if path.is_dir() else f"a file in none of {', '.join(SUFFIXES)}"
    others = ", ".join(format.name for format in FORMATS)
    raise DatasetValueError(
        f"{path} is {what}. Readable are HDF5 files of columns, .npz files, folders of Minari datasets, and {others}. "
        "Pickles are never read: load a saved replay buffer with its own library and pass it to "
        "zoo.from_replay_buffer."
    )


def _tried(name: str, path: Path) -> str:
    known = [*EMBEDDED, *d4rl.CATALOG, *minari.local_ids()]
    close = difflib.get_close_matches(name, known, n=3)
    hint = f" Close names: {', '.join(close)}." if close else ""
    return (
        f"no dataset or file {name!r}.{hint} Tried\n"
        f"- the embedded {', '.join(EMBEDDED)}\n"
        f"- {len(d4rl.CATALOG)} D4RL ids, such as hopper-medium-v2\n"
        f"- the path {path.absolute()}\n"
        "- OGBench's ids, such as antmaze-medium-navigate-singletask-v0\n"
        f"- local Minari datasets, in {minari.root() / name}\n"
        "Nothing is downloaded unless asked for: zoo data download NAME."
    )
