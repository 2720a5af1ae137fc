"""Rollouts: what a policy earns in its environment."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np


@dataclass(frozen=True)
class Rollouts:
    """What each episode earned, undiscounted and raw, and whether it succeeded, where the environment says so."""

    returns: np.ndarray  # (episodes,)
    successes: np.ndarray | None  # (episodes,) bool; None where infos have no "success"


def evaluate(
    policy: Any, make_env: Callable[[], gym.Env], episodes: int = 10, seed: int = 100, **predict_kwargs: Any
) -> np.ndarray:
    """Undiscounted raw returns (episodes,) of deterministic actions; see rollouts."""
    return rollouts(policy, make_env, episodes, seed, **predict_kwargs).returns


def evaluate_members(
    agent: Any, make_env: Callable[[], gym.Env], episodes: int = 10, seed: int = 100, **predict_kwargs: Any
) -> np.ndarray:
    """The same for a population of P, (P, episodes): all members' episodes side by side, one prediction a step.

    make_env is called P * episodes times. Every member has the same reset seeds.
    """
    envs = [[make_env() for _ in range(episodes)] for _ in range(agent.population)]
    observations = np.stack([[env.reset(seed=seed + i)[0] for i, env in enumerate(row)] for row in envs])
    observations = observations.astype(np.float32)  # (P, episodes, O)
    returns = np.zeros(observations.shape[:2])
    running = np.ones(observations.shape[:2], bool)
    while running.any():
        actions, _ = agent.predict(observations, **predict_kwargs)  # also for episodes that are over: one product more
        for member, i in np.argwhere(running):
            step = envs[member][i].step(actions[member, i])
            observations[member, i] = step[0]
            returns[member, i] += float(step[1])
            running[member, i] = not (step[2] or step[3])
    for env in (env for row in envs for env in row):
        env.close()
    return returns


def rollouts(
    policy: Any, make_env: Callable[[], gym.Env], episodes: int = 10, seed: int = 100, **predict_kwargs: Any
) -> Rollouts:
    """Episodes of deterministic actions; episode i starts from reset(seed + i).

    policy: anything with predict(observations (n, O)) -> actions (n, A), alone or with a state, as agents and
    OnnxPolicy have it. The episodes run side by side, so that each step is one prediction. An episode succeeds when
    any of its steps does.
    """
    envs = [make_env() for _ in range(episodes)]
    observations = np.stack([env.reset(seed=seed + i)[0] for i, env in enumerate(envs)]).astype(np.float32)
    returns = np.zeros(episodes)
    successes = np.zeros(episodes, bool)
    told = False
    running = list(range(episodes))
    while running:
        actions = policy.predict(observations[running], **predict_kwargs)
        actions = actions[0] if isinstance(actions, tuple) else actions
        still = []
        for i, action in zip(running, actions, strict=True):
            observations[i], reward, terminated, truncated, info = envs[i].step(action)
            returns[i] += float(reward)
            told |= "success" in info
            successes[i] |= bool(info.get("success", False))
            if not (terminated or truncated):
                still.append(i)
        running = still
    for env in envs:
        env.close()
    return Rollouts(returns, successes if told else None)
