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

from zoo.datasets.checks import Array, DatasetKeyError, DatasetNotFoundError, DatasetValueError, check_columns
from zoo.datasets.dataset import OfflineDataset, episode_index, squeeze

MODES = ("full", "parity")
SUFFIXES = (".hdf5", ".h5")
NEEDED = ("observations", "actions", "rewards", "terminals")
BOUNDS = (
    "action_low",
    "action_high",
    "observation_low",
    "observation_high",
)  # attributes of our writers
FLAGS = ("terminals", "timeouts")
JUMP = 1e-6  # distance between a row's successor and the next row above which they are different states

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
    env_id: str | None = None  # None where today's environments differ from D4RL's

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


def _catalogue() -> dict[str, D4RLFile]:
    files: list[D4RLFile] = []
    for family, env_id in LOCOMOTION_ENVS.items():
        for data in ("random", "medium", "expert", "medium-replay", "full-replay", "medium-expert"):
            url = f"{MIRROR}/gym_mujoco_v2/{family}_{data.replace('-', '_')}-v2.hdf5"
            files.append(D4RLFile(f"{family}-{data}-v2", family, url, env_id))
    for family in ("pen", "door", "hammer", "relocate"):
        for data in ("human", "cloned", "expert"):
            name = f"{family}-{data}-v1"
            files.append(D4RLFile(name, family, f"{MIRROR}/hand_dapg_v1/{name}.hdf5"))
    for maze, version in {"open": "", "umaze": "-v1", "medium": "-v1", "large": "-v1"}.items():
        for reward, suffix in {"sparse": "", "dense": "-dense"}.items():
            url = f"{MIRROR}/maze2d/maze2d-{maze}-{reward}{version}.hdf5"
            files.append(D4RLFile(f"maze2d-{maze}{suffix}{version or '-v0'}", "maze2d", url))
    for data, maze, starts, goals in (
        ("umaze", "u-maze", False, False),
        ("umaze-diverse", "u-maze", True, True),
        ("medium-play", "big-maze", True, False),
        ("medium-diverse", "big-maze", True, True),
        ("large-play", "hardest-maze", True, False),
        ("large-diverse", "hardest-maze", True, True),
    ):
        stem = f"Ant_maze_{maze}_noisy_multistart_{starts}_multigoal_{goals}_sparse"
        files.append(D4RLFile(f"antmaze-{data}-v0", "antmaze", f"{MIRROR}/ant_maze_new/{stem}.hdf5"))
        files.append(D4RLFile(f"antmaze-{data}-v2", "antmaze", f"{MIRROR}/ant_maze_v2/{stem}_fixed.hdf5"))
    for data, goals in {"play": False, "diverse": True}.items():
        url = f"{ULTRA}/Ant_maze_ultra_noisy_multistart_True_multigoal_{goals}_sparse.hdf5"
        files.append(D4RLFile(f"antmaze-ultra-{data}-v0", "antmaze", url))
    for data, stem in {
        "complete": "mini_kitchen_microwave_kettle_light_slider-v0",
        "partial": "kitchen_microwave_kettle_light_slider-v0",
        "mixed": "kitchen_microwave_kettle_bottomburner_light-v0",
    }.items():
        files.append(D4RLFile(f"kitchen-{data}-v0", "kitchen", f"{MIRROR}/kitchen/{stem}.hdf5"))
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
    folders = [Path.home() / ".d4rl" / "datasets"]
    if os.environ.get("D4RL_DATASET_DIR"):
        folders.insert(0, Path(os.environ["D4RL_DATASET_DIR"]).expanduser())
    for folder in folders:
        if (folder / file.file_name).is_file():
            return folder / file.file_name
    raise DatasetNotFoundError(
        f"the file of {name}, {file.file_name}, is not in {' or '.join(str(folder) for folder in folders)}.\n"
        f"Download {file.url}\nand save it as {folders[0] / file.file_name}"
    )


def read_hdf5(
    path: str | Path,
    *,
    mode: str | None = None,
    max_episode_steps: int | None = None,
    action_space: Box | None = None,
) -> OfflineDataset:
    """Read a file in D4RL's HDF5 layout: observations (N, O), actions (N, A), rewards, terminals, timeouts.

    mode "parity" gives exactly the rows of d4rl's qlearning_dataset: the successor is the next row of the
    file, so the time-out rows, whose next row belongs to another episode, and the last row are left out.
    Published D4RL scores were computed on these. mode "full" keeps every row whose successor is known: with
    next_observations in the file that is all of them, without it the rows that parity keeps plus terminal
    ones on a time limit or at the end of the file. The default is "full" for files with next_observations,
    because the rows it adds are correct transitions and a time-out row is the only evidence of the states at
    the limit, and "parity" for all others.

    A file without timeouts needs max_episode_steps, the environment's time limit, and is otherwise refused:
    guessing it would bootstrap across episodes. With timeouts the argument is not used. A file named as D4RL
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
    raw, attributes, boxes = _read_keys(path, with_successors=mode != "parity")
    check_columns(path.name, raw)
    mode = mode or ("full" if "next_observations" in raw else "parity")
    file = BY_FILE_NAME.get(path.name, D4RLFile(path.stem, "", path.name))
    env_id = attributes.get("env_id", file.env_id)

    terminals = raw["terminals"] > 0.5
    if "timeouts" in raw:
        timeouts = raw["timeouts"] > 0.5
    elif max_episode_steps is not None:
        timeouts = _count_timeouts(terminals, max_episode_steps, after_terminal=1 if mode == "parity" else 0)
    else:
        raise DatasetKeyError(
            f"{path.name} has no key 'timeouts', so time limits cannot be told from the data. "
            "Pass max_episode_steps=, the environment's limit (1000 for D4RL's locomotion tasks)."
        )
    flags = {"terminals": terminals, "timeouts": timeouts}
    ends = np.zeros(len(terminals), dtype=bool)  # (N,)
    for key in _episode_ends(path, attributes, file):
        ends |= flags[key]
    notes = _notes(file, mode, ends, timeouts)
    ends[-1] = True
    if mode == "full" and "next_observations" in raw:
        jumps = _jumps(raw["observations"], raw["next_observations"])
        if (jumps & ~ends).any():
            cuts = np.count_nonzero(jumps & ~ends)
            notes += (f"{cuts} unmarked episode ends: cut where next_observations is not the next row",)
        ends |= jumps

    obs = raw["observations"]
    if mode == "parity":
        rows = np.flatnonzero(~timeouts[:-1])
        # A terminal row's successor is the next episode's first, as in d4rl. It is masked, never used.
        next_obs = obs[rows + 1]
    elif "next_observations" in raw:
        rows = np.arange(len(obs))
        next_obs = raw["next_observations"]
    else:
        rows = np.flatnonzero(~ends | terminals)
        # A terminal end repeats its own observation. It is masked, never used.
        next_obs = obs[np.where(ends[rows], rows, rows + 1)]
    if len(rows) == 0:
        raise DatasetValueError(f"{path.name}: {mode} leaves none of its {len(obs)} rows. Record longer episodes.")

    # Episodes that lost all their rows leave no gap in the numbers.
    _, episode_ids = np.unique(episode_index(ends)[rows], return_inverse=True)
    last = np.append(np.diff(episode_ids) == 1, True)
    return OfflineDataset.from_arrays(
        observations=obs[rows],
        actions=raw["actions"][rows],
        rewards=raw["rewards"][rows],
        next_observations=next_obs,
        terminations=terminals[rows],
        truncations=last & ~terminals[rows],
        episode_ids=episode_ids,
        action_space=action_space or boxes["action"],
        observation_space=boxes["observation"],
        name=file.name,
        env_id=None if env_id is None else str(env_id),
        provenance={
            **attributes,
            "file": path.name,
            "sha256": _sha256(path),
            "mode": mode,
            "rows_in_file": len(obs),
        },
        warnings=notes,
    )


def _read_keys(
    path: Path, with_successors: bool
) -> tuple[dict[str, Array], dict[str, str | int | float], dict[str, Box | None]]:
    """The columns that are needed, float32 and squeezed, the file's attributes and boxes. infos/* can be larger."""
    try:
        with h5py.File(path, "r") as file:
            names: list[str] = []
            file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
            missing = [key for key in NEEDED if key not in names]
            if missing:
                raise DatasetKeyError(
                    f"{path.name} lacks {', '.join(missing)}; needed are {', '.join(NEEDED)}. "
                    f"Found: {', '.join(names[:20]) or 'nothing'}. Rename the keys to D4RL's."
                )
            optional = ("timeouts", "next_observations") if with_successors else ("timeouts",)
            columns = {}
            for key in (*NEEDED, *(key for key in optional if key in names)):
                if file[key].dtype.kind not in "fiub":
                    raise DatasetValueError(f"{path.name}: {key} holds {file[key].dtype}, expected numbers or bool.")
                column = file[key].astype(np.float32)[()]  # flags too: they come as bool, int or float
                columns[key] = column if key in ("observations", "actions", "next_observations") else squeeze(column)
            attributes = {key: _plain(value) for key, value in file.attrs.items() if key not in BOUNDS}
            return columns, attributes, {kind: box_of(path, kind, file.attrs) for kind in ("action", "observation")}
    except OSError as error:
        raise DatasetValueError(
            f"{path.name} ({path.stat().st_size:,} bytes) cannot be read as HDF5 ({error}). It is damaged, "
            f"cut off or of another format: copy or download it again to {path}."
        ) from error


def _plain(value: object) -> str | int | float:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    return value if isinstance(value, (str, int, float)) else str(value)


def box_of(path: Path, kind: str, attributes: Mapping[str, Any]) -> Box | None:
    """The box that the attributes {kind}_low and {kind}_high state; None where they do not."""
    low, high = attributes.get(f"{kind}_low"), attributes.get(f"{kind}_high")
    if low is None or high is None:
        return None
    low, high = (np.atleast_1d(np.asarray(bound, np.float32)) for bound in (low, high))
    if low.shape != high.shape or not (low <= high).all():
        raise DatasetValueError(
            f"{path.name}: {kind}_low {low} and {kind}_high {high} are no box. Mend the attributes."
        )
    return Box(low, high)


def _episode_ends(path: Path, attributes: Mapping[str, Any], file: D4RLFile) -> tuple[str, ...]:
    if "episode_ends" not in attributes:
        return file.episode_ends
    keys = tuple(str(attributes["episode_ends"]).split())
    if not set(keys) <= set(FLAGS):
        raise DatasetValueError(
            f"{path.name}: episode_ends must name some of {' '.join(FLAGS)}, got {' '.join(keys)!r}"
        )
    return keys


def _jumps(obs: Array, next_obs: Array) -> NDArray[np.bool_]:
    """Rows whose successor is not the next row, (N,): the episode rule of IQL and FQL. The last row has no
    next."""
    return np.append(np.linalg.norm(obs[1:] - next_obs[:-1], axis=1) > JUMP, False)


def _count_timeouts(terminals: NDArray[np.bool_], max_episode_steps: int, after_terminal: int) -> NDArray[np.bool_]:
    """Time-outs by counting steps, (N,). d4rl's counter (parity) is at 1, not 0, after a terminal row it
    keeps."""
    if max_episode_steps < 1:
        raise DatasetValueError(f"max_episode_steps must be at least 1, got {max_episode_steps}")
    timeouts = np.zeros_like(terminals)
    step = 0
    for i, terminal in enumerate(terminals):
        timeouts[i] = step == max_episode_steps - 1
        if timeouts[i]:
            step = 0
        elif terminal:
            step = after_terminal
        else:
            step += 1
    return timeouts


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
