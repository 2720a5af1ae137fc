"""Critics and values: normalised observations (..., B, O) and actions (..., B, A) to returns-to-go."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from zoo.policies.mlp import MLP, Activation, Members, Norm
from zoo.policies.residual import Network, trunk

# An ensemble's opinions to its one: (..., E, B) -> (..., B).
Aggregate = Callable[[Tensor], Tensor]


def minimum(qs: Tensor) -> Tensor:
    """The most pessimistic member of the ensemble: (..., E, B) -> (..., B)."""
    return qs.amin(-2)


def mean(qs: Tensor) -> Tensor:
    """The ensemble's average: (..., E, B) -> (..., B)."""
    return qs.mean(-2)


class Pessimistic:
    """The average less `weight` times the mean distance between two members: (..., E, B) -> (..., B).

    With weight 0.5 and two members it is their minimum. Cetin et al. 2024, arXiv 2403.13097, section 4.
    """

    def __init__(self, weight: float):
        self.weight = weight

    def __call__(self, qs: Tensor) -> Tensor:
        members = qs.shape[-2]
        if members == 1:
            return qs.squeeze(-2)
        distances = (qs.unsqueeze(-3) - qs.unsqueeze(-2)).abs().sum((-3, -2))  # over ordered pairs
        return qs.mean(-2) - self.weight / (members * (members - 1)) * distances


class Critic(nn.Module):
    """An ensemble of Q-functions, every layer one batched product over the members."""

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int] = (256, 256),
        members: int = 2,
        lead: Sequence[int] = (),
        norm: Norm = "none",
        network: Network = "mlp",
        activation: Activation = "relu",
    ):
        super().__init__()
        self.members = members
        sizes = (observation_size + action_size, *hidden, 1)
        self.trunk = trunk(network, sizes, (*lead, members), norm, activation)

    def forward(self, observations: Tensor, actions: Tensor, members: Members = None) -> Tensor:
        """qs (..., E, B); with members, indices (..., k) or a slice, only those, (..., k, B)."""
        inputs = torch.cat([observations, actions], dim=-1)
        return self.trunk(inputs.unsqueeze(-3), members).squeeze(-1)

    def first(self, observations: Tensor, actions: Tensor) -> Tensor:
        """q (..., B) of member 0 alone; the others are not computed."""
        return self(observations, actions, slice(0, 1)).squeeze(-2)

    def several(self, observations: Tensor, actions: Tensor) -> Tensor:
        """qs (..., E, B, K) of K actions (..., B, K, A) for each observation (..., B, O), as one flat batch."""
        repeated = observations.unsqueeze(-2).expand(*actions.shape[:-1], -1)
        return self(repeated.flatten(-3, -2), actions.flatten(-3, -2)).unflatten(-1, actions.shape[-3:-1])


class NoCritic(Critic):
    """In the place of critics where an agent learns without any: it has no opinion."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.members = 0

    def forward(self, observations: Tensor, actions: Tensor, members: Members = None) -> Tensor:
        raise ValueError(
            "this policy learned without critics: nothing values its actions, and none can choose among candidates "
            "(evaluation_samples=1)"
        )


class Value(nn.Module):
    """A state-value function."""

    def __init__(
        self,
        observation_size: int,
        hidden: Sequence[int] = (256, 256),
        lead: Sequence[int] = (),
        norm: Norm = "none",
        activation: Activation = "relu",
    ):
        super().__init__()
        self.trunk = MLP((observation_size, *hidden, 1), lead, norm, activation)

    def forward(self, observations: Tensor) -> Tensor:
        """v, (..., B)."""
        return self.trunk(observations).squeeze(-1)
