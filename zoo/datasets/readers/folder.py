"""A folder of episodes: an .npz file for each, or a folder of .npy files for each, in the order of their names."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from zoo.datasets.checks import Array, DatasetValueError
from zoo.datasets.readers.arrays import load_npz
from zoo.datasets.table import Table, flat, joined
from zoo.datasets.vocabulary import our_names


def read(path: Path) -> Table:
    """Every episode's arrays of T rows, as columns; arrays of T + 1 rows have a successor for each.

    An array with one value for the whole episode stands in its last row. Raises DatasetValueError.
    """
    files = sorted((child for child in path.iterdir() if child.suffix == ".npz"), key=_natural)
    folders = sorted((child for child in path.iterdir() if child.is_dir() and any(child.glob("*.npy"))), key=_natural)
    episodes = [(file.name, load_npz(file)) for file in files] or [
        (folder.name, {part.stem: _load(part) for part in sorted(folder.glob("*.npy"))}) for folder in folders
    ]
    tables = [_table(f"{path.name}/{name}", arrays) for name, arrays in episodes]
    table = joined(tables, path.name)
    return Table(**{**vars(table), "provenance": {"file": path.name, "files": len(tables)}})


def _natural(path: Path) -> list[tuple[int, str]]:
    """episode_10 after episode_9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _load(path: Path) -> Array:
    try:
        array: Array = np.load(path)
    except (ValueError, OSError, EOFError) as error:
        raise DatasetValueError(
            f"{path} cannot be read as .npy ({error}): it is damaged or holds pickled objects, which are never read."
        ) from error
    return array


def _table(name: str, arrays: dict[str, Array]) -> Table:
    """One episode. Its length is that of its actions, or of most of its arrays."""
    known = our_names(name, arrays)
    lengths = [len(array) for array in arrays.values() if array.ndim]
    if not lengths:
        raise DatasetValueError(f"{name} holds no arrays of rows.")
    rows = len(arrays[known["actions"]]) if "actions" in known else max(set(lengths), key=lengths.count)
    columns: dict[str, Array] = {}
    successors: dict[str, Array] = {}
    for key, array in arrays.items():
        if array.ndim == 0 or (array.shape == (1,) and rows > 1):  # of the whole episode
            if array.dtype.kind in "fiub":
                columns[key] = np.append(np.zeros(rows - 1), array.reshape(-1))
            continue
        if len(array) not in (rows, rows + 1):
            raise DatasetValueError(f"{name}: {key} has {len(array)} rows, the episode {rows} or {rows + 1}.")
        columns |= flat(key, array[:rows])
        if len(array) == rows + 1:
            successors |= flat(key, array[1:])
    return Table(name, columns, np.zeros(rows, np.int64), successors, known={"episode": "file"})
