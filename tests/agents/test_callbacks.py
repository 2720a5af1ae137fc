"""Every callback class of Stable-Baselines3, offline and online; what the loop tells them."""

import inspect

import numpy as np
import pytest
from stable_baselines3.common import callbacks
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    LogEveryNTimesteps,
    ProgressBarCallback,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from tests.support.data import LENGTH, ToyEnv, assert_same_state, prepared, tiny, toy_dataset
from zoo.agents import TD3BC, CheckpointError

STEPS = 2 * LENGTH
CLASSES = {
    name: cls
    for name, cls in vars(callbacks).items()
    if inspect.isclass(cls) and issubclass(cls, BaseCallback) and cls.__module__ == callbacks.__name__
}
ABSTRACT = {"BaseCallback", "EventCallback"}


def evaluation(**events) -> EvalCallback:
    return EvalCallback(DummyVecEnv([lambda: Monitor(ToyEnv())]), eval_freq=4, n_eval_episodes=1, verbose=0, **events)


MADE = {
    "CallbackList": lambda path: callbacks.CallbackList([LogEveryNTimesteps(3), StopTrainingOnMaxEpisodes(99)]),
    "CheckpointCallback": lambda path: CheckpointCallback(
        5, str(path), save_replay_buffer=True, save_vecnormalize=True, verbose=2
    ),
    "ConvertCallback": lambda path: callbacks.ConvertCallback(lambda locals_, globals_: True),
    "EvalCallback": lambda path: callbacks.EvalCallback(
        DummyVecEnv([lambda: Monitor(ToyEnv())]), eval_freq=4, n_eval_episodes=1, best_model_save_path=str(path)
    ),
    "EveryNTimesteps": lambda path: EveryNTimesteps(3, LogEveryNTimesteps(1)),
    "LogEveryNTimesteps": lambda path: LogEveryNTimesteps(3),
    "ProgressBarCallback": lambda path: ProgressBarCallback(),
    "StopTrainingOnMaxEpisodes": lambda path: StopTrainingOnMaxEpisodes(99, verbose=1),
    "StopTrainingOnNoModelImprovement": lambda path: evaluation(
        callback_after_eval=StopTrainingOnNoModelImprovement(99, 1, verbose=1)
    ),
    "StopTrainingOnRewardThreshold": lambda path: evaluation(
        callback_on_new_best=StopTrainingOnRewardThreshold(1e9, verbose=1)
    ),
}


def test_every_class_is_tried_here():
    assert CLASSES.keys() - ABSTRACT == MADE.keys()


@pytest.mark.parametrize("envs", [0, 1, 2])  # 0: offline
@pytest.mark.parametrize("name", MADE)
def test_a_callback_runs(name, envs, tmp_path):
    data = toy_dataset()
    agent, callback = prepared(TD3BC, data), MADE[name](tmp_path)
    if envs:
        agent.finetune_online(DummyVecEnv([ToyEnv] * envs), STEPS, callback, dataset=data)
    else:
        agent.learn_offline(data, STEPS, callback)
    assert agent.num_timesteps == STEPS
    assert callback.n_calls == STEPS / max(envs, 1)


class Notes(Logger):
    """Remembers at which steps the log was written, and what."""

    def __init__(self):
        super().__init__(None, [])
        self.written = {}

    def dump(self, step=0):
        self.written.setdefault(step, {}).update(self.name_to_value)
        super().dump(step)


@pytest.mark.parametrize("online", [False, True])
def test_the_log_is_written_whenever_a_callback_asks(online):
    data = toy_dataset()
    agent, log = prepared(TD3BC, data), Notes()
    agent.set_logger(log)
    if online:
        agent.finetune_online(ToyEnv(), STEPS, LogEveryNTimesteps(4), dataset=data)
    else:
        agent.learn_offline(data, STEPS, LogEveryNTimesteps(4))
    assert list(log.written) == [4, 8, 12]
    assert "critic/loss" in log.written[12]
    assert ("rollout/ep_rew_mean" in log.written[12]) == online
    agent.logger.record("mine", 1.0)
    agent.dump_logs()  # also when nothing trains
    assert log.written[STEPS] == {"mine": 1.0}


def test_episodes_are_counted_in_all_environments():
    data = toy_dataset()
    agent = prepared(TD3BC, data)
    agent.finetune_online(DummyVecEnv([ToyEnv, ToyEnv]), 20 * LENGTH, StopTrainingOnMaxEpisodes(2), dataset=data)
    assert agent.env_steps == 2 * 2 * LENGTH


def test_checkpoints_keep_the_online_transitions_without_a_pickle(tmp_path):
    data = toy_dataset()
    agent = prepared(TD3BC, data)
    agent.finetune_online(ToyEnv(), 6, CheckpointCallback(6, str(tmp_path), save_replay_buffer=True), dataset=data)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "rl_model_6_steps.zip",
        "rl_model_replay_buffer_6_steps.safetensors",
    ]
    assert_same_state(TD3BC.load(tmp_path / "rl_model_6_steps.zip"), agent)
    other = prepared(TD3BC, data)
    other.load_replay_buffer(tmp_path / "rl_model_replay_buffer_6_steps.pkl")  # as SB3 names it
    assert other.replay.rows.tolist() == agent.replay.rows.tolist()
    assert (other.replay.size, other.replay.next) == (6, 6)
    path = tmp_path / "rl_model_replay_buffer_6_steps.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="is damaged"):
        other.load_replay_buffer(path)
    with pytest.raises(ValueError, match="no online transitions"):
        prepared(TD3BC, data).save_replay_buffer(path)


def test_what_callbacks_of_others_read_of_a_model():
    data = toy_dataset()
    agent = tiny(TD3BC, data, actor_lr=2e-4)
    seen = []

    class Reads(BaseCallback):
        def _on_step(self):
            told = self.locals
            seen.append((told["new_obs"].shape, told["actions"].shape, told["rewards"].shape, len(told["infos"])))
            return True

    agent.finetune_online(DummyVecEnv([ToyEnv, ToyEnv]), 2 * LENGTH, Reads(), dataset=data)
    assert seen == [((2, 3), (2, 2), (2,), 2)] * LENGTH
    assert agent.learning_rate == pytest.approx(2e-4)
    assert (agent.n_envs, len(agent.replay_buffer.rows)) == (2, agent.config.buffer_size)
    assert agent.env is agent.get_env()


class Tells(ToyEnv):
    """Says what it likes under the names that Monitor and Stable-Baselines3 use."""

    def __init__(self, episode, success=None):
        super().__init__()
        self.said, self.success = episode, success

    def step(self, action):
        *rest, info = super().step(action)
        return *rest, {**info, "episode": self.said, "is_success": self.success}


@pytest.mark.parametrize("episode", [3, "third", None, {"r": "much"}, {"length": 7}, [1.0], {"r": None, "l": 7}])
def test_only_monitors_episodes_count(episode):
    data = toy_dataset()
    agent = prepared(TD3BC, data)
    env = DummyVecEnv([lambda: Tells(episode, "perhaps")])  # no Monitor around it
    agent.finetune_online(env, STEPS, log_interval=LENGTH, dataset=data)
    assert list(agent.ep_info_buffer) == list(agent.ep_success_buffer) == []


def test_monitors_own_episodes_are_kept_and_successes_counted():
    data = toy_dataset()
    agent = prepared(TD3BC, data)
    agent.finetune_online(DummyVecEnv([lambda: Monitor(Tells(3, np.True_))]), STEPS, dataset=data)
    assert [episode["l"] for episode in agent.ep_info_buffer] == [LENGTH, LENGTH]
    assert list(agent.ep_success_buffer) == [1.0, 1.0]
