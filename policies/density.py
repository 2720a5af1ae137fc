"""Models of the actions that the data take in a state: how unlikely an action is, differentiable in the action.

All have one interface. `model(observations, actions, noise)` is the loss that fits it and the stand-in for a negative
log-density, per row and in units that do not grow with the number of dimensions: (..., B, O), (..., B, A) -> (..., B).
`noise_like` says what noise that takes; `sample` draws actions.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.policies.distributions import TanhNormal
from zoo.policies.generative import DiffusionActor
from zoo.policies.mlp import MLP

LOG_TWO_PI = math.log(2.0 * math.pi)


class ConditionalVAE(nn.Module):
    """SPOT's conditional variational auto-encoder (Wu et al. 2022, arXiv 2202.06239): actions given observations.

    kl_weight: of the latent's divergence, a mean over latent dimensions, against the reconstruction, a mean over action
    dimensions. samples: latents averaged over in the loss. bound: "elbo", or "iwae", the importance-weighted bound in
    nats.
    """

    LOG_STD_RANGE = (-4.0, 15.0)

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int] = (750, 750),
        lead: Sequence[int] = (),
        kl_weight: float = 0.5,
        samples: int = 1,
        bound: str = "elbo",
    ):
        super().__init__()
        self.action_size, self.latent_size = action_size, 2 * action_size
        self.kl_weight, self.samples, self.bound = kl_weight, samples, bound
        self.encoder = MLP((observation_size + action_size, *hidden, 2 * self.latent_size), lead)
        self.decoder = MLP((observation_size + self.latent_size, *hidden, action_size), lead)

    def noise_like(self, observations: Tensor) -> Tensor:
        """Shape of the noise that the loss takes, (..., B, samples, latent)."""
        return observations.new_empty(*observations.shape[:-1], self.samples, self.latent_size)

    def sample_noise_like(self, observations: Tensor) -> Tensor:
        return observations.new_empty(*observations.shape[:-1], self.latent_size)

    def encode(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latent, (..., B, latent) each."""
        mean, log_std = self.encoder(torch.cat([observations, actions], dim=-1)).chunk(2, dim=-1)
        return mean, log_std.clamp(*self.LOG_STD_RANGE).exp()

    def decode(self, observations: Tensor, latents: Tensor) -> Tensor:
        """Actions (..., B, A) of latents (..., B, latent)."""
        return torch.tanh(self.decoder(torch.cat([observations, latents], dim=-1)))

    def decode_all(self, observations: Tensor, latents: Tensor) -> Tensor:
        """The same for several latents of each observation: (..., B, L, latent) -> (..., B, L, A)."""
        repeated = observations.unsqueeze(-2).expand(*latents.shape[:-1], -1)
        return self.decode(repeated.flatten(-3, -2), latents.flatten(-3, -2)).unflatten(-2, latents.shape[-3:-1])

    def forward(self, observations: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
        """The loss of each row, (..., B). noise: standard normal (..., B, samples, latent)."""
        loss = self.elbo_loss if self.bound == "elbo" else self.iwae_loss
        return loss(observations, actions, noise)

    def elbo_loss(self, observations: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
        """Squared reconstruction error plus kl_weight * KL, (..., B) >= 0."""
        mean, std = self.encode(observations, actions)
        latents = mean.unsqueeze(-2) + std.unsqueeze(-2) * noise
        errors = (self.decode_all(observations, latents) - actions.unsqueeze(-2)).square().mean((-2, -1))
        kl = 0.5 * (mean.square() + std.square() - 1.0 - 2.0 * std.log()).mean(-1)
        return errors + self.kl_weight * kl

    def iwae_loss(self, observations: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
        """-log of the mean over latents of p(a|z, s) p(z) / q(z|s, a), (..., B), in nats.

        The decoder's variance is kl_weight / 4.
        """
        mean, std = self.encode(observations, actions)
        latents = mean.unsqueeze(-2) + std.unsqueeze(-2) * noise
        errors = self.decode_all(observations, latents) - actions.unsqueeze(-2)
        variance = self.kl_weight / 4.0
        log_p_action = -0.5 * (errors.square() / variance + math.log(variance) + LOG_TWO_PI).sum(-1)
        log_p_latent = -0.5 * (latents.square() + LOG_TWO_PI).sum(-1)
        log_q_latent = -0.5 * (noise.square() + LOG_TWO_PI).sum(-1) - std.log().sum(-1, keepdim=True)
        weights = log_p_action + log_p_latent - log_q_latent  # (..., B, L)
        return math.log(noise.shape[-2]) - weights.logsumexp(-1)

    def nats(self, elbo_loss: Tensor) -> Tensor:
        """The negative evidence bound in nats that an elbo_loss stands for; the decoder's variance is kl_weight / 4."""
        constant = 0.5 * (LOG_TWO_PI + math.log(self.kl_weight / 4.0))
        return self.action_size * (2.0 / self.kl_weight * elbo_loss + constant)

    def sample(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Actions (..., B, A), from latents clipped to +-0.5 as BCQ does. noise: standard normal (..., B, latent)."""
        return self.decode(observations, noise.clamp(-0.5, 0.5))


class GaussianDensity(nn.Module):
    """A tanh-squashed diagonal Gaussian; the loss is the negative log-density in nats for each action dimension."""

    LOG_STD_RANGE = (-5.0, 2.0)

    def __init__(
        self, observation_size: int, action_size: int, hidden: Sequence[int] = (256, 256), lead: Sequence[int] = ()
    ):
        super().__init__()
        self.action_size = action_size
        self.trunk = MLP((observation_size, *hidden, 2 * action_size), lead)

    def noise_like(self, observations: Tensor) -> Tensor:
        return observations.new_empty(*observations.shape[:-1], 0)

    def sample_noise_like(self, observations: Tensor) -> Tensor:
        return observations.new_empty(*observations.shape[:-1], self.action_size)

    def distribution(self, observations: Tensor) -> TanhNormal:
        mean, log_std = self.trunk(observations).chunk(2, dim=-1)
        return TanhNormal(mean, log_std.clamp(*self.LOG_STD_RANGE))

    def forward(self, observations: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
        """(..., B). The loss has no noise of its own."""
        return -self.distribution(observations).log_prob(actions) / self.action_size

    def sample(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Actions (..., B, A). noise: standard normal (..., B, A)."""
        return self.distribution(observations).sample(noise)[0]


class DiffusionDensity(nn.Module):
    """A denoising diffusion model of the actions; the loss is the squared error of the noise that it sees in one.

    At one random step of the forward process, a mean over action dimensions: the loss that fits the model. Source: what
    CAR's figure 7 has in the VAE's place, with the network and the schedule of Diffusion-QL (arXiv 2208.06193).
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int] = (256, 256, 256),
        lead: Sequence[int] = (),
        steps: int = 5,
    ):
        super().__init__()
        self.action_size = action_size
        self.model = DiffusionActor(observation_size, action_size, hidden, lead, steps)

    def noise_like(self, observations: Tensor) -> Tensor:
        """Shape of the noise that the loss takes, (..., B, A + 1): the action's, and one number that says the step."""
        return observations.new_empty(*observations.shape[:-1], self.action_size + 1)

    def sample_noise_like(self, observations: Tensor) -> Tensor:
        return observations.new_empty(*observations.shape[:-1], self.model.noise_size)

    def step_of(self, number: Tensor) -> Tensor:
        """Steps (..., B) from 0 to T - 1, each as likely, of standard normal numbers (..., B)."""
        steps = self.model.steps
        return (steps * torch.special.ndtr(number)).long().clamp(max=steps - 1)

    def forward(self, observations: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
        """The loss of each row, (..., B) >= 0. noise: standard normal (..., B, A + 1)."""
        noise, step = noise[..., :-1], self.step_of(noise[..., -1])
        predicted = self.model.noise(self.model.noisy(actions, step, noise), step, observations)
        return (predicted - noise).square().mean(-1)

    def sample(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Actions (..., B, A), by the reverse chain. noise: standard normal (..., B, T * A)."""
        return self.model.generate(observations, noise)


Density = ConditionalVAE | GaussianDensity | DiffusionDensity
