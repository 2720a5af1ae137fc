"""From a log's rows to transitions: where episodes end, and what becomes of their last rows.

A log has T observations, T actions and T rewards an episode: the observation after the last action is not in it. The
rule, for every reader:

- A terminal last row is kept. Its value is not carried on, so it needs no successor; it repeats its own observation.
- Any other last row has an unknown successor. last_row="drop" leaves it out, "keep" keeps it with its own observation
  as the successor, which is right where the state hardly moves in a step.

What was done to how many rows is reported. Where successors are in the log (next_observations, or T + 1 observations)
every row is a transition and the rule is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.checks import Array, DatasetValueError, check_columns

LastRow = Literal["drop", "keep"]
JUMP = 1e-6  # distance between a row's successor and the next row above which they are different states


def transitions_of(
    owner: str,
    columns: Mapping[str, Array],
    ends: NDArray[np.bool_] | None = None,
    *,
    unknown: NDArray[np.bool_] | None = None,
    last_row: LastRow = "drop",
    cut_at_jumps: bool = True,
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Arguments of OfflineDataset.from_arrays, and what to tell of the last rows.

    columns: our names; observations (N, O), actions (N, A), rewards (N,), terminations (N,), and where the log has
    them next_observations (N, O), truncations (N,), episode_ids (N,) of any kind, equal inside an episode. ends (N,):
    last rows, by default those of episode_ids, else the flagged ones; the last row of all always is one. unknown (N,):
    rows whose next_observations are not known. cut_at_jumps: whether an episode ends where next_observations is not the
    next row.
    Raises DatasetValueError.
    """
    if last_row not in get_args(LastRow):
        raise DatasetValueError(f"last_row must be drop or keep, got {last_row!r}")
    raw = dict(columns)
    ids = raw.pop("episode_ids", None)
    terminations = raw["terminations"] > 0.5
    if "next_observations" in raw:
        raw["next_observations"] = _mend_unused(raw, terminations)
    check_columns(owner, raw if ids is None else {**raw, "episode_ids": np.zeros(np.shape(ids), bool)})
    notes: tuple[str, ...] = ()
    if ends is None:
        ends = ends_of(ids) if ids is not None else terminations | _flag(raw, "truncations")
    ends = ends | (np.arange(len(terminations)) == len(terminations) - 1)
    obs = raw["observations"]
    if "next_observations" in raw:
        successors = raw["next_observations"]
        if cut_at_jumps:
            jumps = jumps_of(obs, successors)
            if cuts := np.count_nonzero(jumps & ~ends):
                notes += (f"{cuts} unmarked episode ends: cut where next_observations is not the next row",)
            ends = ends | jumps
    else:
        successors, unknown = obs[np.arange(len(obs)) + ~ends], ends & ~terminations
    if unknown is None:
        unknown = np.zeros_like(ends)
    elif unknown.any():
        notes += _told(ends, terminations, unknown, raw["rewards"], last_row)
    rows = np.flatnonzero(~unknown) if last_row == "drop" else np.arange(len(obs))
    if len(rows) == 0:
        raise DatasetValueError(
            f"{owner}: none of its {len(obs)} rows has a successor. Record longer episodes, or pass last_row='keep'."
        )
    return cut(raw, successors, terminations, ends, rows), notes


def jumps_of(obs: Array, next_obs: Array) -> NDArray[np.bool_]:
    """Rows whose successor is not the next row, (N,): the episode rule of IQL and FQL. The last row has no next."""
    here, there = obs[1:].astype(np.float32), next_obs[:-1].astype(np.float32)  # which may be rounded in one of both
    return np.append(np.linalg.norm(here - there, axis=1) > JUMP, False)


def _mend_unused(raw: Mapping[str, Array], terminations: NDArray[np.bool_]) -> Array:
    """Successors, where those of terminal rows, which nothing looks at, may be missing."""
    successors = raw["next_observations"]
    if successors.shape != raw["observations"].shape or len(terminations) != len(successors):
        return successors  # refused in a moment
    bad = terminations & ~np.isfinite(successors).all(axis=-1)
    return np.where(bad[:, None], raw["observations"], successors) if bad.any() else successors


def _flag(raw: Mapping[str, Array], name: str) -> NDArray[np.bool_]:
    column = raw.get(name)
    return np.zeros(len(raw["rewards"]), bool) if column is None else column > 0.5


def ends_of(ids: Array) -> NDArray[np.bool_]:
    """Last rows of the runs of equal ids, (N,)."""
    return np.append(ids[1:] != ids[:-1], True)


def _told(
    ends: NDArray[np.bool_],
    terminations: NDArray[np.bool_],
    unknown: NDArray[np.bool_],
    rewards: Array,
    last_row: LastRow,
) -> tuple[str, ...]:
    terminal, other = np.count_nonzero(ends & terminations), np.count_nonzero(unknown)
    lines = []
    if terminal:
        lines.append(f"{terminal} last rows are terminal and kept: they need no successor")
    if other and last_row == "drop":
        low, high = rewards[unknown].min(), rewards[unknown].max()
        reach = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        lines.append(
            f"{other} last rows are not terminal and their successors are not in the log: left out, with rewards of "
            f"{reach} (last_row='keep' keeps them, with their own observations as successors)"
        )
    elif other:
        lines.append(f"{other} last rows are not terminal: kept, with their own observations as successors")
    return ("; ".join(lines),) if lines else ()


def cut(
    raw: Mapping[str, Array],
    successors: Array,
    terminations: NDArray[np.bool_],
    ends: NDArray[np.bool_],
    rows: NDArray[np.int64],
) -> dict[str, Array]:
    """The rows that are kept; episodes that lost all theirs leave no gap in the numbers."""
    index = np.append(0, np.cumsum(ends[:-1]))[rows]
    episode_ids = np.append(0, np.cumsum(np.diff(index) != 0))
    last = np.append(np.diff(episode_ids) == 1, True)
    return {
        "observations": raw["observations"][rows],
        "actions": raw["actions"][rows],
        "rewards": raw["rewards"][rows],
        "next_observations": successors[rows],
        "terminations": terminations[rows],
        "truncations": last & ~terminations[rows],
        "episode_ids": episode_ids,
    }
