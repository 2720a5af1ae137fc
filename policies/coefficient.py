"""A positive weight for every state."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.policies.mlp import MLP


class Coefficient(nn.Module):
    """bound * sigmoid of an MLP, about 2/3 of the bound at the start.

    SSAR's initialisation (arXiv 2505.19923, its code): Xavier-uniform weights, zero biases, ln 2 for the last one.
    Its learning rates are so small that parameters and moments must be float32 or float64.
    """

    def __init__(
        self,
        observation_size: int,
        bound: Tensor | float,
        hidden: Sequence[int] = (512, 512, 512),
        lead: Sequence[int] = (),
    ):
        super().__init__()
        self.bound = bound
        self.trunk = MLP((observation_size, *hidden, 1), lead)
        with torch.no_grad():
            for linear in self.trunk.linears:
                inputs, outputs = linear.weight.shape[-2:]  # type: ignore[index]
                limit = math.sqrt(6.0 / (inputs + outputs))
                linear.weight.uniform_(-limit, limit)  # type: ignore[operator]
                linear.bias.zero_()  # type: ignore[operator]
            linear.bias.fill_(math.log(2.0))  # type: ignore[operator]

    def forward(self, observations: Tensor) -> Tensor:
        """observations (..., B, O) -> weights (..., B) in (0, bound)."""
        bound = self.bound.unsqueeze(-1) if isinstance(self.bound, Tensor) else self.bound
        return bound * torch.sigmoid(self.trunk(observations).squeeze(-1))
