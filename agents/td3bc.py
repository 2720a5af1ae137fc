"""TD3+BC: TD3 whose actor also clones the data.

Fujimoto and Gu 2021, "A Minimalist Approach to Offline Reinforcement Learning", arXiv 2106.06860. On top of TD3:
the actor's loss adds the squared distance to the data's action, the Q term is scaled by alpha over its mean magnitude,
and observations are normalised. With alpha = 0 the actor is plain behaviour cloning. The preset "simple-ingredients" is
the form of Cetin et al. 2024, arXiv 2403.13097, on top of TD3's; its own coefficient is 1 / alpha.
"""

import dataclasses

from torch import Tensor

from zoo.agents.core.batch import Batch
from zoo.agents.core.config import Hyper
from zoo.agents.core.learner import Metrics
from zoo.agents.shared.losses import cloning_error, scale_free
from zoo.agents.td3 import TD3, TD3Config


@dataclasses.dataclass(frozen=True)
class TD3BCConfig(TD3Config):
    normalize_observations: bool = True
    alpha: Hyper = 2.5  # weight of Q against cloning

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_at_least("alpha", 0.0)


class TD3BC(TD3):
    """critic_loss and gradient_step are TD3's, inherited from ActorCritic."""

    Config = TD3BCConfig

    def actor_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """-alpha * Q_1(s, pi) / mean|Q_1| + mean (pi - a)^2; arXiv 2106.06860, equation 3 with its normaliser 5."""
        pi = self.act(batch)  # (B, A)
        q = self.q_of(batch, pi)  # (B,)
        bc = cloning_error(pi, batch.actions)
        loss = bc - self.hyper.alpha * scale_free(q).mean(-1)
        return loss, {"actor/loss": loss.detach(), "actor/bc": bc.detach(), "actor/q": q.detach().mean(-1)}
