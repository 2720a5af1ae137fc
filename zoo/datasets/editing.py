"""Datasets out of datasets: joined, split, filtered, episode by episode. The provenance says what they were made from.

An episode is never divided. In Python also `one + other` and `dataset.episodes(which)`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import ArrayLike, NDArray

from zoo.datasets.checks import DatasetValueError
from zoo.datasets.dataset import STORED, OfflineDataset

MADE_FROM = "made_from"  # key of the provenance: JSON, the names, provenances and sizes of what it was made from
Ends = Literal["any", "terminated", "truncated"]


@dataclass(frozen=True)
class Wanted:
    """Which episodes a filter keeps: every bound that is given holds; returns are sums of raw rewards.

    top: the best part of the episodes by return, in (0, 1], of those that the bounds leave.
    """

    min_return: float | None = None
    max_return: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    ends: Ends = "any"
    top: float | None = None


def merged(datasets: Sequence[OfflineDataset], name: str = "merged") -> OfflineDataset:
    """The datasets one after another; episodes stay apart.

    Raises DatasetValueError where sizes, action boxes, or stated names and units differ.
    """
    if not datasets:
        raise DatasetValueError("merging needs one dataset at least.")
    first = datasets[0]
    for other in datasets[1:]:
        _check_alike(first, other)
    starts = np.cumsum([0] + [data.num_episodes for data in datasets[:-1]])
    columns = {key: np.concatenate([data.column(key) for data in datasets]) for key in STORED[:-1]}
    ids = np.concatenate([data.episode_ids + start for data, start in zip(datasets, starts, strict=True)])
    spaces = [data.observation_space for data in datasets]
    low, high = np.min([s.low for s in spaces], axis=0), np.max([s.high for s in spaces], axis=0)
    env_ids = {data.env_id for data in datasets}
    return OfflineDataset.from_arrays(
        **columns,
        episode_ids=ids,
        action_space=first.action_space,
        observation_space=Box(low, high, dtype=np.float32),
        name=name,
        env_id=env_ids.pop() if len(env_ids) == 1 else None,
        provenance=_made("merged", datasets),
        warnings=tuple(dict.fromkeys(warning for data in datasets for warning in data.warnings)),
        stated=next((data.stated for data in datasets if data.stated), {}),
    )


def chosen(data: OfflineDataset, which: ArrayLike, name: str | None = None) -> OfflineDataset:
    """The episodes of these numbers, in their order, or those that a mask (episodes,) keeps.

    Raises DatasetValueError for numbers that are not there, and where none is left.
    """
    asked = np.asarray(which)
    if asked.dtype == bool and asked.shape != (data.num_episodes,):
        raise DatasetValueError(f"a mask of {asked.shape} for the {data.num_episodes} episodes of {data.name}.")
    numbers = np.flatnonzero(asked) if asked.dtype == bool else asked.astype(np.int64).reshape(-1)
    if len(numbers) == 0 or numbers.min() < 0 or numbers.max() >= data.num_episodes:
        raise DatasetValueError(
            f"{data.name} has the episodes 0 to {data.num_episodes - 1}; asked for {numbers[:10].tolist() or 'none'}."
        )
    stops = np.cumsum(data.episode_lengths())
    starts = stops - data.episode_lengths()
    rows = np.concatenate([np.arange(starts[i], stops[i]) for i in numbers])
    columns = {key: data.column(key)[rows] for key in STORED[:-1]}
    return OfflineDataset.from_arrays(
        **columns,
        episode_ids=np.repeat(np.arange(len(numbers)), data.episode_lengths()[numbers]),
        action_space=data.action_space,
        observation_space=data.observation_space,
        name=name or data.name,
        env_id=data.env_id,
        provenance=_made(f"{len(numbers)} of {data.num_episodes} episodes", [data]),
        warnings=data.warnings,
        stated=data.stated,
    )


def split(data: OfflineDataset, part: float, seed: int = 0) -> tuple[OfflineDataset, OfflineDataset]:
    """Two datasets, the first with about `part` of the episodes, drawn at random. Raises DatasetValueError."""
    count = round(part * data.num_episodes)
    if not 0 < count < data.num_episodes:
        raise DatasetValueError(
            f"{part:g} of {data.num_episodes} episodes leaves one side without any: choose a part between 0 and 1."
        )
    order = np.random.default_rng(seed).permutation(data.num_episodes)
    return chosen(data, np.sort(order[:count])), chosen(data, np.sort(order[count:]))


def filtered(data: OfflineDataset, wanted: Wanted) -> OfflineDataset:
    """The episodes that are wanted. Raises DatasetValueError where none is, with what there is."""
    returns, lengths = data.episode_returns(), data.episode_lengths()
    keep = np.ones(data.num_episodes, bool)
    for values, low, high in (
        (returns, wanted.min_return, wanted.max_return),
        (lengths, wanted.min_length, wanted.max_length),
    ):
        keep &= (values >= (-np.inf if low is None else low)) & (values <= (np.inf if high is None else high))
    terminated = data.terminations[np.cumsum(lengths) - 1]
    keep &= {"any": np.ones_like(keep), "terminated": terminated, "truncated": ~terminated}[wanted.ends]
    if wanted.top is not None:
        if not 0 < wanted.top <= 1:
            raise DatasetValueError(f"top must be in (0, 1], got {wanted.top:g}")
        keep &= _best(returns, keep, wanted.top)
    if not keep.any():
        raise DatasetValueError(
            f"no episode of {data.name} is left: returns are {returns.min():g} to {returns.max():g}, lengths "
            f"{lengths.min()} to {lengths.max()}, {int(terminated.sum())} of {len(keep)} end in a termination."
        )
    return chosen(data, keep)


def _best(returns: NDArray[np.float64], keep: NDArray[np.bool_], part: float) -> NDArray[np.bool_]:
    among = np.flatnonzero(keep)
    best = among[np.argsort(-returns[among], kind="stable")[: int(np.ceil(part * len(among)))]]
    mask = np.zeros_like(keep)
    mask[best] = True
    return mask


def _check_alike(one: OfflineDataset, other: OfflineDataset) -> None:
    for label, mine, theirs in (
        ("observations", one.observations.shape[1], other.observations.shape[1]),
        ("action boxes", one.action_space, other.action_space),
        ("names and units", one.stated or other.stated, other.stated or one.stated),
    ):
        if mine != theirs:
            raise DatasetValueError(
                f"{one.name} and {other.name} differ in their {label}: {mine} and {theirs}. Only data of one robot, in "
                "the same units and order, can be merged: import them with one map."
            )


def _made(how: str, datasets: Sequence[OfflineDataset]) -> dict[str, str]:
    parts = [{"name": d.name, "transitions": len(d), "provenance": dict(d.provenance)} for d in datasets]
    return {"made": how, MADE_FROM: json.dumps(parts)}
