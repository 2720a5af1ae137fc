"""Rollouts: what a policy earns in its environment."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np


def evaluate(
    policy: Any, make_env: Callable[[], gym.Env], episodes: int = 10, seed: int = 100, **predict_kwargs: Any
) -> np.ndarray:
    """Undiscounted raw returns (episodes,) of deterministic actions; episode i starts from reset(seed + i).

    policy: anything with predict(observations (n, O)) -> actions (n, A), alone or with a state, as agents and
    OnnxPolicy have it. The episodes run side by side, so that each step is one prediction.
    """
    envs = [make_env() for _ in range(episodes)]
    observations = np.stack([env.reset(seed=seed + i)[0] for i, env in enumerate(envs)]).astype(np.float32)
    returns = np.zeros(episodes)
    running = list(range(episodes))
    while running:
        actions = policy.predict(observations[running], **predict_kwargs)
        actions = actions[0] if isinstance(actions, tuple) else actions
        still = []
        for i, action in zip(running, actions, strict=True):
            observations[i], reward, terminated, truncated, _ = envs[i].step(action)
            returns[i] += float(reward)
            if not (terminated or truncated):
                still.append(i)
        running = still
    for env in envs:
        env.close()
    return returns
