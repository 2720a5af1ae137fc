"""Writing datasets larger than memory, chunk by chunk: the folders that zoo.datasets.packed opens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from gymnasium.spaces import Box

from zoo.datasets.checks import Array, DatasetKeyError, DatasetValueError
from zoo.datasets.dataset import OfflineDataset, Provenance, squeeze
from zoo.datasets.episodes import JUMP
from zoo.datasets.packed import FORMAT, SCALARS, about_sha256, file_sha256, slices_of
from zoo.datasets.readers.arrays import box_of, stated_in
from zoo.datasets.sizes import open_hdf5
from zoo.datasets.vocabulary import NEEDED, our_names
from zoo.export.files import Lock, whole_folder

WHOLE = (*NEEDED, "truncations", "next_observations")  # with these every row of a file is a transition
CHUNK = 100_000  # rows in memory at a time


class PackedWriter:
    """Writes a folder chunk by chunk, in little memory; it appears under its name when it is complete.

    overwrite: in place of a folder that has the name. Raises InUseError where another process writes it.
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
        stated: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ):
        if folder.exists() and not overwrite:
            raise DatasetValueError(f"{folder} exists: remove it, or choose another name")
        self.folder = folder
        self.spaces = {"action_space": action_space, "observation_space": observation_space}
        self.about: dict[str, Any] = {"format": FORMAT, "name": name or folder.name, "env_id": env_id}
        self.about |= {"provenance": dict(provenance or {}), "stated": dict(stated or {})}
        self.rows, self.episodes = 0, 0
        self.open_end = False  # whether the last row so far leaves its episode unfinished

    def __enter__(self) -> PackedWriter:
        self.surroundings = ExitStack()
        self.surroundings.enter_context(Lock(self.folder))
        self.temporary = self.surroundings.enter_context(whole_folder(self.folder))
        self.file = (self.temporary / "rows.f32").open("wb")
        self.digest = hashlib.sha256()  # of that file
        self.parts: dict[str, list[Array]] = {name: [] for name in SCALARS}
        return self

    def append(self, columns: Mapping[str, Array]) -> None:
        """More transitions, in time order, that follow those before."""
        finished = bool(np.asarray(columns["terminations"])[-1] or np.asarray(columns["truncations"])[-1])
        name = f"{self.about['name']}, rows from {self.rows:,} on"
        chunk = OfflineDataset.from_arrays(**columns, **self.spaces, name=name)  # type: ignore[arg-type]
        self.spaces = {"action_space": chunk.action_space, "observation_space": chunk.observation_space}
        slices = slices_of(chunk.observations.shape[1], chunk.actions.shape[1])
        packed = np.empty((len(chunk), slices["terminations"].stop), np.float32)
        for name, place in slices.items():
            packed[:, place] = chunk.column(name).reshape(len(chunk), -1)
        content = packed.tobytes()
        self.file.write(content)
        self.digest.update(content)
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
        if kind is not None:
            with suppress(OSError):  # the disk is full, perhaps
                self.file.close()
            self.surroundings.__exit__(kind, error, trace)
            return
        with self.surroundings:
            self.file.close()
            self._finish()

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
        hashes = {"rows.f32": self.digest.hexdigest()}
        hashes |= {f"{name}.npy": file_sha256(self.temporary / f"{name}.npy") for name in SCALARS}
        about = self.about | {"rows": self.rows, "sha256": hashes}
        about["about_sha256"] = about_sha256(about)
        (self.temporary / "dataset.json").write_text(json.dumps(about))


def convert_hdf5(path: Path, folder: Path, *, action_space: Box | None = None, overwrite: bool = False) -> Path:
    """A file in D4RL's layout as such a folder, read chunk by chunk. Returns the folder.

    The file must have timeouts and next_observations: every row is then a transition, and none has to be dropped. Its
    episodes end by its flags; rows whose successor is not the next row are cut there, as load_dataset does.
    Raises DatasetKeyError for other files, DatasetValueError for what load_dataset refuses.
    """
    with open_hdf5(path) as file:
        keys = our_names(path.name, file)
        if missing := [name for name in WHOLE if name not in keys]:
            raise DatasetKeyError(
                f"{path.name} lacks {', '.join(missing)}: without them rows have to be dropped, which needs the whole "
                "file in memory. Load it with load_dataset, or record the columns."
            )
        box = action_space or box_of(path.name, "action", file.attrs)
        env_id = file.attrs.get("env_id")
        about: Provenance = {"file": path.name, "rows_in_file": len(file[keys["rewards"]])}
        with PackedWriter(
            folder,
            action_space=box,
            name=path.stem,
            env_id=None if env_id is None else str(env_id),
            provenance=about,
            stated=stated_in(path.name, file.attrs),
            overwrite=overwrite,
        ) as writer:
            for columns in _chunks({ours: file[key] for ours, key in keys.items()}):
                writer.append(columns)
    return folder


def _chunks(file: Mapping[str, h5py.Dataset]) -> Iterator[dict[str, Array]]:
    for start in range(0, len(file["rewards"]), CHUNK):
        rows = slice(start, start + CHUNK)
        following = file["observations"][start + 1 : start + CHUNK + 1].astype(np.float32)  # one fewer at the end
        successors = file["next_observations"][rows].astype(np.float32)
        jumps = np.linalg.norm(following - successors[: len(following)], axis=1) > JUMP
        terminations = squeeze(file["terminations"][rows]) > 0.5
        truncations = squeeze(file["truncations"][rows]) > 0.5
        truncations[: len(jumps)] |= jumps
        yield {
            "observations": file["observations"][rows],
            "actions": file["actions"][rows],
            "rewards": squeeze(file["rewards"][rows]),
            "next_observations": successors,
            "terminations": terminations,
            "truncations": truncations & ~terminations,
        }


def write_packed(dataset: OfflineDataset, folder: Path, overwrite: bool = False) -> Path:
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
        stated=dataset.stated,
        overwrite=overwrite,
    ) as writer:
        for start in range(0, len(dataset), CHUNK):
            rows = slice(start, start + CHUNK)
            names = ("observations", "actions", "rewards", "next_observations", "terminations", "truncations")
            writer.append({name: dataset.column(name)[rows] for name in names})
    return folder
