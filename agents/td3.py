"""TD3: the twin critics, smoothed targets and delayed actor that the rest of the family builds on.

Fujimoto, van Hoof and Meger 2018, "Addressing Function Approximation Error in Actor-Critic Methods", arXiv 1802.09477.
Nothing holds its actor to the data: on narrow logs its values diverge. It is a baseline, and a contender only where the
data explore.

The preset "simple-ingredients" is the form of Cetin et al. 2024, arXiv 2403.13097: a stochastic policy of a fixed
deviation, the actor's loss and the target by one pessimistic opinion of all critics, no target actor, no delay, and
orthogonal initial weights.
"""

import dataclasses
from typing import Literal

from torch import Tensor

from zoo.agents.core.batch import Batch
from zoo.agents.core.config import Hyper
from zoo.agents.core.learner import Metrics
from zoo.agents.core.members import per_member
from zoo.agents.shared.actor_critic import ActorCritic, ActorCriticConfig
from zoo.agents.shared.losses import Targets
from zoo.policies import Pessimistic, minimum, orthogonal_


@dataclasses.dataclass(frozen=True)
class TD3Config(ActorCriticConfig):
    pessimism: float | None = None  # None: the critics' minimum; else their mean less this times their mean distance
    actor_critics: Literal["first", "all"] = "first"  # which critics the actor's loss asks
    policy_noise: Hyper = 0.0  # deviation of the action in the actor's loss, in half boxes
    actor_tau: Hyper | None = None  # of the target actor; None: tau. 1: the targets use the actor itself
    actor_gain: float | None = None  # of orthogonal initial weights, with biases of 0; None: PyTorch's own
    critic_gain: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("pessimism", "actor_tau"):
            if getattr(self, name) is not None:
                self.check_at_least(name, 0.0)
        for name in ("actor_gain", "critic_gain"):
            if getattr(self, name) is not None:
                self.check_positive(name)
        self.check_at_least("policy_noise", 0.0)


class TD3(ActorCritic):
    """critic_loss and gradient_step are ActorCritic's."""

    Config = TD3Config
    config: TD3Config

    def build(self) -> None:
        pessimism = self.config.pessimism
        self.aggregate = minimum if pessimism is None else Pessimistic(pessimism)
        super().build()
        self.actor_targets = Targets((self.target_actor, self.actor))  # each may have its own tau
        self.critic_targets = Targets((self.target_critic, self.critic))

    def initialize(self) -> None:
        for network, gain in ((self.actor, self.config.actor_gain), (self.critic, self.config.critic_gain)):
            if gain is not None:
                orthogonal_(network.trunk, gain)

    def actor_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """-mean Q_1(s, pi(s)); arXiv 1802.09477, algorithm 1."""
        q = self.q_of(batch, self.act(batch))  # (B,)
        loss = -q.mean(-1)
        return loss, {"actor/loss": loss.detach(), "actor/q": q.detach().mean(-1)}

    def act(self, batch: Batch) -> Tensor:
        """The policy's actions that the actor's loss is about, (B, A)."""
        pi = self.actor(batch.observations)
        sigma = self.hyper.policy_noise
        if not isinstance(sigma, Tensor) and sigma == 0.0:
            return pi
        noise = per_member(sigma, pi) * self.draws.normal("policy_noise", pi)
        return (pi + noise).clamp(-1.0, 1.0)

    def q_of(self, batch: Batch, actions: Tensor) -> Tensor:
        """The first critic's opinion, or the ensemble's one, (B,)."""
        if self.config.actor_critics == "first":
            return self.critic.first(batch.observations, actions)
        return self.aggregate(self.critic(batch.observations, actions))

    def update_targets(self) -> None:
        tau, actor_tau = self.hyper.tau, self.hyper.actor_tau
        self.critic_targets.follow(tau)
        self.actor_targets.follow(tau if actor_tau is None else actor_tau)
