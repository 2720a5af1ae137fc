"""What crosses between the online loop and its environments: finite numbers, and arrays of one owner."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import ClipReward, NormalizeObservation, NormalizeReward
from gymnasium.wrappers.vector import NormalizeReward as NormalizeRewards
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecMonitor, VecNormalize

from tests.support.data import ACT, LENGTH, LOW, OBS, ToyEnv, diverge_, prepared, tiny, toy_dataset
from zoo.agents import AGENTS, TD3BC
from zoo.agents.core.finite import NotFiniteError

SAME_STEP = {"autoreset_mode": AutoresetMode.SAME_STEP}
BAD_STEP = 5
ONLINE = {name: cls for name, cls in AGENTS.items() if name != "BC"}  # which only clones


class Breaks(ToyEnv):
    """Gives one bad number in its fifth step: `number` as the reward, or in a dimension of the observation."""

    def __init__(self, number, dimension=None):
        super().__init__()
        self.number, self.dimension, self.seen = number, dimension, 0

    def step(self, action):
        observation, reward, *ends = super().step(action)
        self.seen += 1
        if self.seen == BAD_STEP:
            if self.dimension is None:
                reward = self.number
            else:
                observation = observation.astype(np.float64)
                observation[self.dimension] = self.number
        return observation, reward, *ends


class BadReset(ToyEnv):
    def reset(self, **kwargs):
        observation, info = super().reset(**kwargs)
        observation[1] = np.nan
        return observation, info


class Reuses(ToyEnv):
    """Hands out one array again and again, and writes into the actions that it gets."""

    def __init__(self):
        super().__init__()
        self.array = np.zeros(OBS, np.float32)

    def step(self, action):
        result = super().step(action)
        action[:] = 99.0
        return result

    def _observation(self):
        self.array[:] = super()._observation()
        return self.array


class Writes(BaseCallback):
    """Spoils every array that callbacks are told of."""

    def _on_step(self):
        for name in ("rewards", "dones"):
            self.locals[name][:] = True
        for info in self.locals["infos"]:
            if "terminal_observation" in info:
                info["terminal_observation"][:] = 99.0
        return True


def alone(env):
    return env()


def one_of_three(env):
    return DummyVecEnv([ToyEnv, env, ToyEnv])


def in_gymnasium(env):
    return SyncVectorEnv([ToyEnv, env], **SAME_STEP)


def own_process(env):
    return SubprocVecEnv([ToyEnv, env], start_method="fork")


KINDS = [(alone, 1, 0), (one_of_three, 3, 1), (in_gymnasium, 2, 1), (own_process, 2, 1)]


@pytest.mark.parametrize(("kind", "envs", "index"), KINDS)
@pytest.mark.parametrize("number", [np.nan, -np.inf, 1e39])  # float32 cannot hold the last
def test_a_reward_that_is_not_finite_is_refused_before_anything_is_stored(number, kind, envs, index):
    data = toy_dataset()
    agent = prepared(TD3BC, data)
    env = kind(lambda: Breaks(number))
    with pytest.raises(NotFiniteError, match=rf"environment {index}, at step {BAD_STEP} .* as rewards"):
        agent.finetune_online(env, 90, dataset=data)
    assert agent.replay.size == agent.env_steps == (BAD_STEP - 1) * envs
    agent.get_env().close()


@pytest.mark.parametrize(("kind", "envs", "index"), KINDS)
def test_an_observation_that_is_not_finite_is_refused_with_its_dimension(kind, envs, index):
    data = toy_dataset()
    agent = prepared(TD3BC, data)
    with pytest.raises(NotFiniteError, match=rf"environment {index}, .* gave inf as next_observations, dimension 2"):
        agent.finetune_online(kind(lambda: Breaks(np.inf, 2)), 90, dataset=data)
    with pytest.raises(NotFiniteError, match=rf"environment {index}, at step 0 .* as observations, dimension 1"):
        agent.finetune_online(kind(BadReset), 90, dataset=data)
    agent.get_env().close()


@pytest.mark.parametrize("cls", ONLINE.values(), ids=ONLINE)
def test_no_action_of_an_agent_that_has_diverged_is_sent(cls):
    data = toy_dataset()
    agent = prepared(cls, data)
    diverge_(agent)

    class Untouched(ToyEnv):
        def step(self, action):
            raise AssertionError(f"{action} was sent")

    with pytest.raises(NotFiniteError, match="numbers that are not finite"):
        agent.finetune_online(Untouched(), 5, dataset=data)
    with pytest.raises(NotFiniteError, match="action is not finite"):
        agent.predict(np.zeros(OBS))


def test_an_action_that_is_not_finite_is_not_sent_from_the_middle_of_a_run_either():
    data = toy_dataset()
    agent = prepared(TD3BC, data)
    steps = []

    class Counts(ToyEnv):
        def step(self, action):
            steps.append(action)
            return super().step(action)

    class Breaks(BaseCallback):
        def _on_step(self):
            if self.n_calls == 3:
                diverge_(self.model)
            return True

    with pytest.raises(NotFiniteError, match="the agent has diverged: for environment 0 it gave nan as actions"):
        agent.finetune_online(Counts(), 9, Breaks(), dataset=data)
    assert len(steps) == 3


@pytest.mark.parametrize(
    "env",
    [
        Reuses,
        lambda: DummyVecEnv([Reuses, Reuses]),
        lambda: VecMonitor(DummyVecEnv([Reuses, Reuses])),
        lambda: SyncVectorEnv([Reuses, Reuses], copy=False, **SAME_STEP),
    ],
)
def test_what_an_environment_or_a_callback_writes_into_its_arrays_changes_nothing_stored(env):
    data = toy_dataset()
    plain = DummyVecEnv([ToyEnv] * (1 if env is Reuses else 2))
    honest = prepared(TD3BC, data).finetune_online(plain, 40, dataset=data)
    agent = prepared(TD3BC, data).finetune_online(env(), 40, Writes(), dataset=data)
    assert agent.replay.rows.tolist() == honest.replay.rows.tolist()
    assert agent.replay.column("actions").min() >= min(LOW)
    assert set(agent.replay.column("next_observations")[:, 2].tolist()) == set(range(1, LENGTH + 1))


def test_environments_are_given_back_as_they_were():
    data, env = toy_dataset(), DummyVecEnv([Reuses, ToyEnv])
    inside = list(env.envs)
    prepared(TD3BC, data).finetune_online(env, 4, dataset=data)
    assert [one is other for one, other in zip(env.envs, inside, strict=True)] == [True, True]


def test_a_last_observation_that_is_lost_in_another_process_is_told_of():
    data = toy_dataset()
    agent = prepared(TD3BC, data)
    with pytest.warns(UserWarning, match="hands out one array again and again"):
        agent.finetune_online(SubprocVecEnv([Reuses], start_method="fork"), LENGTH + 1, dataset=data)
    agent.get_env().close()


@pytest.mark.parametrize(
    "env",
    [
        lambda: NormalizeObservation(ToyEnv()),
        lambda: ClipReward(NormalizeReward(ToyEnv()), -1, 1),
        lambda: DummyVecEnv([ToyEnv, lambda: NormalizeObservation(ToyEnv())]),
        lambda: VecMonitor(VecNormalize(DummyVecEnv([ToyEnv]))),
        lambda: SyncVectorEnv([lambda: ClipReward(NormalizeReward(ToyEnv()), -1, 1)], **SAME_STEP),
        lambda: NormalizeRewards(SyncVectorEnv([ToyEnv], **SAME_STEP)),
        lambda: AsyncVectorEnv([lambda: NormalizeObservation(ToyEnv())], context="fork", **SAME_STEP),
        lambda: SubprocVecEnv([lambda: NormalizeObservation(ToyEnv())], start_method="fork"),
    ],
)
def test_an_environment_that_normalises_is_refused_wherever_the_wrapper_is(env):
    made = env()
    with pytest.raises(ValueError, match="would normalise twice"):
        prepared(TD3BC, toy_dataset()).set_env(made)
    made.close()


class OtherUnits(gym.ObservationWrapper):
    """The first dimension in thousandths."""

    def observation(self, observation):
        return observation * np.array([1000.0, 1.0, 1.0], np.float32)


def test_observations_far_outside_the_data_are_told_of_once_with_their_dimension():
    data = toy_dataset()
    agent = prepared(TD3BC, data)
    assert agent.spec.observation_low == tuple(data.observations.min(0).tolist())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        agent.finetune_online(OtherUnits(ToyEnv()), 3 * LENGTH, dataset=data)
    (text,) = [str(warning.message) for warning in told]
    assert "far outside those of toy" in text
    assert "dimension 0 is" in text
    assert "dimension 1" not in text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent.finetune_online(ToyEnv(), 3 * LENGTH, dataset=data)
    assert len(agent.spec.action_low) == ACT


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_predict_takes_and_gives_is_the_callers(dtype):
    agent = tiny(TD3BC)
    obs = np.ones((4, OBS), dtype)
    first, _ = agent.predict(obs)
    assert (obs == 1.0).all()
    kept = first.copy()
    first[:] = 99.0  # which may be written into
    obs[:] = 1.0
    np.testing.assert_array_equal(agent.predict(obs)[0], kept)


def test_an_environment_of_dictionaries_is_refused_with_the_wrapper_that_mends_it():
    class Dictionaries(ToyEnv):
        observation_space = gym.spaces.Dict(place=gym.spaces.Box(-1.0, 1.0, (OBS,)))

    agent = tiny(TD3BC)
    with pytest.raises(ValueError, match="FlattenObservation"):
        agent.set_env(Dictionaries())
    agent.set_env(gym.wrappers.FlattenObservation(Dictionaries()))
