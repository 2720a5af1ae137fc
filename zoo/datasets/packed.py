"""Datasets larger than memory: transitions packed in one file, which agents learn from without loading it.

A folder holds dataset.json, rows.f32 (N rows of float32: observations, actions, reward, next_observations,
termination), and rewards, terminations, truncations and episode_ids as .npy files, for those who need one of them of
all rows. zoo.datasets.packing writes such folders, and refuses what OfflineDataset refuses.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from zoo.datasets.checks import Array, DatasetKeyError, DatasetNotFoundError, DatasetValueError
from zoo.datasets.dataset import Provenance
from zoo.datasets.readers import d4rl
from zoo.datasets.sizes import BROKEN

FORMAT = 1
MEMORY = 512 * 2**20  # bytes
# Columns that are files of their own.
SCALARS = {"rewards": np.float32, "terminations": np.bool_, "truncations": np.bool_, "episode_ids": np.int64}
FILES = ("rows.f32", *(f"{name}.npy" for name in SCALARS))


@dataclass(frozen=True, eq=False)
class PackedDataset:
    """What agents ask of a dataset, with the wide columns left in the file. Make one with open_packed.

    Agents hold what `memory` has room for: all rows, or a window that moves over them (zoo.agents.core.window).
    """

    name: str
    env_id: str | None
    observation_space: Box
    action_space: Box
    provenance: Provenance
    scalars: Mapping[str, Array]  # rewards, terminations, truncations, episode_ids: (N,), memory-mapped
    slices: Mapping[str, slice]  # column -> its place in a packed row
    file: BinaryIO  # the packed rows
    memory: int = MEMORY  # bytes that an agent may take for rows
    stated: Mapping[str, Any] = field(default_factory=dict)  # names, units, ranges, rate: zoo.export.stated

    def __len__(self) -> int:
        return len(self.scalars["rewards"])

    @property
    def width(self) -> int:
        """Numbers in a packed row."""
        return self.slices["terminations"].stop

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Packed rows (n, width), each read by itself: through a memory map the process would grow to the file's size.

        Raises OSError where the file has become shorter.
        """
        size, file = 4 * self.width, self.file.fileno()
        rows = bytearray().join(map(os.pread, repeat(file), repeat(size), (size * indices).tolist()))
        if len(rows) != size * len(indices):
            raise self._shorter()
        return np.frombuffer(rows, np.float32).reshape(-1, self.width)

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Consecutive packed rows (stop - start, width), from any thread. Raises as gather."""
        rows = np.empty((max(stop - start, 0), self.width), np.float32)
        rest, offset = rows.reshape(-1).view(np.uint8).data, 4 * self.width * start
        while rest:  # a read gives 2 GB at most
            count = os.preadv(self.file.fileno(), [rest], offset)
            if count == 0:
                raise self._shorter()
            rest, offset = rest[count:], offset + count
        return rows

    def _shorter(self) -> OSError:
        return OSError(f"the file of {self.name} became shorter while it was read: write it again")

    def column(self, name: str) -> Any:
        """A scalar column (N,), or a wide one that reads the rows of a slice when it is asked for them.

        Raises DatasetKeyError for a name that is neither.
        """
        if name in self.scalars:
            return self.scalars[name]
        if name in self.slices:
            return PackedColumn(self, self.slices[name])
        raise DatasetKeyError(f"no column {name!r}; {self.name} has {sorted({*self.scalars, *self.slices})}.")


@dataclass(frozen=True)
class PackedColumn:
    """A column (N, k) of which rows are read: column[a:b] is an array (b - a, k), column[indices] one (n, k)."""

    dataset: PackedDataset
    where: slice

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.where.stop - self.where.start

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        if not isinstance(rows, slice):
            return self.dataset.gather(rows)[:, self.where]
        start, stop, step = rows.indices(len(self))
        return np.ascontiguousarray(self.dataset.read(start, stop)[::step, self.where])


def is_packed(path: str | Path) -> bool:
    return (Path(path).expanduser() / "dataset.json").is_file()


def open_packed(path: str | Path, memory: int = MEMORY) -> PackedDataset:
    """The dataset of a folder that PackedWriter wrote.

    memory: bytes that an agent may take for its rows, on its device. Data that fit are loaded; of larger ones batches
    come from a window (zoo.agents.core.window.Window): the larger, the more of the data a batch may come from.
    Raises DatasetNotFoundError, or DatasetValueError if damaged.
    """
    folder = Path(path).expanduser()
    if not is_packed(folder):
        raise DatasetNotFoundError(
            f"{folder} has no dataset.json; zoo data export --format packed writes such a folder"
        )
    try:
        about = json.loads((folder / "dataset.json").read_text())
        bounds = {key: np.array(about[key], np.float32) for key in d4rl.BOUNDS}
        observations = Box(bounds["observation_low"], bounds["observation_high"])
        actions = Box(bounds["action_low"], bounds["action_high"])
        count, version = int(about["rows"]), int(about["format"])
        name, env_id, provenance = str(about["name"]), about["env_id"], dict(about["provenance"])
        scalars = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in SCALARS}
        for column, dtype in SCALARS.items():
            if (scalars[column].dtype, scalars[column].ndim) != (dtype, 1):
                raise TypeError(f"{column}.npy is no column of {np.dtype(dtype)}")
    except BROKEN as error:
        raise DatasetValueError(f"{folder} is damaged ({type(error).__name__}: {error}): write it again.") from error
    if version > FORMAT:
        raise DatasetValueError(f"{folder} has format {version}, this version reads up to {FORMAT}: upgrade")
    slices = slices_of(observations.shape[0], actions.shape[0])
    width = slices["terminations"].stop
    size = (folder / "rows.f32").stat().st_size if (folder / "rows.f32").is_file() else 0
    if size != 4 * width * count or any(len(column) != count for column in scalars.values()):
        raise DatasetValueError(
            f"{folder} is not whole: rows.f32 has {size:,} bytes, expected {4 * width * count:,} for {count:,} rows of "
            f"{width} numbers. Copy or write it again."
        )
    return PackedDataset(
        name=name,
        env_id=env_id if env_id is None else str(env_id),
        observation_space=observations,
        action_space=actions,
        provenance=provenance,
        scalars=scalars,
        slices=slices,
        file=(folder / "rows.f32").open("rb", buffering=0),
        memory=memory,
        stated=about.get("stated", {}),
    )


def check_packed(path: str | Path) -> None:
    """Raises DatasetValueError where a file of a folder is not the one that was written; older folders do not tell."""
    folder = Path(path).expanduser()
    about = json.loads((folder / "dataset.json").read_text())
    hashes = about.get("sha256", {})
    wrong = [name for name in FILES if name in hashes and file_sha256(folder / name) != hashes[name]]
    if about.get("about_sha256", about_sha256(about)) != about_sha256(about):
        wrong.append("dataset.json")
    if wrong:
        raise DatasetValueError(f"{folder}: {', '.join(wrong)} do not match their checksums. Copy or write it again.")


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def about_sha256(about: Mapping[str, Any]) -> str:
    """Of what dataset.json says beside this."""
    own = {name: value for name, value in about.items() if name != "about_sha256"}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def slices_of(observation_size: int, action_size: int) -> dict[str, slice]:
    """Where each column lies in a packed row: in the order of agents' batches, so that most need no copy."""
    widths = {
        "observations": observation_size,
        "actions": action_size,
        "rewards": 1,
        "next_observations": observation_size,
        "terminations": 1,
    }
    stops = np.cumsum(list(widths.values())).tolist()
    return {name: slice(stop - width, stop) for (name, width), stop in zip(widths.items(), stops, strict=True)}
