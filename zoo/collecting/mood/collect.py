"""MOOD's recordings: TD3 for each task, exploration by random network distillation, every step with its physics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3 import TD3
from stable_baselines3.common.noise import NormalActionNoise

from zoo.collecting.behaviours import train
from zoo.collecting.mood.rewards import BASE, TARGETS, env_id
from zoo.collecting.mood.sets import EXPLORATION, objectives_of, recording
from zoo.collecting.rnd import RND
from zoo.evaluation.envs import make_env

STEPS = {"cheetah": 1_000_000, "walker": 1_000_000, "quadruped": 1_000_000, "humanoid": 10_000_000}  # the paper's
EXPLORATION_FACTOR = 2  # exploration takes so many times the steps of a task
NOISE = 0.2  # of exploration, as the offline agents' target noise and its clip
SETTINGS: dict[str, Any] = {  # the paper's table 5; not stated there, as its offline agents: the last two lines
    "learning_rate": 3e-4,
    "batch_size": 512,
    "learning_starts": 5_000,
    "policy_delay": 2,
    "gamma": 0.99,
    "tau": 0.005,
    "policy_kwargs": {"net_arch": [256, 256]},
    "target_policy_noise": 0.2,
    "target_noise_clip": 0.3,
}


def collect_objective(folder: Path, domain: str, objective: str, seed: int, steps: int) -> Path:
    """One learner's whole replay buffer, from scratch, as recording(...); goes on where it stopped.

    It is saved, and says how it does, about ten times, and every 50,000 steps at least.

    For exploration the reward is novelty; the one in the file is that of the domain's base task. The file has the
    rewards of all tasks beside it. Raises ValueError for another domain or objective.
    """
    if objective not in objectives_of(domain):
        raise ValueError(f"{domain} has no objective {objective!r}; it has {', '.join(objectives_of(domain))}")
    name = env_id(domain, BASE[domain] if objective == EXPLORATION else objective)
    env = make_env(name)
    size = env.action_space.shape
    env.close()
    assert size is not None
    settings = SETTINGS | {"action_noise": NormalActionNoise(np.zeros(size), np.full(size, NOISE))}
    return train(
        RND if objective == EXPLORATION else TD3,
        lambda: make_env(name),
        recording(folder, domain, objective, seed),
        steps,
        min(steps // 10, 50_000),
        seed,
        about={"env_id": name, "objective": objective},
        infos=tuple(f"reward/{task}" for task in TARGETS[domain]),
        **settings,
    )


def check_objectives(domains: Sequence[str], objectives: Sequence[str]) -> None:
    """Raises ValueError for a domain that MOOD has not, and for an objective that one of the domains has not."""
    for domain in domains:
        if domain not in STEPS:
            raise ValueError(f"MOOD has no domain {domain!r}; it has {', '.join(STEPS)}")
        for objective in objectives:
            if objective not in objectives_of(domain):
                raise ValueError(f"{domain} has no objective {objective!r}; it has {', '.join(objectives_of(domain))}")


def collect_all(
    out: Path,
    domains: Sequence[str],
    objectives: Sequence[str],
    seeds: Sequence[int],
    steps: int | None,
    exploration_steps: int | None = None,
) -> list[Path]:
    """Every recording of those domains and seeds, of those objectives or, without any, of all.

    steps: of a task; None is the paper's. exploration_steps: None is twice that.
    """
    paths = []
    for domain in domains:
        for objective in objectives or objectives_of(domain):
            for seed in seeds:
                length = steps or STEPS[domain]
                if objective == EXPLORATION:
                    length = exploration_steps or EXPLORATION_FACTOR * length
                print(f"{domain}, {objective}, seed {seed}: {length:,} steps")
                paths.append(collect_objective(out, domain, objective, seed, length))
    return paths
