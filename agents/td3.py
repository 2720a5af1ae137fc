"""TD3: the twin critics, smoothed targets and delayed actor that the rest of the family builds on.

Fujimoto, van Hoof and Meger 2018, "Addressing Function Approximation Error in Actor-Critic Methods", arXiv 1802.09477.
Nothing holds its actor to the data: on narrow logs its values diverge. It is a baseline, and a contender only where the
data explore.
"""

from torch import Tensor

from agents.actor_critic import ActorCritic, ActorCriticConfig
from agents.base import Metrics
from agents.batch import Batch

TD3Config = ActorCriticConfig


class TD3(ActorCritic):
    """critic_loss and update are ActorCritic's."""

    Config = TD3Config

    def actor_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """-mean Q_1(s, pi(s)); arXiv 1802.09477, algorithm 1."""
        q = self.critic.first(batch.observations, self.actor(batch.observations))  # (B,)
        loss = -q.mean(-1)
        return loss, {"actor/loss": loss.detach(), "actor/q": q.detach().mean(-1)}
