"""Datasets out of datasets: split and filtered, episode by episode. The provenance says what they were made from.

An episode is never divided. To merge is `one + other` or OfflineDataset.join, to choose is `dataset.episodes(which)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.checks import DatasetValueError
from zoo.datasets.dataset import OfflineDataset

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


def split(data: OfflineDataset, part: float, seed: int = 0) -> tuple[OfflineDataset, OfflineDataset]:
    """Two datasets, the first with about `part` of the episodes, drawn at random. Raises DatasetValueError."""
    count = round(part * data.num_episodes)
    if not 0 < count < data.num_episodes:
        raise DatasetValueError(
            f"{part:g} of {data.num_episodes} episodes leaves one side without any: choose a part between 0 and 1."
        )
    order = np.random.default_rng(seed).permutation(data.num_episodes)
    return data.episodes(np.sort(order[:count])), data.episodes(np.sort(order[count:]))


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
    return data.episodes(keep)


def _best(returns: NDArray[np.float64], keep: NDArray[np.bool_], part: float) -> NDArray[np.bool_]:
    among = np.flatnonzero(keep)
    best = among[np.argsort(-returns[among], kind="stable")[: int(np.ceil(part * len(among)))]]
    mask = np.zeros_like(keep)
    mask[best] = True
    return mask
