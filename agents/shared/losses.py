"""Formulas that several papers share. Shapes without the leading population dimensions."""

import torch
from torch import Tensor, nn

from zoo.agents.core.members import per_member


def td_target(rewards: Tensor, terminations: Tensor, next_q: Tensor, gamma: float | Tensor) -> Tensor:
    """r + gamma * (1 - terminated) * next_q, no gradient; all (B,). A time limit is not a termination."""
    if not rewards.shape == terminations.shape == next_q.shape:
        raise ValueError(
            f"rewards {tuple(rewards.shape)}, terminations {tuple(terminations.shape)} and next_q "
            f"{tuple(next_q.shape)} must have one shape: a stray axis would broadcast and train without an error"
        )
    return (rewards + per_member(gamma, next_q) * (1.0 - terminations) * next_q).detach()


def squared_errors(qs: Tensor, target_q: Tensor) -> Tensor:
    """Mean squared error of each critic against one shared target: (E, B), (B,) -> (E,)."""
    if qs.shape[:-2] + qs.shape[-1:] != target_q.shape:
        raise ValueError(
            f"qs {tuple(qs.shape)} must be the target's shape {tuple(target_q.shape)} with an ensemble axis"
        )
    return (qs - target_q.unsqueeze(-2)).square().mean(-1)


def magnitude(q: Tensor) -> Tensor:
    """mean|q| over the batch, a constant for the gradient: (B,) -> ()."""
    return q.detach().abs().mean(-1)


def scale_free(q: Tensor) -> Tensor:
    """q over its mean magnitude in the batch, a constant for the gradient: (B,) -> (B,)."""
    return q / magnitude(q).unsqueeze(-1)


def cloning_errors(pi: Tensor, actions: Tensor) -> Tensor:
    """Squared distance to the data's actions, mean over the action dimensions: (B, A), (B, A) -> (B,)."""
    return (pi - actions).square().mean(-1)


def cloning_error(pi: Tensor, actions: Tensor) -> Tensor:
    """Squared distance to the data's actions, mean over batch and action dimensions: (B, A), (B, A) -> ()."""
    return cloning_errors(pi, actions).mean(-1)


class Targets:
    """Target networks, each of which follows its network."""

    def __init__(self, *pairs: tuple[nn.Module, nn.Module]):
        self.targets: list[Tensor] = [parameter for target, _ in pairs for parameter in target.parameters()]
        self.sources: list[Tensor] = [parameter for _, network in pairs for parameter in network.parameters()]

    def follow(self, tau: float | Tensor) -> None:
        """A step of the share tau of the way, a number or one for each member (P,)."""
        polyak_(self.targets, self.sources, tau)


@torch.no_grad()
def polyak_(targets: list[Tensor], sources: list[Tensor], tau: float | Tensor) -> None:
    """targets <- (1 - tau) * targets + tau * sources, in place."""
    if isinstance(tau, Tensor):
        for target, source in zip(targets, sources, strict=True):
            target.lerp_(source, per_member(tau, target))
    else:
        torch._foreach_lerp_(targets, sources, tau)
