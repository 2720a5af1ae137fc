"""Cal-QL's lower bound of values: what the behaviour is known to have earned from a state on.

Nakamoto et al. 2023, "Cal-QL: Calibrated Offline RL Pre-Training for Efficient Online Fine-Tuning", arXiv 2303.05479.
"""

import numpy as np
import torch
from torch import Tensor

from zoo.agents.core.spec import Dataset
from zoo.agents.shared.segments import segment_ends


class ReturnFloor:
    """Discounted returns to the end of the segment, in the rewards that the update sees.

    A terminal ends a segment, also one inside an episode. forever: a segment that did not terminate goes on with its
    last reward, as a failed search would ("sparse").
    """

    def __init__(self, forever: bool, gamma: float, reward_scale: float, reward_shift: float):
        self.forever, self.gamma = forever, gamma
        self.reward_scale, self.reward_shift = reward_scale, reward_shift

    def of_dataset(self, dataset: Dataset) -> Tensor:
        """Of every row, (N,)."""
        terminated = dataset.column("terminations").astype(bool)
        return self._to_go(dataset.column("rewards"), segment_ends(dataset), terminated)

    def of_episode(self, rewards: Tensor, terminated: bool) -> Tensor:
        """Of one whole episode, rewards (n,) in time order -> (n,)."""
        last = np.arange(len(rewards)) == len(rewards) - 1
        return self._to_go(rewards.cpu().numpy(), last, last & terminated).to(rewards)

    def _to_go(self, rewards: np.ndarray, last: np.ndarray, terminated: np.ndarray) -> Tensor:
        """last, terminated: (N,) bool, rows that end a segment, and those that the environment itself ended."""
        rewards = self.reward_scale * rewards.astype(np.float64) + self.reward_shift
        beyond = np.where(last & ~terminated & self.forever, rewards / (1.0 - self.gamma), 0.0)
        result = np.empty(len(rewards))
        following = 0.0
        for i in range(len(rewards) - 1, -1, -1):
            following = rewards[i] + self.gamma * (beyond[i] if last[i] else following)
            result[i] = following
        return torch.from_numpy(result)
