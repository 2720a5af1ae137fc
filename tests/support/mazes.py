"""Logged mazes in which the robot walks on after a success, as D4RL's ants do."""

import numpy as np

from zoo.datasets.dataset import OfflineDataset

EPISODES, STEPS = 8, 60
SUCCESSES = slice(30, 34)  # rows of every second episode: reward 1, terminal


def walking_on() -> OfflineDataset:
    """Eight episodes of 60 steps, ended by a time limit. In four the robot is at the goal from row 30 to row 33."""
    rewards = np.zeros((EPISODES, STEPS))
    rewards[::2, SUCCESSES] = 1.0
    observations = np.arange(EPISODES * (STEPS + 1), dtype=np.float32).reshape(EPISODES, STEPS + 1, 1)
    limit = np.zeros((EPISODES, STEPS))
    limit[:, -1] = 1.0
    return OfflineDataset.from_arrays(
        observations=observations[:, :-1].reshape(-1, 1),
        actions=np.zeros((EPISODES * STEPS, 1)),
        rewards=rewards.reshape(-1),
        next_observations=observations[:, 1:].reshape(-1, 1),
        terminations=rewards.reshape(-1),
        truncations=limit.reshape(-1),
        episode_ids=np.repeat(np.arange(EPISODES), STEPS),
        name="maze",
    )
