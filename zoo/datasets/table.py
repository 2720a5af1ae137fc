"""What a file holds before any of it has a meaning: named columns, or topics with times of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from zoo.datasets.checks import Array, DatasetValueError


@dataclass(frozen=True)
class Table:
    """Columns of N rows in the order of the recording; numbers, bool or text, each (N,).

    A vector is stored as one column for each component: position[0], position[1], or position[shoulder] where the file
    has names. successors: the columns one step later, where the file has them. recordings: the number of the file,
    group or folder of each row. known: what the format itself says, in the shape of a map (zoo.datasets.mapping).
    """

    name: str
    columns: Mapping[str, Array]
    recordings: Array  # (N,) int
    successors: Mapping[str, Array] = field(default_factory=dict)
    known: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, str | int | float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.recordings)


@dataclass(frozen=True)
class Topic:
    """Messages of one topic in the order of their times. times: (n,) seconds; fields: name -> (n,)."""

    times: Array
    fields: Mapping[str, Array]


@dataclass(frozen=True)
class Streams:
    """A recording whose topics have rates of their own; zoo.datasets.mapping.resample makes a table of it."""

    name: str
    topics: Mapping[str, Topic]
    provenance: Mapping[str, str | int | float] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, Array]:
        """Every field by the name that it has in a table, each with the length of its topic."""
        return {
            f"{topic}.{name}": values for topic, stream in self.topics.items() for name, values in stream.fields.items()
        }


def flat(name: str, values: Array, names: Sequence[str] | None = None) -> dict[str, Array]:
    """An array (N, ...) as columns (N,): name[i], or name[part] where the parts have names."""
    values = np.asarray(values)
    if values.ndim == 1:
        return {name: values}
    wide = values.reshape(len(values), -1)
    labels = names if names is not None and len(names) == wide.shape[1] else range(wide.shape[1])
    return {f"{name}[{label}]": wide[:, i] for i, label in enumerate(labels)}


def joined(tables: Sequence[Table], name: str) -> Table:
    """Recordings one after another. Raises DatasetValueError where they differ in their columns."""
    first = tables[0]
    for table in tables[1:]:
        for part in ("columns", "successors"):
            mine, theirs = getattr(first, part).keys(), getattr(table, part).keys()
            if mine != theirs:
                raise DatasetValueError(
                    f"{table.name} and {first.name} differ in their columns: {', '.join(sorted(mine ^ theirs)[:20])} "
                    "are in only one of them. Import files of one layout together."
                )
    counts = np.cumsum([0] + [int(table.recordings[-1]) + 1 if len(table) else 0 for table in tables])
    if len(tables) == 1:
        return replace(first, name=name)
    return replace(
        first,
        name=name,
        columns={key: np.concatenate([table.columns[key] for table in tables]) for key in first.columns},
        successors={key: np.concatenate([table.successors[key] for table in tables]) for key in first.successors},
        recordings=np.concatenate([table.recordings + count for table, count in zip(tables, counts[:-1], strict=True)]),
        provenance={**first.provenance, "files": len(tables)},
        notes=tuple(dict.fromkeys(note for table in tables for note in table.notes)),
    )
