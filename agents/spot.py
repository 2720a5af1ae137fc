"""SPOT: TD3 whose actor is kept where the data's own action density is high.

Wu et al. 2022, "Supported Policy Optimization for Offline Reinforcement Learning", arXiv 2202.06239. A conditional VAE
is fitted to the data first and frozen; its loss at the policy's action, the stand-in for -log of the behaviour
density, is added to TD3's actor loss. The actor trains with dropout, its target too.
"""

import dataclasses
from typing import Literal

import torch
from torch import Tensor

from zoo.agents.core.batch import Batch
from zoo.agents.core.config import Hyper, OnlineBuffer
from zoo.agents.core.draws import Draws, dropout_masks
from zoo.agents.core.learner import Metrics, Preparation
from zoo.agents.core.optim import Adam, minimize
from zoo.agents.core.replay import Table
from zoo.agents.shared.actor_critic import ActorCritic, ActorCriticConfig
from zoo.agents.shared.losses import scale_free
from zoo.policies import ConditionalVAE, Density, DiffusionDensity, GaussianDensity, final_uniform_


@dataclasses.dataclass(frozen=True)
class SPOTConfig(ActorCriticConfig):
    normalize_observations: bool = True
    density_weight: Hyper = 0.1  # lambda, of the density term against the normalised Q
    dropout: float = 0.1  # of the actor's hidden units, in training
    last_layers: Literal["default", "small"] = "default"  # small: uniform in +-1e-3 (actor) and +-3e-3 (critic)
    density: Literal["vae", "gaussian", "diffusion"] = "vae"
    density_hidden: tuple[int, ...] = (750, 750)
    density_lr: Hyper = 1e-3
    density_steps: int = 100_000  # of fitting the density before the agent's first update
    kl_weight: float = 0.5
    latent_samples: int = 1
    bound: Literal["elbo", "iwae"] = "elbo"
    # Online:
    online_buffer: OnlineBuffer = "all"
    decay_steps: int = 1_000_000  # online updates in which density_weight would fall to 0,
    decay_floor: float = 0.2  # but it stays at this share

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_at_least("density_weight", 0.0)
        self.check_between("dropout", 0.0, 0.99)
        self.check_between("decay_floor", 0.0, 1.0)
        for name in ("density_lr", "kl_weight"):
            self.check_positive(name)
        for name in ("latent_samples", "decay_steps"):
            self.check_at_least(name, 1)
        self.check_at_least("density_steps", 0)
        if self.dropout > 0.0 and self.actor_network == "residual":
            raise ValueError("dropout is for actor_network='mlp': give dropout=0.0 with residual networks")


class SPOT(ActorCritic):
    """critic_loss and gradient_step are ActorCritic's."""

    Config = SPOTConfig
    preparation = Preparation(
        "a density of the data's actions",
        "the actor's penalty is measured by it",
        "density_steps",
    )
    config: SPOTConfig
    density_share: Tensor

    def build(self) -> None:
        super().build()
        self.register_buffer("density_share", torch.ones(()), persistent=False)  # decay, as the update sees it
        self.density = self.new_density()
        self.optimizers["density"] = Adam(self.density.parameters(), self.config.density_lr)

    def initialize(self) -> None:
        if self.config.last_layers == "small":
            final_uniform_(self.actor.trunk, 1e-3)
            final_uniform_(self.critic.trunk, 3e-3)

    def new_density(self) -> Density:
        c, sizes = self.config, (self.spec.observation_size, self.spec.action_size)
        if c.density == "diffusion":
            return DiffusionDensity(*sizes, c.density_hidden, self.lead)
        if c.density == "gaussian":
            return GaussianDensity(*sizes, c.density_hidden, self.lead)
        return ConditionalVAE(*sizes, c.density_hidden, self.lead, c.kl_weight, c.latent_samples, c.bound)

    @property
    def preparation_steps(self) -> int:
        return self.config.density_steps

    def prepare(self, table: Table) -> Metrics:
        """One step of fitting the density to the data."""
        return {"density/loss": self.fit(self.density, "density", self.sample(table))}

    def fit(self, density: Density, optimizer: str, batch: Batch) -> Tensor:
        """One step of a density on a batch's actions. Returns its loss."""
        loss = self.nll(density, batch.observations, batch.actions, self.draws).mean(-1)
        minimize(loss, self.optimizers[optimizer])
        return loss.detach()

    def nll(self, density: Density, observations: Tensor, actions: Tensor, draws: Draws) -> Tensor:
        """How unlikely a density finds the actions, (B,)."""
        return density(observations, actions, draws.normal("z", density.noise_like(observations)))

    def actor_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        pi = self.actor(batch.observations, self.dropout("dropout", batch.observations))  # (B, A)
        return self.policy_loss(batch, pi, self.density)

    def policy_loss(self, batch: Batch, pi: Tensor, density: Density) -> tuple[Tensor, Metrics]:
        """-Q_1(s, pi) / mean|Q_1| + lambda * nll(s, pi); arXiv 2202.06239, equation 9. pi: (B, A)."""
        q = self.critic.first(batch.observations, pi)  # (B,)
        nll = self.nll(density, batch.observations, pi, self.draws).mean(-1)
        loss = self.density_share * self.hyper.density_weight * nll - scale_free(q).mean(-1)
        return loss, {"actor/loss": loss.detach(), "actor/nll": nll.detach(), "actor/q": q.detach().mean(-1)}

    def begin_update(self) -> None:
        super().begin_update()
        self.density_share.fill_(self.decay)

    @property
    def decay(self) -> float:
        """Share of density_weight in force: 1 offline, falling linearly online."""
        c = self.config
        return max(1.0 - self.online_updates / c.decay_steps, c.decay_floor) if self.online else 1.0

    @torch.no_grad()
    def target_actions(self, next_observations: Tensor) -> Tensor:
        masks = self.dropout("target_dropout", next_observations)
        return self.smooth(self.target_actor(next_observations, masks))

    def dropout(self, name: str, observations: Tensor) -> list[Tensor]:
        """Masks of the actor's hidden layers in training."""
        return dropout_masks(self.draws, name, self.config.dropout, observations, self.config.actor_hidden)
