"""Environments of every kind as Stable-Baselines3's VecEnv, which the loops step."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor, unwrap_vec_normalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from zoo.agents.core.spec import DataSpec


def vectorize(env: gym.Env | VecEnv | VectorEnv, spec: DataSpec) -> VecEnv:
    """A VecEnv whose episodes are monitored, checked against the dataset's spaces."""
    if isinstance(env, VectorEnv):
        env = VecMonitor(GymnasiumVecEnv(env))
    if isinstance(env, VecEnv) and unwrap_vec_normalize(env) is not None:
        raise ValueError(
            "VecNormalize would normalise twice: the agent normalises by itself, give the environment inside it"
        )
    spec.check_env(env.observation_space, env.action_space)
    if isinstance(env, VecEnv):
        return env
    return DummyVecEnv([lambda: Monitor(env)])


class GymnasiumVecEnv(VecEnv):
    """A VecEnv that is a Gymnasium vector environment, each of whose environments has a seed of its own.

    Raises ValueError where the environments are not reset in the step that ends an episode: Gymnasium's other ways put
    steps into the data that no agent took.
    """

    def __init__(self, envs: VectorEnv):
        mode = envs.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise ValueError(
                f"the vector environment has autoreset_mode {mode}, fine-tuning needs AutoresetMode.SAME_STEP: "
                "gymnasium.make_vec(id, num_envs=n, vector_kwargs={'autoreset_mode': AutoresetMode.SAME_STEP})"
            )
        self.envs = envs
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> np.ndarray:
        observations, _ = self.envs.reset(seed=self._seeds[0])  # the others follow on the first, here as there
        self._reset_seeds()
        return np.asarray(observations)

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        observations, rewards, terminated, truncated, infos = self.envs.step(self.actions)
        done = terminated | truncated
        told: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(done):
            told[i] = {
                "terminal_observation": infos["final_obs"][i],
                "TimeLimit.truncated": bool(truncated[i] and not terminated[i]),
            }
        return np.asarray(observations), np.asarray(rewards), done, told

    def close(self) -> None:
        self.envs.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        values = self._inner.get_attr(attr_name)
        return [values[i] for i in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        chosen = set(self._get_indices(indices))
        if len(chosen) < self.num_envs:
            raise ValueError(f"a Gymnasium vector environment sets {attr_name} in all its environments at once")
        self._inner.set_attr(attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        results = self._inner.call(method_name, *args, **kwargs)
        return [results[i] for i in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]  # wrappers are around the environments, not around these

    @property
    def _inner(self) -> Any:
        """The vector environment itself, which can be asked for what its environments have."""
        return self.envs.unwrapped
