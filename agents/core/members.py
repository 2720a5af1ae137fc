"""Hyper-parameters that are one number, or one for each member of a population."""

from torch import Tensor


def per_member(value: float | Tensor, like: Tensor) -> float | Tensor:
    """A hyper-parameter ready to multiply `like`: a number as it is, one per member (P,) as (P, 1, ..., 1)."""
    if isinstance(value, Tensor):
        return value.reshape(*value.shape, *(1,) * (like.dim() - value.dim()))
    return value


def affine(rewards: Tensor, scale: float | Tensor, shift: float | Tensor) -> Tensor:
    """scale * rewards + shift, (B,) -> (B,)."""
    return per_member(scale, rewards) * rewards + per_member(shift, rewards)
