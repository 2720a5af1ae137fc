"""Seconds of an evaluation of Hopper-v5: one episode after another, side by side in one process, and with workers.

    python benchmarks/evaluation.py [--workers 2] [--rounds 7] [--json evaluation.json]

The agent is behaviour cloning with the default networks after 500 steps. Its ten episodes do not end with a fall, so
that all have the same length and no way has idle ends; --falls lets them end. Sequential is the obvious loop: one
environment, one observation for each prediction. The ways take turns in one process, and ratios are between turns of
the same round, so that a busy machine slows all; with fewer idle cores than workers they say nothing. Environments are
made and processes started before.

The last two ways are the libraries': AsyncVectorEnv of Gymnasium with a process for each worker, whose environments
look like one to it, and SubprocVecEnv of Stable-Baselines3 with a process for each episode. They step all episodes as
long as one runs and have no returns of episodes that ended, so they have no row with --falls.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from stable_baselines3.common.vec_env import SubprocVecEnv

from zoo.agents import TD3BC, Agent
from zoo.datasets.load import load_dataset
from zoo.evaluation.rollouts import Evaluator

EPISODES, SEED = 10, 100
TRAINING = 500  # steps
Way = Callable[[Agent], np.ndarray]  # -> returns (EPISODES,)


def sequential(env: gym.Env, agent: Agent) -> np.ndarray:
    returns = np.zeros(EPISODES)
    for i in range(EPISODES):
        obs, _ = env.reset(seed=SEED + i)
        over = False
        while not over:
            action, _ = agent.predict(obs)
            obs, reward, terminated, truncated, _ = env.step(action)
            returns[i] += float(reward)
            over = terminated or truncated
    return returns


class Side(gym.Env):
    """`count` environments that look like one: AsyncVectorEnv has a process for each environment."""

    def __init__(self, make: Callable[[], gym.Env], count: int):
        self.envs = [make() for _ in range(count)]
        box = self.envs[0].observation_space
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (count, *box.shape), box.dtype)
        self.action_space = gym.vector.utils.batch_space(self.envs[0].action_space, count)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        return np.stack([env.reset(seed=seed + i)[0] for i, env in enumerate(self.envs)]), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        observations, rewards, _, truncated, _ = zip(
            *(env.step(each) for env, each in zip(self.envs, action, strict=True)), strict=True
        )
        return np.stack(observations), 0.0, False, truncated[0], {"rewards": np.array(rewards)}


def gymnasium_groups(vector: AsyncVectorEnv, agent: Agent) -> np.ndarray:
    groups, count = vector.num_envs, EPISODES // vector.num_envs
    obs, _ = vector.reset(seed=[SEED + i * count for i in range(groups)])
    returns, over = np.zeros((groups, count)), False
    while not over:
        actions, _ = agent.predict(obs.reshape(EPISODES, -1))
        obs, _, _, truncated, infos = vector.step(actions.reshape(groups, count, -1))
        returns += np.stack(infos["rewards"])
        over = truncated.any()
    return returns.ravel()


def stable_baselines(vector: SubprocVecEnv, agent: Agent) -> np.ndarray:
    vector.seed(SEED)
    obs = vector.reset()
    returns, over = np.zeros(EPISODES), False
    while not over:
        actions, _ = agent.predict(obs)
        obs, rewards, dones, _ = vector.step(actions)
        returns += rewards
        over = dones.any()
    return returns


def library_ways(make: Callable[[], gym.Env], workers: int, stack: ExitStack) -> dict[str, Way]:
    side = partial(Side, make, EPISODES // workers)
    disabled = AutoresetMode.DISABLED
    groups = AsyncVectorEnv([side] * workers, context="spawn", autoreset_mode=disabled, copy=False)
    episodes = SubprocVecEnv([make] * EPISODES, start_method="spawn")
    return {
        "AsyncVectorEnv of groups": partial(gymnasium_groups, stack.enter_context(closing(groups))),
        "SubprocVecEnv": partial(stable_baselines, stack.enter_context(closing(episodes))),
    }


def in_turns(ways: dict[str, Way], agent: Agent, rounds: int) -> list[dict[str, Any]]:
    """Seconds of each way and its ratio to the first, medians over the rounds; and how far its returns are from it."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    returns: dict[str, np.ndarray] = {}
    for _ in range(rounds + 1):  # the first round warms up
        for name, way in ways.items():
            begin = time.perf_counter()
            returns[name] = way(agent)
            seconds[name].append(time.perf_counter() - begin)
    first = next(iter(ways))
    base = np.array(seconds[first][1:])
    return [
        {
            "way": name,
            "seconds": float(np.median(seconds[name][1:])),
            "ratio": float(np.median(np.array(seconds[name][1:]) / base)),
            "largest_difference_of_a_return": float(np.abs(returns[name] - returns[first]).max()),
        }
        for name in ways
    ]


def main(options: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    agent = TD3BC(load_dataset("hopper-medium-replay"), alpha=0.0, seed=0, device="cpu")
    agent.learn_offline(load_dataset("hopper-medium-replay"), TRAINING)
    endless = {} if options.falls else {"terminate_when_unhealthy": False}
    make = partial(gym.make, "Hopper-v5", max_episode_steps=options.steps, **endless)
    with ExitStack() as stack:
        alone, together = (stack.enter_context(Evaluator(make, workers)) for workers in (1, options.workers))
        together.start()
        ways: dict[str, Way] = {
            "sequential": partial(sequential, stack.enter_context(closing(make()))),
            "side by side": alone.evaluate,
            f"{options.workers} workers": together.evaluate,
        }
        if not options.falls:
            ways |= library_ways(make, options.workers, stack)
        rows = in_turns(ways, agent, options.rounds)
    print(f"| {EPISODES} episodes of up to {options.steps} steps | seconds | of sequential |\n|---|---|---|")
    for row in rows:
        print(f"| {row['way']} | {row['seconds']:.3f} | {row['ratio']:.3f} |")
    settings = {name: getattr(options, name) for name in ("workers", "steps", "rounds", "falls")}
    return {**settings, "machine": platform.machine(), "torch": torch.__version__, "ways": rows}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=300, help="of an episode")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--falls", action="store_true", help="episodes end where the robot falls")
    parser.add_argument("--json", type=Path, help="write the figures there")
    chosen = parser.parse_args()
    figures = main(chosen)
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")
