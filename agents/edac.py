"""EDAC: SAC-N whose critics are pushed apart, so that few do what many did.

An et al. 2021, "Uncertainty-Based Offline Reinforcement Learning with Diversified Q-Ensemble", arXiv 2110.01548,
section 4. Critics that all rise in one direction of the action have one minimum that rises too; a penalty on how far
their gradients at the data's actions point the same way keeps them apart.
"""

import dataclasses

import torch
from torch import Tensor

from zoo.agents.core.batch import Batch
from zoo.agents.core.config import Hyper
from zoo.agents.core.learner import Metrics
from zoo.agents.core.members import per_member
from zoo.agents.sacn import SACN, SACNConfig
from zoo.agents.shared.losses import squared_errors


@dataclasses.dataclass(frozen=True)
class EDACConfig(SACNConfig):
    eta: Hyper = 1.0  # weight of the similarity of the critics' gradients; 0 is SAC-N

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_at_least("eta", 0.0)
        if self.n_critics < 2:
            raise ValueError(f"EDAC keeps critics apart: n_critics must be at least 2, got {self.n_critics}")


class EDAC(SACN):
    """gradient_step is SAC-N's."""

    Config = EDACConfig

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """SAC-N's plus eta times the similarity of the critics' gradients; equation 3 and algorithm 1."""
        target_q = self.target_q(batch)
        members = batch.actions.unsqueeze(-3).expand(*self.lead, self.critic.members, *batch.actions.shape[-2:])
        members = members.detach().requires_grad_(True)  # (E, B, A): the data's actions, once for each critic
        observations = batch.observations.unsqueeze(-3).expand(*members.shape[:-1], -1)
        qs = self.critic.trunk(torch.cat([observations, members], dim=-1)).squeeze(-1)  # (E, B)
        (gradients,) = torch.autograd.grad(qs.sum(), members, create_graph=True)  # (E, B, A)
        similarity = similarity_of(gradients).mean(-1)
        td = squared_errors(qs, target_q).sum(-1)
        loss = td + per_member(self.hyper.eta, td) * similarity
        return loss, {
            "critic/loss": loss.detach(),
            "critic/td": td.detach(),
            "critic/similarity": similarity.detach(),
            "critic/q": qs.detach().mean((-2, -1)),
        }


def similarity_of(gradients: Tensor) -> Tensor:
    """Sum over pairs i != j of the cosine of gradients i and j, over E - 1: (E, B, A) -> (B,), in [-E / (E - 1), E].

    The sum over all pairs is the squared length of the unit gradients' sum, so that no (E, E) matrix is made.
    """
    members = gradients.shape[-3]
    unit = gradients / (gradients.norm(dim=-1, keepdim=True) + 1e-10)
    all_pairs = unit.sum(-3).square().sum(-1)
    return (all_pairs - unit.square().sum((-3, -1))) / (members - 1)
