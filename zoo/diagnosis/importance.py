"""Weighted importance sampling: what the policy would have earned, from episodes of another one.

Precup, Sutton and Singh 2000, "Eligibility Traces for Off-Policy Policy Evaluation", equation 4: a mean of the returns,
weighted by how much likelier the policy makes each episode. The behaviour's density is that of a Gaussian clone.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Estimate(NamedTuple):
    """value: the return. effective: how many episodes it rests on, (sum w)^2 / sum w^2; near 1 it is one episode's."""

    value: float
    effective: float


def weighted_importance(
    log_ratios: NDArray[np.float64], episodes: NDArray[np.int64], rewards: NDArray[np.float64]
) -> Estimate:
    """log_ratios (N,): log pi(a|s) - log mu(a|s) of every step. episodes (N,): which it is of. rewards (N,): raw."""
    _, of = np.unique(episodes, return_inverse=True)
    logs, returns = np.bincount(of, log_ratios), np.bincount(of, rewards)
    weights = np.exp(logs - logs.max())  # only their shares count
    weights /= weights.sum()
    return Estimate(float(weights @ returns), float(1.0 / np.square(weights).sum()))
