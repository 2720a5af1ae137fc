"""History and delay: rows of the past in the data, in environments, in predict, in the exported policy and its loop."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from stable_baselines3.common.evaluation import evaluate_policy

import zoo
from tests.support.data import ACT, OBS, SMALL, ToyEnv, toy_dataset
from tests.support.scripted_robot import Robot
from zoo import PARS, TD3BC, OfflineDataset
from zoo.agents.core.stack import Stack
from zoo.evaluation.rollouts import evaluate
from zoo_robot.control import Limits
from zoo_robot.inspection import verify
from zoo_robot.recorder import Recorder
from zoo_robot.runlog import read_log
from zoo_robot.runtime import OnnxPolicy
from zoo_robot.shadow import replay

NEUTRAL = [-0.5, 0.25]  # the middle of the toy box


def make(cls=TD3BC, **settings):
    small = {name: value for name, value in SMALL.items() if name in cls.Config.names()}
    return cls(toy_dataset(), seed=0, device="cpu", **(small | settings))


# Rows


@pytest.fixture
def numbers():
    """Two episodes of three and two rows; observation k, action 10 + k, both one number."""
    obs = np.array([[1.0], [2.0], [3.0], [6.0], [7.0]])
    return OfflineDataset.from_arrays(
        obs,
        obs + 10,
        np.zeros(5),
        obs + 1,
        np.zeros(5),
        [0, 0, 1, 0, 1],
        action_space=Box(0.0, 100.0, (1,), np.float32),
    )


def test_rows_hold_the_past_of_their_own_episode(numbers):
    now, then = Stack(1, history=3, delay=2, neutral=np.array([50.0])).columns(numbers)
    assert now.tolist() == [
        [1, 1, 1, 50, 50],
        [2, 1, 1, 11, 50],
        [3, 2, 1, 12, 11],
        [6, 6, 6, 50, 50],
        [7, 6, 6, 16, 50],
    ]
    assert then.tolist() == [
        [2, 1, 1, 11, 50],
        [3, 2, 1, 12, 11],
        [4, 3, 2, 13, 12],
        [7, 6, 6, 16, 50],
        [8, 7, 6, 17, 16],
    ]


def test_stepping_gives_the_rows_of_the_data(numbers):
    stack = Stack(1, history=3, delay=2, neutral=np.array([50.0]))
    now, _ = stack.columns(numbers)
    row = stack.begin(numbers.observations[0])
    assert row.tolist() == now[0].tolist()
    for k in (1, 2):
        row = stack.next(row, numbers.actions[k - 1], numbers.observations[k])
        assert row.tolist() == now[k].tolist()


@pytest.mark.parametrize(("history", "delay", "width"), [(1, 1, OBS + ACT), (3, 0, 3 * OBS), (2, 2, 2 * OBS + 2 * ACT)])
def test_agents_learn_offline_and_online_on_such_rows(history, delay, width, tmp_path):
    agent = make(PARS, history=history, delay=delay)
    assert agent.layout.slices["observations"] == slice(0, width)
    agent.learn_offline(toy_dataset(), 3)
    agent.finetune_online(ToyEnv(), 20, dataset=toy_dataset())
    loaded = zoo.load(agent.save(tmp_path / "agent.zip"), device="cpu")
    obs = np.random.default_rng(0).normal(2.0, 3.0, (5, OBS))
    assert (loaded.predict(obs)[0] == agent.predict(obs)[0]).all()


def test_online_rows_are_those_that_the_data_would_have():
    agent = make(history=2, delay=1, offline_ratio=0.0)
    agent.finetune_online(ToyEnv(), 30)
    batch = agent.layout.unpack(agent.replay.rows[:30])
    ends = torch.cat([(batch.next_observations[:-1] != batch.observations[1:]).any(-1), torch.tensor([True])])
    for t in range(29):
        if not ends[t]:
            assert torch.equal(batch.observations[t + 1, OBS : 2 * OBS], batch.observations[t, :OBS])
            assert torch.equal(batch.observations[t + 1, 2 * OBS :], batch.actions[t])
        else:
            assert batch.observations[t + 1, 2 * OBS :].tolist() == NEUTRAL
            assert torch.equal(batch.next_observations[t, 2 * OBS :], batch.actions[t])
    assert 0 < ends[:-1].sum() < 29


# Acting


class Remembers(gym.Env):
    """Earns 1 where the action is a known function of the last two observations and the last action."""

    observation_space = Box(-np.inf, np.inf, (OBS,), np.float32)
    action_space = Box(np.array([-2.0, 0.0], np.float32), np.array([1.0, 0.5], np.float32))

    def __init__(self, agent):
        self.agent, self.stack = agent, agent.stack

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.obs = 0, self.np_random.normal(2.0, 3.0, OBS).astype(np.float32)
        self.row = self.stack.begin(self.obs)
        return self.obs, {}

    def step(self, action):
        with torch.no_grad():
            expected = self.agent.policy(torch.from_numpy(self.row)[None])[0].numpy()
        right = bool(np.allclose(action, expected, atol=1e-5))
        self.steps += 1
        self.obs = self.np_random.normal(2.0, 3.0, OBS).astype(np.float32)
        self.row = self.stack.next(self.row, np.asarray(action, np.float32), self.obs)
        return self.obs, float(right), False, self.steps == 4, {}


def test_evaluations_remember_ours_and_stable_baselines(tmp_path):
    agent = make(history=2, delay=1)
    agent.learn_offline(toy_dataset(), 5)
    assert evaluate(agent, lambda: Remembers(agent), episodes=3).tolist() == [4.0] * 3
    mean, spread = evaluate_policy(agent, Remembers(agent), n_eval_episodes=3, warn=False)
    assert (mean, spread) == (4.0, 0.0)


def test_an_observation_of_another_size_is_refused():
    with pytest.raises(ValueError, match="must have 3 numbers, as the environment sends it"):
        make(history=2).predict(np.zeros(6))


# On the robot


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    agent = make(history=3, delay=2, normalize_observations=True)
    agent.learn_offline(toy_dataset(), 10)
    return agent, agent.export_onnx(tmp_path_factory.mktemp("past") / "deploy")


def test_the_contract_carries_them_and_the_bundle_verifies(bundle):
    policy = OnnxPolicy(bundle[1])
    assert (policy.history, policy.delay, policy.observation_size, policy.input_size) == (3, 2, 3, 13)
    assert len(policy.metadata["observations"]) == 3
    assert not [finding.text for finding in verify(bundle[1]) if finding.bad]


def test_torch_and_onnx_agree_tick_by_tick_and_after_a_reset(bundle):
    agent, folder = bundle
    policy, rng = OnnxPolicy(folder), np.random.default_rng(0)
    for _ in range(2):
        policy.reset()
        state = None
        for _ in range(6):
            obs = rng.normal(2.0, 3.0, OBS).astype(np.float32)
            action, state = agent.predict(obs, state)
            np.testing.assert_allclose(policy.predict(obs), action, atol=1e-5)


def test_what_was_written_counts_and_not_what_was_wanted(bundle):
    agent, folder = bundle
    policy, rng = OnnxPolicy(folder), np.random.default_rng(1)
    obs = rng.normal(2.0, 3.0, (4, OBS)).astype(np.float32)
    row = agent.stack.begin(obs[0])
    policy.predict(obs[0])
    for k in range(1, 4):
        written = rng.uniform(0.0, 0.5, ACT).astype(np.float32)
        policy.wrote(written)
        row = agent.stack.next(row, written, obs[k])
        np.testing.assert_allclose(policy.predict(obs[k]), policy.predict(row[None])[0], atol=1e-6)


def test_a_tick_without_an_observation_keeps_the_newest_one(bundle):
    agent, folder = bundle
    policy = OnnxPolicy(folder)
    one, two, held = np.ones(OBS, np.float32), np.full(OBS, 2.0, np.float32), np.array([0.5, 0.5], np.float32)
    policy.predict(one)
    policy.wrote(held)
    policy.wrote(held)  # nothing was read
    row = agent.stack.next(agent.stack.next(agent.stack.begin(one), held, one), held, two)
    np.testing.assert_allclose(policy.predict(two), policy.predict(row[None])[0], atol=1e-6)


def test_a_fault_leaves_no_trace_in_the_memory(bundle):
    policy, other = OnnxPolicy(bundle[1]), OnnxPolicy(bundle[1])
    one = np.ones(OBS, np.float32)
    for each in (policy, other):
        each.predict(one)
    with pytest.raises(ValueError, match="NaN or infinite"):
        policy.predict(np.array([np.nan, 0.0, 0.0]))
    assert (policy.predict(2 * one) == other.predict(2 * one)).all()


def test_a_batch_of_single_observations_is_refused(bundle):
    with pytest.raises(ValueError, match=r"one observation \(3,\), for this policy remembers"):
        OnnxPolicy(bundle[1]).predict(np.zeros((2, OBS)))


def test_the_loop_tells_the_policy_and_the_log_gives_the_same_bits_again(bundle, tmp_path):
    policy, rng = OnnxPolicy(bundle[1]), np.random.default_rng(2)
    script = [rng.normal(2.0, 3.0, OBS) for _ in range(12)]
    script[4] = script[5] = None
    limits = Limits([-0.6, 0.2], [-0.5, 0.25], [-0.55, 0.25])  # tighter than the policy's box
    for _ in range(2):  # the second run begins with an empty memory
        robot = Robot(script)
        robot.policy = policy.predict
        loop = robot.loop(limits=limits, memory=policy, recorder=Recorder(tmp_path / "run.log", policy))
        loop.run(12)
    first, second = read_log(tmp_path / "run.log").runs
    assert first.rows["limited"].any()
    assert (first.rows["written"] == second.rows["written"]).all()
    assert not replay(OnnxPolicy(bundle[1]), second).bad
    forgetful = dataclasses.replace(second, about={**second.about, "memory": False})
    assert replay(OnnxPolicy(bundle[1]), forgetful).bad


def test_a_guard_is_refused(bundle):
    agent, folder = bundle
    with pytest.raises(ValueError, match="sees the past"):
        agent.write_guard(toy_dataset(), folder)


def test_private_observations_and_the_past_go_together(tmp_path):
    agent = make(history=2, delay=1, actor_observations=("observations[0]", "observations[2]"))
    agent.learn_offline(toy_dataset(), 5)
    policy = OnnxPolicy(agent.export_onnx(tmp_path / "deploy"))
    assert (policy.observation_size, policy.input_size) == (2, 2 * 2 + ACT)
    state = None
    for obs in np.random.default_rng(0).normal(2.0, 3.0, (5, OBS)).astype(np.float32):
        action, state = agent.predict(obs, state)
        np.testing.assert_allclose(policy.predict(obs[[0, 2]]), action, atol=1e-5)
