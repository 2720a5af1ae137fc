"""OfflineDataset, the form in which every reader hands over data, and load_dataset, from name to dataset.

Nothing here transforms data for an algorithm (reward scale, normalisation, ...): that belongs to the agents.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
Provenance = Mapping[str, str | int | float]

EMBEDDED = {"hopper-medium-replay": "Hopper-v5"}  # dataset shipped in zoo/data -> its Gymnasium environment
STORED = (
    "observations",
    "actions",
    "rewards",
    "next_observations",
    "terminations",
    "truncations",
    "episode_ids",
)
DERIVED = ("next_actions", "next_action_valid")
MATRICES = ("observations", "actions", "next_observations")  # (N, dim); the other columns are (N,)

ROUNDING = 1e-6  # an action this far outside its box is float32 noise: clipped without a word
TOLERANCE = 1e-5  # this far: clipped, with a warning. Farther is another action than the robot ran: refused


class DatasetError(Exception):
    """Anything wrong with a dataset. The message names the file or column, what was found, and the fix."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would print the message's repr


class DatasetNotFoundError(DatasetError, FileNotFoundError):
    """No such file, or a name that no reader knows."""


class DatasetKeyError(DatasetError, KeyError):
    """A column, file key or dataset id that is not there."""


class DatasetValueError(DatasetError, ValueError):
    """Contents that would train silently wrong: shapes, NaN, actions outside the box, damaged files."""


@dataclass(frozen=True, eq=False, repr=False)
class OfflineDataset:
    """N logged transitions in time order; the arrays are read-only. Build one with from_arrays or
    load_dataset.

    A termination is a state without a future (the value is not bootstrapped past it); a truncation is any
    other end: a time limit, or the end of the data. The last row of every episode is one or the other, and
    its next_observations row is the true successor unless the row is terminated.
    Raises DatasetValueError when the arrays contradict each other, hold NaN or inf, or leave the action box.
    """

    name: str
    observations: NDArray[np.float32]  # (N, O)
    actions: NDArray[np.float32]  # (N, A), env units, inside action_space
    rewards: NDArray[np.float32]  # (N,), as the environment gave them
    next_observations: NDArray[np.float32]  # (N, O)
    terminations: NDArray[np.bool_]  # (N,)
    truncations: NDArray[np.bool_]  # (N,)
    episode_ids: NDArray[np.int64]  # (N,): 0, 0, ..., 1, 1, ...
    observation_space: Box
    action_space: Box
    env_id: str | None = None  # Gymnasium id of the environment that the data comes from
    provenance: Provenance = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_columns(self.name, {name: getattr(self, name) for name in STORED})
        _check_space(self.name, "observation_space", self.observation_space, self.observations)
        _check_space(self.name, "action_space", self.action_space, self.actions)
        _check_actions(self)
        _check_episodes(self)
        for name in STORED:
            getattr(self, name).setflags(write=False)

    @classmethod
    def from_arrays(
        cls,
        observations: ArrayLike,
        actions: ArrayLike,
        rewards: ArrayLike,
        next_observations: ArrayLike,
        terminations: ArrayLike,
        truncations: ArrayLike,
        *,
        episode_ids: ArrayLike | None = None,
        observation_space: Box | None = None,
        action_space: Box | None = None,
        name: str = "arrays",
        env_id: str | None = None,
        provenance: Provenance | None = None,
        warnings: tuple[str, ...] = (),
    ) -> OfflineDataset:
        """Copy, convert and check arrays of N rows in time order: a dataset that owns its memory.

        (N, 1) becomes (N,), floats become float32, flags may be bool, 0/1 or float. Without episode_ids an
        episode ends at each termination or truncation. An unfinished last episode is truncated by the end of
        the data. action_space defaults to [-1, 1]^A, observation_space to an unbounded box.
        """
        raw = {
            "observations": _floats(name, "observations", observations),
            "actions": _floats(name, "actions", actions),
            "rewards": squeeze(_floats(name, "rewards", rewards)),
            "next_observations": _floats(name, "next_observations", next_observations),
            "terminations": squeeze(_floats(name, "terminations", terminations)),
            "truncations": squeeze(_floats(name, "truncations", truncations)),
        }
        check_columns(name, raw)
        terminated, truncated = raw["terminations"] > 0.5, raw["truncations"] > 0.5  # (N,)
        if not (terminated[-1] or truncated[-1]):
            truncated[-1] = True
            warnings += ("the last episode has no end: its last row counts as truncated by the end of the data",)
        if episode_ids is None:
            episode_ids = episode_index(terminated | truncated)
        if observation_space is None:
            observation_space = Box(-np.inf, np.inf, raw["observations"].shape[1:], np.float32)
        if action_space is None:
            action_space = Box(-1.0, 1.0, raw["actions"].shape[1:], np.float32)
        _check_space(name, "observation_space", observation_space, raw["observations"])
        _check_space(name, "action_space", action_space, raw["actions"])
        clipped, clip_warnings = _clip_rounding(raw["actions"], action_space)
        dataset = cls(
            name=name,
            observations=raw["observations"],
            actions=clipped,
            rewards=raw["rewards"],
            next_observations=raw["next_observations"],
            terminations=terminated,
            truncations=truncated,
            episode_ids=np.array(episode_ids, dtype=np.int64),
            observation_space=observation_space,
            action_space=action_space,
            env_id=env_id,
            provenance=dict(provenance or {}),
        )
        return replace(dataset, warnings=warnings + clip_warnings + _doubts(dataset))

    def __len__(self) -> int:
        return len(self.rewards)

    def __repr__(self) -> str:
        return (
            f"OfflineDataset({self.name!r}, {len(self):,} transitions, {self.num_episodes:,} episodes, "
            f"observations ({self.observations.shape[1]},), actions ({self.actions.shape[1]},), "
            f"env_id={self.env_id!r})"
        )

    @property
    def num_episodes(self) -> int:
        return int(self.episode_ids[-1]) + 1

    @property
    def columns(self) -> tuple[str, ...]:
        """Every name that column() knows, the stored ones first."""
        return STORED + DERIVED

    def column(self, name: str) -> Array:
        """One column of N rows, read-only, in the order of the data.

        Beside the stored ones: `next_actions` (N, A), the action of the next row of the same episode, and
        `next_action_valid` (N,) bool. An episode's last row has no next action: invalid, it repeats its own.
        Raises DatasetKeyError for any other name.
        """
        if name in STORED:
            array: Array = getattr(self, name)
            return array
        valid = np.append(self.episode_ids[1:] == self.episode_ids[:-1], False)  # (N,)
        if name == "next_action_valid":
            derived: Array = valid
        elif name == "next_actions":
            derived = self.actions[np.arange(len(self)) + valid]  # (N, A)
        else:
            raise DatasetKeyError(
                f"no column {name!r}; {self.name} has {sorted(self.columns)}. A column that an agent "
                "computes itself is not in the data: derive it from these, or load a dataset that has it."
            )
        derived.setflags(write=False)
        return derived

    def episode_returns(self) -> NDArray[np.float64]:
        """Undiscounted sum of the rewards of each episode, (episodes,); summed in float64."""
        return np.bincount(self.episode_ids, weights=self.rewards.astype(np.float64)).astype(np.float64)

    def episode_lengths(self) -> NDArray[np.int64]:
        """Transitions of each episode, (episodes,)."""
        return np.bincount(self.episode_ids).astype(np.int64)


def load_dataset(
    name_or_path: str | Path,
    *,
    mode: str | None = None,
    max_episode_steps: int | None = None,
    action_space: Box | None = None,
) -> OfflineDataset:
    """Load an embedded dataset ("hopper-medium-replay"), a D4RL id ("hopper-medium-v2") or an HDF5 file.

    A D4RL id is looked for in $D4RL_DATASET_DIR, then ~/.d4rl/datasets; nothing is downloaded. mode,
    max_episode_steps and action_space (default [-1, 1]) go to zoo.d4rl.read_hdf5, which documents them.
    Raises DatasetNotFoundError, DatasetKeyError or DatasetValueError, all of them DatasetError.
    """
    from zoo import d4rl  # here, because the readers import OfflineDataset from this module

    name = str(name_or_path)
    if name in EMBEDDED:
        path = Path(str(resources.files("zoo") / "data" / f"{name}.hdf5"))
    elif name in d4rl.CATALOG:
        path = d4rl.find_file(name)
    else:
        path = Path(name_or_path).expanduser()
        if path.suffix not in d4rl.SUFFIXES and not path.exists():
            close = difflib.get_close_matches(name, [*EMBEDDED, *d4rl.CATALOG], n=3)
            hint = f"Close names: {', '.join(close)}. " if close else ""
            raise DatasetNotFoundError(
                f"no dataset or file {name!r}. {hint}Give an embedded name ({', '.join(EMBEDDED)}), "
                f"a D4RL id such as hopper-medium-v2, or the path of a file in {' or '.join(d4rl.SUFFIXES)}."
            )
    return d4rl.read_hdf5(path, mode=mode, max_episode_steps=max_episode_steps, action_space=action_space)


def check_columns(owner: str, columns: Mapping[str, Array]) -> None:
    """Refuse empty columns, wrong ranks, different lengths, NaN and inf; owner begins the message.

    observations, actions and next_observations are (N, dim) and everything else (N,), after squeeze.
    """
    for name, array in columns.items():
        if array.size == 0:
            raise DatasetValueError(f"{owner}: {name} is empty. Record or export at least one transition.")
        expected = 2 if name in MATRICES else 1
        if array.ndim != expected:
            shape = "(N, dim)" if expected == 2 else "(N,) or (N, 1)"
            raise DatasetValueError(f"{owner}: {name} has shape {array.shape}, expected {shape}. Reshape it.")
    lengths = {name: len(array) for name, array in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DatasetValueError(
            f"{owner}: columns differ in length: {lengths}. Every column needs one row per transition; "
            "record it again, or cut them to the rows that belong together."
        )
    if "next_observations" in columns and columns["next_observations"].shape != columns["observations"].shape:
        raise DatasetValueError(
            f"{owner}: next_observations has shape {columns['next_observations'].shape}, "
            f"observations {columns['observations'].shape}. They must be equal."
        )
    for name, array in columns.items():
        finite = np.isfinite(array).reshape(len(array), -1)
        if not finite.all():
            raise DatasetValueError(
                f"{owner}: {name} holds {np.count_nonzero(~finite)} NaN or inf, the first in row "
                f"{int(np.argmin(finite.all(axis=1)))}. Repair the rows, or drop them and end the episode."
            )


def episode_index(ends: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Index of the episode of each row, (N,), where ends (N,) marks the last row of each."""
    return np.append(0, np.cumsum(ends[:-1]))


def squeeze(array: Array) -> Array:
    """(N, 1) to (N,): files store rewards and flags either way, and (B, 1) - (B,) broadcasts to (B, B)."""
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _floats(owner: str, name: str, values: ArrayLike) -> NDArray[np.float32]:
    """A float32 copy. What does not fit becomes inf, and is refused as such later."""
    try:
        with np.errstate(over="ignore"):
            return np.array(values, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise DatasetValueError(f"{owner}: {name} is not a numeric array ({error}). Pass one of float32.") from error


def _box_excess(actions: Array, box: Box) -> NDArray[np.float32]:
    """How far each action component is outside the box, (N, A); <= 0 inside."""
    low, high = box.low.astype(np.float32), box.high.astype(np.float32)
    return np.maximum(low - actions, actions - high)


def _clip_rounding(actions: Array, box: Box) -> tuple[Array, tuple[str, ...]]:
    """Actions with rounding errors clipped away and what to tell about it; larger ones stay, to be
    refused."""
    excess = _box_excess(actions, box)
    worst = float(excess.max())
    if not 0.0 < worst <= TOLERANCE:
        return actions, ()
    clipped = np.clip(actions, box.low.astype(np.float32), box.high.astype(np.float32))
    if worst <= ROUNDING:
        return clipped, ()
    rows = np.count_nonzero((excess > 0.0).any(axis=1))
    return clipped, (f"{rows} actions were up to {worst:.1e} outside the box and have been clipped to it",)


def _check_space(owner: str, name: str, space: Box, array: Array) -> None:
    if not isinstance(space, Box) or space.shape != array.shape[1:]:
        raise DatasetValueError(
            f"{owner}: {name} is {space}, but the data has rows of shape {array.shape[1:]}. "
            f"Pass a gymnasium Box of shape {array.shape[1:]}."
        )


def _check_actions(dataset: OfflineDataset) -> None:
    outside = _box_excess(dataset.actions, dataset.action_space)
    bad = (outside > 0.0).any(axis=1)  # (N,)
    if bad.any():
        row, dim = np.unravel_index(int(outside.argmax()), outside.shape)
        low, high = dataset.action_space.low[dim], dataset.action_space.high[dim]
        raise DatasetValueError(
            f"{dataset.name}: {np.count_nonzero(bad)} actions lie outside the action box; the worst is "
            f"{dataset.actions[row, dim]:g} in row {row}, component {dim}, expected [{low:g}, {high:g}]. "
            "If the limits are wider, pass action_space=Box(low, high); if the robot clipped, store that."
        )


def _check_episodes(dataset: OfflineDataset) -> None:
    steps = np.diff(dataset.episode_ids)
    if dataset.episode_ids[0] != 0 or not np.isin(steps, (0, 1)).all():
        raise DatasetValueError(
            f"{dataset.name}: episode_ids must count 0, 0, ..., 1, 1, ... without gaps. Sort the rows "
            "by episode and time and renumber, or leave episode_ids out to derive them from the flags."
        )
    last = np.append(steps == 1, True)  # (N,)
    unmarked = last & ~(dataset.terminations | dataset.truncations)
    if unmarked.any():
        raise DatasetValueError(
            f"{dataset.name}: {np.count_nonzero(unmarked)} episodes end without termination or truncation, "
            f"the first in row {int(unmarked.argmax())}. Mark the last row of each: terminated if it failed "
            "or finished, truncated if the recording stopped."
        )
    early = dataset.truncations & ~last
    if early.any():
        raise DatasetValueError(
            f"{dataset.name}: {np.count_nonzero(early)} truncations lie inside an episode, the first in row "
            f"{int(early.argmax())}. A truncation ends its episode: start a new episode id after it."
        )


def _doubts(dataset: OfflineDataset) -> tuple[str, ...]:
    """What looks wrong in arrays that contradict nothing: most often a time limit stored as a termination."""
    doubts = []
    fraction = float(dataset.terminations.mean())
    if fraction > 0.1:
        doubts.append(f"{fraction:.0%} of the rows are terminations: are all of them states without a future?")
    ends = np.flatnonzero(np.append(np.diff(dataset.episode_ids) == 1, True))
    lengths = dataset.episode_lengths()
    if len(ends) > 2 and dataset.terminations[ends].all() and lengths.min() == lengths.max():
        doubts.append(
            f"all {len(ends)} episodes terminate after exactly {lengths[0]} steps: if that is a time limit, "
            "store truncations instead, or the learned values are too low"
        )
    return tuple(doubts)
