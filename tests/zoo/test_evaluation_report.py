"""What zoo evaluate prints, from curves written by hand and an environment whose returns are known."""

import gymnasium as gym
import numpy as np
import pytest

from tests.support.data import BOX, OBS, tiny, toy_dataset
from zoo.agents import TD3BC
from zoo.cli.evaluate import Evaluate, evaluation_report
from zoo.datasets.dataset import OfflineDataset
from zoo.evaluation.callbacks import Point
from zoo.evaluation.protocols import environment_note
from zoo.evaluation.report import curve_summary
from zoo.evaluation.rollouts import rollouts


class Goal(gym.Env):
    """Three steps of reward `pay` each; episodes from even reset seeds succeed, in their second step."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (OBS,), np.float32)
    action_space = BOX

    def __init__(self, pay=1.0, tells=True):
        self.pay, self.tells = pay, tells

    def reset(self, *, seed=None, options=None):
        self.seed, self.steps = seed, 0
        return np.zeros(OBS, np.float32), {}

    def step(self, action):
        self.steps += 1
        info = {"success": self.steps == 2 and self.seed % 2 == 0} if self.tells else {}
        return np.zeros(OBS, np.float32), self.pay, self.steps == 3, False, info


class Still:
    def predict(self, observations):
        return np.zeros((len(observations), 2), np.float32)


def points(*returns: float, online: bool = False) -> list[Point]:
    return [Point(1_000 * (i + 1), online, value, 0.0) for i, value in enumerate(returns)]


@pytest.fixture
def goal(monkeypatch):
    monkeypatch.setitem(gym.registry, "Goal-v0", gym.envs.registration.EnvSpec("Goal-v0", Goal))


def trained(tmp_path, name: str, **options):
    """A checkpoint of an agent that has seen toy data under another name."""
    toy = toy_dataset()
    columns = {key: toy.column(key) for key in toy.columns[:6]}
    data = OfflineDataset.from_arrays(**columns, action_space=BOX, name=name, env_id="Goal-v0", **options)
    return tiny(TD3BC, data).save(tmp_path / "final.zip")


def test_an_episode_that_succeeds_in_any_step_counts():
    result = rollouts(Still(), Goal, episodes=3, seed=100)
    assert result.returns.tolist() == [3.0, 3.0, 3.0]
    assert result.successes.tolist() == [True, False, True]


def test_environments_that_do_not_tell_have_no_successes():
    assert rollouts(Still(), lambda: Goal(tells=False), episodes=1).successes is None


def test_last_mean_of_the_last_and_best_are_labelled():
    lines = curve_summary("unknown", points(1.0, 9.0, 2.0, 3.0, 7.0), last=3)
    assert [line.split() for line in lines[:3]] == [
        ["last,", "at", "step", "5,000", "return", "7.0"],
        ["mean", "of", "the", "last", "3", "return", "4.0"],
        ["best", "of", "5,", "at", "step", "2,000", "return", "9.0"],
    ]
    assert "hindsight" in lines[3]


def test_a_short_curve_says_how_many_it_averages():
    assert "mean of the last 2 " in curve_summary("unknown", points(1.0, 3.0), last=5)[1]


def test_offline_and_online_evaluations_are_not_mixed():
    lines = curve_summary("unknown", [*points(900.0, 800.0), *points(5.0, 7.0, online=True)], last=5)
    assert "return 6.0" in lines[1]
    assert "best of 2, at step 2,000" in lines[2]


def test_curve_has_scores_where_the_dataset_has_a_scale():
    assert curve_summary("hopper-medium-v2", points(1000.0), last=1)[0].endswith("return 1000.0  score 31.3")


def test_report_has_returns_score_curve_and_the_environment(tmp_path, goal):
    path = trained(tmp_path, "hopper-medium-v2")
    (tmp_path / "evaluations.csv").write_text(
        "timesteps,online,return_mean,return_std\n10,False,1000.0,1.0\n20,False,0.0,1.0\n"
    )
    lines = evaluation_report(Evaluate(path, episodes=2)).splitlines()
    assert lines[0] == f"{path}: 2 episodes of Goal-v0, reset seeds 100 to 101"
    assert lines[1] == "return 3.0 ± 0.0, from 3.0 to 3.0"
    assert lines[2] == "success 50.0%"
    assert lines[3] == (  # (3 + 20.272305) / 3254.572305 of a hundred
        "score 0.7 on the scale of hopper-medium-v2: 0 is a return of -20.2723, 100 of 3234.3"
    )
    assert ["best", "of", "2,", "at", "step", "10", "return", "1000.0", "score", "31.3"] in [s.split() for s in lines]
    text = " ".join(lines)
    assert "environment: Goal-v0. This is not the environment that D4RL measured in" in text


def test_success_is_the_score_of_ogbench(tmp_path, goal):
    report = evaluation_report(Evaluate(trained(tmp_path, "antmaze-medium-navigate-singletask-v0"), episodes=4))
    assert "success 50.0%\nscore: the success, as OGBench has it" in report
    assert "scored in OGBench's own environment; Goal-v0 is another" in report.replace("\n", " ")


def test_unknown_names_have_no_score(tmp_path, goal):
    assert "no reference score is known for mine" in evaluation_report(Evaluate(trained(tmp_path, "mine"), episodes=1))


def test_environment_is_made_as_it_was_recorded_unless_another_is_given(tmp_path, goal):
    path = trained(tmp_path, "mine", provenance={"env_kwargs": '{"pay": 4.0}'})
    assert "return 12.0" in evaluation_report(Evaluate(path, episodes=1, trust=True))
    with pytest.raises(ValueError, match=r"mine gives its environment the arguments \{'pay': 4\.0\}\. If you trust"):
        evaluation_report(Evaluate(path, episodes=1))
    assert "return 3.0" in evaluation_report(Evaluate(path, "Goal-v0", episodes=1))


def test_k_below_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match="--last must be at least 1, got 0"):
        evaluation_report(Evaluate(tmp_path / "x.zip", last=0))


@pytest.mark.parametrize(
    ("name", "env_id", "words"),
    [
        ("hopper-medium-v2", "Hopper-v4", "a point or two"),
        ("hopper-medium-v2", "Hopper-v5", "not the environment that D4RL measured in"),
        ("hopper-medium-replay", "Hopper-v5", "a scale, not a D4RL result"),
        ("antmaze-large-play-v2", "gymnasium_robotics:AntMaze_Large-v5", "gear 150 for 1"),
        ("antmaze-large-play-v2", "ogbench:antmaze-large-singletask-v0", "has not been tested"),
        ("antmaze-umaze-v2", "ogbench:antmaze-giant-singletask-v0", "not comparable"),
        ("pen-human-v1", "AdroitHandPen-v1", "ends when the pen drops"),
        ("hammer-human-v1", "gymnasium_robotics:AdroitHandHammer-v1", "a wrong sign"),
        ("hammer-human-v1", "AdroitHandHammer-v2", "older MuJoCo"),
        ("kitchen-partial-v0", "FrankaKitchen-v1", "older MuJoCo"),
        ("maze2d-umaze-v1", "PointMaze_UMaze-v3", "observes the goal too"),
        ("D4RL/hammer/human-v2", "AdroitHandHammer-v1", "their rewards are not D4RL's"),
        ("antmaze-medium-navigate-singletask-v0", "AntMaze_Medium-v5", "OGBench's own environment"),
    ],
)
def test_environments_that_are_not_the_benchmarks_are_named(name, env_id, words):
    assert words in environment_note(name, env_id)


@pytest.mark.parametrize(
    ("name", "env_id"),
    [
        ("antmaze-medium-navigate-singletask-v0", "ogbench:antmaze-medium-singletask-v0"),
        ("mujoco/hopper/medium-v0", "Hopper-v5"),
        ("mine", "Robot-v0"),
    ],
)
def test_the_benchmarks_own_environment_needs_no_word(name, env_id):
    assert environment_note(name, env_id) is None
