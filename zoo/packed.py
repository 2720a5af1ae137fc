"""Datasets larger than memory: transitions packed in one file, which agents learn from without loading it.

A folder holds dataset.json, rows.f32 (N rows of float32: observations, actions, reward, next_observations,
termination), and rewards, terminations, truncations and episode_ids as .npy files, for those who need one of them of
all rows. What OfflineDataset refuses is refused when the folder is written, chunk by chunk.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import h5py
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from zoo import d4rl
from zoo.checks import Array, DatasetKeyError, DatasetNotFoundError, DatasetValueError
from zoo.datasets import OfflineDataset, Provenance, load_dataset, squeeze

FORMAT = 1
CHUNK = 100_000  # rows in memory at a time
MEMORY = 512 * 2**20  # bytes
SCALARS = {"rewards": np.float32, "terminations": np.bool_, "truncations": np.bool_, "episode_ids": np.int64}


@dataclass(frozen=True, eq=False)
class PackedDataset:
    """What agents ask of a dataset, with the wide columns left in the file. Make one with open_packed.

    Agents hold what `memory` has room for: all rows, or a window that moves over them (agents.window).
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


def open_dataset(name_or_path: str, memory: int = MEMORY) -> OfflineDataset | PackedDataset:
    """What load_dataset takes, or a packed folder. memory: of open_packed."""
    return open_packed(name_or_path, memory) if is_packed(name_or_path) else load_dataset(name_or_path)


def is_packed(path: str | Path) -> bool:
    return (Path(path).expanduser() / "dataset.json").is_file()


def open_packed(path: str | Path, memory: int = MEMORY) -> PackedDataset:
    """The dataset of a folder that PackedWriter wrote.

    memory: bytes that an agent may take for its rows, on its device. Data that fit are loaded; of larger ones batches
    come from a window (agents.window.Window): the larger, the more of the data a batch may come from.
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
        count, version = about["rows"], about["format"]
        scalars = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in SCALARS}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DatasetValueError(f"{folder} is damaged ({type(error).__name__}: {error}): write it again.") from error
    if version > FORMAT:
        raise DatasetValueError(f"{folder} has format {version}, this version reads up to {FORMAT}: upgrade")
    slices = _slices(observations.shape[0], actions.shape[0])
    width = slices["terminations"].stop
    size = (folder / "rows.f32").stat().st_size if (folder / "rows.f32").is_file() else 0
    if size != 4 * width * count or any(len(column) != count for column in scalars.values()):
        raise DatasetValueError(
            f"{folder} is not whole: rows.f32 has {size:,} bytes, expected {4 * width * count:,} for {count:,} rows of "
            f"{width} numbers. Copy or write it again."
        )
    return PackedDataset(
        name=about["name"],
        env_id=about["env_id"],
        observation_space=observations,
        action_space=actions,
        provenance=about["provenance"],
        scalars=scalars,
        slices=slices,
        file=(folder / "rows.f32").open("rb", buffering=0),
        memory=memory,
    )


def _slices(observation_size: int, action_size: int) -> dict[str, slice]:
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


class PackedWriter:
    """Writes a folder chunk by chunk, in little memory; it appears under its name when it is complete.

    with PackedWriter(folder, action_space=box, name=...) as writer: writer.append(columns) for each chunk. columns: as
    OfflineDataset.from_arrays takes them, episodes whole or not; an episode goes on in the next chunk until a
    termination or truncation ends it. Raises DatasetValueError for what OfflineDataset refuses.
    """

    def __init__(
        self,
        folder: Path,
        *,
        action_space: Box | None = None,
        observation_space: Box | None = None,
        name: str | None = None,
        env_id: str | None = None,
        provenance: Provenance | None = None,
    ):
        if folder.exists():
            raise DatasetValueError(f"{folder} exists: remove it, or choose another name")
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.spaces = {"action_space": action_space, "observation_space": observation_space}
        self.about: dict[str, Any] = {"format": FORMAT, "name": name or folder.name, "env_id": env_id}
        self.about["provenance"] = dict(provenance or {})
        self.rows, self.episodes = 0, 0
        self.open_end = False  # whether the last row so far leaves its episode unfinished

    def __enter__(self) -> PackedWriter:
        self.temporary = Path(tempfile.mkdtemp(dir=self.folder.parent, prefix=f".{self.folder.name}."))
        self.file = (self.temporary / "rows.f32").open("wb")
        self.parts: dict[str, list[Array]] = {name: [] for name in SCALARS}
        return self

    def append(self, columns: Mapping[str, Array]) -> None:
        """More transitions, in time order, that follow those before."""
        finished = bool(np.asarray(columns["terminations"])[-1] or np.asarray(columns["truncations"])[-1])
        name = f"{self.about['name']}, rows from {self.rows:,} on"
        chunk = OfflineDataset.from_arrays(**columns, **self.spaces, name=name)  # type: ignore[arg-type]
        self.spaces = {"action_space": chunk.action_space, "observation_space": chunk.observation_space}
        slices = _slices(chunk.observations.shape[1], chunk.actions.shape[1])
        packed = np.empty((len(chunk), slices["terminations"].stop), np.float32)
        for name, place in slices.items():
            packed[:, place] = chunk.column(name).reshape(len(chunk), -1)
        self.file.write(packed.tobytes())
        truncations = chunk.truncations.copy()
        truncations[-1] &= finished  # that the chunk ended is no truncation
        ids = chunk.episode_ids + self.episodes - int(self.open_end)
        kept = {"rewards": chunk.rewards, "terminations": chunk.terminations, "truncations": truncations}
        for name, column in (kept | {"episode_ids": ids}).items():
            self.parts[name].append(column)
        self.rows, self.episodes, self.open_end = self.rows + len(chunk), int(ids[-1]) + 1, not finished

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
        try:
            if kind is None:
                self._finish()
        finally:
            shutil.rmtree(self.temporary, ignore_errors=True)

    def _finish(self) -> None:
        if not self.rows:
            raise DatasetValueError(f"{self.folder}: nothing was written. Append at least one transition.")
        self.parts["truncations"][-1][-1] |= self.open_end
        for name, dtype in SCALARS.items():
            np.save(self.temporary / f"{name}.npy", np.concatenate(self.parts.pop(name)).astype(dtype, copy=False))
        for kind in ("observation", "action"):
            space = self.spaces[f"{kind}_space"]
            assert space is not None  # set by the first chunk
            self.about |= {f"{kind}_low": space.low.tolist(), f"{kind}_high": space.high.tolist()}
        (self.temporary / "dataset.json").write_text(json.dumps(self.about | {"rows": self.rows}))
        os.chmod(self.temporary, 0o755)
        os.rename(self.temporary, self.folder)


def convert_hdf5(path: Path, folder: Path, *, action_space: Box | None = None) -> Path:
    """A file in D4RL's layout as such a folder, read chunk by chunk. Returns the folder.

    The file must have timeouts and next_observations: every row is then a transition, and none has to be dropped. Its
    episodes end by its flags; rows whose successor is not the next row are cut there, as load_dataset does.
    Raises DatasetKeyError for other files, DatasetValueError for what load_dataset refuses.
    """
    with h5py.File(path) as file:
        missing = [key for key in (*d4rl.NEEDED, "timeouts", "next_observations") if key not in file]
        if missing:
            raise DatasetKeyError(
                f"{path.name} lacks {', '.join(missing)}: without them rows have to be dropped, which needs the whole "
                "file in memory. Load it with load_dataset, or record the columns."
            )
        box = action_space or d4rl.box_of(path, "action", file.attrs)
        env_id = file.attrs.get("env_id")
        about: Provenance = {"file": path.name, "rows_in_file": len(file["rewards"])}
        with PackedWriter(
            folder, action_space=box, name=path.stem, env_id=None if env_id is None else str(env_id), provenance=about
        ) as writer:
            for columns in _chunks(file):
                writer.append(columns)
    return folder


def _chunks(file: h5py.File) -> Iterator[dict[str, Array]]:
    for start in range(0, len(file["rewards"]), CHUNK):
        rows = slice(start, start + CHUNK)
        following = file["observations"][start + 1 : start + CHUNK + 1].astype(np.float32)  # one fewer at the end
        successors = file["next_observations"][rows].astype(np.float32)
        jumps = np.linalg.norm(following - successors[: len(following)], axis=1) > d4rl.JUMP
        terminations = squeeze(file["terminals"][rows]) > 0.5
        truncations = squeeze(file["timeouts"][rows]) > 0.5
        truncations[: len(jumps)] |= jumps
        yield {
            "observations": file["observations"][rows],
            "actions": file["actions"][rows],
            "rewards": squeeze(file["rewards"][rows]),
            "next_observations": successors,
            "terminations": terminations,
            "truncations": truncations & ~terminations,
        }


def write_packed(dataset: OfflineDataset, folder: Path) -> Path:
    """A dataset in memory as such a folder. Returns the folder."""
    if (dataset.terminations[:-1] & (np.diff(dataset.episode_ids) == 0)).any():
        raise DatasetValueError(f"{dataset.name} goes on after terminations; a packed folder ends episodes there.")
    with PackedWriter(
        folder,
        action_space=dataset.action_space,
        observation_space=dataset.observation_space,
        name=dataset.name,
        env_id=dataset.env_id,
        provenance=dataset.provenance,
    ) as writer:
        for start in range(0, len(dataset), CHUNK):
            rows = slice(start, start + CHUNK)
            names = ("observations", "actions", "rewards", "next_observations", "terminations", "truncations")
            writer.append({name: dataset.column(name)[rows] for name in names})
    return folder
