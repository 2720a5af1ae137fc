"""Adam for populations."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.agents.core.config import Hyper
from zoo.agents.core.members import per_member


class Adam(torch.optim.Adam):
    """torch's fused Adam, with a learning rate for each member of a population where one is given.

    Adam's step is proportional to its learning rate, so each member takes its share of a step of the largest rate.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: Hyper):
        self.rates = lr if isinstance(lr, tuple) else (lr,)
        largest = max(self.rates)
        super().__init__(list(parameters), lr=largest, fused=True)
        # A tensor, so that a recorded step reads the rate of its day. The kernel of a GPU takes float32 only.
        device = self.parameters[0].device
        dtype = torch.float64 if device.type == "cpu" else torch.float32
        self.param_groups[0]["lr"] = torch.tensor(largest, dtype=dtype, device=device)
        shares = [rate / largest if largest > 0.0 else 1.0 for rate in self.rates]
        self.share = torch.tensor(shares if isinstance(lr, tuple) else shares[0], dtype=torch.float64, device=device)
        self.uneven = min(shares) < 1.0
        self.operands: tuple[list[Tensor], ...] | None = None  # what the kernel takes, from the first step on

    @property
    def parameters(self) -> list[nn.Parameter]:
        return self.param_groups[0]["params"]

    @property
    def rate(self) -> Tensor:
        """The learning rate in force, () or (P,)."""
        return self.param_groups[0]["lr"] * self.share

    def scale_lr(self, factor: float) -> None:
        """Sets the learning rate to `factor` times the one given at the start."""
        self.param_groups[0]["lr"].fill_(factor * max(self.rates))

    def zero_grad(self, set_to_none: bool = True) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:  # type: ignore[override]
        self.descend()

    @torch.no_grad()
    def descend(self) -> None:
        """torch's kernel alone, without what its optimizer does around it, also around anything called `step`."""
        parameters = self.parameters
        if self.operands is None or len(self.state) < len(parameters):
            self.operands = self.begin()
        operands: Sequence[list[Tensor]] = self.operands
        if any(p.grad is None for p in parameters):
            moving = [i for i, p in enumerate(parameters) if p.grad is not None]
            operands = [[column[i] for i in moving] for column in operands]
        moved, first, second, steps = operands
        before = [p.clone() for p in moved] if self.uneven else []
        group = self.param_groups[0]
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(
            moved,
            [p.grad for p in moved if p.grad is not None],
            first,
            second,
            [],
            steps,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )
        for parameter, old in zip(moved, before, strict=False):
            parameter.copy_(old.lerp(parameter, per_member(self.share.to(parameter), parameter)))

    def begin(self) -> tuple[list[Tensor], ...]:
        """Parameters, first and second moments and steps; the state is torch's Adam's, zero where there is none yet."""
        parameters = self.parameters
        for parameter in parameters:
            if not self.state[parameter]:
                step = torch.zeros((), dtype=torch.float32, device=parameter.device)
                moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
                self.state[parameter] = {"step": step, **moments}
        states = [self.state[parameter] for parameter in parameters]
        return [*parameters], *([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.operands = None

    def clip_gradients(self, max_norm: float, lead: int) -> None:
        """Scales each member's gradients so that their joint norm is at most max_norm. lead: population dimensions."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.stack([g.flatten(lead).square().sum(-1) for g in gradients]).sum(0).sqrt()
        factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(per_member(factor, gradient))


def minimize_together(losses: Sequence[tuple[Tensor, Adam]]) -> None:
    """One step down each loss, every gradient taken before any parameter moves."""
    for loss, optimizer in losses:
        optimizer.zero_grad(set_to_none=True)
        loss.sum().backward(inputs=optimizer.parameters)
    for _, optimizer in losses:
        optimizer.descend()


def minimize(loss: Tensor, optimizer: Adam, max_norm: float | None = None) -> None:
    """One step down the loss (or the sum of a population's losses), moving the optimizer's own parameters only.

    max_norm: clips each member's gradient to that norm.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.sum().backward(inputs=optimizer.parameters)
    if max_norm is not None:
        optimizer.clip_gradients(max_norm, loss.dim())
    optimizer.descend()
