"""Sparse rewards have two conventions: 0 and then 1 at the goal, as D4RL, or -1 and then 0, as OGBench."""

from __future__ import annotations

import numpy as np

CONVENTIONS = {"0/1": (0.0, 1.0), "-1/0": (-1.0, 0.0)}  # before the goal, and at it
STATED = "reward_convention"  # where a dataset's provenance or an environment's metadata says it
FIRST = 1_000  # rows that tell most other rewards, so that large data are not all looked at


def convention_of(rewards: np.ndarray) -> str | None:
    """The convention of a dataset's rewards (N,). None for other numbers, and for zeros alone, which fit both."""
    for name, values in CONVENTIONS.items():
        if np.isin(rewards[:FIRST], values).all() and np.isin(rewards, values).all() and (rewards != 0.0).any():
            return name
    return None


def check_convention(name: object) -> str | None:
    """Raises ValueError for a convention that is none."""
    if name is not None and name not in CONVENTIONS:
        raise ValueError(f"{STATED} must be one of {', '.join(CONVENTIONS)}, got {name!r}")
    return name
