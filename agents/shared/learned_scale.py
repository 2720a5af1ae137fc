"""ASPC's learned scale in the loss of another paper: alpha * improvement + constraint, with alpha learned on the way.

Tan et al. 2026, arXiv 2508.19900, appendix D, which does it to IQL, CQL, Diffusion-QL and FQL. Every scale_interval
updates the network that a real Adam step has just made is scored on the same batch, and alpha = softplus(raw) descends
the gradient of that score through the step.

Printed in the paper: one gradient step inside, and a score of exactly two terms, L1 + L2: L1 is the normalised Q and
the constraint of after the step, L2 the squared change of mean Q by the step. Not printed, and reconstructed here:
where in the score alpha stands (as in the loss, a constant), which critics give Q (the agent's own opinion of its own
action), where alpha begins (at the agent's own setting), and its rate and interval (those of ASPC on TD3+BC).

An agent builds its loss with self.scale.alpha and hands it to self.scale.minimize with a function that gives L1 and
mean Q at the parameters as they are. That is all; scale="fixed" makes the same call a plain step.
"""

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from zoo.agents.agent import Agent
from zoo.agents.core.config import AgentConfig, Hyper
from zoo.agents.core.learner import Metrics
from zoo.agents.core.members import per_member
from zoo.agents.core.optim import Adam, minimize

Score = Callable[[], tuple[Tensor, ...]]  # -> L1, mean Q, and what else the agent reports; all ()


@dataclasses.dataclass(frozen=True)
class ScaleConfig(AgentConfig):
    scale: Literal["fixed", "learned", "linear"] = "fixed"  # of the agent's loss; where it begins is the agent's own
    scale_end: Hyper | None = None  # "linear": where it ends,
    scale_steps: int = 1_000_000  # after so many updates; "learned": its rate falls to 1 % over them
    scale_lr: Hyper = 2e-3  # "learned": of raw at an interval of 10, and in proportion at others
    scale_interval: int = 10  # updates for each step of raw

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("scale_lr")
        for name in ("scale_steps", "scale_interval"):
            self.check_at_least(name, 1)
        if (self.scale == "linear") != (self.scale_end is not None):
            raise ValueError(f"scale_end is where scale='linear' ends: got {self.scale_end} with scale={self.scale!r}")
        if self.scale_end is not None:
            self.check_at_least("scale_end", 0.0)


class FixedScale:
    """A scale that stays as it is."""

    due = False

    def __init__(self, alpha: float | Tensor):
        self.alpha = alpha

    def begin_update(self, updates: int) -> None:
        """Told the number of this update, from 1 on, before it begins."""

    def minimize(self, loss: Tensor, optimizer: Adam, score: Score, max_norm: float | None = None) -> Metrics:
        """One step of the optimizer down the loss."""
        minimize(loss, optimizer, max_norm)
        return {}


class LinearScale(FixedScale):
    """From one number to another along a line; a baseline of the paper's section 5.3."""

    alpha: Tensor

    def __init__(self, start: Tensor, end: float | Tensor, steps: int):
        super().__init__(start.clone())
        self.start, self.end, self.steps = start, end, steps

    def begin_update(self, updates: int) -> None:
        self.alpha.copy_(self.start + (self.end - self.start) * min((updates - 1) / self.steps, 1.0))

    def minimize(self, loss: Tensor, optimizer: Adam, score: Score, max_norm: float | None = None) -> Metrics:
        super().minimize(loss, optimizer, score, max_norm)
        return {"scale/value": self.alpha.clone()}


class LearnedScale(nn.Module):
    """start: () or (P,), above 0."""

    def __init__(self, start: Tensor, config: ScaleConfig):
        super().__init__()
        self.raw = nn.Parameter(inverse_softplus(start))
        self.optimizer = Adam([self.raw], config.scale_lr)
        self.interval, self.steps = config.scale_interval, config.scale_steps
        self.due = False

    @property
    def alpha(self) -> Tensor:
        """(), or (P,), with the gradient that the step needs."""
        return nn.functional.softplus(self.raw)

    def begin_update(self, updates: int) -> None:
        self.due = updates % self.interval == 0
        if self.due:
            done = (updates // self.interval - 1) / max(self.steps // self.interval, 1)
            self.optimizer.scale_lr(self.interval / 10 * 0.01 ** min(done, 1.0))

    def minimize(self, loss: Tensor, optimizer: Adam, score: Score, max_norm: float | None = None) -> Metrics:
        """One step of the optimizer down the loss, which is a function of alpha, and where it is due one of raw.

        score: at the parameters as they are, so it is asked before the step and after it.
        """
        value = self.alpha.detach()
        if not self.due:
            minimize(loss, optimizer, max_norm)
            return {"scale/value": value}
        with torch.no_grad():
            before = score()[1]
        parameters, lead = optimizer.parameters, self.raw.dim()
        (improvement,) = torch.autograd.grad(loss.sum(), self.raw, create_graph=True)  # d loss / d raw, still a graph
        slopes = torch.autograd.grad(improvement.sum(), parameters, retain_graph=True, materialize_grads=True)
        optimizer.zero_grad()
        loss.sum().backward(inputs=parameters)
        if max_norm is not None:
            slopes = through_clipping([p.grad for p in parameters if p.grad is not None], slopes, max_norm, lead)
            optimizer.clip_gradients(max_norm, lead)
        optimizer.descend()
        l1, mean_q, *_ = score()
        l2 = (mean_q - before).square()
        scores = torch.autograd.grad((l1 + l2).sum(), parameters, materialize_grads=True)
        self.raw.grad = through_adam(optimizer, slopes, scores, lead)
        self.optimizer.descend()
        return {"scale/value": value, "scale/l1": l1.detach(), "scale/l2": l2.detach()}


class Scaled(Agent):
    """An agent whose loss has a scale. It calls add_scale in build."""

    config: ScaleConfig
    scale: FixedScale | LearnedScale

    def add_scale(self, start: float | Tensor) -> None:
        """start: the agent's own setting, one number or (P,). Call it once self.optimizers are made."""
        if self.config.scale == "fixed":
            self.scale = FixedScale(start)
            return
        whole = torch.zeros(self.lead) + start
        if not self.device.type == "meta" and not (whole > 0.0).all():
            raise ValueError(f"scale={self.config.scale!r} begins at the agent's own setting, which must be above 0")
        if self.config.scale == "linear":
            self.scale = LinearScale(whole, self.hyper.scale_end, self.config.scale_steps)
        else:
            self.scale = LearnedScale(whole, self.config)
            self.optimizers["scale"] = self.scale.optimizer

    def begin_update(self) -> None:
        super().begin_update()
        self.scale.begin_update(self.updates)

    def phase(self) -> tuple[Hashable, ...]:
        return (*super().phase(), self.scale.due)


def inverse_softplus(alpha: Tensor) -> Tensor:
    """The number whose softplus is alpha > 0."""
    return alpha + torch.log(-torch.expm1(-alpha))


@torch.no_grad()
def through_adam(optimizer: Adam, slopes: Sequence[Tensor], scores: Sequence[Tensor], lead: int) -> Tensor:
    """d score / d x through the optimizer's last step, () or (P,), whose gradients depend on x.

    slopes: d gradient / d x. scores: d score / d parameter. Both by parameter. lead: population dimensions. An entry
    whose second moment is zero has never had a gradient: its step is zero whatever x is.
    """
    (beta1, beta2), eps = optimizer.param_groups[0]["betas"], optimizer.param_groups[0]["eps"]
    total = optimizer.rate.new_zeros(()).to(slopes[0])
    for parameter, slope, score in zip(optimizer.parameters, slopes, scores, strict=True):
        state = optimizer.state[parameter]
        steps, gradient = state["step"].double(), parameter.grad
        assert gradient is not None
        share1, share2 = (((1.0 - beta) / (1.0 - beta**steps)).to(slope) for beta in (beta1, beta2))
        first = state["exp_avg"] * (share1 / (1.0 - beta1))  # the moments, freed of their start at 0
        root = (state["exp_avg_sq"] * (share2 / (1.0 - beta2))).sqrt()
        scale = root + eps
        curvature = first / scale * (share2 * gradient / root)  # in this order no product leaves float32's range
        direction = slope / scale * (share1 - torch.where(root == 0.0, 0.0, curvature))
        total = total - (score * direction).flatten(lead).sum(-1)
    return optimizer.rate.to(total) * total


@torch.no_grad()
def through_clipping(
    gradients: Sequence[Tensor], slopes: Sequence[Tensor], max_norm: float, lead: int
) -> tuple[Tensor, ...]:
    """d clipped gradient / d x, by parameter, where Adam.clip_gradients is about to clip the gradients.

    slopes: d gradient / d x. A norm n above max_norm scales by f = max_norm / (n + 1e-6), which depends on x too.
    """
    norm = torch.stack([g.flatten(lead).square().sum(-1) for g in gradients]).sum(0).sqrt()
    growth = torch.stack([(g * h).flatten(lead).sum(-1) for g, h in zip(gradients, slopes, strict=True)]).sum(0)
    clipped = norm + 1e-6 > max_norm
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    pull = torch.where(clipped, growth / (norm * (norm + 1e-6)), 0.0)  # d log f / d x, negative
    return tuple(per_member(factor, h) * (h - per_member(pull, g) * g) for g, h in zip(gradients, slopes, strict=True))
