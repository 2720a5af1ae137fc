"""Which of a dataset's transitions are worth imitating: SSAR's sub-dataset (arXiv 2505.19923, section 3.3)."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from zoo.agents.core.batch import Batch
from zoo.agents.core.config import Hyper
from zoo.agents.core.optim import Adam, minimize
from zoo.agents.core.spec import Dataset
from zoo.agents.shared.losses import Targets, squared_errors, td_target
from zoo.agents.shared.segments import segment_ends, segment_ids
from zoo.policies import Critic, Value, minimum

# "return": segments that earn more than a threshold; "success": segments whose last reward is not the dataset's least;
# "iql": transitions whose action is worth at least the state's value in the eyes of an IQL critic; "all": everything.
Trust = Literal["all", "return", "success", "iql"]


def by_return(dataset: Dataset, threshold: float | None) -> np.ndarray:
    """Rows (N,) bool of the segments that return more than `threshold`; None: at least what the average one does."""
    segments = segment_ids(dataset)
    returns = np.bincount(segments, weights=dataset.column("rewards").astype(np.float64))
    if threshold is None:
        return (returns >= returns.mean() - 1e-6 * np.abs(returns).max())[segments]
    if not (returns > threshold).any():
        raise ValueError(
            f"no episode of {dataset.name} returns more than min_return={threshold:g}: the best one returns "
            f"{returns.max():.6g}, the average {returns.mean():.6g}. Give a smaller min_return, or trust='iql'"
        )
    return (returns > threshold)[segments]


def by_success(dataset: Dataset) -> np.ndarray:
    """Rows (N,) bool of the segments that end in success: whose last reward is above the dataset's least one.

    What a robot does after a success, and before the next one, is another segment.
    """
    rewards = dataset.column("rewards")
    successful = rewards[segment_ends(dataset)] > rewards.min()  # (segments,)
    if not successful.any():
        raise ValueError(
            f"no segment of {dataset.name} ends in success: the last rewards are all {rewards.min():g}, the least of "
            "the data. A segment ends at a terminal, a time limit or a jump: mark successes as terminations, or give "
            "trust='return' or trust='iql'"
        )
    return successful[segment_ids(dataset)]


class AdvantageFilter(nn.Module):
    """Q and V of implicit Q-learning, trained to tell good actions from poor ones: keep (s, a) where min Q >= V."""

    def __init__(self, observation_size: int, action_size: int, expectile: float, gamma: float, lr: float):
        super().__init__()
        self.expectile, self.gamma = expectile, gamma
        self.q = Critic(observation_size, action_size)
        self.target_q = Critic(observation_size, action_size).requires_grad_(False)
        self.target_q.load_state_dict(self.q.state_dict())
        self.targets = Targets((self.target_q, self.q))
        self.v = Value(observation_size)
        self.optimizers = {"filter_q": Adam(self.q.parameters(), lr), "filter_v": Adam(self.v.parameters(), lr)}

    def update(self, batch: Batch, rewards: Tensor, tau: float = 0.005) -> dict[str, Tensor]:
        """One step of V, then Q, then the target of Q. rewards: as the agent sees them, (B,)."""
        with torch.no_grad():
            next_v = self.v(batch.next_observations)  # of before V's step
        u = minimum(self.target_q(batch.observations, batch.actions)) - self.v(batch.observations)  # (B,)
        v_loss = expectile_loss(u, self.expectile)
        minimize(v_loss, self.optimizers["filter_v"])
        target_q = td_target(rewards, batch.terminations, next_v, self.gamma)
        q_loss = squared_errors(self.q(batch.observations, batch.actions), target_q).mean(-1)
        minimize(q_loss, self.optimizers["filter_q"])
        self.targets.follow(tau)
        return {"filter/v_loss": v_loss.detach(), "filter/q_loss": q_loss.detach()}

    @torch.no_grad()
    def keep(self, batch: Batch) -> Tensor:
        """(B,) bool."""
        return minimum(self.q(batch.observations, batch.actions)) >= self.v(batch.observations)


def expectile_loss(u: Tensor, expectile: Hyper | Tensor) -> Tensor:
    """Mean of |expectile - 1[u < 0]| * u^2: (B,) -> (); arXiv 2110.06169, equation 5."""
    weight = (expectile - (u < 0.0).to(u.dtype)).abs()  # type: ignore[operator]
    return (weight * u.square()).mean(-1)
