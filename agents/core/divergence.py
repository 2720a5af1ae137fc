"""An agent that has diverged: what is no longer finite in it, and since when."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from zoo.agents.core.finite import NotFiniteError
from zoo.agents.core.learner import Learner


def check_agent(agent: Learner) -> None:
    """Raises NotFiniteError where a parameter or an optimizer's moment is not finite, naming it and since when.

    Waits for the device, so it is for log points and files, not for updates.
    """
    bad = broken(agent)
    if not bad:
        agent.finite_at = agent.num_timesteps
        return
    since = "" if agent.finite_at is None else f"; at step {agent.finite_at:,} all were finite"
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    members = sorted({member for _, member in bad if member is not None})
    several = len(members) > 1
    whose = f"member{'s' * several} {', '.join(map(str, members))} of the " if members else "the "
    names = ", ".join(dict.fromkeys(name for name, _ in bad[:3]))
    rest = "; agent.member(i) still gives the others" if members and len(members) < (agent.population or 0) else ""
    raise NotFiniteError(
        f"{whose}{type(agent).__name__} {'have' if several else 'has'} numbers that are not finite at step "
        f"{agent.num_timesteps:,}, in {names}{more}{since}. Training has diverged: go on from an earlier checkpoint "
        f"with a lower learning rate or a smaller reward_scale{rest}"
    )


def broken(agent: Learner) -> list[tuple[str, int | None]]:
    """Names of the tensors that are not finite, each with the member of the population it belongs to."""
    tensors = list(learned(agent))
    if not tensors:
        return []
    finite = torch.stack([_finite(tensor, agent.lead) for _, tensor in tensors]).cpu()  # (tensors,) or (tensors, P)
    rows = (~finite).nonzero().tolist()
    return [(tensors[row[0]][0], row[1] if agent.lead else None) for row in rows]


def learned(agent: Learner) -> Iterator[tuple[str, Tensor]]:
    """What learning changes: parameters, and the moments of the optimizers."""
    yield from agent.named_parameters()
    for name, optimizer in agent.optimizers.items():
        for parameter, moments in optimizer.state.items():
            for key, value in moments.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    yield f"{key} of optimizer {name}", value


def _finite(tensor: Tensor, lead: tuple[int, ...]) -> Tensor:
    """Whether all of it is finite, () or one for each member (P,)."""
    finite = tensor.detach().isfinite()
    if tensor.shape[:1] == lead:
        return finite.reshape(*lead, -1).all(-1)
    return finite.all().expand(lead)  # one agent's, or what the members share
