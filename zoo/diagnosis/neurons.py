"""Neurons that do nothing: dormant ones, and the share of zeros among the activations.

Sokar et al. 2023, "The Dormant Neuron Phenomenon in Deep Reinforcement Learning", arXiv 2302.12902, equation 1; PARS
(Kim et al. 2025, arXiv 2507.08761, figure 7) reports it with a threshold of 0.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
HIDDEN = {aten.relu.default, aten.relu_.default, aten.gelu.default, aten.mish.default, aten.silu.default}


class Neurons(NamedTuple):
    """dormant: share of hidden neurons with a score of at most tau. zeros: share of activations that are 0."""

    dormant: float
    zeros: float


class Activations(TorchDispatchMode):
    """Keeps what the activation functions of hidden layers give, layer by layer, of whatever network runs inside."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in HIDDEN:
            self.layers.append(out.detach().clone())  # a ReLU in place is written over by the next layer
        return out


@torch.no_grad()
def neurons(run: Callable[[], object], tau: float = 0.0) -> Neurons:
    """Of every hidden layer that `run` passes a batch through; a mean over the members of an ensemble.

    A neuron's score is its mean |activation| over the batch, over the layer's mean of that. Raises ValueError where
    nothing was activated.
    """
    with Activations() as kept:
        run()
    if not kept.layers:
        raise ValueError("no hidden layer with ReLU, GELU, Mish or SiLU was run: there are no neurons to count")
    dormant, count, zeros, total = 0.0, 0, 0.0, 0
    for layer in kept.layers:  # (..., B, width)
        activity = layer.abs().mean(-2)  # (..., width)
        score = activity / (activity.mean(-1, keepdim=True) + 1e-9)
        dormant, count = dormant + float((score <= tau).sum()), count + score.numel()
        zeros, total = zeros + float((layer == 0.0).sum()), total + layer.numel()
    return Neurons(dormant / count, zeros / total)
