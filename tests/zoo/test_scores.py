"""Normalised scores against D4RL's published numbers."""

import numpy as np
import pytest

from zoo.datasets.readers.d4rl import CATALOG
from zoo.evaluation.report import episodes_summary
from zoo.evaluation.rollouts import Rollouts
from zoo.evaluation.scores import REFERENCES, has_score, normalized_score, successes


@pytest.mark.parametrize(
    ("name", "of_zero", "of_thousand"),
    [
        ("hopper-medium-v2", 0.6229, 31.3489),
        ("halfcheetah-expert-v2", 2.2567, 10.3114),
        ("walker2d-random-v0", -0.0355, 21.7478),
        ("pen-human-v1", -3.2297, 30.3209),
        ("door-cloned-v0", 1.9241, 35.9715),
        ("hammer-expert-v1", 2.1031, 9.7548),
        ("relocate-human-v1", 0.1515, 23.7348),
    ],
)
def test_scores_of_known_returns(name, of_zero, of_thousand):
    assert normalized_score(name, 0.0) == pytest.approx(of_zero, abs=5e-5)
    assert normalized_score(name, 1000.0) == pytest.approx(of_thousand, abs=5e-5)


@pytest.mark.parametrize(
    ("name", "random", "expert"),
    [
        ("ant-medium-v2", -325.6, 3879.7),
        ("antmaze-large-play-v2", 0.0, 1.0),
        ("antmaze-ultra-diverse-v0", 0.0, 1.0),
        ("maze2d-umaze-v1", 23.85, 161.86),
        ("maze2d-umaze-v0", 0.94, 62.6),
        ("maze2d-large-dense-v1", 30.569041, 303.4857382709002),
        ("kitchen-mixed-v0", 0.0, 4.0),
    ],
)
def test_the_references_themselves_score_0_and_100(name, random, expert):
    assert normalized_score(name, random) == pytest.approx(0.0, abs=1e-9)
    assert normalized_score(name, expert) == pytest.approx(100.0)


def test_scores_are_not_clipped():
    assert normalized_score("antmaze-umaze-v2", [-1.0, 2.0]).tolist() == [-100.0, 200.0]


def test_score_keeps_the_shape_of_the_returns():
    assert normalized_score("kitchen-partial-v0", np.array([[1.0, 2.0], [3.0, 4.0]])).tolist() == [
        [25.0, 50.0],
        [75.0, 100.0],
    ]


def test_embedded_dataset_is_scored_on_hoppers_scale():
    assert normalized_score("hopper-medium-replay", 1000.0) == pytest.approx(31.3489, abs=5e-5)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("mood-walker-spin-mixed", 990.0),
        ("mood-cheetah-run_backward-from-walk", 550.0),
        ("mood-humanoid-run-same", 400.0),
    ],
)
def test_mood_is_scored_in_percent_of_its_target(name, target):
    assert normalized_score(name, [0.0, target, 2 * target]).tolist() == [0.0, 100.0, 200.0]


@pytest.mark.parametrize("name", ["mood-walker-fly-same", "mood-hopper-run-same", "antmaze-medium-navigate-v0"])
def test_tasks_that_do_not_exist_and_success_rates_have_no_scale(name):
    with pytest.raises(KeyError, match="no reference returns"):
        normalized_score(name, 1.0)


def test_every_dataset_of_the_catalogue_has_references():
    assert set(CATALOG) <= set(REFERENCES)


@pytest.mark.parametrize(
    "name", ["mujoco/hopper/medium-v0", "D4RL/pen/human-v2", "hopper-medium", "maze2d-eval-umaze-v1"]
)
def test_name_of_another_benchmark_has_no_score(name):
    with pytest.raises(KeyError, match="no reference returns"):
        normalized_score(name, 1.0)


def test_misspelt_name_is_answered_with_close_ones():
    with pytest.raises(KeyError, match="hopper-medium-v2"):
        normalized_score("hopper-medum-v2", 1.0)


def test_a_score_of_antmaze_is_a_share_of_successes():
    name = "antmaze-medium-play-v2"
    assert [has_score(name, value) for value in (-650.0, 0.0, 0.7, 1.0, 65.0)] == [False, True, True, True, False]
    assert has_score("hopper-medium-v2", -650.0)
    assert successes(name, np.array([0.0, 65.0, 1.0])).tolist() == [0.0, 1.0, 1.0]  # goes on at the goal
    assert successes(name, np.array([-650.0, -3.0])) is None
    assert successes("hopper-medium-v2", np.array([1.0])) is None


@pytest.mark.parametrize(
    ("returns", "line"),
    [
        ([0.0, 65.0], "score 50.0 on the scale of antmaze-umaze-v2"),
        ([-700.0, -12.0], "no score: antmaze-umaze-v2 counts successes, and these rewards do not say"),
    ],
)
def test_a_report_of_antmaze_counts_episodes(returns, line):
    assert line in episodes_summary("antmaze-umaze-v2", Rollouts(np.array(returns), None))[-1]
