"""What happens in an environment, written down as it happens: Recorder, and D4RL's HDF5 layout.

A row is one transition. Columns are called as in the HDF5 file; `rows` is everywhere a NumPy structured array with one
field for each column, in time order, of one episode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
from gymnasium.spaces import Box

from zoo.agents.core.finite import check_rows
from zoo.agents.core.vector import check_raw
from zoo.datasets.checks import Array, DatasetValueError
from zoo.datasets.readers.d4rl import BOUNDS
from zoo.datasets.sealed import sealed_hdf5
from zoo.export.files import whole

FLOATS = ("observations", "actions", "rewards", "next_observations")  # float32, as in D4RL's files
STATE = ("qpos", "qvel", "act")  # of MuJoCo, what a simulator needs to go on from here
CHUNK = 10_000  # rows that go into the HDF5 file at a time

About = Mapping[str, Any]  # a file's attributes: numbers, texts, arrays


def simulator_state(env: gym.Env) -> dict[str, Array]:
    """Copies of qpos, qvel, ctrl and, where there is one, act of a MuJoCo environment, float64; {} for any other."""
    inner = env.unwrapped
    data = getattr(inner, "data", None)  # Gymnasium and gymnasium-robotics
    if data is None:
        data = getattr(getattr(inner, "physics", None), "data", None)  # dm_control through shimmy
    if not hasattr(data, "qpos"):
        return {}
    state = {name: np.array(getattr(data, name), np.float64) for name in (*STATE, "ctrl")}
    return {name: array for name, array in state.items() if array.size}


def bounds(env: gym.Env) -> dict[str, Array]:
    """The attributes from which load_dataset knows the spaces."""
    spaces: dict[str, Any] = {"action": env.action_space, "observation": env.observation_space}
    return {f"{name}_{end}": getattr(box, end) for name, box in spaces.items() for end in ("low", "high")}


class Recorder(gym.Wrapper):
    """Passes everything on, and hands over the rows of each episode when it ends, is cut, or is left by a reset.

    env: one whose observations and actions are vectors. append: takes the rows. infos: keys of the step's info that
    become columns infos/<key>. In MuJoCo the state is recorded too, float64: infos/qpos, infos/qvel and infos/act of
    the observation, infos/next_* of the next one, infos/ctrl of the action.
    number: of the episode in progress, recorded as infos/episode; it counts on unless somebody sets it.
    What is recorded is what was chosen and what was given, whatever the environment or its user do to the arrays later.
    Raises ValueError for an environment with other spaces or with a normalising wrapper inside, whose numbers would
    mean something else from step to step; NotFiniteError for a number that is not finite. Episodes before are kept.
    """

    def __init__(self, env: gym.Env, append: Callable[[Array], None], infos: tuple[str, ...] = ()):
        check_raw(env)
        super().__init__(env)
        for name in ("observation_space", "action_space"):
            space = getattr(env, name)
            if not isinstance(space, Box) or len(space.shape) != 1:
                raise ValueError(
                    f"{name} of {env} is {space}, expected a Box of one dimension. "
                    "gymnasium.wrappers.FlattenObservation makes one of observations."
                )
        self.append = append
        self.infos = infos
        self.number = 0
        self._rows: list[dict[str, Any]] = []

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self.cut()
        observation, info = self.env.reset(**kwargs)
        self._observation, self._state = np.array(observation), simulator_state(self.env)
        check_rows({"observations": self._observation[None]}, self._source)
        return np.array(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        chosen = np.array(action)
        check_rows({"actions": chosen[None]}, lambda _: "the policy")
        next_obs, reward, terminated, truncated, info = self.env.step(np.array(action))
        after = simulator_state(self.env)
        copied = np.array(next_obs)  # an environment may hand out one array again and again
        check_rows({"next_observations": copied[None], "rewards": np.array([reward])}, self._source)
        row = {
            "observations": self._observation,
            "actions": chosen,
            "rewards": reward,
            "next_observations": copied,
            "terminals": terminated,
            "timeouts": truncated and not terminated,
            "infos/episode": self.number,
        }
        row |= {f"infos/{name}": self._state[name] for name in STATE if name in after}
        row |= {f"infos/next_{name}": after[name] for name in STATE if name in after}
        row |= {"infos/ctrl": after["ctrl"]} if "ctrl" in after else {}
        row |= {f"infos/{name}": np.array(info[name]) for name in self.infos}
        self._rows.append(row)
        self._observation, self._state = copied, after
        if terminated or truncated:
            self._hand_over()
        return np.array(next_obs), reward, terminated, truncated, info

    def _source(self, row: int) -> str:
        return f"the environment, in step {len(self._rows) + 1} of episode {self.number},"

    def cut(self) -> None:
        """Ends the episode in progress, if there is one: its last row is a time-out."""
        if self._rows:
            self._rows[-1]["timeouts"] = True
            self._hand_over()

    def _hand_over(self) -> None:
        columns = {}
        for name in self._rows[0]:
            column = np.array([row[name] for row in self._rows])
            columns[name] = column.astype(np.float32) if name in FLOATS else column
        self._rows = []
        self.number += 1
        self.append(as_rows(columns))


def as_rows(columns: Mapping[str, Array]) -> Array:
    """Columns of equal length as one structured array."""
    rows = np.empty(
        len(next(iter(columns.values()))),
        [(name, column.dtype, column.shape[1:]) for name, column in columns.items()],
    )
    for name, column in columns.items():
        rows[name] = column
    return rows


def write_hdf5(path: Path, episodes: Iterable[Array], about: About, rows: int | None = None) -> Path:
    """Episodes as one file in D4RL's layout, whole or not at all; read chunk by chunk, compressed. Returns the path.

    rows: that there must be, where the caller has counted them. Raises DatasetValueError where there are no episodes or
    other rows, OSError where the disk is full.
    """
    with whole(path) as temporary, sealed_hdf5(temporary, path) as (file, check_disk):
        for chunk in _chunks(episodes):
            _append(file, chunk)
            check_disk()
        if not len(file):
            raise DatasetValueError(f"{path}: nothing was recorded. Record at least one transition.")
        found = len(file["rewards"])
        if rows is not None and found != rows:
            raise DatasetValueError(f"{path} would have {found:,} of {rows:,} recorded rows; nothing was written")
        file.attrs.update(about)
    return path


def count_rows(path: Path) -> int:
    """Transitions in a file that write_hdf5 wrote."""
    with h5py.File(path, "r") as file:
        return len(file["rewards"])


def _chunks(episodes: Iterable[Array]) -> Iterator[Array]:
    """Episodes joined until they have CHUNK rows: HDF5 is slow at growing by little."""
    waiting: list[Array] = []
    for rows in episodes:
        waiting.append(rows)
        if sum(map(len, waiting)) >= CHUNK:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


def _append(file: h5py.File, rows: Array) -> None:
    for name in rows.dtype.names or ():
        column = rows[name]
        if name not in file:
            file.create_dataset(
                name, data=column, maxshape=(None, *column.shape[1:]), chunks=True, compression="gzip", shuffle=True
            )
        else:
            file[name].resize(len(file[name]) + len(rows), axis=0)
            file[name][-len(rows) :] = column


def episode_lengths(path: Path) -> Array:
    """Rows of each episode of a file that write_hdf5 wrote, (episodes,)."""
    with h5py.File(path, "r") as file:
        last = file["terminals"][()] | file["timeouts"][()]
    last[-1] = True
    return np.diff(np.flatnonzero(last), prepend=-1)


def read_episodes(path: Path) -> Iterator[Array]:
    """The rows of each episode of such a file, with every column; CHUNK rows in memory at a time, or one episode."""
    start, ends = 0, np.cumsum(episode_lengths(path))
    with h5py.File(path, "r") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        while len(ends):
            whole = max(1, int(np.searchsorted(ends, start + CHUNK, side="right")))  # episodes
            rows = as_rows({name: file[name][start : ends[whole - 1]] for name in names})
            yield from np.split(rows, ends[: whole - 1] - start)
            start, ends = int(ends[whole - 1]), ends[whole:]


def read_about(path: Path) -> dict[str, Any]:
    """The attributes of a file; numbers and texts as Python has them."""
    with h5py.File(path, "r") as file:
        return {name: value.item() if isinstance(value, np.generic) else value for name, value in file.attrs.items()}


def read_bounds(path: Path) -> dict[str, Array]:
    """Those of its attributes from which load_dataset knows the spaces."""
    return {name: value for name, value in read_about(path).items() if name in BOUNDS}


def check_about(file: Path, found: About, expected: About) -> None:
    """Raises ValueError where a file is not about what is expected; found may say more."""
    different = [key for key in expected if found.get(key) != expected[key]]
    if different:
        was, now = ({key: about.get(key) for key in different} for about in (found, expected))
        raise ValueError(f"{file} was made with {was}, not {now}. Delete it to begin anew, or give another path.")


def is_made(path: Path, about: About) -> bool:
    """Whether a dataset is there. Raises ValueError where it is about something else."""
    if path.exists():
        check_about(path, read_about(path), about)
    return path.exists()
