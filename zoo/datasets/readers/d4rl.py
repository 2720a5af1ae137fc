"""D4RL: the catalogue of its datasets, and the reader of its HDF5 layout. The d4rl package is never imported.

Source: Fu et al. 2020, arXiv 2004.07219; ids, files and conversion as in Farama-Foundation/D4RL.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from zoo.datasets.checks import (
    MATRICES,
    Array,
    DatasetKeyError,
    DatasetNotFoundError,
    DatasetValueError,
    check_columns,
)
from zoo.datasets.dataset import Limits, OfflineDataset, squeeze
from zoo.datasets.episodes import LastRow, cut, ends_of, transitions_of
from zoo.datasets.places import home
from zoo.datasets.readers.arrays import STATED, box_of, count_timeouts, stated_in
from zoo.datasets.sizes import open_hdf5
from zoo.datasets.vocabulary import check_needed, our_names

MODES = ("full", "parity")
SUFFIXES = (".hdf5", ".h5")
BOUNDS = (
    "action_low",
    "action_high",
    "observation_low",
    "observation_high",
)  # attributes of our writers
FLAGS = ("terminals", "timeouts")
UNCHECKED = ("episode_ids", "next_observations")  # checked where they are used

MIRROR = "http://rail.eecs.berkeley.edu/datasets/offline_rl"
ULTRA = "https://github.com/ZhengyaoJiang/d4rl/releases/download/public"

LOCOMOTION_ENVS = {  # D4RL measured in gym's -v2; -v4 is the same task on today's MuJoCo, -v5 is not
    "hopper": "Hopper-v4",
    "halfcheetah": "HalfCheetah-v4",
    "walker2d": "Walker2d-v4",
    "ant": "Ant-v4",
}


@dataclass(frozen=True)
class D4RLFile:
    """One D4RL dataset id: where its file comes from and how its flags are to be read."""

    name: str
    family: str
    url: str
    env_id: str | None = None  # today's environment of the task; zoo.evaluation.protocols says how it differs

    @property
    def file_name(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    @property
    def episode_ends(self) -> tuple[str, ...]:
        """The keys whose flags end an episode."""
        if self.family == "antmaze":
            return ("timeouts",)  # the ant walks on after success
        if self.family == "maze2d":
            return ()  # one endless trajectory: timeouts mark sub-goals, without a reset
        return FLAGS


def ours(name: str) -> str:
    """The id of the environment in D4RL's convention, in zoo.evaluation.d4rl_envs, that gymnasium.make takes."""
    return f"zoo.evaluation.d4rl_envs:zoo/D4RL-{name}-v0"


def _catalogue() -> dict[str, D4RLFile]:
    files: list[D4RLFile] = []
    for family, env_id in LOCOMOTION_ENVS.items():
        for data in ("random", "medium", "expert", "medium-replay", "full-replay", "medium-expert"):
            url = f"{MIRROR}/gym_mujoco_v2/{family}_{data.replace('-', '_')}-v2.hdf5"
            files.append(D4RLFile(f"{family}-{data}-v2", family, url, env_id))
    for family in ("pen", "door", "hammer", "relocate"):
        for data in ("human", "cloned", "expert"):
            name = f"{family}-{data}-v1"
            files.append(D4RLFile(name, family, f"{MIRROR}/hand_dapg_v1/{name}.hdf5", ours(family)))
    for maze, version in {"open": "", "umaze": "-v1", "medium": "-v1", "large": "-v1"}.items():
        for reward, suffix in {"sparse": "", "dense": "-dense"}.items():
            url = f"{MIRROR}/maze2d/maze2d-{maze}-{reward}{version}.hdf5"
            name = f"maze2d-{maze}{suffix}"
            files.append(D4RLFile(f"{name}{version or '-v0'}", "maze2d", url, ours(name)))
    for data, maze, starts, goals in (
        ("umaze", "u-maze", False, False),
        ("umaze-diverse", "u-maze", True, True),
        ("medium-play", "big-maze", True, False),
        ("medium-diverse", "big-maze", True, True),
        ("large-play", "hardest-maze", True, False),
        ("large-diverse", "hardest-maze", True, True),
    ):
        stem = f"Ant_maze_{maze}_noisy_multistart_{starts}_multigoal_{goals}_sparse"
        env = ours(f"antmaze-{data.split('-')[0]}")
        files.append(D4RLFile(f"antmaze-{data}-v0", "antmaze", f"{MIRROR}/ant_maze_new/{stem}.hdf5", env))
        files.append(D4RLFile(f"antmaze-{data}-v2", "antmaze", f"{MIRROR}/ant_maze_v2/{stem}_fixed.hdf5", env))
    for data, goals in {"play": False, "diverse": True}.items():
        url = f"{ULTRA}/Ant_maze_ultra_noisy_multistart_True_multigoal_{goals}_sparse.hdf5"
        files.append(D4RLFile(f"antmaze-ultra-{data}-v0", "antmaze", url, ours("antmaze-ultra")))
    for data, stem in {
        "complete": "mini_kitchen_microwave_kettle_light_slider-v0",
        "partial": "kitchen_microwave_kettle_light_slider-v0",
        "mixed": "kitchen_microwave_kettle_bottomburner_light-v0",
    }.items():
        files.append(
            D4RLFile(f"kitchen-{data}-v0", "kitchen", f"{MIRROR}/kitchen/{stem}.hdf5", ours(f"kitchen-{data}"))
        )
    return {file.name: file for file in files}


CATALOG = _catalogue()  # D4RL id -> its file
BY_FILE_NAME = {file.file_name: file for file in CATALOG.values()}


def find_file(name: str) -> Path:
    """Path of the file of a D4RL id: in $D4RL_DATASET_DIR if that is set, else or then in ~/.d4rl/datasets.

    Raises DatasetKeyError for an id that is not in CATALOG, DatasetNotFoundError with the URL when the file
    is absent.
    """
    if name not in CATALOG:
        raise DatasetKeyError(
            f"no D4RL dataset {name!r}; known are {', '.join(CATALOG)}. To read any file, pass its path."
        )
    file = CATALOG[name]
    for folder in folders():
        if (folder / file.file_name).is_file():
            return folder / file.file_name
    raise DatasetNotFoundError(
        f"the file of {name}, {file.file_name}, is not in {' or '.join(str(folder) for folder in folders())}.\n"
        f"`zoo data download {name}` fetches it (in Python download=True), or\n"
        f"Download {file.url}\nand save it as {folders()[0] / file.file_name}"
    )


def folders() -> list[Path]:
    """Where D4RL's files are looked for; the first is where they are downloaded to."""
    own = os.environ.get("D4RL_DATASET_DIR")
    return [*([Path(own).expanduser()] if own else []), home() / ".d4rl" / "datasets"]


def read_hdf5(
    path: str | Path,
    *,
    mode: str | None = None,
    max_episode_steps: int | None = None,
    action_space: Limits | None = None,
    last_row: LastRow = "drop",
) -> OfflineDataset:
    """Read an HDF5 file of columns: observations (N, O), actions (N, A), rewards, terminals, timeouts, or our names.

    mode "parity" gives exactly the rows of d4rl's qlearning_dataset: the successor is the next row of the
    file, so the time-out rows, whose next row belongs to another episode, and the last row are left out.
    Published D4RL scores were computed on these. mode "full" keeps every row whose successor is known: with
    next_observations in the file that is all of them; without it last rows follow the rule of
    zoo.datasets.episodes with last_row. The default is "parity" for D4RL's own files without next_observations,
    which published scores were computed on, and "full" for all others: no failure at the end of a log is lost.

    A file without timeouts needs episode_ids or max_episode_steps, the environment's time limit, and is otherwise
    refused: guessing it would bootstrap across episodes. With timeouts the limit is not used. A file named as D4RL
    names it gets that dataset's id, environment and episode rule; any other is called by its stem. What
    zoo.datasets.writers adds as attributes is used: env_id, action_low and action_high, observation_low and
    observation_high, and episode_ends, the keys that end an episode. Without them action_space defaults to
    [-1, 1]^A.
    Raises DatasetNotFoundError, DatasetKeyError (missing keys) or DatasetValueError.
    """
    if mode not in (None, *MODES):
        raise DatasetValueError(f"mode must be one of {', '.join(MODES)} or None, got {mode!r}")
    path = Path(path).expanduser()
    if not path.is_file():
        raise DatasetNotFoundError(
            f"{path} is {'a folder' if path.is_dir() else 'not there'}. Pass the path of an HDF5 file."
        )
    raw, attributes, boxes, stated = _read_keys(path, mode == "parity", max_episode_steps)
    check_columns(path.name, {key: column for key, column in raw.items() if key not in UNCHECKED})
    known = path.name in BY_FILE_NAME
    mode = mode or ("parity" if known and "next_observations" not in raw else "full")
    file = BY_FILE_NAME.get(path.name, D4RLFile(path.stem, "", path.name))
    env_id = attributes.get("env_id", file.env_id)

    terminals, ids = raw["terminations"] > 0.5, raw.pop("episode_ids", None)
    if "truncations" in raw:
        timeouts = raw["truncations"] > 0.5
    elif max_episode_steps is not None:
        timeouts = count_timeouts(terminals, max_episode_steps, after_terminal=1 if mode == "parity" else 0)
    else:
        assert ids is not None  # or _read_keys had refused it
        timeouts = ends_of(ids) & ~terminals
    flags = {"terminals": terminals, "timeouts": timeouts}
    if ids is None:
        ends = np.zeros(len(terminals), dtype=bool)  # (N,)
        for key in _episode_ends(path, attributes, file):
            ends |= flags[key]
    else:
        ends = ends_of(ids)
    notes = _notes(file, mode, ends, timeouts)
    if mode == "parity":
        rows = np.flatnonzero(~timeouts[:-1])
        # A terminal row's successor is the next episode's first, as in d4rl. It is masked, never used.
        raw["next_observations"] = raw["observations"][np.append(np.arange(1, len(terminals)), 0)]
        columns = cut(raw, raw["next_observations"], terminals, ends | (np.arange(len(ends)) == len(ends) - 1), rows)
        if len(rows) == 0:
            raise DatasetValueError(f"{path.name}: parity leaves none of its {len(ends)} rows. Record longer episodes.")
    else:
        columns, told = transitions_of(path.name, raw, ends, last_row=last_row)
        notes += told
    return OfflineDataset.from_arrays(
        **columns,
        action_space=action_space or boxes["action"],
        observation_space=boxes["observation"],
        name=file.name,
        env_id=None if env_id is None else str(env_id),
        provenance={
            **attributes,
            "file": path.name,
            "sha256": _sha256(path),
            "mode": mode,
            "rows_in_file": len(terminals),
        },
        warnings=notes,
        stated=stated,
    )


def _read_keys(
    path: Path, parity: bool, max_episode_steps: int | None
) -> tuple[dict[str, Array], dict[str, str | int | float], dict[str, Box | None], dict[str, Any]]:
    """The columns that are needed, by our names, the file's attributes, boxes and statement. infos/* can be larger."""
    with open_hdf5(path) as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        keys = our_names(path.name, names)
        check_needed(path.name, keys, names, max_episode_steps is not None)
        if parity:
            keys.pop("next_observations", None)
        columns = {}
        for ours, key in keys.items():
            if file[key].dtype.kind not in "fiub":
                raise DatasetValueError(f"{path.name}: {key} holds {file[key].dtype}, expected numbers or bool.")
            if ours == "episode_ids":
                columns[ours] = squeeze(file[key][()])
                continue
            wide = file[key].dtype.itemsize > 4 and ours not in ("terminations", "truncations")
            # Flags too: they come as bool, int or float. What float32 would round, OfflineDataset rounds and tells.
            column = file[key].astype(np.float64 if wide else np.float32)[()]
            columns[ours] = column if ours in MATRICES else squeeze(column)
        attributes = {key: _plain(value) for key, value in file.attrs.items() if key not in (*BOUNDS, STATED)}
        boxes = {kind: box_of(path.name, kind, file.attrs) for kind in ("action", "observation")}
        return columns, attributes, boxes, stated_in(path.name, file.attrs)


def _plain(value: object) -> str | int | float:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    return value if isinstance(value, (str, int, float)) else str(value)


def _episode_ends(path: Path, attributes: Mapping[str, Any], file: D4RLFile) -> tuple[str, ...]:
    if "episode_ends" not in attributes:
        return file.episode_ends
    keys = tuple(str(attributes["episode_ends"]).split())
    if not set(keys) <= set(FLAGS):
        raise DatasetValueError(
            f"{path.name}: episode_ends must name some of {' '.join(FLAGS)}, got {' '.join(keys)!r}"
        )
    return keys


def _notes(file: D4RLFile, mode: str, ends: NDArray[np.bool_], timeouts: NDArray[np.bool_]) -> tuple[str, ...]:
    """What a reader of scores or returns should know about how this file was cut."""
    notes: tuple[str, ...] = ()
    dropped = np.count_nonzero(timeouts[:-1])
    if mode == "parity" and dropped:
        notes += (f"parity leaves out {dropped} time-out rows: returns of those episodes lack their last reward",)
    if file.family == "maze2d":
        notes += ("maze2d is one endless trajectory: its single return and length mean nothing",)
    elif not ends[-1]:
        trailing = len(ends) - 1 - int(np.flatnonzero(ends)[-1]) if ends.any() else len(ends)
        notes += (f"the last {trailing} rows of the file are an episode without an end: truncated, not terminated",)
    if file.url.startswith(f"{MIRROR}/ant_maze_new/"):
        notes += ("AntMaze -v0 time-outs are out of step with its trajectories: prefer the -v2 dataset",)
    return notes


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
