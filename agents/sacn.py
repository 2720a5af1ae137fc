"""SAC-N: soft actor-critic with many critics, whose minimum is pessimistic where the data do not reach.

An et al. 2021, "Uncertainty-Based Offline Reinforcement Learning with Diversified Q-Ensemble", arXiv 2110.01548,
section 3. Nothing but the number of critics differs from soft actor-critic; the paper needs up to 500 of them. Steps in
the order of its code: temperature, actor, critics, targets.
"""

import dataclasses

from torch import Tensor

from zoo.agents.core.batch import Batch
from zoo.agents.core.learner import Metrics
from zoo.agents.shared.losses import squared_errors
from zoo.agents.shared.soft import Soft, SoftConfig
from zoo.policies import final_uniform_, hidden_bias_


@dataclasses.dataclass(frozen=True)
class SACNConfig(SoftConfig):
    actor_hidden: tuple[int, ...] = (256, 256, 256)
    critic_hidden: tuple[int, ...] = (256, 256, 256)
    n_critics: int = 10
    log_std_min: float = -5.0


class SACN(Soft):
    Config = SACNConfig

    def initialize(self) -> None:
        for network, last in ((self.actor, 1e-3), (self.critic, 3e-3)):
            hidden_bias_(network.trunk, 0.1)
            final_uniform_(network.trunk, last)

    def gradient_step(self, batch: Batch) -> Metrics:
        actions, log_prob = self.act(batch)
        metrics = self.update_alpha(log_prob)
        metrics |= self.update_actor(batch, actions, log_prob)
        metrics |= self.update_critic(batch)
        self.targets.follow(self.hyper.tau)
        return metrics

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Each critic towards r + gamma (min of the targets - alpha log pi); the critics' errors are summed."""
        target_q = self.target_q(batch)
        qs = self.critic(batch.observations, batch.actions)  # (E, B)
        loss = squared_errors(qs, target_q).sum(-1)
        return loss, {"critic/loss": loss.detach(), "critic/q": qs.detach().mean((-2, -1))}
