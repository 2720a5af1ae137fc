"""What a delay between action and effect costs in Hopper, and what `delay` gives back.

    python benchmarks/delay.py [--delays 0 1 2 3] [--steps 20000] [--seeds 2] [--csv delay.csv]

In the delayed Hopper an action acts so many ticks after it was decided. Its data are the shipped ones, in which each
row gets the action of so many rows later: exactly what a log of the delayed robot holds, for the action that acts in a
row was decided before. TD3+BC learns from them as it is, and with `delay` set; both are evaluated in the delayed
Hopper. With --estimate nothing is learned: the delays that `zoo data check` finds in these data are printed.
"""

import argparse
import csv
from collections import deque
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import torch

from zoo import TD3BC, OfflineDataset, load_dataset
from zoo.datasets.doctor.delay import estimate
from zoo.evaluation.rollouts import evaluate_members

NAME = "hopper-medium-replay"
EPISODES = 10


class Delayed(gymnasium.Wrapper):
    """Acts with the action of `delay` ticks ago; with the middle of the box before there is one."""

    def __init__(self, env: gymnasium.Env, delay: int):
        super().__init__(env)
        self.delay = delay
        self.under_way: deque[np.ndarray] = deque()

    def reset(self, **kwargs):
        self.under_way = deque([np.zeros(self.action_space.shape)] * self.delay)
        return self.env.reset(**kwargs)

    def step(self, action):
        self.under_way.append(np.array(action))
        return self.env.step(self.under_way.popleft())


def make(delay: int) -> gymnasium.Env:
    return Delayed(gymnasium.make("Hopper-v5"), delay)


def delayed(data: OfflineDataset, delay: int) -> OfflineDataset:
    """The log of the delayed robot. What is decided in an episode's last rows never acts: the middle of the box."""
    if delay == 0:
        return data
    acts = np.append(data.episode_ids[delay:] == data.episode_ids[:-delay], np.zeros(delay, bool))
    actions = np.zeros_like(data.actions)
    actions[acts] = data.actions[np.flatnonzero(acts) + delay]
    return OfflineDataset.from_arrays(
        data.observations,
        actions,
        data.rewards,
        data.next_observations,
        data.terminations,
        data.truncations,
        episode_ids=data.episode_ids,
        name=f"{NAME}-delayed-{delay}",
        env_id=data.env_id,
        action_space=data.action_space,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delays", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--estimate", action="store_true")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    whole, rows = load_dataset(NAME), []
    for delay in options.delays:
        data = delayed(whole, delay)
        if options.estimate:
            found = estimate(data.observations, data.next_observations, data.actions, data.episode_ids)
            print(f"delay {delay}: estimated {found}", flush=True)
            continue
        for known in sorted({0, delay}):
            agent = TD3BC(
                data,
                seed=0,
                device="cpu",
                population=options.seeds,
                delay=known,
                normalize_observations=True,
                actor_hidden=(options.hidden,) * 2,
                critic_hidden=(options.hidden,) * 2,
            )
            agent.learn_offline(data, options.steps)
            returns = evaluate_members(agent, partial(make, delay), EPISODES).mean(1)
            rows.append({"delay": delay, "set": known, "returns": " ".join(f"{value:.0f}" for value in returns)})
            print(f"{delay} ticks, delay={known}: {returns.mean():.0f} ({rows[-1]['returns']})", flush=True)
    if options.csv is not None and rows:
        with open(options.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
