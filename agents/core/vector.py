"""Environments of every kind as Stable-Baselines3's VecEnv, which the loops step."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv
from gymnasium.wrappers import NormalizeObservation, NormalizeReward
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecMonitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from zoo.agents.core.spec import DataSpec
from zoo.agents.core.stack import Stack, StackedEnv

AnyEnv = gym.Env | VecEnv | VectorEnv
# What wrappers call the running statistics that they normalise by: Gymnasium's, Stable-Baselines3's, older gym's.
STATISTICS = ("obs_rms", "return_rms", "ret_rms", "reward_rms")
NORMALIZERS = (NormalizeObservation, NormalizeReward)


def vectorize(env: AnyEnv, spec: DataSpec) -> VecEnv:
    """A VecEnv whose episodes are monitored, checked against the dataset's spaces."""
    check_raw(env)
    if isinstance(env, VectorEnv):
        env = VecMonitor(GymnasiumVecEnv(env))
    stack = Stack.of(spec)
    if stack is not None and isinstance(env, StackedEnv):
        env = env.venv
    spec.check_env(env.observation_space, env.action_space)
    vector = env if isinstance(env, VecEnv) else DummyVecEnv([lambda: Monitor(env)])
    return vector if stack is None else StackedEnv(vector, stack)


def check_raw(env: AnyEnv) -> None:
    """Raises ValueError for an environment with a normalising wrapper anywhere: around it, or around one inside."""
    found = next(filter(None, map(normalizer, layers(env))), None)
    if found:
        raise ValueError(
            f"{found} would normalise twice, and by statistics that change as it runs: the agent normalises by itself, "
            "by its dataset's. Give the environment inside the wrapper"
        )


def normalizer(layer: AnyEnv) -> str | None:
    """The name of the normalising wrapper that this layer is, or that a process of it has; None where there is none."""
    if any(name in vars(layer) for name in STATISTICS):
        return type(layer).__name__
    if isinstance(layer, SubprocVecEnv):
        return next((cls.__name__ for cls in NORMALIZERS if any(layer.env_is_wrapped(cls))), None)
    if isinstance(layer, AsyncVectorEnv):
        return next(
            (f"a wrapper with {name}" for name in STATISTICS if any(layer.call("has_wrapper_attr", name))), None
        )
    return None


def layers(env: AnyEnv) -> Iterator[AnyEnv]:
    """The environment and all that are inside it, in this process."""
    yield env
    for name in ("venv", "env", "envs"):  # its own ones: some wrappers answer for what they wrap
        inside = vars(env).get(name)
        for layer in inside if isinstance(inside, list | tuple) else (inside,):
            if isinstance(layer, AnyEnv):
                yield from layers(layer)


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
