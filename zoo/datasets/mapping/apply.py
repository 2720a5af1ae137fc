"""From a table and a map to a dataset."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from zoo.datasets.checks import Array, DatasetKeyError, DatasetValueError
from zoo.datasets.dataset import OfflineDataset
from zoo.datasets.episodes import ends_of, transitions_of
from zoo.datasets.mapping.expression import evaluate
from zoo.datasets.mapping.logmap import FILE, LogMap
from zoo.datasets.readers.arrays import count_timeouts
from zoo.datasets.table import Table

ROW = ("first", "last", "step")  # what reward and flags may also name: of the row in its episode


@dataclass(frozen=True)
class Rows:
    """What a map makes of a table, before last rows are settled: columns (N, ...) in float64, and where episodes end.

    unknown (N,): rows whose successor is not in the log, where next_observations are; None where the rule decides.
    """

    columns: Mapping[str, Array]
    ends: NDArray[np.bool_]
    unknown: NDArray[np.bool_] | None
    times: Array | None
    notes: tuple[str, ...]


def dataset_of(table: Table, log_map: LogMap, name: str | None = None) -> OfflineDataset:
    """The dataset that a map makes of a table.

    Rows of an episode that are not together are brought together, in their order. A last row without an action, an
    observation alone, is the successor of the row before. Raises DatasetKeyError or DatasetValueError that names the
    key of the map.
    """
    rows = rows_of(table, log_map)
    own, told = transitions_of(
        table.name,
        rows.columns,
        rows.ends,
        unknown=rows.unknown,
        last_row=log_map.last_row,
        cut_at_jumps=bool(table.successors),
    )
    return OfflineDataset.from_arrays(
        **own,
        action_space=box_of(log_map, rows.columns["actions"]),
        observation_space=None,
        name=name or log_map.name or table.name,
        env_id=log_map.env_id,
        provenance=table.provenance,
        warnings=(*table.notes, *rows.notes, *told),
        stated=log_map.stated,
    )


def rows_of(table: Table, log_map: LogMap) -> Rows:
    """The columns that a map makes of a table, in order. Raises as dataset_of."""
    _check_complete(table, log_map)
    order, ids, notes = _in_order(table, log_map)
    rows = len(order)
    columns = {key: column[order] for key, column in table.columns.items()}
    successors = {key: column[order] for key, column in table.successors.items()}
    if log_map.ends is not None:
        ends = _flag("ends", log_map.ends, columns, rows) | ends_of(ids)
        ids = np.append(0, np.cumsum(ends[:-1]))
    known = {**columns, **_rows_in(ids)}
    observations = _matrix("observations", log_map, columns, rows)
    actions = _matrix("actions", log_map, columns, rows)
    rewards = _reward(log_map.reward or "", known, rows)
    terminated = _flag("terminated", log_map.terminated or "", known, rows)
    truncated = _flag("truncated", log_map.truncated or "false", known, rows)
    times = None if log_map.time is None else np.asarray(evaluate(log_map.time, columns, rows), np.float64)

    final = np.zeros(rows, bool)
    empty = ends_of(ids) & np.isnan(actions).all(axis=1)
    later = np.minimum(np.arange(rows) + 1, rows - 1)
    if log_map.outcome == "next row":
        final = ends_of(ids)
        rewards, terminated, truncated = rewards[later], terminated[later], truncated[later]
    elif empty.any():
        final = empty
        _check_final_rewards(rewards[final])
        terminated[:-1] |= terminated[1:] & final[1:]
        truncated[:-1] |= truncated[1:] & final[1:]
    if log_map.max_episode_steps is not None:
        truncated = truncated | count_timeouts(terminated, log_map.max_episode_steps)
    ends = ends_of(ids) | truncated
    if log_map.episode is None:  # else an episode may go on after a success, as AntMaze's do
        ends |= terminated
    raw = {
        "observations": observations,
        "actions": actions,
        "rewards": rewards,
        "terminations": terminated,
        "truncations": truncated,
    }
    unknown = None
    if successors:
        raw["next_observations"] = _matrix("observations", log_map, successors, rows)
    elif final.any():
        raw["next_observations"] = observations[later]
        before = np.append(final[1:], False)  # rows whose successor is an observation alone
        unknown = (ends & ~terminated & ~before)[~final]
        ends = (ends | before)[~final]
        raw = {key: column[~final] for key, column in raw.items()}
        times = None if times is None else times[~final]
        notes += (f"{np.count_nonzero(final)} last rows are observations alone: successors of the rows before them",)
    return Rows(raw, ends, unknown, times, notes)


def _check_complete(table: Table, log_map: LogMap) -> None:
    """Raises DatasetKeyError that names each key that is missing, and what it could be."""
    if len(table) == 0:
        raise DatasetValueError(f"{table.name} has no rows.")
    advice = {
        "observations": "the columns that the policy sees",
        "actions": "the columns that were commanded, with low and high",
        "reward": 'a column, an expression such as "10 * success - 0.05", or module:function',
        "terminated": 'true in rows where it failed or finished, such as "failed | success"; false if that never is',
    }
    missing = [f"{key} ({text})" for key, text in advice.items() if not getattr(log_map, key)]
    tells = ("episode", "truncated", "ends", "gap_s", "max_episode_steps")
    if all(getattr(log_map, key) is None for key in tells):
        missing.append('what ends an episode: episode (a column of ids, or "file"), truncated, ends, gap_s or '
                       "max_episode_steps")  # fmt: skip
    if missing:
        names = ", ".join(list(table.columns)[:40])
        raise DatasetKeyError(
            f"{table.name}: the map lacks {'; '.join(missing)}. The columns are {names}. `zoo data map FILE` writes a "
            "first map, guesses marked, to correct."
        )


def _in_order(table: Table, log_map: LogMap) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    """The rows with those of an episode together, a number for each row's episode, and what to tell."""
    rows = len(table)
    ids = table.recordings.astype(np.int64)
    if log_map.episode is not None and log_map.episode != FILE:
        values = evaluate(log_map.episode, table.columns, rows)
        ids = np.unique(values, return_inverse=True)[1].reshape(-1) + ids * rows
    if log_map.gap_s is not None:
        if log_map.time is None:
            raise DatasetKeyError(f"{table.name}: gap_s needs time, the column of seconds.")
        seconds = np.asarray(evaluate(log_map.time, table.columns, rows), np.float64)
        steps = np.append(0.0, np.diff(seconds))
        ids = ids + len(np.unique(ids)) * np.cumsum((steps > log_map.gap_s) | (steps < 0))
    first: dict[int, int] = {}
    for i in np.flatnonzero(np.append(True, ids[1:] != ids[:-1])):
        first.setdefault(int(ids[i]), len(first))
    number = np.array([first[int(i)] for i in np.unique(ids)])[np.unique(ids, return_inverse=True)[1]]
    order = np.argsort(number, kind="stable")
    notes: tuple[str, ...] = ()
    if (order != np.arange(rows)).any():
        notes = (f"the rows of {len(first)} episodes were interleaved: brought together, in their order",)
    return order, number[order], notes


def _check_final_rewards(rewards: Array) -> None:
    if (np.nan_to_num(rewards) != 0).any():
        raise DatasetValueError(
            "last rows have no action but a reward: it belongs to the action of the row before. Say so for the whole "
            'log: outcome = "next row".'
        )


def _rows_in(ids: Array) -> dict[str, Array]:
    last = ends_of(ids)
    first = np.append(True, last[:-1])
    start = np.maximum.accumulate(np.where(first, np.arange(len(ids)), 0))
    return {"first": first, "last": last, "step": np.arange(len(ids)) - start}


def _matrix(kind: str, log_map: LogMap, columns: Mapping[str, Array], rows: int) -> Array:
    """(rows, dim) float64 from the entries of a map."""
    parts = []
    for i, entry in enumerate(getattr(log_map, kind)):
        text = column_of(kind, i, entry, columns)
        try:
            parts.append(np.asarray(evaluate(text, columns, rows), np.float64))
        except (ValueError, TypeError) as error:
            raise DatasetValueError(f"{kind}[{i}], {text!r}, holds something else than numbers ({error}).") from error
    return np.stack(parts, axis=1)


def column_of(kind: str, index: int, entry: Mapping[str, Any], columns: Mapping[str, Any]) -> str:
    """What an entry of a map reads: its column, the column of its name, or the one at its place, observations[i]."""
    place = f"{kind}[{index}]"
    for text in (entry.get("column"), entry.get("name"), place):
        if text and (text == entry.get("column") or text in columns):
            return str(text)
    raise DatasetKeyError(
        f'{place} ({entry.get("name") or "no name"}): there is no such column. Say which: column = "...", one of '
        f"{', '.join(list(columns)[:40])}, or an expression of them."
    )


def _flag(key: str, text: str, columns: Mapping[str, Array], rows: int) -> NDArray[np.bool_]:
    value = np.asarray(evaluate(text, columns, rows))
    if value.dtype.kind not in "fiub":
        raise DatasetValueError(f"{key} = {text!r} is text; compare it, such as {text} == '{value[0]}'.")
    return np.array(np.nan_to_num(value.astype(np.float64)) > 0.5)


def _reward(text: str, columns: Mapping[str, Array], rows: int) -> Array:
    module, colon, function = text.partition(":")
    if colon and module.replace(".", "").isidentifier() and function.isidentifier():
        if os.getcwd() not in sys.path:  # a file beside the log
            sys.path.insert(0, os.getcwd())
        try:
            compute = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise DatasetKeyError(f"reward = {text!r} cannot be imported ({error}): module:function.") from error
        value = np.asarray(compute(columns), np.float64)
        if value.shape != (rows,):
            raise DatasetValueError(f"{text} returned an array of shape {value.shape}, expected ({rows},).")
        return value
    value = np.asarray(evaluate(text, columns, rows))
    if value.dtype.kind not in "fiub":
        raise DatasetValueError(f"reward = {text!r} holds something else than numbers.")
    return value.astype(np.float64)


def box_of(log_map: LogMap, actions: Array) -> Box:
    """The action box of the stated limits. Raises DatasetKeyError with what was sent where a limit is missing."""
    missing = [
        f"{entry.get('name') or entry.get('column') or i} (sent {np.nanmin(actions[:, i]):g} to "
        f"{np.nanmax(actions[:, i]):g})"
        for i, entry in enumerate(log_map.actions)
        if entry.get("low") is None or entry.get("high") is None
    ]
    if missing:
        raise DatasetKeyError(
            f"state low and high, the limits of the robot, for the actions {', '.join(missing)}. What was sent is no "
            "limit: the policy may use the whole box."
        )
    low, high = (np.array([entry[key] for entry in log_map.actions], np.float32) for key in ("low", "high"))
    if not (low < high).all():
        raise DatasetValueError(f"limits of the actions must have low < high, got low={low}, high={high}.")
    return Box(low, high)
