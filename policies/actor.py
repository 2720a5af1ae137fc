"""Actors: observations (..., B, O), normalised, to actions (..., B, A) in [-1, 1]."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from zoo.policies.distributions import BoxNormal, TanhNormal
from zoo.policies.mlp import Activation, Norm
from zoo.policies.residual import Network, trunk


class DeterministicActor(nn.Module):
    """tanh of an MLP.

    search_noise: standard deviation, in units of the half box, of the candidates of evaluation sampling.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int] = (256, 256),
        lead: Sequence[int] = (),
        search_noise: float = 0.2,
        norm: Norm = "none",
        network: Network = "mlp",
        activation: Activation = "relu",
    ):
        super().__init__()
        self.search_noise = search_noise
        self.trunk = trunk(network, (observation_size, *hidden, action_size), lead, norm, activation)

    def forward(self, observations: Tensor, masks: Sequence[Tensor] = ()) -> Tensor:
        """The action, (..., B, A). masks: dropout in training, one (..., B, width) for each hidden layer."""
        return torch.tanh(self.trunk(observations, masks=masks))

    def cloning_errors(self, observations: Tensor, actions: Tensor, masks: Sequence[Tensor] = ()) -> Tensor:
        """What weighted cloning minimises: the squared distance to the actions, (..., B)."""
        return (self(observations, masks) - actions).square().sum(-1)

    def sample(self, observations: Tensor, noise: Tensor) -> Tensor:
        """The action itself: without a distribution, noise (..., B, A) has nothing to drive."""
        return self(observations)

    def candidates(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Actions around the actor's own. noise: standard normal (..., B, M, A) -> (..., B, M, A)."""
        around = self(observations).unsqueeze(-2) + self.search_noise * noise
        return around.clamp(-1.0, 1.0)


class GaussianActor(nn.Module):
    """tanh-squashed Gaussian whose mean and log standard deviation come from one MLP.

    affine_log_std: initial scale and offset, both learned, of the MLP's log standard deviation; None: as it is.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int] = (256, 256),
        lead: Sequence[int] = (),
        affine_log_std: tuple[float, float] | None = None,
        network: Network = "mlp",
        log_std_range: tuple[float, float] = (-20.0, 2.0),
        activation: Activation = "relu",
    ):
        super().__init__()
        self.log_std_range = log_std_range
        self.trunk = trunk(network, (observation_size, *hidden, 2 * action_size), lead, activation=activation)
        self.affine = affine_log_std is not None
        if affine_log_std is not None:
            scale, offset = affine_log_std
            self.log_std_scale = nn.Parameter(torch.full(tuple(lead), scale))
            self.log_std_offset = nn.Parameter(torch.full(tuple(lead), offset))

    def distribution(self, observations: Tensor) -> TanhNormal:
        mean, log_std = self.trunk(observations).chunk(2, dim=-1)
        if self.affine:
            scale, offset = (p[..., None, None] for p in (self.log_std_scale, self.log_std_offset))
            log_std = scale * log_std + offset
        return TanhNormal(mean, log_std.clamp(*self.log_std_range))

    def forward(self, observations: Tensor) -> Tensor:
        """The mode, (..., B, A)."""
        return self.distribution(observations).mode()

    def sample(self, observations: Tensor, noise: Tensor) -> Tensor:
        """One draw from the policy. noise: standard normal (..., B, A) -> (..., B, A)."""
        return self.distribution(observations).sample(noise)[0]

    def candidates(self, observations: Tensor, noise: Tensor) -> Tensor:
        """M draws from the policy. noise: standard normal (..., B, M, A) -> (..., B, M, A)."""
        mean, log_std = self.distribution(observations)
        return torch.tanh(mean.unsqueeze(-2) + log_std.exp().unsqueeze(-2) * noise)


class NormalActor(nn.Module):
    """A Gaussian with one standard deviation for all states, whose samples are clipped to the box.

    mean: "tanh" of the MLP, or its "linear" output. std: fixed; None: learned, one number for each action dimension,
    from 1 on, its logarithm kept in log_std_range. per_dimension: cloning errors as a mean over the action dimensions
    instead of the density's sum.
    """

    log_std: Tensor

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int] = (256, 256),
        lead: Sequence[int] = (),
        norm: Norm = "none",
        mean: Literal["tanh", "linear"] = "tanh",
        std: float | None = None,
        log_std_range: tuple[float, float] = (-5.0, 2.0),
        per_dimension: bool = False,
        network: Network = "mlp",
        activation: Activation = "relu",
    ):
        super().__init__()
        self.trunk = trunk(network, (observation_size, *hidden, action_size), lead, norm, activation)
        self.mean, self.log_std_range, self.per_dimension = mean, log_std_range, per_dimension
        if std is None:
            self.log_std = nn.Parameter(torch.zeros(*lead, action_size))
        else:
            self.register_buffer("log_std", torch.full((*lead, action_size), math.log(std)))

    def distribution(self, observations: Tensor, masks: Sequence[Tensor] = ()) -> BoxNormal:
        mean = self.trunk(observations, masks=masks)
        mean = torch.tanh(mean) if self.mean == "tanh" else mean
        return BoxNormal(mean, self.log_std.clamp(*self.log_std_range).unsqueeze(-2))

    def forward(self, observations: Tensor) -> Tensor:
        """The mode, (..., B, A)."""
        return self.distribution(observations).mode()

    def cloning_errors(self, observations: Tensor, actions: Tensor, masks: Sequence[Tensor] = ()) -> Tensor:
        """What weighted cloning minimises: the actions' negative log-density, (..., B)."""
        log_probs = self.distribution(observations, masks).log_probs(actions)
        return -(log_probs.mean(-1) if self.per_dimension else log_probs.sum(-1))

    def sample(self, observations: Tensor, noise: Tensor) -> Tensor:
        """One draw from the policy. noise: standard normal (..., B, A) -> (..., B, A)."""
        return self.distribution(observations).sample(noise)

    def candidates(self, observations: Tensor, noise: Tensor) -> Tensor:
        """M draws from the policy. noise: standard normal (..., B, M, A) -> (..., B, M, A)."""
        mean, log_std = self.distribution(observations)
        return BoxNormal(mean.unsqueeze(-2), log_std.unsqueeze(-2)).sample(noise)


Actor = DeterministicActor | GaussianActor | NormalActor
