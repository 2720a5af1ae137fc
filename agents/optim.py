"""Adam for populations."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from agents.config import Hyper
from agents.losses import per_member


class Adam(torch.optim.Adam):
    """torch's fused Adam, with a learning rate for each member of a population where one is given.

    Adam's step is proportional to its learning rate, so each member takes its share of a step of the largest rate.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: Hyper):
        self.rates = lr if isinstance(lr, tuple) else (lr,)
        super().__init__(list(parameters), lr=max(self.rates), fused=True)
        share = torch.tensor(self.rates, dtype=torch.float64) / max(self.rates)
        self.shares = [per_member(share.to(p), p) for p in self.parameters] if share.min() < 1.0 else []

    @property
    def parameters(self) -> list[nn.Parameter]:
        return self.param_groups[0]["params"]

    def scale_lr(self, factor: float) -> None:
        """Sets the learning rate to `factor` times the one given at the start."""
        self.param_groups[0]["lr"] = factor * max(self.rates)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        before = [p.clone() for p in self.parameters] if self.shares else []
        super().step()
        for parameter, old, share in zip(self.parameters, before, self.shares, strict=False):
            parameter.copy_(old.lerp(parameter, share))


def minimize(loss: Tensor, optimizer: Adam) -> None:
    """One step down the loss (or the sum of a population's losses), moving the optimizer's own parameters only."""
    optimizer.zero_grad(set_to_none=True)
    loss.sum().backward(inputs=optimizer.parameters)
    optimizer.step()
