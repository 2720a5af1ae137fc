"""The map of a log: which columns are observations, actions, reward and flags, with names, units, limits and the rate.

Stated once, as TOML or as Python arguments of the same shape; docs/own-data.md has an example of every key. Names,
units, limits and the rate go on into dataset, checkpoint, contract and card.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from zoo.datasets.checks import DatasetKeyError, DatasetNotFoundError, DatasetValueError
from zoo.datasets.episodes import LastRow
from zoo.export.stated import DIMENSION, is_number

Outcome = Literal["same row", "next row"]
Clock = Literal["log", "header"]
MapLike = str | os.PathLike | Mapping[str, Any]
FILE = "file"  # as the episode: every file, group or bag is one


@dataclass(frozen=True)
class LogMap:
    """A map, complete in itself. Build one with read_map; keys that are not given are None or the defaults.

    observations, actions: one table for each dimension, in the order of the vector, with name, unit, low, high (all may
    be left out) and column, a column or an expression of columns; it defaults to the column called as the dimension.
    Actions need low and high. A text alone is a column.
    reward: a column, an expression of columns, or module:function, which takes the columns and returns (N,).
    terminated: an expression, true where a state has no future: it failed or finished. truncated: true where an episode
    was cut. episode: a column whose value is another one in each episode, or "file". ends: true in last rows.
    gap_s: a silence of the time column that ends an episode. max_episode_steps: a time limit.
    time: seconds. control_rate_hz: rows a second. outcome: whether reward and flags stand in the row of the action, or
    in the next one, as dm_env's do. last_row: see zoo.datasets.episodes. tick, clock: of bags, see resample.
    Expressions for reward and flags may also use first, last and step, of the row in its episode.
    """

    observations: tuple[Mapping[str, Any], ...] = ()
    actions: tuple[Mapping[str, Any], ...] = ()
    reward: str | None = None
    terminated: str | None = None
    truncated: str | None = None
    episode: str | None = None
    ends: str | None = None
    gap_s: float | None = None
    max_episode_steps: int | None = None
    time: str | None = None
    control_rate_hz: float | None = None
    outcome: Outcome = "same row"
    last_row: LastRow = "drop"
    tick: str | None = None
    clock: Clock = "log"
    name: str | None = None
    env_id: str | None = None

    @property
    def expressions(self) -> list[str]:
        """Everything that may name a column, (column,) of the dimensions included."""
        own = [self.reward, self.terminated, self.truncated, self.episode, self.ends, self.time]
        columns = [entry.get("column") or entry.get("name") for entry in (*self.observations, *self.actions)]
        return [text for text in (*own, *columns) if text]

    @property
    def stated(self) -> dict[str, Any]:
        """Names, units, limits and the rate, in the shape of a contract."""
        kinds = {kind: [_dimension(entry) for entry in getattr(self, kind)] for kind in ("observations", "actions")}
        stated: dict[str, Any] = {kind: entries for kind, entries in kinds.items() if any(entries)}
        return stated | ({} if self.control_rate_hz is None else {"control_rate_hz": self.control_rate_hz})


KEYS = tuple(field.name for field in fields(LogMap))
TEXTS = ("reward", "terminated", "truncated", "episode", "ends", "time", "tick", "name", "env_id")
CHOICES = {"outcome": get_args(Outcome), "last_row": get_args(LastRow), "clock": get_args(Clock)}


def read_map(source: MapLike, known: Mapping[str, Any] | None = None) -> LogMap:
    """A map from a TOML file or a mapping; what it leaves out is taken from known, what the format itself says.

    Raises DatasetNotFoundError, DatasetKeyError for unknown keys, DatasetValueError for values that cannot be so.
    """
    owner, values = "map", source
    if not isinstance(source, Mapping):
        owner, values = str(source), _toml(Path(source))
    assert isinstance(values, Mapping)
    if unknown := sorted(set(values) - set(KEYS)):
        raise DatasetKeyError(f"{owner}: unknown {', '.join(unknown)}; a map may have {', '.join(KEYS)}.")
    merged = {**(known or {}), **values}
    for kind in ("observations", "actions"):
        merged[kind] = _entries(owner, kind, merged.get(kind, ()))
    for key in TEXTS:
        if isinstance(merged.get(key), bool):
            merged[key] = "true" if merged[key] else "false"
        if is_number(merged.get(key)):
            merged[key] = str(merged[key])
        if not isinstance(merged.get(key), str | None):
            raise DatasetValueError(f"{owner}: {key} must be a text, got {merged[key]!r}")
    for key, choices in CHOICES.items():
        if key in merged and merged[key] not in choices:
            raise DatasetValueError(f"{owner}: {key} must be one of {', '.join(choices)}, got {merged[key]!r}")
    for key in ("gap_s", "max_episode_steps", "control_rate_hz"):
        if merged.get(key) is not None and not (is_number(merged[key]) and merged[key] > 0):
            raise DatasetValueError(f"{owner}: {key} must be a positive number, got {merged[key]!r}")
    return LogMap(**merged)


def _toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DatasetNotFoundError(f"no map at {path}; `zoo data map FILE > {path.name}` writes a first one")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DatasetValueError(f"{path} is not a TOML file: {error}") from error


def _entries(owner: str, kind: str, entries: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(entries, list | tuple):
        raise DatasetValueError(f"{owner}: {kind} must be a list with an entry for each dimension, got {entries!r}")
    complete = []
    for i, entry in enumerate(entries):
        entry = {"name": entry, "column": entry} if isinstance(entry, str) else entry
        if not isinstance(entry, Mapping) or set(entry) - {*DIMENSION, "column"}:
            raise DatasetValueError(
                f"{owner}: {kind}[{i}] must be a column's name or a table with some of {', '.join(DIMENSION)}, column; "
                f"got {entry!r}"
            )
        complete.append(dict(entry))
    return tuple(complete)


def _dimension(entry: Mapping[str, Any]) -> dict[str, Any]:
    named = {key: entry[key] for key in DIMENSION if entry.get(key) is not None}
    return named if "name" in named or "column" not in entry else {"name": entry["column"], **named}
