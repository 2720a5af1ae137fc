"""Your own data: recorded episodes, columns in memory, or columns in an .npz file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import ArrayLike, NDArray

from zoo.datasets.checks import (
    MATRICES,
    Array,
    DatasetError,
    DatasetNotFoundError,
    DatasetValueError,
    as_floats,
    as_numbers,
)
from zoo.datasets.dataset import STORED, Limits, OfflineDataset, Provenance, squeeze
from zoo.datasets.episodes import LastRow, ends_of, transitions_of
from zoo.datasets.sizes import BROKEN, check_zip
from zoo.datasets.vocabulary import check_needed, our_names

BOUNDS = ("action_low", "action_high")
STATED = "stated"  # key or attribute: JSON in the shape of zoo.export.stated


@dataclass(frozen=True)
class Episode:
    """T steps as a robot records them.

    With T + 1 observations the last one is where it stopped. With T, one for each action, the last row follows
    the rule of zoo.datasets.episodes: a terminal one is kept, any other left out or kept as last_row says.
    """

    observations: ArrayLike  # (T + 1, O) or (T, O)
    actions: ArrayLike  # (T, A), env units
    rewards: ArrayLike  # (T,)
    terminations: ArrayLike = False  # (T,), or one flag of the last step: it failed or finished, no future


def from_episodes(
    episodes: Iterable[Episode],
    *,
    action_space: Limits | None = None,
    observation_space: Box | None = None,
    name: str = "episodes",
    env_id: str | None = None,
    provenance: Provenance | None = None,
    warnings: tuple[str, ...] = (),
    last_row: LastRow = "drop",
    stated: Mapping[str, Any] | None = None,
) -> OfflineDataset:
    """A dataset of whole episodes; one that does not end in a termination is truncated.

    action_space defaults to [-1, 1]^A, observation_space to an unbounded box. last_row: of episodes of T observations,
    see zoo.datasets.episodes. stated: names, units, ranges and the control rate, see zoo.export.stated.
    Raises DatasetValueError that names the episode, or the row of the joined columns.
    """
    parts: dict[str, list[Array]] = {key: [] for key in (*STORED, "unknown")}
    for i, episode in enumerate(episodes):
        for key, column in _rows_of(episode, f"{name}: episode {i}").items():
            parts[key].append(column)
        parts["episode_ids"].append(np.full(len(parts["rewards"][-1]), i))
    if not parts["rewards"]:
        raise DatasetValueError(f"{name}: no episodes. Record or pass at least one.")
    columns = {}
    for key, arrays in parts.items():
        widths = sorted({array.shape[1:] for array in arrays})
        if len(widths) > 1:
            raise DatasetValueError(f"{name}: the episodes' {key} have rows of shapes {widths}, expected one shape.")
        columns[key] = np.concatenate(arrays)
    unknown = columns.pop("unknown")
    rows, notes = transitions_of(
        name, columns, ends_of(columns["episode_ids"]), unknown=unknown, last_row=last_row, cut_at_jumps=False
    )
    return OfflineDataset.from_arrays(
        **rows,
        action_space=action_space,
        observation_space=observation_space,
        name=name,
        env_id=env_id,
        provenance=provenance,
        warnings=warnings + notes,
        stated=stated,
    )


def _rows_of(episode: Episode, owner: str) -> dict[str, Array]:
    """One episode as transitions, T rows each; unknown (T,): rows whose successor is not in it."""
    obs = as_numbers(owner, "observations", episode.observations)
    actions = as_numbers(owner, "actions", episode.actions)
    rewards = squeeze(as_numbers(owner, "rewards", episode.rewards))
    steps = len(actions) if actions.ndim else 0
    shapes_fit = obs.ndim == 2 and actions.ndim == 2 and rewards.shape == (steps,)
    if not shapes_fit or len(obs) not in (steps, steps + 1) or not steps:
        raise DatasetValueError(
            f"{owner} has observations {obs.shape}, actions {actions.shape} and rewards {rewards.shape}, expected "
            "(T + 1, O) or (T, O), (T, A) and (T,) with T >= 1. Of T + 1 the last is the one after the last action."
        )
    flags = squeeze(as_floats(owner, "terminations", episode.terminations))
    if flags.shape not in ((), (steps,)) or not np.isfinite(flags).all():
        raise DatasetValueError(
            f"{owner} has terminations {flags.tolist()}, expected one flag or ({steps},) of them, without NaN."
        )
    terminations = np.zeros(steps, bool)
    terminations[slice(None) if flags.ndim else -1] = flags > 0.5
    last = np.arange(steps) == steps - 1
    return {
        "observations": obs[:steps],
        "actions": actions,
        "rewards": rewards,
        "next_observations": np.concatenate([obs[1:], obs[-1:]])[:steps],
        "terminations": terminations,
        "truncations": last & ~terminations,
        "unknown": last & ~terminations & (len(obs) == steps),
    }


def from_columns(
    columns: Mapping[str, ArrayLike],
    *,
    action_space: Limits | None = None,
    observation_space: Box | None = None,
    name: str = "arrays",
    env_id: str | None = None,
    provenance: Provenance | None = None,
    last_row: LastRow = "drop",
    max_episode_steps: int | None = None,
    stated: Mapping[str, Any] | None = None,
) -> OfflineDataset:
    """A dataset from a dict of columns of N rows in time order, under our names or D4RL's (zoo.datasets.vocabulary).

    Needed are observations, actions, rewards and terminations (terminals), and what tells where episodes end:
    truncations (timeouts), episode_ids, or max_episode_steps. Without next_observations the successor of a row is the
    next row's observation, and last rows follow the rule of zoo.datasets.episodes with last_row. action_low and
    action_high, (A,), are the action box where action_space is not given; without either it is [-1, 1]^A. stated:
    names, units, ranges and the control rate, see zoo.export.stated. Other columns are not used, and a warning says so.
    Raises DatasetKeyError or DatasetValueError.
    """
    keys = our_names(name, columns)
    check_needed(name, keys, columns, max_episode_steps is not None)
    raw = {ours: _column(name, ours, columns[key]) for ours, key in keys.items()}
    if "truncations" not in raw and max_episode_steps is not None:
        raw["truncations"] = count_timeouts(raw["terminations"] > 0.5, max_episode_steps)
    elif "truncations" in raw and "episode_ids" in raw:
        _check_truncations(name, raw)
    rows, notes = transitions_of(name, raw, last_row=last_row)
    if unused := sorted(columns.keys() - set(keys.values()) - {*BOUNDS, STATED}):
        notes += (f"columns that no agent uses were left out: {', '.join(unused)}",)
    return OfflineDataset.from_arrays(
        **rows,
        action_space=action_space or box_of(name, "action", columns),
        observation_space=observation_space,
        name=name,
        env_id=env_id,
        provenance=provenance,
        warnings=notes,
        stated=stated or stated_in(name, columns),
    )


def _column(owner: str, name: str, values: ArrayLike) -> Array:
    if name == "episode_ids":
        ids = squeeze(np.asarray(values))
        if ids.ndim == 1 and len(ids) and len(np.unique(ids)) < 1 + np.count_nonzero(ids[1:] != ids[:-1]):
            raise DatasetValueError(
                f"{owner}: episode_ids come back to an earlier episode: recordings are interleaved. Sort the rows by "
                "episode and time."
            )
        return ids
    array = as_numbers(owner, name, values)
    return array if name in MATRICES else squeeze(array)


def _check_truncations(owner: str, raw: Mapping[str, Array]) -> None:
    early = np.flatnonzero((raw["truncations"] > 0.5) & ~ends_of(raw["episode_ids"]))
    if len(early):
        raise DatasetValueError(
            f"{owner}: {len(early)} truncations lie inside an episode, the first in row {early[0]}. A truncation ends "
            "its episode: start a new episode id after it."
        )


def count_timeouts(terminals: NDArray[np.bool_], max_episode_steps: int, after_terminal: int = 0) -> NDArray[np.bool_]:
    """Time-outs by counting steps, (N,). after_terminal: where the counter stands after a terminal row."""
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


def box_of(owner: str, kind: str, values: Mapping[str, Any]) -> Box | None:
    """The box that {kind}_low and {kind}_high state; None where they do not."""
    low, high = values.get(f"{kind}_low"), values.get(f"{kind}_high")
    if low is None or high is None:
        return None
    low, high = (np.atleast_1d(np.asarray(bound, np.float32)) for bound in (low, high))
    if low.shape != high.shape or not (low <= high).all():
        raise DatasetValueError(f"{owner}: {kind}_low {low} and {kind}_high {high} are no box. Mend them.")
    return Box(low, high)


def stated_in(owner: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a file states of its dimensions; nothing where it says nothing. Raises DatasetValueError."""
    if STATED not in values:
        return {}
    try:
        stated: dict[str, Any] = json.loads(str(values[STATED]))
    except ValueError as error:
        raise DatasetValueError(f"{owner}: its statement {STATED!r} is not JSON ({error}). Write it again.") from error
    return stated


def read_npz(
    path: Path,
    *,
    action_space: Limits | None = None,
    last_row: LastRow = "drop",
    max_episode_steps: int | None = None,
) -> OfflineDataset:
    """The columns of an .npz file, as from_columns takes them; the dataset is called by the file's stem."""
    return from_columns(
        load_npz(path),
        action_space=action_space,
        name=path.stem,
        provenance={"file": path.name},
        last_row=last_row,
        max_episode_steps=max_episode_steps,
    )


def npz_keys(path: Path) -> tuple[str, ...]:
    """Names of the arrays in an .npz file. Raises as load_npz."""
    with _open_npz(path) as file:
        return tuple(file.files)


def load_npz(path: Path) -> dict[str, Array]:
    """The arrays of an .npz file by name.

    Raises DatasetNotFoundError, or DatasetValueError for a damaged file or one that holds pickled objects.
    """
    with _open_npz(path) as file:
        return {key: file[key] for key in file.files}


@contextmanager
def _open_npz(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    if not path.is_file():
        raise DatasetNotFoundError(f"{path} is {'a folder' if path.is_dir() else 'not there'}. Pass an .npz file.")
    try:
        with zipfile.ZipFile(path) as archive:  # numpy.load would take a bare array or a pickle for what it is
            check_zip(path, archive)
        with np.load(path) as file:
            yield file
    except DatasetError:
        raise
    except BROKEN as error:
        raise DatasetValueError(
            f"{path.name} ({path.stat().st_size:,} bytes) cannot be read as .npz ({error}). It is damaged, cut off, "
            "of another format or holds pickled objects, which are never read: save plain arrays with numpy.savez."
        ) from error
