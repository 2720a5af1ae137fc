"""Your own data: recorded episodes, columns in memory, or columns in an .npz file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import ArrayLike

from zoo.datasets.checks import Array, DatasetKeyError, DatasetNotFoundError, DatasetValueError, as_floats
from zoo.datasets.dataset import OfflineDataset, Provenance, squeeze

NEEDED = ("observations", "actions", "rewards", "next_observations", "terminations", "truncations")
D4RL_NAMES = {"terminals": "terminations", "timeouts": "truncations"}
AMBIGUOUS = ("done", "dones")


@dataclass(frozen=True)
class Episode:
    """T steps as a robot records them: one observation more than actions, the last one where it stopped."""

    observations: ArrayLike  # (T + 1, O)
    actions: ArrayLike  # (T, A), env units
    rewards: ArrayLike  # (T,)
    terminations: ArrayLike = False  # (T,), or one flag of the last step: it failed or finished, no future


def from_episodes(
    episodes: Iterable[Episode],
    *,
    action_space: Box | None = None,
    observation_space: Box | None = None,
    name: str = "episodes",
    env_id: str | None = None,
    provenance: Provenance | None = None,
    warnings: tuple[str, ...] = (),
) -> OfflineDataset:
    """A dataset of whole episodes; one that does not end in a termination is truncated.

    action_space defaults to [-1, 1]^A, observation_space to an unbounded box.
    Raises DatasetValueError that names the episode, or the row of the joined columns.
    """
    parts: dict[str, list[Array]] = {key: [] for key in (*NEEDED, "episode_ids")}
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
    return OfflineDataset.from_arrays(
        **columns,
        action_space=action_space,
        observation_space=observation_space,
        name=name,
        env_id=env_id,
        provenance=provenance,
        warnings=warnings,
    )


def _rows_of(episode: Episode, owner: str) -> dict[str, Array]:
    """One episode as transitions, T rows each."""
    obs = as_floats(owner, "observations", episode.observations)
    actions = as_floats(owner, "actions", episode.actions)
    rewards = squeeze(as_floats(owner, "rewards", episode.rewards))
    steps = len(actions) if actions.ndim else 0
    if obs.ndim != 2 or actions.ndim != 2 or rewards.shape != (steps,) or len(obs) != steps + 1 or not steps:
        raise DatasetValueError(
            f"{owner} has observations {obs.shape}, actions {actions.shape} and rewards {rewards.shape}, expected "
            "(T + 1, O), (T, A) and (T,) with T >= 1. The last observation is the one after the last action."
        )
    flags = squeeze(as_floats(owner, "terminations", episode.terminations))
    if flags.shape not in ((), (steps,)) or not np.isfinite(flags).all():
        raise DatasetValueError(
            f"{owner} has terminations {flags.tolist()}, expected one flag or ({steps},) of them, without NaN."
        )
    terminations = np.zeros(steps, bool)
    terminations[slice(None) if flags.ndim else -1] = flags > 0.5
    truncations = np.zeros(steps, bool)
    truncations[-1] = not terminations[-1]
    return {
        "observations": obs[:-1],
        "actions": actions,
        "rewards": rewards,
        "next_observations": obs[1:],
        "terminations": terminations,
        "truncations": truncations,
    }


def from_columns(
    columns: Mapping[str, ArrayLike],
    *,
    action_space: Box | None = None,
    name: str = "arrays",
    env_id: str | None = None,
    provenance: Provenance | None = None,
) -> OfflineDataset:
    """A dataset from a dict of columns of N rows in time order, under our names or D4RL's.

    Needed are observations, actions, rewards, next_observations, terminations (terminals) and truncations
    (timeouts); episode_ids are taken where given, other columns are not, and a warning says so.
    action_space defaults to [-1, 1]^A. Raises DatasetKeyError or DatasetValueError.
    """
    renamed = {D4RL_NAMES.get(key, key): values for key, values in columns.items()}
    if len(renamed) < len(columns):
        raise DatasetKeyError(f"{name}: {', '.join(columns)} name a column twice. Keep one of each pair.")
    missing = [key for key in NEEDED if key not in renamed]
    if missing:
        raise DatasetKeyError(
            f"{name} lacks {', '.join(missing)}; it has {', '.join(columns) or 'nothing'}. " + _how_to_supply(renamed)
        )
    taken: dict[str, Any] = {key: renamed[key] for key in (*NEEDED, "episode_ids") if key in renamed}
    unused = sorted(renamed.keys() - taken.keys())
    return OfflineDataset.from_arrays(
        **taken,
        action_space=action_space,
        name=name,
        env_id=env_id,
        provenance=provenance,
        warnings=(f"columns that no agent uses were left out: {', '.join(unused)}",) if unused else (),
    )


def _how_to_supply(columns: Mapping[str, ArrayLike]) -> str:
    if any(key in columns for key in AMBIGUOUS):
        return (
            "dones cannot tell a failure from a time limit, and the values depend on it: "
            "store terminations and truncations."
        )
    if "next_observations" not in columns:
        return "zoo.from_episodes makes next_observations from episodes of T + 1 observations."
    return "Rename the columns, or store them: all False is a statement too."


def read_npz(path: Path, *, action_space: Box | None = None) -> OfflineDataset:
    """The columns of an .npz file, as from_columns takes them; the dataset is called by the file's stem."""
    columns = load_npz(path)
    return from_columns(columns, action_space=action_space, name=path.stem, provenance={"file": path.name})


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
        with zipfile.ZipFile(path):  # numpy.load would take a bare array or a pickle for what it is
            pass
        with np.load(path) as file:
            yield file
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError) as error:
        raise DatasetValueError(
            f"{path.name} ({path.stat().st_size:,} bytes) cannot be read as .npz ({error}). It is damaged, cut off, "
            "of another format or holds pickled objects, which are never read: save plain arrays with numpy.savez."
        ) from error
