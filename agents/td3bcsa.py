"""TD3+BC with SSAR: cloning weighted state by state, and only where the data deserve it.

Luo et al. 2025, arXiv 2505.19923; see agents/selective.py for what it shares with CQL's version. On top of TD3+BC:
LayerNorm critics, and beta(s), about 1 / alpha at first, in place of the one cloning weight. The trust region is n
times delta wide.
"""

import dataclasses

import torch
from torch import Tensor

from zoo.agents.core.batch import Batch
from zoo.agents.core.config import Hyper
from zoo.agents.core.learner import Metrics
from zoo.agents.core.members import per_member
from zoo.agents.core.optim import minimize
from zoo.agents.shared.actor_critic import ActorCritic, ActorCriticConfig
from zoo.agents.shared.losses import cloning_errors, scale_free
from zoo.agents.shared.selective import Selective, SelectiveConfig
from zoo.policies.mlp import Norm


@dataclasses.dataclass(frozen=True)
class TD3BCSAConfig(SelectiveConfig, ActorCriticConfig):
    normalize_observations: bool = True
    critic_norm: Norm = "before"
    alpha: Hyper = 2.5  # TD3+BC's; beta begins at 1 / alpha and stays below 1.5 / alpha
    delta: Hyper = 0.1  # the unit of n, in half boxes
    # Online:
    exploration_noise: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("alpha", "delta"):
            self.check_positive(name)


class TD3BCSA(Selective, ActorCritic):
    """critic_loss and gradient_step are ActorCritic's. The targets move with the actor, however rarely that is.

    The defaults are those of the paper's code, which made its tables; preset="paper" is what its text says: n takes
    twenty steps in a million updates and forty in two (equation 8), and the buffer begins with the trusted rows.
    """

    Config = TD3BCSAConfig
    config: TD3BCSAConfig

    def build(self) -> None:
        super().build()
        self.build_selection(1.5 / self.hyper.alpha, self.hyper.gamma)

    @property
    def target_delay(self) -> int:
        return self.policy_delay

    def annealing(self, online_share: float) -> float:
        return 1.0 - online_share

    def update_actor(self, batch: Batch) -> Metrics:
        """-Q_1(s, pi) / mean|Q_1| + mean beta(s) (pi - a)^2; equations 13 to 15. Offline beta takes a step too."""
        assert batch.trusted is not None
        pi = self.actor(batch.observations)  # (B, A)
        q = self.critic.first(batch.observations, pi)  # (B,)
        with torch.set_grad_enabled(not self.online):
            beta = self.coefficient(batch.observations)  # (B,)
        errors = cloning_errors(pi, batch.actions)  # (B,)
        pull = self.annealed * beta.detach() * (batch.trusted if self.config.mask_cloning else 1.0)
        loss = (pull * errors).mean(-1) - scale_free(q).mean(-1)
        minimize(loss, self.optimizers["actor"])
        metrics = {
            "actor/loss": loss.detach(),
            "actor/bc": errors.detach().mean(-1),
            "actor/q": q.detach().mean(-1),
            "coefficient/beta": beta.detach().mean(-1),
        }
        if not self.online:
            metrics |= self.update_coefficient(batch, self.room(batch, pi.detach()), beta)
        return metrics

    def room(self, batch: Batch, pi: Tensor) -> Tensor:
        """n^2 delta^2 - (pi - a)^2, (B,), of equation 12; pi is the policy of before its step.

        A mean over the dimensions, of which each counts at most 1, as in the paper's code.
        """
        errors = (pi - batch.actions).square().clamp(max=1.0).mean(-1)
        return per_member((self.n * self.hyper.delta).square(), errors) - errors
