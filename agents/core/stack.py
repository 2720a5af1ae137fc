"""What an actor sees of the past: the last observations, and the last actions, which may still be on their way.

Where an action acts only `delay` ticks after it was decided, one observation says too little: it comes
before different successors, depending on the actions under way. With these actions beside it, it is a state again
(Katsikopoulos and Engelbrecht 2003, "Markov decision processes with delays and asynchronous cost collection").

A row is (o_t, o_t-1, ..., o_t-h+1, a_t-1, ..., a_t-d), of h = history observations and d = delay actions. Before an
episode's begin the first observation is repeated, and the actions are the middle of the box.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from zoo.agents.core.spec import Dataset, DataSpec


class Stack:
    """Makes rows of the past. size: of an observation, O. neutral: (A,), the action before the first one."""

    def __init__(self, size: int, history: int, delay: int, neutral: np.ndarray):
        self.size, self.history, self.delay, self.neutral = size, history, delay, neutral.astype(np.float32)
        self.width = history * size + delay * len(neutral)

    @classmethod
    def of(cls, spec: DataSpec) -> Stack | None:
        """The one of a spec; None where it has neither history nor delay."""
        if spec.history == 1 and spec.delay == 0:
            return None
        middle = (np.array(spec.action_low, np.float64) + np.array(spec.action_high, np.float64)) / 2
        return cls(spec.sent_size, spec.history, spec.delay, middle)

    def begin(self, obs: np.ndarray) -> np.ndarray:
        """Rows (..., width) of the first observations (..., O) of episodes."""
        actions = np.broadcast_to(np.tile(self.neutral, self.delay), (*obs.shape[:-1], self.delay * len(self.neutral)))
        return np.concatenate([obs] * self.history + [actions], -1).astype(np.float32)

    def next(self, rows: np.ndarray, actions: np.ndarray, obs: np.ndarray) -> np.ndarray:
        """Rows of the observations that came after the actions (..., A), which were taken in `rows`."""
        border, count = self.history * self.size, len(self.neutral)
        seen = rows[..., : border - self.size]
        taken = np.concatenate([actions, rows[..., border:]], -1)[..., : self.delay * count]
        return np.concatenate([obs, seen, taken], -1).astype(np.float32)

    def columns(self, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
        """observations and next_observations of a whole dataset, (N, width) each."""
        obs, next_obs, actions = (dataset.column(name) for name in ("observations", "next_observations", "actions"))
        episodes = np.asarray(dataset.column("episode_ids"))
        count = len(episodes)
        begins = np.maximum.accumulate(np.where(np.append(True, episodes[1:] != episodes[:-1]), np.arange(count), 0))
        rows = np.arange(count)

        def past_observations(ago: int) -> np.ndarray:
            return obs[np.maximum(rows - ago, begins)]

        def past_actions(ago: int) -> np.ndarray:
            inside = rows - ago >= begins
            return np.where(inside[:, None], actions[np.maximum(rows - ago, 0)], self.neutral)

        seen = [past_observations(k) for k in range(self.history)]
        taken = [past_actions(k) for k in range(self.delay + 1)]
        now = np.concatenate([*seen, *taken[1:]], -1).astype(np.float32)
        then = np.concatenate([next_obs, *seen[:-1], *taken[: self.delay]], -1).astype(np.float32)
        return now, then


class StackedDataset:
    """A dataset whose observations are rows of the past; its spaces are as they were."""

    def __init__(self, dataset: Dataset, stack: Stack):
        self.dataset = dataset
        now, then = stack.columns(dataset)
        self.changed = {"observations": now, "next_observations": then}

    def __len__(self) -> int:
        return len(self.dataset)

    def column(self, name: str) -> np.ndarray:
        return self.changed[name] if name in self.changed else self.dataset.column(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dataset, name)


class StackedEnv(VecEnvWrapper):
    """Environments whose observations are rows of the past."""

    def __init__(self, venv: VecEnv, stack: Stack):
        super().__init__(venv, observation_space=Box(-np.inf, np.inf, (stack.width,), np.float32))
        self.stack = stack
        self.rows = np.zeros((venv.num_envs, stack.width), np.float32)
        self.actions = np.zeros((venv.num_envs, len(stack.neutral)), np.float32)

    def reset(self) -> np.ndarray:
        self.rows = self.stack.begin(np.asarray(self.venv.reset()))
        return self.rows.copy()

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = np.array(actions, np.float32)
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        observations, rewards, dones, infos = self.venv.step_wait()
        observations = np.asarray(observations)
        rows = self.stack.next(self.rows, self.actions, observations)
        for i in np.flatnonzero(dones):
            last = np.asarray(infos[i]["terminal_observation"])
            infos[i]["terminal_observation"] = self.stack.next(self.rows[i], self.actions[i], last)
            rows[i] = self.stack.begin(observations[i])
        self.rows = rows
        return rows.copy(), rewards, dones, infos


def stacked_columns(spec: DataSpec, columns: Sequence[int]) -> tuple[int, ...]:
    """Places in a row of these columns of the observations, now and before, and of all past actions."""
    size, border = spec.sent_size, spec.history * spec.sent_size
    seen = [k * size + i for k in range(spec.history) for i in columns]
    return (*seen, *range(border, spec.observation_size))
