"""CQL with SSAR: the penalty weighted state by state, and only where the data deserve it.

Luo et al. 2025, arXiv 2505.19923; see agents/selective.py for what it shares with TD3+BC's version. beta(s), about
cql_alpha at first, takes the place of the penalty's one weight. The trust region is n standard deviations of the policy
to either side, and at most n tenths of the half box.
"""

import dataclasses
import math
from typing import Literal

import torch
from torch import Tensor

from zoo.agents.core.batch import COLUMNS, Batch
from zoo.agents.core.config import Hyper
from zoo.agents.core.learner import Metrics
from zoo.agents.core.members import per_member
from zoo.agents.cql import CQL, CQLConfig
from zoo.agents.shared.selective import Selective, SelectiveConfig
from zoo.policies import TanhNormal
from zoo.policies.mlp import Norm


@dataclasses.dataclass(frozen=True)
class CQLSAConfig(SelectiveConfig, CQLConfig):
    normalize_observations: bool = True  # CQL's own, which the other base would hide
    critic_norm: Norm = "before"
    coefficient_lr: Hyper = 1e-8
    cloning_weight: Hyper = 0.0  # of |a_pi - a|^2 in the actor's loss; AntMaze: 0.5
    region_step: float = 0.1  # largest half width of the trust region for each unit of n, in half boxes
    n_floor: float = 10.0  # log-densities of the data count no lower than at this n
    anneal_shape: Literal["cosine", "linear"] = "cosine"  # of the penalty's way to 0 online

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_at_least("cloning_weight", 0.0)
        if self.scale != "fixed":
            raise ValueError(f"CQLSA learns its weight by state: give scale='fixed', got {self.scale!r}")
        if self.return_floor != "none":
            raise ValueError("return_floor is Cal-QL's, for CQL without state-adaptive weights")
        for name in ("region_step", "n_floor"):
            self.check_positive(name)


class CQLSA(Selective, CQL):
    """gradient_step and critic_loss are CQL's.

    The defaults are those of the paper's code, which made its tables; preset="paper" is what its text says: the penalty
    falls linearly online (equation 15), n takes twenty steps in a million updates and forty in two (equation 8), and
    the buffer begins with the trusted rows. The region's largest width and the densities' floor are the code's alone.
    """

    Config = CQLSAConfig
    config: CQLSAConfig
    columns = (*COLUMNS, "trusted")

    def build(self) -> None:
        super().build()
        self.build_selection(1.5 * self.hyper.cql_alpha, self.hyper.gamma)

    def annealing(self, online_share: float) -> float:
        return math.cos(0.5 * math.pi * online_share) if self.config.anneal_shape == "cosine" else 1.0 - online_share

    @torch.no_grad()
    def penalty_weight(self, batch: Batch) -> Tensor:
        """beta(s), zero where the row is not trusted; online it falls to 0."""
        assert batch.trusted is not None
        trusted = batch.trusted if self.config.mask_cloning else 1.0
        return self.annealed * self.coefficient(batch.observations) * trusted

    def actor_loss(self, batch: Batch, actions: Tensor, log_prob: Tensor) -> tuple[Tensor, Metrics]:
        loss, metrics = super().actor_loss(batch, actions, log_prob)
        weight = self.hyper.cloning_weight
        if isinstance(weight, Tensor) or weight > 0.0:
            loss = loss + weight * (actions - batch.actions).square().sum(-1).mean(-1)
            metrics["actor/loss"] = loss.detach()
        return loss, metrics

    def after_step(self, batch: Batch) -> Metrics:
        """Offline, a step of the coefficient, with the actor of after its own."""
        if self.online:
            return {}
        beta = self.coefficient(batch.observations)
        return self.update_coefficient(batch, self.room(batch), beta) | {"coefficient/beta": beta.detach().mean(-1)}

    @torch.no_grad()
    def room(self, batch: Batch) -> Tensor:
        """log pi(a|s) - C_n(s), a mean over the dimensions, (B,); equations 5 and 6."""
        distribution = self.actor.distribution(batch.observations)
        floor = self.threshold(distribution, torch.full_like(self.n, self.config.n_floor))
        log_probs = torch.maximum(distribution.log_probs(batch.actions), floor)
        return (log_probs - self.threshold(distribution, self.n)).mean(-1)

    def threshold(self, distribution: TanhNormal, n: Tensor) -> Tensor:
        """C_n, (B, A): the lower of the log-densities at the two ends of the trust region of size n."""
        mean, log_std = distribution
        n = per_member(n, mean)  # type: ignore[assignment]
        centre, reach = torch.tanh(mean), n * self.config.region_step
        ends = [torch.tanh(mean + side * n * log_std.exp()).clamp(-0.99999, 0.99999) for side in (1.0, -1.0)]
        log_probs = [distribution.log_probs(end.clamp(centre - reach, centre + reach)) for end in ends]
        return torch.minimum(*log_probs)
