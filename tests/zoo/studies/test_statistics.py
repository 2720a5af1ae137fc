"""Statistics of runs, on cases whose value is known."""

import numpy as np
import pytest
from scipy import stats

from zoo.studies.statistics import (
    bootstrap_interval,
    deviation,
    improvement,
    improvement_interval,
    interquartile_mean,
    mean_interval,
    performance_profile,
)


def test_the_interval_of_three_runs_is_students():
    # mean 4, sample deviation 2, t(0.975, 2) = 4.3027 (tables): 4 +- 4.3027 * 2 / sqrt(3)
    assert mean_interval([2.0, 4.0, 6.0]) == pytest.approx((-0.968, 8.968), abs=1e-3)
    assert deviation([2.0, 4.0, 6.0]) == 2.0


def test_one_run_says_nothing_of_others():
    assert mean_interval([3.0]) == (-np.inf, np.inf)
    assert np.isnan(deviation([3.0]))


def test_the_interquartile_mean_leaves_out_a_quarter_at_either_end():
    assert interquartile_mean(np.array([100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -50.0])) == 3.5  # of 2, 3, 4, 5


def test_the_bootstrap_of_one_dataset_is_scipys():
    runs = np.random.default_rng(0).normal(10.0, 3.0, 24)
    ours = bootstrap_interval({"one": runs}, lambda values: float(values.mean()), resamples=20_000)
    scipys = stats.bootstrap((runs,), np.mean, method="percentile", n_resamples=20_000, rng=1).confidence_interval
    assert ours == pytest.approx((scipys.low, scipys.high), abs=0.06)


def test_the_bootstrap_never_moves_runs_between_datasets():
    # Within a dataset all runs are equal, so that every stratified resample is the data itself.
    scores = {"low": np.full(4, 1.0), "high": np.full(4, 9.0)}
    assert bootstrap_interval(scores, lambda values: float(values.mean())) == (5.0, 5.0)


def test_improvement_counts_pairs_dataset_by_dataset():
    one = {"a": np.array([1.0, 3.0]), "b": np.array([5.0, 5.0])}
    other = {"a": np.array([2.0, 0.0]), "b": np.array([5.0, 7.0]), "c": np.array([1.0])}
    # a: 1 beats 0, 3 beats 2 and 0: 3 of 4. b: two ties and no win: 2 * 0.5 of 4. Mean of 0.75 and 0.25.
    assert improvement(one, other) == pytest.approx(0.5)
    with pytest.raises(ValueError, match=r"no dataset in common: \['a', 'b'\] and \['c'\]"):
        improvement(one, {"c": other["c"]})


def test_a_sure_improvement_has_a_sure_interval():
    assert improvement_interval({"a": np.array([8.0, 9.0])}, {"a": np.array([1.0, 2.0])}) == (1.0, 1.0)


def test_a_profile_is_the_share_of_runs_above():
    scores = {"a": np.array([10.0, 30.0]), "b": np.array([20.0, 20.0, 20.0, 50.0])}
    # above 15: 1/2 and 1; above 25: 1/2 and 1/4; above 60: none
    assert performance_profile(scores, np.array([15.0, 25.0, 60.0])).tolist() == [0.75, 0.375, 0.0]
