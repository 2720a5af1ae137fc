"""The border between the online loop and its environments: what crosses it is copied, and looked at first."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv
from stable_baselines3.common.vec_env import VecEnv

from zoo.agents.core.conventions import CONVENTIONS, STATED
from zoo.agents.core.finite import check_rows
from zoo.agents.core.rewards import convention_of_env, to_data
from zoo.agents.core.spec import DataSpec
from zoo.agents.core.vector import layers


class Step(NamedTuple):
    """What one step of n environments gave."""

    observations: np.ndarray  # (n, O), where the next step begins: after a reset, where an episode has ended
    successors: np.ndarray  # (n, O), what the actions led to
    rewards: np.ndarray  # (n,)
    dones: np.ndarray  # (n,) bool, whether the episode has ended
    terminations: np.ndarray  # (n,) bool, whether it has ended for another reason than a time limit
    infos: list[dict[str, Any]]


class Border:
    """A VecEnv as the online loop meets it. Every array is the receiver's alone, in both directions.

    Raises NotFiniteError for an action that is not finite, before any environment sees it, and for a reward or an
    observation that is not, before anything is stored. Warns once of each dimension of the observations that lies far
    outside the dataset's range.
    """

    def __init__(self, env: VecEnv, spec: DataSpec):
        self.env = env
        self.ranges = Ranges(spec)
        self.rewards = Rewards(env, spec)
        self.steps = 0
        self.hidden = not any(isinstance(owner_of(layer), list) for layer in layers(env))  # in other processes

    def reset(self) -> np.ndarray:
        return self.received("observations", self.env.reset())

    def step(self, actions: np.ndarray) -> Step:
        """actions: (n, A)."""
        check_rows({"actions": actions}, lambda i: f"the agent has diverged: for environment {i} it")
        observations, rewards, dones, told = self.env.step(np.array(actions))
        self.steps += 1
        infos = [dict(info) for info in told]
        dones = np.array(dones, dtype=bool)
        observations = np.array(observations)
        successors = np.array(observations)
        for i in np.flatnonzero(dones):
            successors[i] = infos[i]["terminal_observation"] = np.array(infos[i]["terminal_observation"])
        if self.hidden and (dones & (successors == observations).all(-1)).any():
            self.hidden = False
            warnings.warn(
                "the last observation of an episode is, bit for bit, the first of the next one. An environment that "
                "hands out one array again and again loses its last observations there: return copies",
                stacklevel=3,
            )
        rewards = self.rewards.convert(self.received("rewards", rewards), infos)
        self.received("next_observations", successors)
        self.received("observations", observations)
        timed_out = np.array([bool(info.get("TimeLimit.truncated", False)) for info in infos])
        return Step(observations, successors, rewards, dones, dones & ~timed_out, infos)

    def received(self, name: str, values: Any) -> np.ndarray:
        """A copy of what the environments gave, looked at."""
        copied = np.array(values)
        check_rows({name: copied}, lambda i: f"environment {i}, at step {self.steps} of this call,")
        if name != "rewards":
            self.ranges.look(copied)
        return copied


class Rewards:
    """Sparse rewards in the data's convention, where the environment's is known. Says so, and what does not fit.

    Raises ValueError for a reward that only the other convention has.
    """

    def __init__(self, env: VecEnv, spec: DataSpec):
        self.data, self.name = spec.reward_convention, spec.name
        self.shift = to_data(self.data, env)
        self.told = False
        if self.shift:
            warnings.warn(
                f"the environment's rewards are {convention_of_env(env)}, those of {self.name} {self.data}: "
                f"{self.shift:+g} is added to each of the environment's",
                stacklevel=5,
            )

    def convert(self, rewards: np.ndarray, infos: list[dict[str, Any]]) -> np.ndarray:
        """rewards: (n,). The returns in infos, where Monitor put them, are converted alike."""
        if self.data is None:
            return rewards
        converted = rewards + rewards.dtype.type(self.shift)
        if self.shift:
            for info in infos:
                if (episode := monitored(info)) is not None:
                    info["episode"] = {**info["episode"], "r": episode["r"] + self.shift * episode["l"]}
        foreign = ~np.isin(converted, CONVENTIONS[self.data])
        if foreign.any():
            self.complain(int(foreign.argmax()), float(converted[foreign][0]))
        return converted

    def complain(self, index: int, reward: float) -> None:
        low, high = CONVENTIONS[self.data or ""]
        if reward in (-1.0, 1.0):
            step = -1.0 if reward == 1.0 else 1.0
            raise ValueError(
                f"environment {index} gave a reward of {reward:g}; those of {self.name} are {low:g}, and {high:g} at "
                f"the goal: another convention for the same task. Give TransformReward(env, lambda r: r {step:+g}) of "
                f"gymnasium.wrappers, or state the environment's in metadata[{STATED!r}]"
            )
        if not self.told:
            self.told = True
            warnings.warn(
                f"environment {index} gave a reward of {reward:g}; those of {self.name} are all {low:g} or {high:g}: "
                "is it the same task?",
                stacklevel=5,
            )


def monitored(info: Mapping[str, Any]) -> dict[str, float] | None:
    """Return and length of an episode that has ended, as Monitor tells them; anything else called "episode" is not."""
    episode = info.get("episode")
    if not isinstance(episode, Mapping) or not all(isinstance(episode.get(k), numbers.Real) for k in ("r", "l")):
        return None
    return {"r": float(episode["r"]), "l": float(episode["l"])}


class Ranges:
    """Warns of observations far outside the dataset's: by more than the range's own width. Once for each dimension."""

    def __init__(self, spec: DataSpec):
        low, high = np.array(spec.observation_low), np.array(spec.observation_high)
        width = high - low + 1e-3  # as the normaliser, which adds it to every deviation
        self.low, self.high, self.data = low - width, high + width, (low, high)
        self.name = spec.name
        self.known = len(low) > 0  # older checkpoints do not say
        self.told = np.zeros(len(low), bool)

    def look(self, observations: np.ndarray) -> None:
        """observations: (n, O)."""
        if not self.known:
            return
        far = (observations < self.low) | (observations > self.high)
        new = far.any(0) & ~self.told
        if new.any():
            self.told |= new
            lines = [self.describe(int(k), observations[int(far[:, k].argmax()), k]) for k in np.flatnonzero(new)]
            more = f", and {len(lines) - 5} more" if len(lines) > 5 else ""
            warnings.warn(
                f"observations lie far outside those of {self.name}, where the agent has learned nothing: "
                f"{'; '.join(lines[:5])}{more}. Are units and order of the dimensions those of the data?",
                stacklevel=3,
            )

    def describe(self, dimension: int, value: float) -> str:
        low, high = (bound[dimension] for bound in self.data)
        return f"dimension {dimension} is {value:.4g}, in the data {low:.4g} to {high:.4g}"


class Copies(gym.Wrapper):
    """Takes a copy of each action to the environment, and hands out copies of what it gives."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**kwargs)
        return np.array(observation), dict(info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(np.array(action))
        return np.array(observation), reward, terminated, truncated, dict(info)


def owner_of(layer: Any) -> list[gym.Env] | None:
    """The list in which a vectorised environment of this process keeps the single ones."""
    envs = vars(layer).get("envs")
    return envs if isinstance(envs, list) and isinstance(layer, VecEnv | VectorEnv) else None


@contextmanager
def copying(env: VecEnv) -> Iterator[None]:
    """Puts Copies around the single environments, where they are of this process, and takes them away again.

    A VecEnv resets an environment in the step that ends its episode: one that hands out the same array again has
    overwritten the last observation before anybody else could copy it.
    """
    lists = [envs for layer in layers(env) if (envs := owner_of(layer)) is not None]
    before = [list(envs) for envs in lists]
    for envs in lists:
        envs[:] = [Copies(one) for one in envs]
    try:
        yield
    finally:
        for envs, ones in zip(lists, before, strict=True):
            envs[:] = ones
