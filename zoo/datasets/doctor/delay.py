"""How many ticks lie between an action and its effect, estimated from a log.

The change of the state in a tick is fitted, by least squares, to the state and to the actions of this tick and of the
last ones. The delay is the lag whose action the fit would miss the most: without it the error grows by a factor, the
other lags still there. Actions that follow each other slowly look alike at neighbouring lags; where the best lag is not
clearly better than the next one, nothing is said.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOST = 5  # ticks that are looked for
ROWS = 20_000  # that are looked at
LEAST = 0.002  # growth of the error without the actions: less is noise, and nothing is said
CLEAR = 2.0  # times as much growth as at the next best lag


@dataclass(frozen=True)
class Delay:
    """ticks: the estimate; None where the log does not tell. growth: of the error, by lag, (MOST + 1,)."""

    ticks: int | None
    growth: tuple[float, ...]

    def __str__(self) -> str:
        text = "unclear" if self.ticks is None else f"{self.ticks} ticks"
        return f"{text}; error without the action of each lag: " + " ".join(f"{value:+.2%}" for value in self.growth)


def estimate(
    observations: np.ndarray, next_observations: np.ndarray, actions: np.ndarray, episode_ids: np.ndarray
) -> Delay:
    """observations, next_observations (N, O), actions (N, A), episode_ids (N,), in time order."""
    rows = np.arange(MOST, len(episode_ids))
    rows = rows[episode_ids[rows] == episode_ids[rows - MOST]][:ROWS]
    state, lags = observations[rows], [actions[rows - lag] for lag in range(MOST + 1)]
    width = state.shape[1] + (MOST + 1) * actions.shape[1]
    if len(rows) < 10 * width:
        return Delay(None, (0.0,) * (MOST + 1))
    change = _standardised(next_observations[rows] - state)
    inputs = [_standardised(part) for part in (state, *lags)]
    whole = _errors(inputs, change)
    growth = np.array([_growth(inputs[: lag + 1] + inputs[lag + 2 :], change, whole) for lag in range(MOST + 1)])
    first, second = np.argsort(-growth)[:2]
    clear = growth[first] > LEAST and growth[first] > CLEAR * growth[second]
    return Delay(int(first) if clear else None, tuple(growth.tolist()))


def _standardised(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    return (values - values.mean(0)) / (values.std(0) + 1e-9)


def _errors(inputs: list[np.ndarray], targets: np.ndarray) -> np.ndarray:
    """Mean squared error of each target, (k,)."""
    matrix = np.concatenate(inputs, 1)
    square = matrix.T @ matrix + 1e-3 * len(matrix) / 1000 * np.eye(matrix.shape[1])
    weights = np.linalg.solve(square, matrix.T @ targets)
    return np.asarray(np.square(targets - matrix @ weights).mean(0) + 1e-9)


def _growth(inputs: list[np.ndarray], targets: np.ndarray, whole: np.ndarray) -> float:
    """By how much the errors grow without some inputs, on average over the targets."""
    return float((_errors(inputs, targets) / whole).mean() - 1.0)
