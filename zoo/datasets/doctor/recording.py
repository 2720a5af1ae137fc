"""A recording as the doctor sees it, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.checks import Array

Severity = Literal["note", "warning", "error"]
Rows = NDArray[np.int64]

ORDER = ("error", "warning", "note")
FLOATS = ("observations", "actions", "rewards", "next_observations")
FLAGS = ("terminals", "timeouts")
SHOWN = 5  # rows named in a finding


@dataclass(frozen=True)
class Finding:
    """One kind of defect in one place. where: columns and rows of the file; meaning and fix: whole sentences."""

    severity: Severity
    title: str
    where: str
    count: int
    meaning: str
    fix: str
    parts: tuple[str, ...] = ()  # the columns that it concerns, observations[3], where it is not the whole


@dataclass(frozen=True)
class Recording:
    """Columns of N rows under D4RL's names, in the dtypes of the file, before anything is checked."""

    name: str
    columns: Mapping[str, Array]
    episode_ends: tuple[str, ...] = FLAGS  # keys whose flags end an episode
    action_low: Array | float = -1.0
    action_high: Array | float = 1.0
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of observations and actions
    limits: tuple[tuple[float, float], ...] = ()  # stated range of each observation
    times: Array | None = None  # (N,) seconds
    rate: float | None = None  # stated, Hz

    def part(self, key: str, index: int) -> str:
        """What a person calls a dimension."""
        names = self.names.get(key, ())
        return f"{key}[{index}]" if len(names) <= index else names[index]

    def parts(self, key: str, indices: Rows) -> str:
        """Components by number, and by name where they have names."""
        named = [self.part(key, int(i)) for i in indices]
        return f"components {_numbers(indices)}" + (f" ({', '.join(named)})" if key in self.names else "")

    def flag(self, key: str) -> NDArray[np.bool_]:
        """(N,); all False where the file has no such key."""
        column = self.columns.get(key)
        return np.zeros(len(self.columns["rewards"]), bool) if column is None else column > 0.5

    @property
    def ends(self) -> NDArray[np.bool_]:
        """Which rows end an episode by the file's own flags, (N,); the last row always does."""
        ends = np.zeros(len(self.columns["rewards"]), bool)
        for key in self.episode_ends:
            ends |= self.flag(key)
        ends[-1] = True
        return ends

    @property
    def successors(self) -> Array:
        """(N, O): the stored ones, or each next row's observation, which is none of an episode's last row."""
        if "next_observations" in self.columns:
            return self.columns["next_observations"]
        obs = self.columns["observations"]
        return np.append(obs[1:], obs[-1:], axis=0)


def name_rows(rows: Rows) -> str:
    more = f" and {len(rows) - SHOWN:,} more" if len(rows) > SHOWN else ""
    return f"row{'s' * (len(rows) > 1)} {_numbers(rows[:SHOWN])}{more}"


def _numbers(values: Rows) -> str:
    return ", ".join(map(str, values.tolist()))
