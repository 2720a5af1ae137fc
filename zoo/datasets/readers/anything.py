"""The arrays of an HDF5 or .npz file of any names, as columns for a map."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from zoo.datasets.checks import Array, DatasetValueError
from zoo.datasets.readers.arrays import load_npz
from zoo.datasets.sizes import open_hdf5
from zoo.datasets.table import Table, flat


def read(path: Path) -> Table:
    """Every array of as many rows as most have; groups give names with slashes. Raises DatasetValueError."""
    arrays = load_npz(path) if path.suffix == ".npz" else _hdf5(path)
    arrays = {name: array for name, array in arrays.items() if array.ndim and array.dtype.kind in "fiubU"}
    lengths = [len(array) for array in arrays.values()]
    if not lengths:
        raise DatasetValueError(f"{path.name} holds no arrays of rows.")
    rows = max(set(lengths), key=lengths.count)
    columns: dict[str, Array] = {}
    for name, array in arrays.items():
        if len(array) == rows:
            columns |= flat(name, array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array)
    left = sorted(name for name, array in arrays.items() if len(array) != rows)
    notes = (f"arrays of other lengths than {rows:,} rows were left out: {', '.join(left[:20])}",) if left else ()
    return Table(path.stem, columns, np.zeros(rows, np.int64), provenance={"file": path.name}, notes=notes)


def _hdf5(path: Path) -> dict[str, Array]:
    arrays: dict[str, Array] = {}

    def take(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim and item.dtype.kind in "fiub":
            arrays[name] = item[()]

    with open_hdf5(path) as file:
        file.visititems(take)
    return arrays
