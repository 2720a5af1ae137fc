"""Action distributions."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus


class BoxNormal(NamedTuple):
    """A diagonal Gaussian whose samples are clipped to [-1, 1], while its density is the plain Gaussian's.

    mean: (..., B, A). log_std: broadcasts to it.
    """

    mean: Tensor
    log_std: Tensor

    def mode(self) -> Tensor:
        """The mean, inside the box, (..., B, A)."""
        return self.mean.clamp(-1.0, 1.0)

    def sample(self, noise: Tensor, clip: float | None = None) -> Tensor:
        """Reparameterised actions (..., B, A). noise: standard normal; clip: bound of the deviation from the mean."""
        deviation = self.log_std.exp() * noise
        return (self.mean + (deviation if clip is None else deviation.clamp(-clip, clip))).clamp(-1.0, 1.0)

    def log_probs(self, actions: Tensor) -> Tensor:
        """Log-density of each action dimension, (..., B, A)."""
        scaled = (actions - self.mean) * (-self.log_std).exp()
        return -0.5 * scaled.square() - self.log_std - 0.5 * math.log(2.0 * math.pi)


class TanhNormal(NamedTuple):
    """tanh of a diagonal Gaussian. mean, log_std: (..., B, A), both before the tanh."""

    mean: Tensor
    log_std: Tensor

    def mode(self) -> Tensor:
        """tanh of the Gaussian's mean, (..., B, A)."""
        return torch.tanh(self.mean)

    def sample(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Reparameterised actions (..., B, A) and their log-densities (..., B). noise: standard normal."""
        before_tanh = self.mean + self.log_std.exp() * noise
        return torch.tanh(before_tanh), self._log_prob_before_tanh(before_tanh, noise)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-density (..., B) of actions in (-1, 1); they are pulled to +-(1 - 1e-5), where atanh is finite."""
        before_tanh = torch.atanh(actions.clamp(-1.0 + 1e-5, 1.0 - 1e-5))
        return self._log_prob_before_tanh(before_tanh, (before_tanh - self.mean) * (-self.log_std).exp())

    def log_probs(self, actions: Tensor) -> Tensor:
        """Log-density of each action dimension, (..., B, A), with the same pull."""
        before_tanh = torch.atanh(actions.clamp(-1.0 + 1e-5, 1.0 - 1e-5))
        return self._log_probs_before_tanh(before_tanh, (before_tanh - self.mean) * (-self.log_std).exp())

    def _log_prob_before_tanh(self, before_tanh: Tensor, noise: Tensor) -> Tensor:
        return self._log_probs_before_tanh(before_tanh, noise).sum(-1)

    def _log_probs_before_tanh(self, before_tanh: Tensor, noise: Tensor) -> Tensor:
        gaussian = -0.5 * noise.square() - self.log_std - 0.5 * math.log(2.0 * math.pi)
        # log(1 - tanh(u)^2), written so that it stays finite for large |u|.
        log_slope = 2.0 * (math.log(2.0) - before_tanh - softplus(-2.0 * before_tanh))
        return gaussian - log_slope
