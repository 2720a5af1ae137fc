"""What the critics say in the data, at the edge of the action box and beyond it.

Actions are in half boxes, [-1, 1] inside. Sources: PARS (Kim et al. 2025, arXiv 2507.08761): table 1, figures 3 and 6.
The rays of `landscape` are a tool of our own for what its sketches show.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from zoo.policies import Policy

FAR = 3.0  # how far the rays go, in half boxes


class Disagreement(NamedTuple):
    """Mean standard deviation of the critics over their ensemble, in units of their values."""

    data: float  # at the data's actions
    policy: float  # at the actor's
    uniform: float  # at random ones in the box
    outside: float  # at random ones twice as far from the middle as the edge


class ActionNorms(NamedTuple):
    """Mean length over that of a corner of the box: 1 is a corner."""

    data: float
    policy: float
    maximiser: float  # of the action that the critics like best, found by climbing
    saturated: float  # share of its coordinates beyond 0.95


class Landscape(NamedTuple):
    """places (T,): how far along the rays, the edge is at 1. q (T,): the critics' one opinion there, a mean over rays.

    data_q: at the data's actions. upward: share of rays whose edge is valued above the data's own action.
    slope: dQ/dt at the edge, the median over the rays.
    """

    places: Tensor
    q: Tensor
    data_q: float
    upward: float
    slope: float
    far_q: float  # at the end of the rays


@torch.no_grad()
def disagreement(policy: Policy, observations: Tensor, actions: Tensor, generator: torch.Generator) -> Disagreement:
    """observations (B, O) normalised, actions (B, A) of the data. A critic alone agrees with itself: 0."""
    uniform = 2.0 * torch.rand(actions.shape, generator=generator, dtype=actions.dtype) - 1.0
    outside = 2.0 * uniform / uniform.abs().amax(-1, keepdim=True)  # on the edge of a box twice as wide
    found = [
        policy.critic(observations, a).std(-2, correction=0).mean().item()
        for a in (actions, policy.actor(observations), uniform, outside)
    ]
    return Disagreement(*found)


def action_norms(
    policy: Policy, observations: Tensor, actions: Tensor, steps: int = 200, lr: float = 0.05
) -> ActionNorms:
    """The lengths of actions (B, A) of the data, of the actor's and of the critics' favourites.

    The favourite is climbed to from the actor's action by Adam, inside the box: in the place of an actor that PARS
    trains to maximise frozen critics (table 1).
    """
    with torch.no_grad():
        pi = policy.actor(observations)
    free = torch.atanh(pi.clamp(-0.99, 0.99)).requires_grad_(True)
    optimizer = torch.optim.Adam([free], lr)
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(-policy.aggregate(policy.critic(observations, free.tanh())).sum(), free)
        free.grad = gradient
        optimizer.step()
    best = free.detach().tanh()
    corner = actions.shape[-1] ** 0.5
    logged, own, found = (float(a.norm(dim=-1).mean()) / corner for a in (actions, pi, best))
    return ActionNorms(logged, own, found, saturated=float((best.abs() > 0.95).float().mean()))


@torch.no_grad()
def landscape(policy: Policy, observations: Tensor, actions: Tensor, places: int = 61) -> Landscape:
    """Along rays from the middle of the box through the data's actions (B, A), to FAR times the edge."""
    t = torch.linspace(0.0, FAR, places, dtype=actions.dtype)
    rays = actions / actions.abs().amax(-1, keepdim=True).clamp(min=1e-6)  # each meets the edge at t = 1
    q = torch.stack([policy.aggregate(policy.critic(observations, place * rays)) for place in t])  # (T, B)
    data_q = policy.aggregate(policy.critic(observations, actions))
    step = 1e-3
    inner, edge, outer = (policy.aggregate(policy.critic(observations, s * rays)) for s in (1 - step, 1.0, 1 + step))
    return Landscape(
        places=t,
        q=q.mean(-1),
        data_q=data_q.mean().item(),
        upward=(edge > data_q).to(q.dtype).mean().item(),
        slope=((outer - inner) / (2 * step)).median().item(),
        far_q=q[-1].mean().item(),
    )
