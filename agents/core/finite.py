"""Numbers that must be finite, where they cross the border between an environment and us."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np


class NotFiniteError(FloatingPointError, ValueError):
    """NaN or infinity: from an environment or a policy, or in an agent that has diverged."""


def check_rows(columns: Mapping[str, np.ndarray], source: Callable[[int], str]) -> None:
    """Raises NotFiniteError for a number that is not finite, or not as float32, which rows are stored in.

    columns: name to (n,) or (n, k). source: row to who gave it, the first words of a sentence.
    """
    for name, values in columns.items():
        with np.errstate(over="ignore"):
            finite = np.isfinite(np.asarray(values, dtype=np.float32))
        if not finite.all():
            place = tuple(np.argwhere(~finite)[0])
            where = f"{name}, dimension {place[1]}" if len(place) > 1 else name
            raise NotFiniteError(f"{source(int(place[0]))} gave {values[place]} as {where}; expected a finite float32")


def members_of(values: np.ndarray) -> list[int]:
    """The members of a population whose part of an array (P, ...) is not finite."""
    return np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1)).tolist()
