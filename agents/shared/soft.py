"""What soft actor-critics with an ensemble share: a squashed Gaussian, a learned temperature, critics with targets.

Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications", arXiv 1812.05905.
"""

import dataclasses

import torch
from torch import Tensor, nn

from zoo.agents.agent import Agent
from zoo.agents.core.batch import Batch
from zoo.agents.core.config import AgentConfig, Hyper
from zoo.agents.core.learner import Metrics
from zoo.agents.core.members import per_member
from zoo.agents.core.optim import Adam, minimize
from zoo.agents.shared.losses import Targets, td_target
from zoo.policies import Critic, GaussianActor, Policy, minimum
from zoo.policies.critic import Aggregate
from zoo.policies.mlp import Norm
from zoo.policies.residual import Network


@dataclasses.dataclass(frozen=True)
class SoftConfig(AgentConfig):
    actor_hidden: tuple[int, ...] = (256, 256)
    critic_hidden: tuple[int, ...] = (256, 256)
    critic_norm: Norm = "none"  # LayerNorm "before" or "after" each activation of the critics
    actor_network: Network = "mlp"  # "residual": a block with spectral normalisation for each hidden entry
    critic_network: Network = "mlp"
    n_critics: int = 2
    log_std_min: float = -20.0
    actor_lr: Hyper = 3e-4
    critic_lr: Hyper = 3e-4
    alpha_lr: Hyper = 3e-4  # of the temperature
    gamma: Hyper = 0.99
    tau: Hyper = 0.005  # weight of the new parameters in the targets
    target_entropy: Hyper = -1.0  # for each action dimension
    backup_entropy: bool = True  # the target counts the entropy of the next action

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("actor_lr", "critic_lr", "alpha_lr"):
            self.check_positive(name)
        for name in ("gamma", "tau"):
            self.check_between(name, 0.0, 1.0)
        self.check_at_least("n_critics", 1)


class Soft(Agent):
    """A paper adds gradient_step, and what it changes of the losses."""

    config: SoftConfig
    aggregate: Aggregate = staticmethod(minimum)  # the ensemble's one opinion, (..., E, B) -> (..., B)

    def build(self) -> None:
        c, sizes = self.config, (self.spec.observation_size, self.spec.action_size)
        actor = GaussianActor(
            *sizes, c.actor_hidden, self.lead, None, c.actor_network, (c.log_std_min, 2.0), c.activation
        )
        critic, self.target_critic = (
            Critic(*sizes, c.critic_hidden, c.n_critics, self.lead, c.critic_norm, c.critic_network, c.activation)
            for _ in range(2)
        )
        low, high = torch.tensor(self.spec.action_low), torch.tensor(self.spec.action_high)
        self.policy = Policy(actor, critic, sizes[0], low, high, self.aggregate)
        self.initialize()
        self.target_critic.requires_grad_(False).load_state_dict(critic.state_dict())
        self.targets = Targets((self.target_critic, critic))
        self.log_alpha = nn.Parameter(torch.zeros(self.lead))
        self.optimizers = {
            "alpha": Adam([self.log_alpha], c.alpha_lr),
            "actor": Adam(actor.parameters(), c.actor_lr),
            "critic": Adam(critic.parameters(), c.critic_lr),
        }

    def initialize(self) -> None:
        """Changes the initial parameters where a paper has its own; by default they are PyTorch's."""

    @property
    def actor(self) -> GaussianActor:
        return self.policy.actor  # type: ignore[return-value]

    @property
    def critic(self) -> Critic:
        return self.policy.critic

    @property
    def alpha(self) -> Tensor:
        """The temperature, () or (P,)."""
        return self.log_alpha.detach().exp()

    def act(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The policy's actions (B, A) at the batch's states, and their log-densities (B,)."""
        return self.actor.distribution(batch.observations).sample(self.draws.normal("policy_xi", batch.actions))

    def update_alpha(self, log_prob: Tensor) -> Metrics:
        """A step of the temperature on log-densities (B,) of the policy's own actions."""
        loss = self.alpha_loss(self.surplus_entropy(log_prob))
        minimize(loss, self.optimizers["alpha"])
        return {"alpha/loss": loss.detach(), "alpha/alpha": self.alpha}

    def surplus_entropy(self, log_prob: Tensor) -> Tensor:
        """How much more entropy the policy has than it is to have, ()."""
        return -log_prob.detach().mean(-1) - self.hyper.target_entropy * self.spec.action_size

    def alpha_loss(self, surplus: Tensor) -> Tensor:
        """log alpha times the surplus of entropy, (); the form of most implementations of equation 18."""
        return self.log_alpha * surplus

    def update_actor(self, batch: Batch, actions: Tensor, log_prob: Tensor) -> Metrics:
        loss, metrics = self.actor_loss(batch, actions, log_prob)
        minimize(loss, self.optimizers["actor"])
        return metrics

    def actor_loss(self, batch: Batch, actions: Tensor, log_prob: Tensor) -> tuple[Tensor, Metrics]:
        """mean alpha * log pi - Q(s, a). actions (B, A) and log_prob (B,): the policy's; arXiv 1812.05905, eq. 7."""
        qs = self.critic(batch.observations, actions)  # (E, B)
        q = self.actor_value(qs)  # (B,)
        loss = (per_member(self.alpha, q) * log_prob - q).mean(-1)
        return loss, {
            "actor/loss": loss.detach(),
            "actor/q": q.detach().mean(-1),
            "actor/q_std": qs.detach().std(-2, correction=0).mean(-1),
            "actor/entropy": -log_prob.detach().mean(-1),
        }

    def actor_value(self, qs: Tensor) -> Tensor:
        """What the actor climbs, (E, B) -> (B,)."""
        return self.aggregate(qs)

    def update_critic(self, batch: Batch) -> Metrics:
        loss, metrics = self.critic_loss(batch)
        minimize(loss, self.optimizers["critic"])
        return metrics

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        raise NotImplementedError

    def target_q(self, batch: Batch) -> Tensor:
        """r + gamma * (the targets' opinion of an action of the policy's, with or without its entropy), (B,)."""
        with torch.no_grad():
            distribution = self.actor.distribution(batch.next_observations)
            actions, log_prob = distribution.sample(self.draws.normal("next_xi", batch.actions))
            next_q = self.next_value(batch, actions)
            if self.config.backup_entropy:
                next_q = next_q - per_member(self.alpha, log_prob) * log_prob
        return td_target(self.scaled_rewards(batch), batch.terminations, next_q, self.hyper.gamma)

    def next_value(self, batch: Batch, actions: Tensor) -> Tensor:
        """The targets' one opinion of actions (B, A) at the next states, (B,)."""
        return self.aggregate(self.target_critic(batch.next_observations, actions))

    def explore(self, observations: Tensor) -> Tensor:
        """A draw from the policy."""
        return self.policy.sample(observations, self.acting.normal("exploration", self.policy(observations)))
