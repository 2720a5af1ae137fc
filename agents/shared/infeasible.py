"""Actions that no robot can take: where PARS pulls the critics to a floor (arXiv 2507.08761, section 4.2)."""

import torch
from torch import Tensor

from zoo.agents.core.draws import Draws
from zoo.agents.core.members import per_member


@torch.no_grad()
def infeasible_actions(draws: Draws, actions: Tensor, distance: float | Tensor, any_dim: bool = False) -> Tensor:
    """Actions far outside the box [-1, 1], of the shape of `actions` (B, A): +-[L, 2L] in every dimension.

    distance: L, in half boxes, a number or one for each member (P,). With any_dim only a random non-empty set of
    dimensions is out there (the paper's equation 1), and the others are uniform in the box; else it is the paper's
    listing.
    """
    side = 2.0 * draws.uniform("infeasible_uniform", actions) - 1.0
    outside = per_member(distance, actions) * torch.where(side < 0.0, side - 1.0, side + 1.0)
    if not any_dim:
        return outside
    size = actions.shape[-1]
    sets = 1 + draws.indices("infeasible_dims", (*actions.shape[:-1], 1), 2**size - 1)  # one bit a dimension
    chosen = (sets >> torch.arange(size, device=actions.device)) & 1
    return torch.where(chosen.bool(), outside, side)
