"""Gymnasium's vector environments in place of Stable-Baselines3's."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn


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
