"""Sparse rewards 0/1 and -1/0: data of one convention in environments of the other."""

import re
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TransformReward
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from tests.support.data import LENGTH, ToyEnv, prepared, tiny, toy_dataset
from zoo.agents import TD3BC
from zoo.agents.core.conventions import CONVENTIONS, convention_of
from zoo.agents.core.rewards import convention_of_env
from zoo.evaluation.rollouts import evaluate


class Maze(ToyEnv):
    """An episode of seven steps whose last is at the goal. at: the reward there; one less before."""

    def __init__(self, at, stated=None, name=None, **kwargs):
        super().__init__()
        self.at = at
        self.metadata = {"reward_convention": stated} if stated else {}
        self.spec = EnvSpec(name, entry_point="nowhere:Maze", kwargs=kwargs) if name else None

    def step(self, action):
        observation, _, *rest = super().step(action)
        return observation, self.at if self.steps == LENGTH else self.at - 1.0, *rest


def ones():
    return Maze(1.0, "0/1")


def minuses():
    return Maze(0.0, "-1/0")


def unknown_ones():
    return Maze(1.0)


def unknown_minuses():
    return Maze(0.0)


def data(at: float):
    goal = np.arange(210) % LENGTH == LENGTH - 1
    return toy_dataset(rewards=np.where(goal, at, at - 1.0))


KINDS = [
    lambda env: env(),
    lambda env: DummyVecEnv([lambda: Monitor(env())] * 2),
    lambda env: SubprocVecEnv([lambda: Monitor(env())] * 2, start_method="fork"),
    lambda env: AsyncVectorEnv([env, env], context="fork", autoreset_mode=AutoresetMode.SAME_STEP),
    lambda env: SyncVectorEnv([env, env], autoreset_mode=AutoresetMode.SAME_STEP),
]


@pytest.mark.parametrize(
    ("rewards", "convention"),
    [([0, 1, 0], "0/1"), ([-1, 0], "-1/0"), ([-1, -1], "-1/0"), ([0, 0], None), ([0, 0.5, 1], None), ([-1, 1], None)],
)
def test_data_tell_their_convention(rewards, convention):
    assert convention_of(np.array(rewards, np.float32)) == convention


@pytest.mark.parametrize(
    ("name", "kwargs", "convention"),
    [
        ("antmaze-medium-navigate-singletask-v0", {}, "-1/0"),
        ("antmaze-medium-singletask-task2-v0", {}, "-1/0"),
        ("visual-antmaze-large-v0", {}, "0/1"),
        ("AntMaze_UMaze-v5", {}, "0/1"),
        ("AntMaze_UMazeDense-v5", {}, None),
        ("PointMaze_Large-v3", {"reward_type": "dense"}, None),
        ("FetchReach-v4", {"reward_type": "sparse"}, "-1/0"),
        ("FetchReachDense-v4", {}, None),
        ("HandManipulateBlockRotateZ-v1", {}, "-1/0"),
        ("zoo/Maze2D-umaze-v0", {}, "0/1"),
        ("zoo/Maze2D-umaze-dense-v0", {}, None),
        ("Hopper-v5", {}, None),
    ],
)
def test_environments_are_known_by_their_ids(name, kwargs, convention):
    assert convention_of_env(Maze(1.0, name=name, **kwargs)) == convention


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("gymnasium_robotics:PointMaze_UMaze-v3", 0.0),
        ("ogbench:pointmaze-medium-v0", 0.0),
        ("ogbench:pointmaze-medium-singletask-v0", -1.0),
    ],
)
def test_known_ids_give_the_rewards_that_are_said_of_them(name, first):
    pytest.importorskip(name.split(":")[0])
    env = gym.make(name)
    env.reset(seed=0)
    reward = float(env.step(env.action_space.sample())[1])  # far from the goal
    env.close()
    assert reward == first == CONVENTIONS[convention_of_env(env)][0]


def test_a_wrapper_that_changes_rewards_makes_them_unknown_and_a_statement_must_be_one():
    def shifted():
        return TransformReward(minuses(), lambda r: r + 1)

    for kind in KINDS:
        env = kind(shifted)
        assert convention_of_env(env) is None
        env.close()
    with pytest.raises(ValueError, match=re.escape("must be one of 0/1, -1/0, got '0/-1'")):
        convention_of_env(Maze(0.0, "0/-1"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("env", "at"), [(minuses, 1.0), (ones, 0.0)])
def test_rewards_are_stored_and_told_in_the_datas_convention(env, at, kind):
    dataset = data(at)
    agent = prepared(TD3BC, dataset)
    with pytest.warns(UserWarning, match=r"rewards are .*, those of toy .* is added to each"):
        agent.finetune_online(kind(env), 4 * LENGTH, dataset=dataset)
    expected = np.where(agent.replay.column("next_observations")[:, 2] == LENGTH, at, at - 1.0)
    np.testing.assert_array_equal(agent.replay.column("rewards"), expected)
    assert {episode["r"] for episode in agent.ep_info_buffer} == {at + (LENGTH - 1) * (at - 1.0)}
    agent.get_env().close()


@pytest.mark.parametrize(("env", "at"), [(ones, 1.0), (minuses, 0.0), (unknown_ones, 1.0), (unknown_minuses, 0.0)])
def test_rewards_of_the_same_convention_stay_as_they_are(env, at):
    dataset = data(at)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent = prepared(TD3BC, dataset).finetune_online(env(), LENGTH, dataset=dataset)
    assert agent.replay.column("rewards").tolist() == [at - 1.0] * (LENGTH - 1) + [at]


@pytest.mark.parametrize(("env", "at", "fix"), [(unknown_minuses, 1.0, "r +1"), (unknown_ones, 0.0, "r -1")])
def test_the_other_convention_of_an_unknown_environment_is_refused_with_the_fix(env, at, fix):
    dataset = data(at)
    with pytest.raises(ValueError, match=re.escape(f"lambda r: {fix})")):
        prepared(TD3BC, dataset).finetune_online(env(), LENGTH, dataset=dataset)
    step = 1.0 if fix == "r +1" else -1.0
    agent = prepared(TD3BC, dataset)
    agent.finetune_online(TransformReward(env(), lambda r: r + step), LENGTH, dataset=dataset)
    assert agent.replay.column("rewards").tolist() == [at - 1.0] * (LENGTH - 1) + [at]


def test_other_rewards_than_the_datas_are_told_of():
    dataset = data(1.0)
    with pytest.warns(UserWarning, match="is it the same task"):
        prepared(TD3BC, dataset).finetune_online(ToyEnv(), LENGTH, dataset=dataset)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_evaluation_tells_returns_in_the_datas_convention(workers):
    assert evaluate(tiny(TD3BC, data(1.0)), minuses, 3, workers=workers).tolist() == [1.0, 1.0, 1.0]
    assert evaluate(tiny(TD3BC, data(0.0)), ones, 3, workers=workers).tolist() == [1.0 - LENGTH] * 3
    assert evaluate(tiny(TD3BC), minuses, 3, workers=workers).tolist() == [1.0 - LENGTH] * 3  # data without one
