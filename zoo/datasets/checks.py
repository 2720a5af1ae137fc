"""What a dataset must satisfy before anything trains on it, and the errors that say what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]


class Transitions(Protocol):
    """What the checks look at of a dataset."""

    @property
    def name(self) -> str: ...
    @property
    def actions(self) -> Array: ...
    @property
    def terminations(self) -> Array: ...
    @property
    def truncations(self) -> Array: ...
    @property
    def episode_ids(self) -> Array: ...
    @property
    def action_space(self) -> Box: ...
    def episode_lengths(self) -> Array: ...


MATRICES = ("observations", "actions", "next_observations")  # (N, dim); the other columns are (N,)

# Of half the width of an action's box, beside what float32 cannot tell apart there (slack):
ROUNDING = 1e-6  # an action this far outside is noise of its arithmetic: clipped without a word
TOLERANCE = 1e-5  # this far: clipped, with a warning. Farther is another action than the robot ran: refused
ULPS = 4  # units in the last place of the larger bound, which scaling and rounding may cost
COARSE = 0.25  # of a column's steps: a rounding that is larger hides them


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


def unreadable(path: Path, error: Exception) -> DatasetValueError:
    """What to say of an HDF5 file that cannot be opened: one that is held open is whole, and must not be replaced."""
    if "unable to lock" in str(error).lower():
        return DatasetValueError(
            f"{path} is held open by another process, which may be writing it ({error}). The file itself need not be "
            "damaged: wait for that process to close it, or copy the file and read the copy."
        )
    if isinstance(error, PermissionError):
        return DatasetValueError(f"{path} may not be read by this user ({error}): ask for the right to read it.")
    return DatasetValueError(
        f"{path.name} ({path.stat().st_size:,} bytes) cannot be read as HDF5 ({error}). It is damaged, cut off or of "
        f"another format: copy or download it again to {path}."
    )


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
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused too
            finite = np.isfinite(array.astype(np.float32, copy=False)).reshape(len(array), -1)
        if not finite.all():
            raise DatasetValueError(
                f"{owner}: {name} holds {np.count_nonzero(~finite)} NaN or inf, the first in row "
                f"{int(np.argmin(finite.all(axis=1)))}. Repair the rows, or drop them and end the episode. "
                "A terminal row's next_observations are never used: put its observations there, and keep the row."
            )


def check_continuous(owner: str, actions: ArrayLike) -> None:
    """Refuse the numbers of categories as actions: whole numbers from 0 on, one a row.

    For data without an action box: whoever gives one has said that the numbers are amounts.
    """
    array = np.asarray(actions)
    one = array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)
    if one and array.dtype.kind in "iu" and array.size and array.min() >= 0 and array.max() > 1:
        raise DatasetValueError(
            f"{owner}: the actions are the whole numbers {array.min()} to {array.max()}, one a row, as of a Discrete "
            "space. Agents here act in continuous boxes and would take the number of a category for an amount. If "
            "they are amounts, pass floats (N, 1) and action_space=Box(low, high)."
        )


def as_numbers(owner: str, name: str, values: ArrayLike) -> Array:
    """A copy in float32, or in float64 where float32 would round it: OfflineDataset tells what that costs."""
    array = np.asarray(values)
    if array.dtype == np.float64 or (array.dtype.kind in "iu" and array.dtype.itemsize > 2):
        return np.array(array, dtype=np.float64)
    return as_floats(owner, name, values)


def coarse_columns(columns: Mapping[str, ArrayLike]) -> tuple[str, ...]:
    """What float32 hides of columns of wider numbers, (N,) or (N, k), in time order: clocks, map coordinates."""
    told = []
    for name, values in columns.items():
        wide = np.asarray(values)
        if wide.dtype != np.float64 and not (wide.dtype.kind in "iu" and wide.dtype.itemsize > 2):
            continue
        wide = wide.astype(np.float64, copy=False).reshape(len(wide), -1)
        for k, column in enumerate(wide.T):
            steps = np.abs(np.diff(column))
            steps = steps[steps > 0.0]
            rounded = column.astype(np.float32)
            error = float(np.abs(column - rounded).mean())
            if error and len(steps) and error > COARSE * float(np.median(steps)):
                where = f"{name}, dimension {k}" if wide.shape[1] > 1 else name
                told.append(
                    f"{where}: float32 rounds by {error:.2g} on average "
                    f"what moves in steps of {np.median(steps):.2g}: {len(np.unique(column)):,} different numbers "
                    f"become {len(np.unique(rounded)):,}. Subtract an offset, such as the first value, before loading"
                )
    return tuple(told)


def as_floats(owner: str, name: str, values: ArrayLike) -> NDArray[np.float32]:
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


def slack(low: ArrayLike, high: ArrayLike, share: float) -> NDArray[np.float64]:
    """How far outside its box an action may lie, (A,): a share of half the width, and float32's rounding there."""
    lower, upper = np.asarray(low, np.float64), np.asarray(high, np.float64)
    units = np.spacing(np.maximum(np.abs(lower), np.abs(upper)).astype(np.float32)).astype(np.float64)
    return np.asarray(share * (upper - lower) / 2.0 + ULPS * units)


def clip_rounding(actions: Array, box: Box) -> tuple[Array, tuple[str, ...]]:
    """Actions with rounding errors clipped away and what to tell about it; larger ones stay, to be
    refused."""
    excess = _box_excess(actions, box)
    if not (excess > 0.0).any() or not (excess <= slack(box.low, box.high, TOLERANCE)).all():
        return actions, ()
    clipped = np.clip(actions, box.low.astype(np.float32), box.high.astype(np.float32))
    if (excess <= slack(box.low, box.high, ROUNDING)).all():
        return clipped, ()
    rows = np.count_nonzero((excess > 0.0).any(axis=1))
    return clipped, (f"{rows} actions were up to {excess.max():.1e} outside the box and have been clipped to it",)


def check_space(owner: str, name: str, space: Box, array: Array) -> None:
    if not isinstance(space, Box) or space.shape != array.shape[1:]:
        raise DatasetValueError(
            f"{owner}: {name} is {space}, but the data has rows of shape {array.shape[1:]}. "
            f"Pass a gymnasium Box of shape {array.shape[1:]}."
        )


def check_actions(dataset: Transitions) -> None:
    outside = _box_excess(dataset.actions, dataset.action_space)
    bad = (outside > 0.0).any(axis=1)  # (N,)
    if bad.any():
        width = dataset.action_space.high.astype(np.float64) - dataset.action_space.low
        row, dim = np.unravel_index(int((outside / width).argmax()), outside.shape)
        # With all their digits: a unit in the last place may be the difference.
        worst, low, high = (
            str(number).removesuffix(".0")
            for number in (dataset.actions[row, dim], dataset.action_space.low[dim], dataset.action_space.high[dim])
        )
        raise DatasetValueError(
            f"{dataset.name}: {np.count_nonzero(bad)} actions lie outside the action box; the worst is "
            f"{worst} in row {row}, component {dim}, expected [{low}, {high}]. "
            "If the limits are wider, state them: zoo data import FILE OUT --action-low LOW --action-high HIGH, "
            "or in the map, or in Python action_space=Box(low, high); if the robot clipped, store that."
        )


def check_episodes(dataset: Transitions) -> None:
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


def doubts_of(dataset: Transitions) -> tuple[str, ...]:
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
