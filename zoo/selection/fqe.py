"""Fitted Q evaluation: what K fixed policies would return, from data that none of them need have made.

Le, Voloshin and Yue 2019, "Batch Policy Learning under Constraints", arXiv 1903.08738, algorithm 3; in the form of
Paine et al. 2020, "Hyperparameter Selection for Offline Reinforcement Learning", arXiv 2007.09055, section 3: deep
networks, target networks, and the value of a policy pi as the mean of Q(s0, pi(s0)) over the data's first observations.

For each candidate k and each row (s, a, r, s', terminated):

    target = r + gamma (1 - terminated) Qbar_k(s', pi_k(s')),   loss = mean over the batch of (Q_k(s, a) - target)^2

A candidate is fixed, so pi_k(s') of every row and pi_k(s0) are computed once, and what is left is regression. All
candidates are one population, and each has an ensemble: K x E networks, every layer one batched product. The members of
an ensemble differ in their initial weights and see the same batches. A time limit is not a termination: its row is
bootstrapped.

Rewards are divided by their largest discounted sum over an episode of the data, so that values are about 1; estimates
are given back in the units of the rewards, discounted with gamma.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from zoo.agents.core.compute import choose_device
from zoo.agents.core.optim import Adam, minimize
from zoo.agents.shared.losses import Targets
from zoo.policies import Critic
from zoo.selection.candidates import first_rows

STATES = 2_000  # first observations that an estimate averages over, at most


@dataclass(frozen=True)
class FQEConfig:
    gamma: float = 0.99
    steps: int = 20_000
    batch_size: int = 256
    hidden: tuple[int, ...] = (256, 256)
    ensemble: int = 3  # networks of each candidate; their spread is part of the interval
    lr: float = 1e-3
    tau: float = 0.005
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.gamma < 1.0:
            raise ValueError(f"gamma must be in [0, 1), got {self.gamma}: an endless task has no finite value at 1")
        for name in ("steps", "batch_size", "ensemble"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Values:
    """Estimates of K candidates: mean (K,), and each ensemble member's own (K, E), in units of the rewards.

    deviation (K,): of the mean, over first observations and ensemble members together.
    """

    members: NDArray[np.float64]
    deviation: NDArray[np.float64]
    gamma: float

    @property
    def mean(self) -> NDArray[np.float64]:
        return self.members.mean(1)


def evaluate(
    dataset: Any,
    policies: Sequence[Callable[[NDArray[Any]], NDArray[Any]]],
    config: FQEConfig | None = None,
    device: str = "auto",
    progress_bar: bool = False,
) -> Values:
    """The values of K policies, each a function of observations (N, O) to actions (N, A), on an OfflineDataset.

    Raises FloatingPointError where the regression diverges.
    """
    c, where = config or FQEConfig(), choose_device(device)
    table = Table(dataset, policies, c.gamma, where)
    count, (rows, observation_size) = len(policies), table.observations.shape
    torch_seed = torch.Generator(where).manual_seed(c.seed)
    with torch.random.fork_rng([where] if where.type == "cuda" else []), where:
        torch.manual_seed(c.seed)
        shape = (observation_size, table.actions.shape[1], c.hidden, c.ensemble, (count,))
        critic, target = Critic(*shape), Critic(*shape).requires_grad_(False)
    target.load_state_dict(critic.state_dict())
    targets, optimizer = Targets((target, critic)), Adam(critic.parameters(), c.lr)
    quiet = None if progress_bar else True  # None: a bar on a terminal alone
    for step in tqdm(range(c.steps), desc="fitted Q evaluation", unit="step", disable=quiet):
        index = torch.randint(rows, (c.batch_size,), generator=torch_seed, device=where)
        optimizer.scale_lr(1.0 - step / c.steps)  # the last steps average the noise of the batches
        minimize(loss(critic, target, table, index, c.gamma), optimizer)
        targets.follow(c.tau)
    with torch.no_grad():
        first = table.first_observations.expand(count, *table.first_observations.shape)
        values = critic(first, table.first_actions).double().cpu().numpy() * table.unit  # (K, E, S)
    if not np.isfinite(values).all():
        raise FloatingPointError("fitted Q evaluation diverged: give a smaller lr, or look at the data's rewards")
    members = values.mean(-1)  # (K, E)
    over_states = values.mean(1).var(-1, ddof=1) / values.shape[-1] if values.shape[-1] > 1 else np.zeros(count)
    over_members = members.var(1, ddof=1) / c.ensemble if c.ensemble > 1 else np.zeros(count)
    return Values(members, np.sqrt(over_states + over_members), c.gamma)


def loss(critic: Critic, target: Critic, table: "Table", index: Tensor, gamma: float) -> Tensor:
    """(K,): the squared errors of each candidate's networks on the rows `index` (B,), summed over its ensemble."""
    count = len(table.next_actions)
    with torch.no_grad():
        next_observations = table.next_observations[index].expand(count, -1, -1)
        next_q = target(next_observations, table.next_actions[:, index])  # (K, E, B)
        target_q = table.rewards[index] + gamma * (1.0 - table.terminations[index]) * next_q
    observations, actions = (column[index].expand(count, -1, -1) for column in (table.observations, table.actions))
    return (critic(observations, actions) - target_q).square().mean(-1).sum(-1)


class Table:
    """The data as the regression sees them: normalised, on the device, with every candidate's actions.

    observations, next_observations (N, O); actions (N, A); rewards, terminations (N,); next_actions (K, N, A);
    first_observations (S, O), first_actions (K, S, A). unit: of the values, in units of the rewards.
    """

    def __init__(self, dataset: Any, policies: Sequence[Callable], gamma: float, device: torch.device):
        observations, following = dataset.column("observations"), dataset.column("next_observations")
        mean, std = observations.mean(0, dtype=np.float64), observations.std(0, dtype=np.float64) + 1e-3
        box = dataset.action_space
        centre, half = (box.high + box.low) / 2.0, (box.high - box.low) / 2.0

        def tensor(values: NDArray[Any]) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(values, np.float32), device=device)

        begin = first_rows(dataset.column("episode_ids"))
        begin = begin[np.linspace(0, len(begin) - 1, min(STATES, len(begin))).astype(np.int64)]
        first = observations[begin]
        self.unit = unit_of(dataset, gamma)
        self.observations, self.next_observations = (
            tensor((observations - mean) / std),
            tensor((following - mean) / std),
        )
        self.actions = tensor((dataset.column("actions") - centre) / half)
        self.rewards = tensor(dataset.column("rewards") / self.unit)
        self.terminations = tensor(dataset.column("terminations"))
        self.next_actions = torch.stack([tensor((policy(following) - centre) / half) for policy in policies])
        self.first_observations = tensor((first - mean) / std)
        self.first_actions = torch.stack([tensor((policy(first) - centre) / half) for policy in policies])


def unit_of(dataset: Any, gamma: float) -> float:
    """The largest |discounted sum of rewards| of an episode from its first row on; 1 where all are 0."""
    rewards, episodes = dataset.column("rewards").astype(np.float64), dataset.column("episode_ids")
    begin = first_rows(episodes)
    age = np.arange(len(rewards)) - begin[episodes]
    largest = np.abs(np.bincount(episodes, weights=rewards * gamma**age)).max()
    return float(largest) if largest > 0.0 else 1.0
