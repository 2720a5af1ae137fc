"""The algorithms as a single-file PyTorch script writes them: what the agents are timed beside.

An nn.Linear for each layer, a list of critics, torch.optim.Adam as it comes, targets in a loop over the parameters, a
replay buffer that indexes one column after the other. Where such scripts differ the cheaper way is taken: one optimizer
for all critics, no .item(), observations normalised once before training. Networks, batches and losses are the agents'.

One class an algorithm: the losses, and update, which samples its own batch.
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise

import numpy as np
import torch
from measuring import BATCH
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn.functional import mse_loss, softplus
from torch.optim.lr_scheduler import CosineAnnealingLR

from zoo.datasets.dataset import OfflineDataset

COLUMNS = ("observations", "actions", "rewards", "next_observations", "terminations")
LR, GAMMA, TAU = 3e-4, 0.99, 0.005


class Buffer:
    """A tensor for each column."""

    def __init__(self, dataset: OfflineDataset, columns: Sequence[str], normalize: bool):
        mean, std = dataset.observations.mean(0), dataset.observations.std(0) + 1e-3
        self.size = len(dataset)
        self.columns = []
        for name in columns:
            column = dataset.column(name).astype(np.float32)
            if normalize and name in ("observations", "next_observations"):
                column = (column - mean) / std
            self.columns.append(torch.tensor(column))

    def sample(self) -> list[Tensor]:
        """The columns in their order, (B, k) or (B,)."""
        rows = torch.randint(self.size, (BATCH,))
        return [column[rows] for column in self.columns]


def mlp(sizes: Sequence[int], norm: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, o in pairwise(sizes[:-1]):
        layers += [nn.Linear(i, o), nn.ReLU()]
        if norm:
            layers.append(nn.LayerNorm(o, eps=1e-6))
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def two_critics(dataset: OfflineDataset, hidden: Sequence[int], norm: bool = False) -> nn.ModuleList:
    inputs = dataset.observations.shape[1] + dataset.actions.shape[1]
    return nn.ModuleList(mlp((inputs, *hidden, 1), norm) for _ in range(2))


def ask(critics: nn.ModuleList, observations: Tensor, actions: Tensor) -> list[Tensor]:
    """Each critic's opinion, (B,)."""
    inputs = torch.cat([observations, actions], -1)
    return [critic(inputs).squeeze(-1) for critic in critics]


def lowest(qs: Sequence[Tensor]) -> Tensor:
    return torch.min(qs[0], qs[1])


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def move(target: nn.Module, source: nn.Module) -> None:
    for old, new in zip(target.parameters(), source.parameters(), strict=True):
        old.data.copy_(TAU * new.data + (1.0 - TAU) * old.data)


class TD3:
    """What TD3+BC and ReBRAC share."""

    def __init__(self, dataset: OfflineDataset, hidden: Sequence[int], norm: bool):
        observations, actions = dataset.observations.shape[1], dataset.actions.shape[1]
        self.actor = nn.Sequential(mlp((observations, *hidden, actions)), nn.Tanh())
        self.critics = two_critics(dataset, hidden, norm)
        self.target_actor, self.target_critics = deepcopy(self.actor), deepcopy(self.critics)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), LR)
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), LR)
        self.buffer: Buffer
        self.updates = 0

    def update(self) -> None:
        self.updates += 1
        batch = self.buffer.sample()
        descend(self.critic_optimizer, self.critic_loss(*batch))
        if self.updates % 2 == 0:
            descend(self.actor_optimizer, self.actor_loss(*batch))
            move(self.target_actor, self.actor)
            move(self.target_critics, self.critics)

    def critic_loss(self, *batch: Tensor) -> Tensor:
        raise NotImplementedError

    def actor_loss(self, *batch: Tensor) -> Tensor:
        raise NotImplementedError

    def td_loss(
        self, observations: Tensor, actions: Tensor, rewards: Tensor, terminations: Tensor, next_q: Tensor
    ) -> Tensor:
        target = rewards + GAMMA * (1.0 - terminations) * next_q
        q1, q2 = ask(self.critics, observations, actions)
        return mse_loss(q1, target) + mse_loss(q2, target)

    def next_actions(self, next_observations: Tensor) -> Tensor:
        pi = self.target_actor(next_observations)
        noise = (0.2 * torch.randn_like(pi)).clamp(-0.5, 0.5)
        return (pi + noise).clamp(-1.0, 1.0)


class TD3BC(TD3):
    def __init__(self, dataset: OfflineDataset):
        super().__init__(dataset, (256, 256), norm=False)
        self.buffer = Buffer(dataset, COLUMNS, normalize=True)

    def critic_loss(self, *batch: Tensor) -> Tensor:
        observations, actions, rewards, next_observations, terminations = batch
        with torch.no_grad():
            next_q = lowest(ask(self.target_critics, next_observations, self.next_actions(next_observations)))
        return self.td_loss(observations, actions, rewards, terminations, next_q)

    def actor_loss(self, *batch: Tensor) -> Tensor:
        observations, actions = batch[:2]
        pi = self.actor(observations)
        q = self.critics[0](torch.cat([observations, pi], -1))
        return mse_loss(pi, actions) - 2.5 / q.abs().mean().detach() * q.mean()


class ReBRAC(TD3):
    def __init__(self, dataset: OfflineDataset):
        super().__init__(dataset, (256, 256, 256), norm=True)
        self.buffer = Buffer(dataset, (*COLUMNS, "next_actions", "next_action_valid"), normalize=False)

    def critic_loss(self, *batch: Tensor) -> Tensor:
        observations, actions, rewards, next_observations, terminations, data_next, valid = batch
        with torch.no_grad():
            next_actions = self.next_actions(next_observations)
            distance = ((next_actions - data_next) ** 2).sum(-1) * valid
            next_q = lowest(ask(self.target_critics, next_observations, next_actions)) - 0.01 * distance
        return self.td_loss(observations, actions, rewards, terminations, next_q)

    def actor_loss(self, *batch: Tensor) -> Tensor:
        observations, actions = batch[:2]
        pi = self.actor(observations)
        q = lowest(ask(self.critics, observations, pi))
        return (0.01 * ((pi - actions) ** 2).sum(-1) - q / q.abs().mean().detach()).mean()


class IQL:
    def __init__(self, dataset: OfflineDataset):
        observations, actions = dataset.observations.shape[1], dataset.actions.shape[1]
        self.buffer = Buffer(dataset, COLUMNS, normalize=False)
        self.actor = nn.Sequential(mlp((observations, 256, 256, actions)), nn.Tanh())
        self.log_std = nn.Parameter(torch.zeros(actions))
        self.value = mlp((observations, 256, 256, 1))
        self.critics = two_critics(dataset, (256, 256))
        self.target_critics = deepcopy(self.critics)
        self.actor_optimizer = torch.optim.Adam([*self.actor.parameters(), self.log_std], LR)
        self.schedule = CosineAnnealingLR(self.actor_optimizer, 1_000_000)
        self.value_optimizer = torch.optim.Adam(self.value.parameters(), LR)
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), LR)

    def update(self) -> None:
        observations, actions, rewards, next_observations, terminations = self.buffer.sample()
        with torch.no_grad():
            q = lowest(ask(self.target_critics, observations, actions))
        descend(self.value_optimizer, self.value_loss(observations, q))
        descend(self.actor_optimizer, self.actor_loss(observations, actions, q))
        self.schedule.step()
        critic_loss = self.critic_loss(observations, actions, rewards, next_observations, terminations)
        descend(self.critic_optimizer, critic_loss)
        move(self.target_critics, self.critics)

    def value_loss(self, observations: Tensor, q: Tensor) -> Tensor:
        gap = q - self.value(observations).squeeze(-1)
        return (torch.abs(0.7 - (gap < 0).float()) * gap**2).mean()

    def actor_loss(self, observations: Tensor, actions: Tensor, q: Tensor) -> Tensor:
        with torch.no_grad():
            weight = torch.exp(3.0 * (q - self.value(observations).squeeze(-1))).clamp(max=100.0)
        policy = Normal(self.actor(observations), self.log_std.clamp(-5.0, 2.0).exp())
        return -(weight * policy.log_prob(actions).sum(-1)).mean()

    def critic_loss(self, *batch: Tensor) -> Tensor:
        observations, actions, rewards, next_observations, terminations = batch
        with torch.no_grad():
            target = rewards + GAMMA * (1.0 - terminations) * self.value(next_observations).squeeze(-1)
        q1, q2 = ask(self.critics, observations, actions)
        return mse_loss(q1, target) + mse_loss(q2, target)


class CQL:
    """The proposals are repeated observations through the actor, and each kind goes through each critic by itself."""

    def __init__(self, dataset: OfflineDataset, hidden: Sequence[int], proposals: int = 10):
        observations, self.actions = dataset.observations.shape[1], dataset.actions.shape[1]
        self.proposals = proposals
        self.buffer = Buffer(dataset, COLUMNS, normalize=True)
        self.actor = mlp((observations, *hidden, 2 * self.actions))
        self.log_std_scale = nn.Parameter(torch.tensor(1.0))
        self.log_std_offset = nn.Parameter(torch.tensor(-1.0))
        self.log_alpha = nn.Parameter(torch.tensor(0.0))
        self.critics = two_critics(dataset, hidden)
        self.target_critics = deepcopy(self.critics)
        learned = [*self.actor.parameters(), self.log_std_scale, self.log_std_offset]
        self.actor_optimizer = torch.optim.Adam(learned, 3e-5)
        self.alpha_optimizer = torch.optim.Adam([self.log_alpha], 3e-5)
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), LR)

    def update(self) -> None:
        batch = self.buffer.sample()
        pi, log_prob = self.draw(batch[0])
        alpha_loss = -(self.log_alpha * (log_prob.detach() - self.actions)).mean()
        actor_loss = self.actor_loss(batch[0], pi, log_prob)
        critic_loss = self.critic_loss(*batch)
        descend(self.alpha_optimizer, alpha_loss)
        descend(self.actor_optimizer, actor_loss)
        descend(self.critic_optimizer, critic_loss)
        move(self.target_critics, self.critics)

    def draw(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Actions (..., A) of the policy and their log-densities (...)."""
        mean, log_std = self.actor(observations).chunk(2, -1)
        std = (self.log_std_scale * log_std + self.log_std_offset).clamp(-20.0, 2.0).exp()
        raw = mean + std * torch.randn_like(mean)
        log_slope = 2.0 * (math.log(2.0) - raw - softplus(-2.0 * raw))
        return torch.tanh(raw), (Normal(mean, std).log_prob(raw) - log_slope).sum(-1)

    def actor_loss(self, observations: Tensor, pi: Tensor, log_prob: Tensor) -> Tensor:
        alpha = self.log_alpha.exp().detach()
        return (alpha * log_prob - lowest(ask(self.critics, observations, pi))).mean()

    def critic_loss(self, *batch: Tensor) -> Tensor:
        observations, actions, rewards, next_observations, terminations = batch
        repeated, repeated_next = (
            o.unsqueeze(1).repeat(1, self.proposals, 1) for o in (observations, next_observations)
        )
        with torch.no_grad():
            next_q = lowest(ask(self.target_critics, next_observations, self.draw(next_observations)[0]))
            target = rewards + GAMMA * (1.0 - terminations) * next_q
            here, log_here = self.draw(repeated)
            there, log_there = self.draw(repeated_next)
            anywhere = 2.0 * torch.rand_like(here) - 1.0
        kinds = [(anywhere, math.log(0.5) * self.actions), (there, log_there), (here, log_here)]
        loss = torch.zeros(())
        for critic in self.critics:
            q = critic(torch.cat([observations, actions], -1)).squeeze(-1)
            others = [critic(torch.cat([repeated, a], -1)).squeeze(-1) - density for a, density in kinds]
            gap = torch.logsumexp(torch.cat(others, -1), -1) - q
            loss = loss + mse_loss(q, target) + 10.0 * gap.mean()
        return loss
