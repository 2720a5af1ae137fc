"""RLPD: online soft actor-critic, half of whose batches are offline data.

Ball et al. 2023, "Efficient Online Reinforcement Learning with Offline Data", arXiv 2302.02948. Ten critics with
LayerNorm, twenty critic steps for each environment step, a target of a random subset of the critics, and an actor that
climbs their mean.

It has no offline phase: `learn_offline(dataset, 0)` and then `finetune_online(env, steps, dataset=dataset)`. Offline,
where there are no environment steps, learn_offline moves the actor with every step of the critics.
"""

import dataclasses
from collections.abc import Hashable

from torch import Tensor

from zoo.agents.core.batch import Batch
from zoo.agents.core.config import Hyper
from zoo.agents.core.learner import Metrics
from zoo.agents.shared.losses import squared_errors
from zoo.agents.shared.soft import Soft, SoftConfig
from zoo.policies import minimum, xavier_uniform_
from zoo.policies.mlp import Norm


@dataclasses.dataclass(frozen=True)
class RLPDConfig(SoftConfig):
    critic_norm: Norm = "before"
    n_critics: int = 10
    target_subset: int = 2  # target critics of each update, chosen anew
    target_entropy: Hyper = -0.5
    learning_starts: int = 5_000  # environment steps of uniform random actions
    updates_per_step: int = 20  # of the critics; the actor and the temperature move with the last one

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.target_subset <= self.n_critics:
            raise ValueError(
                f"target_subset must be between 1 and n_critics={self.n_critics}, got {self.target_subset}"
            )


class RLPD(Soft):
    Config = RLPDConfig
    config: RLPDConfig

    def initialize(self) -> None:
        for network in (self.actor, self.critic):
            xavier_uniform_(network.trunk)

    def phase(self) -> tuple[Hashable, ...]:
        return (self.actor_due,)

    @property
    def actor_due(self) -> bool:
        """The last update of an environment step; offline every one."""
        return not self.online or self.online_updates % self.config.updates_per_step == 0

    def gradient_step(self, batch: Batch) -> Metrics:
        metrics = self.update_critic(batch)
        self.targets.follow(self.hyper.tau)
        if self.actor_due:
            actions, log_prob = self.act(batch)
            metrics |= self.update_actor(batch, actions, log_prob)
            metrics |= self.update_alpha(log_prob)
        return metrics

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Each critic towards r + gamma (min of a subset of the targets - alpha log pi); a mean over the critics."""
        target_q = self.target_q(batch)
        qs = self.critic(batch.observations, batch.actions)  # (E, B)
        loss = squared_errors(qs, target_q).mean(-1)
        return loss, {"critic/loss": loss.detach(), "critic/q": qs.detach().mean((-2, -1))}

    def next_value(self, batch: Batch, actions: Tensor) -> Tensor:
        chosen = self.draws.subset("target_subset", self.lead, self.config.target_subset, of=self.config.n_critics)
        return minimum(self.target_critic(batch.next_observations, actions, chosen))

    def actor_value(self, qs: Tensor) -> Tensor:
        return qs.mean(-2)

    def alpha_loss(self, surplus: Tensor) -> Tensor:
        """alpha, not its logarithm, times the surplus of entropy, ()."""
        return self.log_alpha.exp() * surplus

    def explore(self, observations: Tensor) -> Tensor:
        """A draw from the policy; uniform in the box before learning starts."""
        if self.env_steps < self.config.learning_starts:
            like = self.policy(observations)
            return self.policy.scale_actions(2.0 * self.acting.uniform("exploration", like) - 1.0)
        return super().explore(observations)
