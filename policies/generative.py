"""Actors that make an action of noise: a chain of denoising steps, or one network that took a flow's place.

They have no mode and no density. An actor says how many standard normal numbers N one action takes, so that whoever
acts, a loop, an exported graph, a robot, draws them outside and hands them in.
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from operator import mul

import torch
from torch import Tensor, nn

from zoo.policies.mlp import MLP, Activation


class GenerativeActor(nn.Module):
    """Observations (..., B, O), normalised, and noise (..., B, N) to actions (..., B, A) in [-1, 1]."""

    noise_size: int
    trunk: MLP

    def generate(self, observations: Tensor, noise: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, observations: Tensor) -> Tensor:
        """The action of noise that is zero, the most likely one, (..., B, A)."""
        return self.generate(observations, observations.new_zeros(*observations.shape[:-1], self.noise_size))

    def sample(self, observations: Tensor, noise: Tensor) -> Tensor:
        """One draw. noise: standard normal (..., B, N) -> (..., B, A)."""
        return self.generate(observations, noise)

    def candidates(self, observations: Tensor, noise: Tensor) -> Tensor:
        """M draws. noise: standard normal (..., B, M, N) -> (..., B, M, A)."""
        repeated = observations.unsqueeze(-2).expand(*noise.shape[:-1], -1)
        made = self.generate(repeated.flatten(-3, -2), noise.flatten(-3, -2))
        return made.unflatten(-2, noise.shape[-3:-1])


class DiffusionActor(GenerativeActor):
    """A denoising diffusion model of the actions in a state, with the "variance preserving" schedule.

    steps: T. Of the noise (..., B, T * A) the first A numbers are the chain's beginning, the next ones are added by its
    steps T-1, ..., 1 in that order; the last step adds none.
    Source: Wang et al. 2023, arXiv 2208.06193, section 3 and appendix B; the schedule is of Xiao et al. 2022, arXiv
    2112.07804.
    """

    EMBEDDING = 16  # numbers that tell the network the step

    signal: Tensor
    spread: Tensor
    frequencies: Tensor

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int] = (256, 256, 256),
        lead: Sequence[int] = (),
        steps: int = 5,
        activation: Activation = "mish",
    ):
        super().__init__()
        width = self.EMBEDDING
        self.action_size, self.steps, self.noise_size = action_size, steps, steps * action_size
        self.trunk = MLP((action_size + width + observation_size, *hidden, action_size), lead, activation=activation)
        self.time = MLP((width, 2 * width, width), lead, activation=activation)
        self.alphas = [math.exp(-0.1 / steps - 0.5 * 9.9 * (2 * t - 1) / steps**2) for t in range(1, steps + 1)]
        self.alpha_bars = list(accumulate(self.alphas, mul))
        signal, spread = ([math.sqrt(x) for x in of] for of in (self.alpha_bars, [1.0 - a for a in self.alpha_bars]))
        self.register_buffer("signal", torch.tensor(signal), persistent=False)  # (T,), weight of the action, and
        self.register_buffer("spread", torch.tensor(spread), persistent=False)  # of the noise in a noisy action
        self.register_buffer("frequencies", torch.tensor(embeddings(steps, width)), persistent=False)  # (T, 16)

    def noise(self, noisy: Tensor, step: Tensor, observations: Tensor) -> Tensor:
        """The noise that the network sees in the actions noisy (..., B, A). step: (..., B), long, 0 to T - 1."""
        return self._noise(noisy, torch.take_along_dim(self._times(), step.unsqueeze(-1), -2), observations)

    def noisy(self, actions: Tensor, step: Tensor, noise: Tensor) -> Tensor:
        """Actions (..., B, A) after `step` (..., B) of the forward process, with that noise (..., B, A)."""
        return self.signal[step].unsqueeze(-1) * actions + self.spread[step].unsqueeze(-1) * noise

    def generate(self, observations: Tensor, noise: Tensor) -> Tensor:
        """The reverse chain of all T steps, unrolled; differentiable."""
        x, *added = noise.split(self.action_size, dim=-1)
        times = self._times()
        for t in reversed(range(self.steps)):
            bar, before = self.alpha_bars[t], self.alpha_bars[t - 1] if t else 1.0
            beta = 1.0 - self.alphas[t]
            time = times[..., t : t + 1, :].expand(*x.shape[:-1], -1)
            predicted = self._noise(x, time, observations)
            clean = (x / math.sqrt(bar) - math.sqrt(1.0 / bar - 1.0) * predicted).clamp(-1.0, 1.0)
            x = (beta * math.sqrt(before) * clean + (1.0 - before) * math.sqrt(self.alphas[t]) * x) / (1.0 - bar)
            if t:
                x = x + math.sqrt(beta * (1.0 - before) / (1.0 - bar)) * added[self.steps - 1 - t]
        return x.clamp(-1.0, 1.0)

    def _times(self) -> Tensor:
        """What tells the steps apart, (..., T, 16)."""
        return self.time(self.frequencies)

    def _noise(self, x: Tensor, time: Tensor, observations: Tensor) -> Tensor:
        return self.trunk(torch.cat([x, time, observations], dim=-1))


def embeddings(steps: int, width: int) -> list[list[float]]:
    """sin and cos of t exp(-k log(10000) / (width / 2 - 1)), k = 0, 1, ...: a row of `width` for each step t."""
    half = width // 2
    angles = [[t * math.exp(-k * math.log(10_000.0) / (half - 1)) for k in range(half)] for t in range(steps)]
    return [[*map(math.sin, row), *map(math.cos, row)] for row in angles]


class OneStepActor(GenerativeActor):
    """An MLP from the observation and noise (..., B, A) to an action: what a flow makes in many steps, in one.

    Park et al. 2025, arXiv 2502.02538, section 4.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int] = (512, 512, 512, 512),
        lead: Sequence[int] = (),
        activation: Activation = "gelu",
    ):
        super().__init__()
        self.noise_size = action_size
        self.trunk = MLP((observation_size + action_size, *hidden, action_size), lead, activation=activation)

    def unclipped(self, observations: Tensor, noise: Tensor) -> Tensor:
        """The network's own output, (..., B, A), which may lie outside [-1, 1]."""
        return self.trunk(torch.cat([observations, noise], dim=-1))

    def generate(self, observations: Tensor, noise: Tensor) -> Tensor:
        return self.unclipped(observations, noise).clamp(-1.0, 1.0)


class VelocityField(nn.Module):
    """The velocity of a flow that carries noise at time 0 to the data's actions at time 1."""

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int] = (512, 512, 512, 512),
        lead: Sequence[int] = (),
        activation: Activation = "gelu",
    ):
        super().__init__()
        self.trunk = MLP((observation_size + action_size + 1, *hidden, action_size), lead, activation=activation)

    def forward(self, observations: Tensor, x: Tensor, time: Tensor) -> Tensor:
        """(..., B, O), (..., B, A) and time (..., B, 1) in [0, 1] -> (..., B, A)."""
        return self.trunk(torch.cat([observations, x, time], dim=-1))

    def integrate(self, observations: Tensor, noise: Tensor, steps: int) -> Tensor:
        """Where the flow carries noise (..., B, A), by `steps` Euler steps; clipped to [-1, 1] at the end alone."""
        x = noise
        for k in range(steps):
            x = x + self(observations, x, torch.full_like(x[..., :1], k / steps)) / steps
        return x.clamp(-1.0, 1.0)
