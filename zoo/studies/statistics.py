"""What may be said of a few runs: means with intervals, and comparisons over several datasets.

scores: dataset -> (runs,), one number for each training seed. The interquartile mean, its stratified bootstrap
interval, the probability of improvement and the performance profile are those of Agarwal et al. 2021, "Deep
Reinforcement Learning at the Edge of the Statistical Precipice", arXiv 2108.13264, section 4, where a dataset is called
a task.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Scores = Mapping[str, NDArray[np.float64]]
Aggregate = Callable[[NDArray[np.float64]], float]

RESAMPLES = 2_000
CONFIDENCE = 0.95


def mean_interval(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """Student's 95 % interval of the mean of a few runs, (low, high); of one run it is (-inf, inf)."""
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return -np.inf, np.inf
    half = stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def deviation(values: Sequence[float] | NDArray[np.float64]) -> float:
    """The sample's standard deviation, divided by n - 1; nan for one run."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


def interquartile_mean(values: NDArray[np.float64]) -> float:
    """The mean of the middle half of all runs on all datasets: a quarter is cut off at either end."""
    return float(stats.trim_mean(np.ravel(values), 0.25))


def pooled(scores: Scores) -> NDArray[np.float64]:
    """All runs on all datasets, one after the other."""
    return np.concatenate([np.asarray(runs, np.float64) for runs in scores.values()])


def bootstrap_interval(
    scores: Scores, aggregate: Aggregate = interquartile_mean, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The 95 % percentile interval of an aggregate under the stratified bootstrap.

    Each resample draws, with replacement, as many runs of every dataset as it has, dataset by dataset.
    """
    rng = np.random.default_rng(seed)
    drawn = [
        aggregate(np.concatenate([rng.choice(runs, len(runs)) for runs in scores.values()])) for _ in range(resamples)
    ]
    tail = (1.0 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1.0 - tail])
    return float(low), float(high)


def improvement(one: Scores, other: Scores) -> float:
    """Probability that a run of `one` is better than a run of `other` on a dataset that both have; equal counts half.

    The Mann-Whitney statistic of each dataset, as a share of the pairs, averaged over the datasets.
    Raises ValueError where they have none in common.
    """
    common = [name for name in one if name in other]
    if not common:
        raise ValueError(f"no dataset in common: {sorted(one)} and {sorted(other)}")
    shares = []
    for name in common:
        difference = np.subtract.outer(np.asarray(one[name]), np.asarray(other[name]))
        shares.append(float((difference > 0).mean() + 0.5 * (difference == 0).mean()))
    return float(np.mean(shares))


def improvement_interval(one: Scores, other: Scores, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of improvement, the runs of both resampled dataset by dataset."""
    rng = np.random.default_rng(seed)

    def again(scores: Scores) -> dict[str, NDArray[np.float64]]:
        return {name: rng.choice(runs, len(runs)) for name, runs in scores.items()}

    drawn = [improvement(again(one), again(other)) for _ in range(resamples)]
    tail = (1.0 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1.0 - tail])
    return float(low), float(high)


def performance_profile(scores: Scores, thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of runs above each threshold, (thresholds,): every dataset counts the same."""
    shares = [(np.asarray(runs)[:, None] > thresholds).mean(0) for runs in scores.values()]
    return np.mean(shares, axis=0)
