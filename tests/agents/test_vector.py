"""Fine-tuning in Gymnasium's vector environments, against the same environments in Stable-Baselines3's."""

import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv

from tests.support.data import LENGTH, ToyEnv, assert_same_state, tiny, toy_dataset
from zoo.agents import TD3BC, ReBRAC
from zoo.agents.core.vector import GymnasiumVecEnv

SAME_STEP = {"autoreset_mode": AutoresetMode.SAME_STEP}


@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
@pytest.mark.parametrize("cls", [TD3BC, ReBRAC])
def test_the_same_environments_give_the_same_agent(cls, kind):
    data = toy_dataset()
    agents = []
    for env in (DummyVecEnv([ToyEnv, ToyEnv]), kind([ToyEnv, ToyEnv], **SAME_STEP)):
        agent = tiny(cls, data)
        agent.learn_offline(data, 3).finetune_online(env, 6 * LENGTH, dataset=data)
        agent.get_env().close()
        agents.append(agent)
    assert_same_state(*agents)
    rows = agents[1].layout.unpack(agents[1].replay.rows[: agents[1].replay.size])
    assert rows.next_observations[:, 2].tolist() == 3 * [k for k in range(1, LENGTH + 1) for _ in range(2)]
    assert rows.terminations.sum() == 2.0  # the second episode of each; the first and the third run out of time
    assert [episode["l"] for episode in agents[1].episodes] == [LENGTH] * 6


def test_other_ways_of_resetting_are_refused_with_the_one_that_works():
    with pytest.raises(ValueError, match=r"AutoresetMode.NEXT_STEP, fine-tuning needs AutoresetMode.SAME_STEP"):
        tiny(TD3BC).set_env(SyncVectorEnv([ToyEnv]))


def test_the_environments_inside_can_be_asked_and_set():
    env = GymnasiumVecEnv(SyncVectorEnv([ToyEnv, ToyEnv, ToyEnv], **SAME_STEP))
    env.seed(5)
    first = env.reset()
    assert env.get_attr("steps", [0, 2]) == [0, 0]
    env.step(np.zeros((3, 2), np.float32))
    assert env.get_attr("steps") == [1, 1, 1]
    assert [len(observation) for observation in env.env_method("_observation")] == [3, 3, 3]
    env.set_attr("steps", 4)
    assert env.get_attr("steps", 1) == [4]
    with pytest.raises(ValueError, match="in all its environments at once"):
        env.set_attr("steps", 4, indices=[1])
    env.seed(5)
    np.testing.assert_array_equal(env.reset(), first)
