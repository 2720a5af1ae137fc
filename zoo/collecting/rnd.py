"""Random network distillation: a TD3 of Stable-Baselines3 that is paid for observations it cannot predict yet.

Source: Burda et al. 2018, arXiv 1810.12894, with the settings of URLB (Laskin et al. 2021, arXiv 2110.15191).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from stable_baselines3 import TD3
from stable_baselines3.common.buffers import ReplayBuffer
from torch import Tensor, nn

HIDDEN, FEATURES = 1024, 512
CLIP = 5.0  # of normalised observations
LEARNING_RATE = 1e-4


def _network(observation_size: int) -> nn.Sequential:
    sizes = (observation_size, HIDDEN, HIDDEN, FEATURES)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Novelty(nn.Module):
    """How badly a predictor, trained on what was seen, knows a fixed random network's output for an observation."""

    mean: Tensor  # of all errors so far, (), as the other two
    variance: Tensor
    count: Tensor

    def __init__(self, observation_size: int):
        super().__init__()
        self.normalize = nn.BatchNorm1d(observation_size, affine=False)
        self.predictor = _network(observation_size)
        self.target = _network(observation_size).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.predictor.parameters(), lr=LEARNING_RATE)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("variance", torch.ones(()))
        self.register_buffer("count", torch.tensor(1e-4))

    def error(self, observations: Tensor) -> Tensor:
        """Mean squared error over the features, (B, O) -> (B, 1)."""
        inputs = self.normalize(observations).clamp(-CLIP, CLIP)
        return (self.predictor(inputs) - self.target(inputs)).square().mean(-1, keepdim=True)

    def learn(self, observations: Tensor) -> Tensor:
        """One step of the predictor on observations (B, O). Returns their errors before it, (B, 1)."""
        error = self.error(observations)
        self.optimizer.zero_grad(set_to_none=True)
        error.mean().backward()
        self.optimizer.step()
        return error.detach()

    def scale(self, error: Tensor) -> Tensor:
        """Errors (B, 1) over the standard deviation of all errors so far, these included."""
        size = len(error)
        total, delta = self.count + size, error.mean() - self.mean
        spread = self.variance * self.count + error.var(unbiased=False) * size
        self.variance.copy_((spread + delta.square() * self.count * size / total) / total)
        self.mean.add_(delta * size / total)
        self.count.copy_(total)
        return error / (self.variance.sqrt() + 1e-8)


class NoveltyBuffer(ReplayBuffer):
    """A replay buffer whose batches are rewarded by novelty as it is now; what the environment paid is not used."""

    novelty: Novelty

    def sample(self, batch_size: int, env: Any = None) -> Any:
        batch = super().sample(batch_size, env)
        # Deviation: URLB computes the error once more, after the predictor's step; that is a third of the cost.
        return batch._replace(rewards=self.novelty.scale(self.novelty.learn(batch.observations)))


class RND(TD3):
    """TD3 on a NoveltyBuffer; the predictor is saved with it."""

    def _setup_model(self) -> None:
        self.replay_buffer_class = NoveltyBuffer
        super()._setup_model()
        self.novelty = Novelty(self.observation_space.shape[0]).to(self.device)  # type: ignore[index]
        self.replay_buffer.novelty = self.novelty  # type: ignore[union-attr]

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "novelty"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        modules, tensors = super()._get_torch_save_params()
        return [*modules, "novelty", "novelty.optimizer"], tensors
