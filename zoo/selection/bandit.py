"""Which candidate is best, when only a few episodes can be run: sequential halving.

Karnin, Koren and Somekh 2013, "Almost Optimal Exploration in Multi-Armed Bandits", figure 1: the episodes are shared
out over log2 K rounds; in each every candidate that is left runs equally often, and the better half stays. All episodes
of a candidate count, those of earlier rounds too, and all candidates run the same reset seeds, so that they are
compared on equal starts.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Run = Callable[[int, int, int], NDArray[np.float64]]  # candidate, episodes, first reset seed -> returns (episodes,)


@dataclass(frozen=True)
class Halving:
    """order: indices, the best first. returns: of every episode of each candidate."""

    order: list[int]
    returns: list[NDArray[np.float64]]

    @property
    def episodes(self) -> int:
        return sum(map(len, self.returns))


def sequential_halving(run: Run, prior: Sequence[float], episodes: int, seed: int = 100) -> Halving:
    """prior (K,): scores by which ties are broken, and which decide where no episode is left; more is better.

    At most `episodes` episodes are run. With fewer than one for each candidate, only the best by the prior are tried.
    Raises ValueError for fewer than one episode.
    """
    if episodes < 1:
        raise ValueError(f"--rollouts must be at least 1, got {episodes}")
    everyone = sorted(range(len(prior)), key=lambda k: -prior[k])
    left, out = everyone[:episodes], everyone[episodes:]
    rounds = max(math.ceil(math.log2(len(left))), 1)
    returns: list[NDArray[np.float64]] = [np.empty(0) for _ in prior]
    spent = 0
    for turn in range(rounds):
        each = (episodes - spent) // (rounds - turn) // len(left)
        for k in left if each else ():
            begin = seed + len(returns[k])
            returns[k] = np.append(returns[k], run(k, each, begin))
            spent += each
        left.sort(key=lambda k: (-returns[k].mean() if len(returns[k]) else np.inf, -prior[k]))
        keep = math.ceil(len(left) / 2)
        left, out = left[:keep], left[keep:] + out
    return Halving(left + out, returns)
