"""How much a step at one point moves a network elsewhere: its neural tangent kernel.

PARS (Kim et al. 2025, arXiv 2507.08761), section 3 and its figures of normalised maps. What is normalised is not said
there; here it is the cosine of the gradients, K(p, x) / sqrt(K(p, p) K(x, x)).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def gradient(value: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """All of d value / d parameters as one vector. value: ()."""
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    parts = [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]
    return torch.cat([part.flatten() for part in parts])


def similarity(
    function: Callable[[Tensor], Tensor], parameters: Sequence[nn.Parameter], anchor: Tensor, points: Tensor
) -> Tensor:
    """The cosine of the gradients at the anchor (D,) and at each of the points (N, D); (N,).

    function: inputs (1, D) -> value (1,). A point whose gradient is zero has similarity 0.
    """
    at_anchor = gradient(function(anchor.unsqueeze(0)).sum(), parameters)
    found = []
    for point in points:
        here = gradient(function(point.unsqueeze(0)).sum(), parameters)
        found.append(at_anchor @ here / (at_anchor.norm() * here.norm()).clamp(min=1e-30))
    return torch.stack(found)
