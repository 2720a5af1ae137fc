"""Actors that see some of the observations only, as a robot's: critics that help to train them may see all."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.policies.actor import DeterministicActor, GaussianActor, NormalActor
from zoo.policies.critic import NoCritic
from zoo.policies.policy import Policy

ACTORS = (DeterministicActor, GaussianActor, NormalActor)  # whose networks take observations alone


def limit_sight(module: nn.Module, columns: Sequence[int]) -> None:
    """Every actor in a module sees these columns of the observations, and no others.

    Raises ValueError where there is no actor whose network takes observations alone.
    """
    actors = [actor for actor in module.modules() if isinstance(actor, ACTORS)]
    if not actors:
        raise ValueError(
            "the sight of this agent's actor cannot be limited: its network takes noise beside observations"
        )
    for actor in actors:
        actor.trunk.see_only(columns)


@torch.no_grad()
def narrowed(policy: Policy, columns: Sequence[int]) -> Policy:
    """A copy of a policy without population whose observations are these columns alone: its actor, and no critic."""
    places = list(columns)
    narrow = copy.deepcopy(policy)
    narrow.critic = NoCritic()
    first = narrow.actor.trunk.linears[0]
    weight = first.weight
    assert isinstance(weight, Tensor)
    first.weight = nn.Parameter(weight[places].clone())
    narrow.actor.trunk.sight = None
    for name, buffer in policy.named_buffers(recurse=False):
        if name.startswith("observation_"):
            setattr(narrow, name, buffer[places].clone())
    return narrow
