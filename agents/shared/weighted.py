"""What agents share that clone the data's better actions: a Gaussian actor, critics with targets, weights by advantage.

A paper composes it of three parts: the actor's distribution (policies.NormalActor, or a deterministic one), an estimate
of the advantage (its `advantage` method, SampledAdvantage where it is the policy's own), and the weights
(ExponentialWeights, SoftmaxWeights).
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from zoo.agents.agent import Agent
from zoo.agents.core.batch import Batch
from zoo.agents.core.config import AgentConfig, Hyper
from zoo.agents.core.learner import Metrics
from zoo.agents.core.members import per_member
from zoo.agents.core.optim import Adam
from zoo.agents.shared.actor_critic import cosine
from zoo.agents.shared.learned_scale import FixedScale, LearnedScale
from zoo.agents.shared.losses import Targets, squared_errors, td_target
from zoo.policies import (
    BoxNormal,
    Critic,
    DeterministicActor,
    NormalActor,
    Pessimistic,
    Policy,
    mean,
    minimum,
    orthogonal_,
)
from zoo.policies.critic import Aggregate
from zoo.policies.mlp import Norm
from zoo.policies.residual import Network


@dataclasses.dataclass(frozen=True)
class WeightedConfig(AgentConfig):
    actor_hidden: tuple[int, ...] = (256, 256)
    critic_hidden: tuple[int, ...] = (256, 256)
    actor_norm: Norm = "none"  # LayerNorm "before" or "after" each activation
    critic_norm: Norm = "none"
    actor_network: Network = "mlp"  # "residual": a block with spectral normalisation for each hidden entry
    critic_network: Network = "mlp"
    n_critics: int = 2
    policy_mean: Literal["tanh", "linear"] = "tanh"
    policy_std: float | None = None  # fixed; None: learned, one number for each action dimension
    log_std_min: float = -5.0
    per_dimension: bool = False  # log-densities as a mean over action dimensions, not their sum
    pessimism: float | None = None  # None: the critics' minimum; else their mean less this times their mean distance
    actor_lr: Hyper = 3e-4
    critic_lr: Hyper = 3e-4
    gamma: Hyper = 0.99
    tau: Hyper = 0.005  # weight of the new parameters in the targets
    temperature: Hyper = 1.0  # divides the advantage
    weights: Literal["exponential", "softmax"] = "exponential"
    max_weight: Hyper = 100.0  # of exponential weights
    max_advantage: Hyper = math.inf  # before the temperature divides it
    value_samples: int = 1  # of the policy's actions, where they are the advantage's baseline
    data_value: Literal["aggregate", "mean"] = "aggregate"  # the critics' opinion of the data's action
    target_noise_clip: float | None = None  # bound of the next action's deviation from the mean; None: no bound
    cosine_steps: int = 0  # the actor's learning rate falls to 0 over so many offline updates; 0: it is constant
    actor_gain: float | None = None  # of orthogonal initial weights, with biases of 0; None: PyTorch's own
    critic_gain: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("actor_lr", "critic_lr", "temperature", "max_weight"):
            self.check_positive(name)
        for name in ("gamma", "tau"):
            self.check_between(name, 0.0, 1.0)
        for name in ("n_critics", "value_samples"):
            self.check_at_least(name, 1)
        for name in ("policy_std", "target_noise_clip", "actor_gain", "critic_gain"):
            if getattr(self, name) is not None:
                self.check_positive(name)
        if self.pessimism is not None:
            self.check_at_least("pessimism", 0.0)
        self.check_at_least("cosine_steps", 0)

    def _check(self, name: str, holds: Callable[[float], bool], expected: str) -> None:
        if name == "max_advantage" and self.max_advantage == math.inf:
            return
        super()._check(name, holds, expected)


class ExponentialWeights:
    """min(exp(A / temperature), largest); arXiv 2006.09359 and 2110.06169."""

    def __init__(self, temperature: float | Tensor, largest: float | Tensor):
        self.temperature = temperature
        self.log_largest = largest.log() if isinstance(largest, Tensor) else math.log(largest)

    def __call__(self, advantage: Tensor) -> Tensor:
        """(B,) -> (B,). The exponent is bounded first, so that it cannot overflow."""
        exponent = advantage / per_member(self.temperature, advantage)
        return exponent.clamp(max=per_member(self.log_largest, exponent)).exp()


class ScaledWeights(ExponentialWeights):
    """min(exp(alpha A), largest), with the alpha of a scale, which may have a gradient."""

    def __init__(self, scale: FixedScale | LearnedScale, largest: float | Tensor):
        super().__init__(1.0, largest)
        self.scale = scale

    def __call__(self, advantage: Tensor) -> Tensor:
        return super().__call__(per_member(self.scale.alpha, advantage) * advantage)


class SoftmaxWeights:
    """exp(A / temperature) over its sum in the batch; arXiv 2403.13097, equation 5."""

    def __init__(self, temperature: float | Tensor):
        self.temperature = temperature

    def __call__(self, advantage: Tensor) -> Tensor:
        """(B,) -> (B,), with sum 1."""
        return (advantage / per_member(self.temperature, advantage)).softmax(-1)


class Weighted(Agent):
    """A paper adds gradient_step, and what its advantage is."""

    config: WeightedConfig

    def build(self) -> None:
        c, sizes = self.config, (self.spec.observation_size, self.spec.action_size)
        self.aggregate: Aggregate = minimum if c.pessimism is None else Pessimistic(c.pessimism)
        self.data_aggregate: Aggregate = mean if c.data_value == "mean" else self.aggregate
        self.weights = (
            SoftmaxWeights(self.hyper.temperature)
            if c.weights == "softmax"
            else ExponentialWeights(self.hyper.temperature, self.hyper.max_weight)
        )

        def critic() -> Critic:
            return Critic(
                *sizes, c.critic_hidden, c.n_critics, self.lead, c.critic_norm, c.critic_network, c.activation
            )

        low, high = torch.tensor(self.spec.action_low), torch.tensor(self.spec.action_high)
        self.policy = Policy(self.new_actor(), critic(), sizes[0], low, high, self.aggregate)
        self.target_critic = critic().requires_grad_(False)
        self.initialize()
        self.target_critic.load_state_dict(self.critic.state_dict())
        self.targets = Targets((self.target_critic, self.critic))
        self.optimizers = {
            "actor": Adam(self.actor.parameters(), c.actor_lr),
            "critic": Adam(self.critic.parameters(), c.critic_lr),
        }

    def new_actor(self) -> NormalActor | DeterministicActor:
        c, sizes = self.config, (self.spec.observation_size, self.spec.action_size)
        return NormalActor(
            *sizes,
            c.actor_hidden,
            self.lead,
            c.actor_norm,
            c.policy_mean,
            c.policy_std,
            (c.log_std_min, 2.0),
            c.per_dimension,
            c.actor_network,
            c.activation,
        )

    def initialize(self) -> None:
        """Changes the initial parameters where a paper has its own; by default they are PyTorch's."""
        for network, gain in ((self.actor, self.config.actor_gain), (self.critic, self.config.critic_gain)):
            if gain is not None:
                orthogonal_(network.trunk, gain)

    @property
    def actor(self) -> NormalActor:
        return self.policy.actor  # type: ignore[return-value]

    @property
    def critic(self) -> Critic:
        return self.policy.critic

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Each critic towards r + gamma * the targets' opinion of one action of the policy's; errors are summed."""
        with torch.no_grad():
            noise = self.draws.normal("next_action_noise", batch.actions)
            next_actions = self.actor.distribution(batch.next_observations).sample(noise, self.config.target_noise_clip)
            next_q = self.aggregate(self.target_critic(batch.next_observations, next_actions))
        return self.td_loss(batch, next_q)

    def td_loss(self, batch: Batch, next_q: Tensor) -> tuple[Tensor, Metrics]:
        """The critics' squared errors, summed, against r + gamma * next_q (B,)."""
        target_q = td_target(self.scaled_rewards(batch), batch.terminations, next_q, self.hyper.gamma)
        qs = self.critic(batch.observations, batch.actions)  # (E, B)
        loss = squared_errors(qs, target_q).sum(-1)
        return loss, {"critic/loss": loss.detach(), "critic/q": qs.detach().mean((-2, -1))}

    @torch.no_grad()
    def sampled_advantage(self, batch: Batch) -> Tensor:
        """Q(s, a) - mean Q(s, a_k) over actions of the policy's own, (B,), by the critics as they are."""
        q = self.data_aggregate(self.critic(batch.observations, batch.actions))
        count, (rows, size) = self.config.value_samples, batch.actions.shape[-2:]
        noise = self.draws.normal("value_noise", batch.actions.new_empty(*self.lead, count, rows, size))
        distribution = self.actor.distribution(batch.observations)
        actions = BoxNormal(*(part.unsqueeze(-3) for part in distribution)).sample(noise)
        observations = batch.observations.unsqueeze(-3).expand(*self.lead, count, -1, -1)
        values = self.aggregate(self.critic(observations.flatten(-3, -2), actions.flatten(-3, -2)))  # (count * B,)
        return q - values.unflatten(-1, (count, rows)).mean(-2)

    def cloning_loss(self, batch: Batch, advantage: Tensor) -> tuple[Tensor, Metrics]:
        """mean of weight(A) * -log pi(a|s). advantage: (B,), without gradient."""
        limit = per_member(self.hyper.max_advantage, advantage)
        weights = self.weights(advantage.clamp(max=limit))
        errors = self.actor.cloning_errors(batch.observations, batch.actions, self.actor_masks(batch.observations))
        loss = (weights * errors).mean(-1)
        return loss, {
            "actor/loss": loss.detach(),
            "actor/advantage": advantage.mean(-1),
            "actor/weight": weights.detach().mean(-1),
            "actor/error": errors.detach().mean(-1),
        }

    def actor_masks(self, observations: Tensor) -> list[Tensor]:
        """Dropout of the actor in training; none."""
        return []

    def begin_update(self) -> None:
        super().begin_update()
        self.optimizers["actor"].scale_lr(self.actor_lr_factor())

    def actor_lr_factor(self) -> float:
        """Share of actor_lr in force before this update's step: a cosine over the offline updates, 1 online."""
        horizon = self.config.cosine_steps
        return 1.0 if horizon == 0 or self.online else cosine(self.updates - 1, horizon)

    def update_targets(self) -> None:
        self.targets.follow(self.hyper.tau)

    def explore(self, observations: Tensor) -> Tensor:
        """A draw from the policy."""
        return self.policy.sample(observations, self.acting.normal("exploration", self.policy(observations)))
