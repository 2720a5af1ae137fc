"""ASPC: TD3+BC that learns the scale of its Q term while it trains.

Tan et al. 2026, "Adaptive Scaling of Policy Constraints for Offline Reinforcement Learning", arXiv 2508.19900. On top
of TD3+BC: three-layer critics with LayerNorm, and one learned number alpha = softplus(raw_alpha) for the fixed 2.5.
Every alpha_interval actor steps, the actor that the step made is scored by an outer loss on the same batch, and alpha
descends the gradient of that loss through the step (a real Adam step, with the actor's own moments).

The actor's loss is linear in alpha, so the gradient has a closed form and needs no second-order differentiation.
"""

import dataclasses
import math
from collections.abc import Hashable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.agents.core.batch import Batch
from zoo.agents.core.config import Hyper
from zoo.agents.core.learner import Metrics
from zoo.agents.core.members import per_member
from zoo.agents.core.optim import Adam, minimize
from zoo.agents.shared.actor_critic import ActorCritic, ActorCriticConfig
from zoo.agents.shared.learned_scale import inverse_softplus, through_adam
from zoo.agents.shared.losses import cloning_errors, scale_free, squared_errors, td_target
from zoo.policies import Value, final_uniform_, hidden_bias_, minimum
from zoo.policies.mlp import Norm


@dataclasses.dataclass(frozen=True)
class ASPCConfig(ActorCriticConfig):
    normalize_observations: bool = True
    critic_hidden: tuple[int, ...] = (256, 256, 256)
    critic_norm: Norm = "after"
    alpha: Hyper = 2.5  # where the learned scale begins
    # Of raw_alpha at the paper's interval of 10, and in proportion at others: as far a way in as many actor steps. 0
    # freezes the scale where it begins.
    alpha_lr: Hyper = 2e-3
    alpha_interval: int = 10  # actor steps for each step of raw_alpha
    alpha_lr_steps: int = 1_000_000  # critic steps over which that rate falls to 1 %
    # A line from alpha to here over alpha_lr_steps in place of learning, the paper's baseline of section 5.3; another
    # one, the scale frozen where a run has ended, is alpha=that, alpha_lr=0.
    alpha_end: Hyper | None = None
    q_memory: Hyper = 0.995  # weight of the old value in the average of mean Q
    outer_terms: Literal["L1", "L1+L2", "L1+L3", "L1+L2+L3"] = "L1+L2+L3"
    q_change: Literal["average", "one_step"] = "average"  # of mean Q in L2: of its average, or by this step alone
    l3: Literal[1, 2, 3, 4, 5] = 4  # the paper's variants of L3, appendix E.2
    # Appendix E.1, whose weights the paper does not print: cloning counts only where the data's action beats the
    # state's value ("indicator"), or by exp(advantage / temperature) up to 100 ("exp").
    cloning_weights: Literal["none", "indicator", "exp"] = "none"
    temperature: Hyper = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("alpha", "temperature"):
            self.check_positive(name)
        self.check_at_least("alpha_lr", 0.0)
        if self.alpha_end is not None:
            self.check_positive("alpha_end")
        for name in ("alpha_interval", "alpha_lr_steps"):
            self.check_at_least(name, 1)
        self.check_between("q_memory", 0.0, 1.0)

    @classmethod
    def upgrade(cls, settings: dict[str, Any], version: int) -> dict[str, Any]:
        """Before format 2 alpha_lr was for each actor step, a tenth of the paper's."""
        rate = settings["alpha_lr"]
        if version < 2:
            rate = [10.0 * each for each in rate] if isinstance(rate, list) else 10.0 * rate
        return settings | {"alpha_lr": rate}


class ASPC(ActorCritic):
    """gradient_step is ActorCritic's."""

    Config = ASPCConfig
    config: ASPCConfig
    mean_q: Tensor

    def build(self) -> None:
        super().build()
        c = self.config
        self.raw_alpha = nn.Parameter(inverse_softplus(torch.zeros(self.lead) + self.hyper.alpha))
        self.register_buffer("mean_q", torch.zeros(self.lead))  # the running average of mean Q
        self.optimizers["alpha"] = Adam([self.raw_alpha], c.alpha_lr)
        self.value: Value | None = None
        if c.cloning_weights != "none":
            self.value = Value(self.spec.observation_size, lead=self.lead, activation=c.activation)
            self.optimizers["critic"] = Adam([*self.critic.parameters(), *self.value.parameters()], c.critic_lr)

    def initialize(self) -> None:
        hidden_bias_(self.critic.trunk, 0.1)
        final_uniform_(self.critic.trunk, 3e-3)

    def begin_update(self) -> None:
        super().begin_update()
        steps = max(self.config.alpha_lr_steps // self.alpha_period, 1)
        decay = 0.01 ** min((self.updates // self.alpha_period - 1) / steps, 1.0)
        if self.alpha_due:
            self.optimizers["alpha"].scale_lr(self.config.alpha_interval / 10 * decay)
        if self.hyper.alpha_end is not None:
            share = min((self.updates - 1) / self.config.alpha_lr_steps, 1.0)
            line = self.hyper.alpha + share * (self.hyper.alpha_end - self.hyper.alpha)
            with torch.no_grad():
                self.raw_alpha.copy_(inverse_softplus(torch.zeros_like(self.raw_alpha) + line))

    def phase(self) -> tuple[Hashable, ...]:
        return (*super().phase(), self.alpha_due)

    @property
    def alpha_period(self) -> int:
        """Updates for each step of raw_alpha."""
        return self.policy_delay * self.config.alpha_interval

    @property
    def alpha_due(self) -> bool:
        return self.hyper.alpha_end is None and self.updates % self.alpha_period == 0

    @property
    def alpha(self) -> Tensor:
        """The scale in force, () or (P,)."""
        return nn.functional.softplus(self.raw_alpha.detach())

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """TD3's; with cloning weights the state's value is fitted to the same target, by the same optimizer."""
        next_actions = self.target_actions(batch.next_observations)
        next_q = minimum(self.target_critic(batch.next_observations, next_actions))
        target_q = td_target(self.scaled_rewards(batch), batch.terminations, next_q, self.gamma)
        qs = self.critic(batch.observations, batch.actions)  # (E, B)
        loss = squared_errors(qs, target_q).sum(-1)
        metrics = {"critic/loss": loss.detach(), "critic/q": qs.detach().mean((-2, -1))}
        if self.value is not None:
            loss = loss + (self.value(batch.observations) - target_q).square().mean(-1)
        return loss, metrics

    @torch.no_grad()
    def weights(self, batch: Batch) -> Tensor | float:
        """Each sample's weight in the cloning term, (B,) or 1."""
        if self.value is None:
            return 1.0
        advantage = self.critic.first(batch.observations, batch.actions) - self.value(batch.observations)  # (B,)
        if self.config.cloning_weights == "indicator":
            return (advantage > 0.0).to(advantage.dtype)
        return (advantage / per_member(self.hyper.temperature, advantage)).clamp(max=math.log(100.0)).exp()

    def update_actor(self, batch: Batch) -> Metrics:
        """The inner step, -alpha * Q_1(s, pi) / mean|Q_1| + mean (pi - a)^2, and where it is due alpha's own."""
        optimizer, alpha, weights = self.optimizers["actor"], self.alpha, self.weights(batch)
        pi = self.actor(batch.observations)  # (B, A)
        q = self.critic.first(batch.observations, pi)  # (B,)
        errors = cloning_errors(pi, batch.actions)  # (B,)
        q_term, bc = -scale_free(q).mean(-1), (weights * errors).mean(-1)
        loss = alpha * q_term + bc
        metrics = {"actor/loss": loss.detach(), "actor/bc": bc.detach(), "actor/q": q.detach().mean(-1)}

        due = self.alpha_due
        slopes = torch.autograd.grad(q_term.sum(), optimizer.parameters, retain_graph=True) if due else ()
        minimize(loss, optimizer)
        metrics["alpha/value"] = alpha
        if due:
            outer, outer_metrics = self.outer_loss(batch, weights, errors.detach(), q.detach().mean(-1))
            scores = torch.autograd.grad(outer.sum(), optimizer.parameters)
            self.raw_alpha.grad = self.raw_alpha_gradient(slopes, scores)
            self.optimizers["alpha"].step()
            metrics |= outer_metrics
        return metrics

    def outer_loss(
        self, batch: Batch, weights: Tensor | float, errors: Tensor, mean_q: Tensor
    ) -> tuple[Tensor, Metrics]:
        """L1 + L2 + L3 at the new actor. errors (B,), mean_q (): the cloning errors and mean Q of before the step."""
        c = self.config
        pi = self.actor(batch.observations)
        q = self.critic.first(batch.observations, pi)  # (B,)
        new_errors = cloning_errors(pi, batch.actions)
        l1 = (weights * new_errors).mean(-1) - self.alpha * scale_free(q).mean(-1)
        change = (1.0 - self.hyper.q_memory) * (q.mean(-1) - self.mean_q)
        self.mean_q.copy_(self.mean_q + change.detach())
        l2 = (q.mean(-1) - mean_q if c.q_change == "one_step" else change).square()

        moved = (errors - new_errors).abs()
        worst, worst_move = (errors.mean(-1), moved.mean(-1)) if c.l3 == 5 else (errors.amax(-1), moved.amax(-1))
        l3 = worst_move if c.l3 in (1, 3) else worst * worst_move
        l3 = l3 if c.l3 in (1, 2) else l2.detach() * l3

        loss = l1
        loss = loss + l2 if "L2" in c.outer_terms else loss
        loss = loss + l3 if "L3" in c.outer_terms else loss
        terms = {"loss": loss, "l1": l1, "l2": l2, "l3": l3}
        return loss, {f"alpha/{name}": term.detach() for name, term in terms.items()}

    def raw_alpha_gradient(self, slopes: tuple[Tensor, ...], scores: tuple[Tensor, ...]) -> Tensor:
        """d outer loss / d raw_alpha through the actor's last Adam step, () or (P,).

        slopes: d gradient / d alpha. scores: d outer loss / d parameter. Both by parameter.
        """
        gradient = through_adam(self.optimizers["actor"], slopes, scores, len(self.lead))
        return gradient * torch.sigmoid(self.raw_alpha.detach())
