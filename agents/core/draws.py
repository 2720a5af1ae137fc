"""Every random number that an update uses."""

from collections.abc import Sequence

import torch
from torch import Tensor


def dropout_masks(draws: "Draws", name: str, rate: float, observations: Tensor, widths: Sequence[int]) -> list[Tensor]:
    """A mask (..., B, width) for each hidden layer of an actor, 0 or 1 / (1 - rate); none at a rate of 0."""
    if rate == 0.0:
        return []
    shapes = [observations.new_empty(*observations.shape[:-1], width) for width in widths]
    kept = [draws.uniform(f"{name}_{k}", like) >= rate for k, like in enumerate(shapes)]
    return [mask.to(observations.dtype) / (1.0 - rate) for mask in kept]


class Draws:
    """Named draws from one generator, whose state is part of the checkpoint.

    A draw is asked for by name, so that a test can replay recorded numbers in its place.
    """

    def __init__(self, seed: int, device: torch.device):
        self.generator = torch.Generator(device).manual_seed(seed)
        self.device = device

    def set_state(self, state: Tensor) -> None:
        """Goes on from a saved state. One from another kind of device means nothing here: the stream starts afresh."""
        if state.numel() == self.generator.get_state().numel():
            self.generator.set_state(state)

    def normal(self, name: str, like: Tensor) -> Tensor:
        """Standard normal, of the shape and dtype of `like`."""
        return torch.randn(like.shape, generator=self.generator, device=self.device, dtype=like.dtype)

    def uniform(self, name: str, like: Tensor) -> Tensor:
        """Uniform in [0, 1), of the shape and dtype of `like`."""
        return torch.rand(like.shape, generator=self.generator, device=self.device, dtype=like.dtype)

    def subset(self, name: str, lead: tuple[int, ...], size: int, of: int) -> Tensor:
        """`size` of `of` indices without replacement, a set for each leading index: (*lead, size), long."""
        keys = torch.rand(*lead, of, generator=self.generator, device=self.device)
        return keys.topk(size, dim=-1).indices

    def indices(self, name: str, shape: tuple[int, ...], below: int) -> Tensor:
        """Integers in [0, below), with replacement."""
        return torch.randint(below, shape, generator=self.generator, device=self.device)
