"""Evaluations with worker processes: the numbers of this process alone, and what happens when something fails."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import NormalizeReward
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.monitor import Monitor

import zoo
from tests.support.data import BOX, OBS, ToyEnv, assert_same_state, tiny, toy_dataset
from zoo import TD3BC
from zoo.agents.core.finite import NotFiniteError
from zoo.cli.train import Train, train
from zoo.evaluation.callbacks import Evaluation, SaveLatest, read_curve
from zoo.evaluation.rollouts import Evaluator, evaluate, evaluate_members, rollouts
from zoo.evaluation.workers import EvaluationError

SEEDS = range(100, 110)
MOTOR = "the motor is hot"


class Walk(gym.Env):
    """A noisy walk of seed % 4 + 2 steps, in float64; each second seed succeeds, in its first step.

    hot: the seed whose second step raises. May not be stepped after its end.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (OBS,), np.float64)
    action_space = BOX

    def __init__(self, hot=None):
        self.hot = hot

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed, self.left = seed, seed % 4 + 2
        self.place = self.np_random.normal(size=OBS)
        return self.place.copy(), {}

    def step(self, action):
        assert self.left > 0, "stepped after its end"
        assert action.dtype == np.float32
        action += 0.0  # an environment may write into what it is given
        self.left -= 1
        self.place = 0.9 * self.place + action.sum() / 3.0 + self.np_random.normal(size=OBS)
        if self.seed == self.hot and self.left == self.seed % 4:
            raise ValueError(MOTOR)
        info = {"success": self.seed % 2 == 0 and self.left == self.seed % 4 + 1}
        return self.place.copy(), self.place[0] / 7.0, self.left == 0 and self.seed % 2 == 0, self.left == 0, info


class Leaning:
    """Acts on each row alone, so that its actions do not depend on the batch; notes the batches and torch's threads."""

    def __init__(self):
        self.rows, self.threads = [], set()

    def predict(self, observations):
        self.rows.append(observations.shape)
        self.threads.add(torch.get_num_threads())
        return np.tanh(observations[:, :2]) * np.float32(0.3), None


def one_after_another() -> list[float]:
    """The returns of the seeds by a plain loop over one environment."""
    env, policy, returns = Walk(), Leaning(), []
    for seed in SEEDS:
        observation, over, total = env.reset(seed=seed)[0], False, 0.0
        while not over:
            action = policy.predict(observation.astype(np.float32)[None])[0][0]
            observation, reward, terminated, truncated, _ = env.step(action)
            total, over = total + reward, terminated or truncated
        returns.append(total)
    return returns


@pytest.fixture(scope="module")
def pair():
    with Evaluator(Walk, workers=2) as evaluator:
        yield evaluator


def process_of(evaluator: Evaluator) -> multiprocessing.Process:
    return evaluator._groups[1].process


def test_returns_are_those_of_a_plain_loop_to_the_last_bit(pair):
    alone, shared = Leaning(), Leaning()
    results = rollouts(alone, Walk), pair.rollouts(shared)
    for result in results:
        assert result.returns.tolist() == one_after_another()
        assert result.successes.tolist() == [seed % 2 == 0 for seed in SEEDS]
    lengths = [seed % 4 + 2 for seed in SEEDS]
    running = [sum(length > step for length in lengths) for step in range(5)]
    assert shared.rows == alone.rows == [(count, OBS) for count in running]


def test_environments_that_stay_begin_anew_with_any_number_of_episodes(pair):
    for episodes in (10, 1, 3, 12, 10):
        np.testing.assert_array_equal(
            pair.evaluate(Leaning(), episodes, seed=100), evaluate(Leaning(), Walk, episodes, seed=100)
        )


def test_torch_predicts_on_one_thread_and_gets_the_others_back(pair):
    policy = Leaning()
    torch.set_num_threads(2)
    try:
        pair.evaluate(policy)
        assert policy.threads == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_ctrl_c_is_left_to_the_process_that_evaluates(pair):
    before = pair.evaluate(Leaning())
    os.kill(process_of(pair).pid, signal.SIGINT)
    np.testing.assert_array_equal(pair.evaluate(Leaning()), before)


def test_populations_earn_what_they_earn_in_one_process(pair):
    data = toy_dataset()
    agent = tiny(TD3BC, data, population=3, alpha=(0.1, 1.0, 10.0)).learn_offline(data, 20)
    together = pair.evaluate_members(agent, episodes=5)
    np.testing.assert_array_equal(together, evaluate_members(agent, Walk, episodes=5))
    for i in range(3):
        np.testing.assert_allclose(together[i], evaluate(agent.member(i), Walk, episodes=5), rtol=1e-5)


def test_an_environment_that_raises_is_quoted_with_its_seed_and_ends_the_workers():
    for hot in (102, 103):  # of this process, and of the other one
        with Evaluator(partial(Walk, hot), workers=2) as evaluator:
            evaluator.start()
            process = process_of(evaluator)
            with pytest.raises((ValueError, EvaluationError), match=MOTOR) as caught:
                evaluator.evaluate(Leaning())
            assert caught.type is (ValueError if hot == 102 else EvaluationError)
            words = "".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
            assert f"reset seed {hot}" in words
            assert ("in step\n    raise ValueError(MOTOR)" in words) == (hot == 103)
            assert not process.is_alive()


def test_a_worker_that_is_killed_is_named_and_the_next_evaluation_has_a_new_one():
    with Evaluator(Walk, workers=2) as evaluator:
        before = evaluator.evaluate(Leaning())
        process_of(evaluator).kill()
        with pytest.raises(EvaluationError, match=r"exit code -9, in the episodes of reset seeds 101, 103, 105"):
            evaluator.evaluate(Leaning())
        np.testing.assert_array_equal(evaluator.evaluate(Leaning()), before)
        process = process_of(evaluator)
        assert process.is_alive()
    assert not process.is_alive()


def test_an_evaluator_that_is_forgotten_ends_its_workers():
    evaluator = Evaluator(ToyEnv, workers=2)
    evaluator.start()
    process = process_of(evaluator)
    del evaluator
    gc.collect()
    process.join(60)
    assert process.exitcode == 0


def test_a_process_that_is_killed_leaves_no_workers():
    code = """
import os, signal
from functools import partial
import gymnasium as gym, numpy as np
from types import SimpleNamespace
from zoo.evaluation.rollouts import Evaluator

evaluator = Evaluator(partial(gym.make, "Pendulum-v1"), workers=2)
evaluator.evaluate(SimpleNamespace(predict=lambda rows: np.zeros((len(rows), 1), np.float32)), episodes=2)
print("evaluated", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    # The pipe of its output ends when the last process that holds it does.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "evaluated\n"), done.stderr


def test_what_no_other_process_can_be_given_is_refused_with_the_way_out():
    with pytest.raises(TypeError, match=r"cannot be sent to a worker process: .*lambda.*functools\.partial"):
        Evaluator(lambda: Walk(), workers=2)
    data = toy_dataset(rows=7 * 5_000)
    with pytest.raises(ValueError, match=r"would take 2 MB along .* dataset\? Give functools\.partial"):
        Evaluator(partial(zoo.make_env, data), workers=2)
    Evaluator(partial(zoo.make_env, tiny(TD3BC, data).spec), workers=2)
    with pytest.raises(ValueError, match="workers must be at least 1, this process itself, got 0"):
        Evaluator(Walk, workers=0)
    with pytest.raises(ValueError, match="at least one episode"):
        evaluate(Leaning(), Walk, episodes=0)


def test_an_agents_spec_stands_for_its_dataset():
    data = zoo.load_dataset("hopper-medium-replay")
    env = zoo.make_env(tiny(TD3BC, data).spec)
    assert env.spec.id == "Hopper-v5"
    with pytest.raises(ValueError, match=r"toy has observations \(3,\), Hopper-v5 gives \(11,\)"):
        zoo.make_env(toy_spec(env_id="Hopper-v5"))


def toy_spec(env_id: str):
    toy = toy_dataset()
    columns = {key: toy.column(key) for key in toy.columns[:6]}
    return tiny(TD3BC, zoo.OfflineDataset.from_arrays(**columns, action_space=BOX, name="toy", env_id=env_id)).spec


def test_the_callbacks_workers_end_with_the_training_and_write_the_same_curve(tmp_path):
    data = toy_dataset()
    agent = tiny(TD3BC, data)
    evaluation = Evaluation(Walk, 3, tmp_path / "curve.csv", workers=2)
    before = multiprocessing.active_children()
    agent.learn_offline(data, 5, callback=evaluation)
    assert multiprocessing.active_children() == before
    again = [tiny(TD3BC, data).learn_offline(data, steps) for steps in (3, 5)]  # the last step has one too
    returns = [evaluate(agent, Walk).mean() for agent in again]
    assert [point.return_mean for point in read_curve(tmp_path / "curve.csv")] == returns


def test_a_training_that_an_error_ends_leaves_no_workers(tmp_path, monkeypatch):
    started = []

    def update(agent, batch):
        started.append(set(multiprocessing.active_children()) - before)
        raise FloatingPointError("diverged")

    monkeypatch.setattr(TD3BC, "gradient_step", update)
    before = set(multiprocessing.active_children())
    command = Train("TD3BC", "hopper-medium-replay", tmp_path, 10, settings=("actor_hidden=(8,)",), workers=2)
    with pytest.raises(FloatingPointError, match="diverged"):
        train(command)
    assert [len(processes) for processes in started] == [1]
    assert set(multiprocessing.active_children()) == before


class Broken(Walk):
    """The second step of seed 105 gives a number that is not finite, as the reward or in the last dimension."""

    def __init__(self, column):
        super().__init__()
        self.column = column

    def step(self, action):
        observation, reward, *rest = super().step(action)
        if self.seed == 105 and self.left == self.seed % 4:
            reward = np.nan if self.column == "rewards" else reward
            observation[-1] = np.inf if self.column == "observations" else observation[-1]
        return observation, reward, *rest


@pytest.mark.parametrize("column", ["rewards", "observations, dimension 2"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_number_that_is_not_finite_ends_the_evaluation_with_its_seed(column, workers):
    make = partial(Broken, column.split(",")[0])
    error = NotFiniteError if workers == 1 else EvaluationError
    with pytest.raises(error, match=rf"the environment of reset seed 105 gave (nan|inf) as {column}"):
        evaluate(Leaning(), make, 10, workers=workers)


def test_a_policys_action_that_is_not_finite_is_not_sent():
    class Diverged:
        def predict(self, observations):
            actions = np.zeros((len(observations), 2), np.float32)
            actions[observations[:, 0] == np.sort(observations[:, 0])[0], 1] = np.nan
            return actions

    with pytest.raises(
        NotFiniteError, match=r"the policy, in the episode of reset seed 10\d, gave nan as actions, dim"
    ):
        evaluate(Diverged(), Walk, 10)


def test_no_row_of_a_curve_is_nan(tmp_path):
    data, path = toy_dataset(), tmp_path / "evaluations.csv"
    agent = tiny(TD3BC, data)
    evaluation = Evaluation(partial(Broken, "rewards"), 2, path)
    with pytest.raises(NotFiniteError):
        agent.learn_offline(data, 4, callback=evaluation)
    evaluation.close()
    assert read_curve(path) == []


def test_environments_may_hand_out_one_array_and_write_into_actions():
    array = np.zeros(OBS)

    class Shares(Walk):  # all of them the same one
        def reset(self, **kwargs):
            array[:], info = super().reset(**kwargs)
            return array, info

        def step(self, action):
            observation, *rest = super().step(action)
            action[:] = 99.0
            array[:] = observation
            return array, *rest

    class Constant:
        actions = np.full((10, 2), 0.25, np.float32)

        def predict(self, observations):
            return self.actions[: len(observations)]  # its own array, not a copy

    np.testing.assert_array_equal(evaluate(Constant(), Shares, 10), evaluate(Constant(), Walk, 10))
    assert (Constant.actions == 0.25).all()


def test_an_environment_that_normalises_or_has_another_action_box_is_refused():
    with pytest.raises(ValueError, match="NormalizeReward would normalise twice"):
        evaluate(Leaning(), lambda: NormalizeReward(Walk()))

    class Wider(Walk):
        action_space = gym.spaces.Box(-5.0, 5.0, (2,))

    with pytest.raises(ValueError, match=r"actions are Box\(-5.0, 5.0.*, the agent was built for"):
        evaluate(tiny(TD3BC), Wider)


def test_observations_far_outside_an_agents_data_are_told_of():
    class Far(Walk):
        def reset(self, **kwargs):
            observation, info = super().reset(**kwargs)
            return observation + np.array([0.0, 1e4, 0.0]), info

    with pytest.warns(UserWarning, match="far outside those of toy, .* dimension 1 is"):
        evaluate(tiny(TD3BC), Far, 3)


SAMPLED = {"evaluation_samples": 4}


def test_an_evaluation_has_random_numbers_of_its_own():
    agent = tiny(TD3BC, **SAMPLED).learn_offline(toy_dataset(), 5)
    first = evaluate(agent, Walk)
    agent.predict(np.zeros(OBS))  # which draws
    np.testing.assert_array_equal(evaluate(agent, Walk), first)
    crowd = tiny(TD3BC, population=2, **SAMPLED)
    np.testing.assert_array_equal(evaluate_members(crowd, Walk, 2), evaluate_members(crowd, Walk, 2))
    other = tiny(TD3BC, **SAMPLED).learn_offline(toy_dataset(), 5)
    predicted = agent.predict(np.ones(OBS))[0]
    other.predict(np.zeros(OBS))
    np.testing.assert_array_equal(predicted, other.predict(np.ones(OBS))[0])  # evaluations took nothing of it


@pytest.mark.parametrize("own", [True, False])
def test_how_often_is_evaluated_changes_nothing_that_is_learned(own, tmp_path):
    data, agents = toy_dataset(), []
    for every in (2, 5):
        agent = tiny(TD3BC, data, **SAMPLED)
        if own:
            callback = Evaluation(Walk, every, tmp_path / f"{every}.csv")
        else:
            callback = EvalCallback(Monitor(ToyEnv()), eval_freq=every, n_eval_episodes=2, verbose=0)
        agent.learn_offline(data, 6, callback).finetune_online(ToyEnv(), 9, callback, dataset=data)
        agents.append(agent)
    if not own:  # Stable-Baselines3's asks predict, whose stream has moved
        agents[0].predicting = agents[1].predicting
    assert_same_state(*agents)


def test_a_resumed_run_equals_an_uninterrupted_one_though_its_evaluations_draw(tmp_path):
    data = toy_dataset()

    def learn(agent, steps, path):
        callbacks = [Evaluation(Walk, 2, path / "curve.csv"), SaveLatest(path / "latest.zip", 2)]
        return agent.learn_offline(data, steps, callbacks)

    straight = learn(tiny(TD3BC, data, **SAMPLED), 6, tmp_path / "straight")
    learn(tiny(TD3BC, data, **SAMPLED), 3, tmp_path / "halves")
    resumed = learn(TD3BC.load(tmp_path / "halves" / "latest.zip"), 3, tmp_path / "halves")
    assert_same_state(straight, resumed)
    curves = [{p.timesteps: p for p in read_curve(tmp_path / name / "curve.csv")} for name in ("straight", "halves")]
    assert {step: curves[1][step] for step in (2, 4, 6)} == curves[0]
