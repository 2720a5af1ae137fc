"""ReBRAC: TD3+BC rebuilt, with cloning in the critic as well as in the actor.

Tarasov et al. 2023, "Revisiting the Minimalist Approach to Offline Reinforcement Learning", arXiv 2305.09836. On top
of TD3+BC: networks of three layers, LayerNorm in the critics, two separate weights of the cloning penalty, and the
minimum of the critics in the actor's loss. Both penalties are sums over the action dimensions.

Where the data have no next action (the end of an episode, a transition just collected online) the critic's penalty is
left out. Targets move towards the actor of after the step; the original code's lag one actor step behind.
"""

import dataclasses

from torch import Tensor

from zoo.agents.core.batch import COLUMNS, Batch
from zoo.agents.core.config import Hyper
from zoo.agents.core.learner import Metrics
from zoo.agents.core.members import per_member
from zoo.agents.shared.actor_critic import ActorCritic, ActorCriticConfig
from zoo.agents.shared.losses import magnitude, squared_errors, td_target
from zoo.policies import LayerNorm, final_uniform_, hidden_bias_, minimum
from zoo.policies.mlp import Norm


@dataclasses.dataclass(frozen=True)
class ReBRACConfig(ActorCriticConfig):
    actor_hidden: tuple[int, ...] = (256, 256, 256)
    critic_hidden: tuple[int, ...] = (256, 256, 256)
    critic_norm: Norm = "after"
    actor_cloning: Hyper = 0.01  # beta_1
    critic_cloning: Hyper = 0.01  # beta_2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("actor_cloning", "critic_cloning"):
            self.check_at_least(name, 0.0)


class ReBRAC(ActorCritic):
    """gradient_step is ActorCritic's."""

    Config = ReBRACConfig
    columns = (*COLUMNS, "next_actions", "next_action_valid")

    def initialize(self) -> None:
        for network, last in ((self.actor, 1e-3), (self.critic, 3e-3)):
            hidden_bias_(network.trunk, 0.1)
            final_uniform_(network.trunk, last)
        for module in self.modules():
            if isinstance(module, LayerNorm):
                module.eps = 1e-6  # the original's library's default

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Each critic towards r + gamma * (min of the targets - beta_2 * |a' - a'_data|^2); equation 4."""
        assert batch.next_actions is not None
        assert batch.next_action_valid is not None
        next_actions = self.target_actions(batch.next_observations)
        distance = (next_actions - batch.next_actions).square().sum(-1) * batch.next_action_valid  # (B,)
        next_q = minimum(self.target_critic(batch.next_observations, next_actions))
        next_q = next_q - per_member(self.hyper.critic_cloning, distance) * distance
        target_q = td_target(self.scaled_rewards(batch), batch.terminations, next_q, self.gamma)
        qs = self.critic(batch.observations, batch.actions)  # (E, B)
        loss = squared_errors(qs, target_q).sum(-1)
        return loss, {
            "critic/loss": loss.detach(),
            "critic/q": qs.detach().mean((-2, -1)),
            "critic/cloning": distance.mean(-1),
        }

    def actor_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """beta_1 * |pi - a|^2 - min Q(s, pi) / mean|min Q|; equation 5 with the Q term's normaliser."""
        pi = self.actor(batch.observations)  # (B, A)
        q = minimum(self.critic(batch.observations, pi))  # (B,)
        cloning = (pi - batch.actions).square().sum(-1).mean(-1)
        loss = self.hyper.actor_cloning * cloning - q.mean(-1) / magnitude(q)
        return loss, {"actor/loss": loss.detach(), "actor/bc": cloning.detach(), "actor/q": q.detach().mean(-1)}
