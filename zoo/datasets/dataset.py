"""OfflineDataset, the form in which every reader hands over data.

Nothing here transforms data for an algorithm (reward scale, normalisation, ...): that belongs to the agents.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import ArrayLike, NDArray

from zoo.datasets.checks import (
    Array,
    DatasetKeyError,
    DatasetValueError,
    as_floats,
    check_actions,
    check_columns,
    check_continuous,
    check_episodes,
    check_space,
    clip_rounding,
    coarse_columns,
    doubts_of,
)
from zoo.export.stated import ContractError, complete

Provenance = Mapping[str, str | int | float]

Limits = Box | tuple[ArrayLike, ArrayLike]  # an action box, or its low and high, one number or one for each action

EMBEDDED = {"hopper-medium-replay": "Hopper-v5"}  # dataset in embedded/ -> its Gymnasium environment
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


@dataclass(frozen=True, eq=False, repr=False)
class OfflineDataset:
    """N logged transitions in time order. Build one with from_arrays or load_dataset.

    The arrays are read-only and nobody else's: one that somebody could still write into is copied.

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
    stated: Mapping[str, Any] = field(default_factory=dict)  # names, units, ranges, rate: zoo.export.stated

    def __post_init__(self) -> None:
        check_columns(self.name, {name: getattr(self, name) for name in STORED})
        check_space(self.name, "observation_space", self.observation_space, self.observations)
        check_space(self.name, "action_space", self.action_space, self.actions)
        check_actions(self)
        check_episodes(self)
        for name in STORED:
            object.__setattr__(self, name, own(getattr(self, name)))
        if self.stated:
            check_stated(self)

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
        action_space: Limits | None = None,
        name: str = "arrays",
        env_id: str | None = None,
        provenance: Provenance | None = None,
        warnings: tuple[str, ...] = (),
        stated: Mapping[str, Any] | None = None,
    ) -> OfflineDataset:
        """Copy, convert and check arrays of N rows in time order: a dataset that owns its memory.

        (N, 1) becomes (N,), floats become float32, flags may be bool, 0/1 or float. Without episode_ids an
        episode ends at each termination or truncation. An unfinished last episode is truncated by the end of
        the data. action_space defaults to [-1, 1]^A, observation_space to an unbounded box.
        """
        if action_space is None:
            check_continuous(name, actions)
        raw = {
            "observations": as_floats(name, "observations", observations),
            "actions": as_floats(name, "actions", actions),
            "rewards": squeeze(as_floats(name, "rewards", rewards)),
            "next_observations": as_floats(name, "next_observations", next_observations),
            "terminations": squeeze(as_floats(name, "terminations", terminations)),
            "truncations": squeeze(as_floats(name, "truncations", truncations)),
        }
        check_columns(name, raw)
        # Of the next observations nothing new: but for the last ones they are the same numbers.
        warnings += coarse_columns({"observations": observations, "actions": actions, "rewards": rewards})
        terminated, truncated = raw["terminations"] > 0.5, raw["truncations"] > 0.5  # (N,)
        if not (terminated[-1] or truncated[-1]):
            truncated[-1] = True
            warnings += ("the last episode has no end: its last row counts as truncated by the end of the data",)
        if episode_ids is None:
            episode_ids = episode_index(terminated | truncated)
        if observation_space is None:
            observation_space = Box(-np.inf, np.inf, raw["observations"].shape[1:], np.float32)
        action_space = box_for((-1.0, 1.0) if action_space is None else action_space, raw["actions"].shape[1])
        check_space(name, "observation_space", observation_space, raw["observations"])
        check_space(name, "action_space", action_space, raw["actions"])
        raw["actions"], clip_warnings = clip_rounding(raw["actions"], action_space)
        columns = raw | {
            "terminations": terminated,
            "truncations": truncated,
            "episode_ids": np.array(episode_ids, dtype=np.int64),
        }
        for column in columns.values():
            column.setflags(write=False)  # made above, nobody else has them
        dataset = cls(
            name=name,
            **columns,
            observation_space=observation_space,
            action_space=action_space,
            env_id=env_id,
            provenance=dict(provenance or {}),
            stated=dict(stated or {}),
        )
        return replace(dataset, warnings=warnings + clip_warnings + doubts_of(dataset))

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
    def observation_names(self) -> tuple[str, ...]:
        """A name for each observation, (O,): the stated ones, else observations[i]."""
        return self._names("observations", self.observations.shape[1])

    @property
    def action_names(self) -> tuple[str, ...]:
        """A name for each action, (A,)."""
        return self._names("actions", self.actions.shape[1])

    def _names(self, kind: str, size: int) -> tuple[str, ...]:
        entries = self.stated.get(kind) or [{}] * size
        return tuple(entry.get("name") or f"{kind}[{i}]" for i, entry in enumerate(entries))

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

    @classmethod
    def join(cls, datasets: Sequence[OfflineDataset], name: str = "merged") -> OfflineDataset:
        """The datasets one after another; episodes stay apart.

        Raises DatasetValueError where sizes, action boxes, or stated names and units differ.
        """
        if not datasets:
            raise DatasetValueError("merging needs one dataset at least.")
        first = datasets[0]
        for other in datasets[1:]:
            check_alike(first, other)
        starts = np.cumsum([0] + [data.num_episodes for data in datasets[:-1]])
        columns = {key: np.concatenate([data.column(key) for data in datasets]) for key in STORED[:-1]}
        ids = np.concatenate([data.episode_ids + start for data, start in zip(datasets, starts, strict=True)])
        spaces = [data.observation_space for data in datasets]
        low, high = np.min([s.low for s in spaces], axis=0), np.max([s.high for s in spaces], axis=0)
        env_ids = {data.env_id for data in datasets}
        return cls.from_arrays(
            **columns,
            episode_ids=ids,
            action_space=first.action_space,
            observation_space=Box(low, high, dtype=np.float32),
            name=name,
            env_id=env_ids.pop() if len(env_ids) == 1 else None,
            provenance=made_from("merged", datasets),
            warnings=tuple(dict.fromkeys(warning for data in datasets for warning in data.warnings)),
            stated=next((data.stated for data in datasets if data.stated), {}),
        )

    def __add__(self, other: OfflineDataset) -> OfflineDataset:
        return OfflineDataset.join([self, other], f"{self.name} + {other.name}")

    def episodes(self, which: ArrayLike, name: str | None = None) -> OfflineDataset:
        """The episodes of these numbers, in their order, or those that a mask (episodes,) keeps.

        Raises DatasetValueError for numbers that are not there, and where none is left.
        """
        asked = np.asarray(which)
        if asked.dtype == bool and asked.shape != (self.num_episodes,):
            raise DatasetValueError(f"a mask of {asked.shape} for the {self.num_episodes} episodes of {self.name}.")
        numbers = np.flatnonzero(asked) if asked.dtype == bool else asked.astype(np.int64).reshape(-1)
        if len(numbers) == 0 or numbers.min() < 0 or numbers.max() >= self.num_episodes:
            raise DatasetValueError(
                f"{self.name} has the episodes 0 to {self.num_episodes - 1}; asked for "
                f"{numbers[:10].tolist() or 'none'}."
            )
        stops = np.cumsum(self.episode_lengths())
        starts = stops - self.episode_lengths()
        rows = np.concatenate([np.arange(starts[i], stops[i]) for i in numbers])
        columns = {key: self.column(key)[rows] for key in STORED[:-1]}
        return OfflineDataset.from_arrays(
            **columns,
            episode_ids=np.repeat(np.arange(len(numbers)), self.episode_lengths()[numbers]),
            action_space=self.action_space,
            observation_space=self.observation_space,
            name=name or self.name,
            env_id=self.env_id,
            provenance=made_from(f"{len(numbers)} of {self.num_episodes} episodes", [self]),
            warnings=self.warnings,
            stated=self.stated,
        )

    def episode_returns(self) -> NDArray[np.float64]:
        """Undiscounted sum of the rewards of each episode, (episodes,); summed in float64."""
        return np.bincount(self.episode_ids, weights=self.rewards.astype(np.float64)).astype(np.float64)

    def episode_lengths(self) -> NDArray[np.int64]:
        """Transitions of each episode, (episodes,)."""
        return np.bincount(self.episode_ids).astype(np.int64)


def box_for(limits: Limits, size: int) -> Box:
    """The action box of so many actions. Raises DatasetValueError where the limits have another number."""
    if isinstance(limits, Box):
        return limits
    low, high = (np.asarray(bound, np.float32).reshape(-1) for bound in limits)
    if not {len(low), len(high)} <= {1, size} or not (low <= high).all():
        raise DatasetValueError(
            f"action limits low {low.tolist()} and high {high.tolist()} are no box of {size} actions: give one number, "
            f"or {size}, low <= high."
        )
    return Box(np.broadcast_to(low, size).copy(), np.broadcast_to(high, size).copy())


def check_stated(dataset: OfflineDataset) -> None:
    """Refuses a statement that does not fit the columns. Raises DatasetValueError."""
    sizes = dataset.observations.shape[1], dataset.actions.shape[1]
    box = dataset.action_space
    try:
        whole = complete(dataset.name, dataset.stated, *sizes)
    except ContractError as error:
        raise DatasetValueError(str(error)) from error
    for entry, low, high in zip(whole["actions"], box.low, box.high, strict=True):
        for key, own in (("low", low), ("high", high)):
            if entry[key] is not None and not np.isclose(entry[key], own, rtol=1e-6):
                raise DatasetValueError(
                    f"{dataset.name}: {key} of {entry['name'] or 'an action'} is stated as {entry[key]:g}, but the "
                    f"action box says {own:g}. Mend one of them."
                )


def check_alike(one: OfflineDataset, other: OfflineDataset) -> None:
    """Raises DatasetValueError where the data are of another robot, or in other units."""
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


def made_from(how: str, datasets: Sequence[OfflineDataset]) -> dict[str, str]:
    """A provenance: how it was made, and names, sizes and provenances of what it was made from."""
    parts = [{"name": d.name, "transitions": len(d), "provenance": dict(d.provenance)} for d in datasets]
    return {"made": how, "made_from": json.dumps(parts)}


def episode_index(ends: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Index of the episode of each row, (N,), where ends (N,) marks the last row of each."""
    return np.append(0, np.cumsum(ends[:-1]))


def squeeze(array: Array) -> Array:
    """(N, 1) to (N,): files store rewards and flags either way, and (B, 1) - (B,) broadcasts to (B, B)."""
    return array[:, 0].copy() if array.ndim == 2 and array.shape[1] == 1 else array


def own(array: Array) -> Array:
    """The array itself where nobody can write into it, else a read-only copy."""
    base: Any = array
    while isinstance(base, np.ndarray) and not base.flags.writeable:
        base = base.base
    if base is None:
        return array
    copied = array.copy()
    copied.setflags(write=False)
    return copied
