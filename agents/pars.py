"""PARS: reward scaling with LayerNorm, and a penalty on infeasible actions.

Kim et al. 2025, "Penalizing Infeasible Actions and Reward Scaling in Reinforcement Learning with Offline Data",
arXiv 2507.08761. On top of TD3+BC:
  1. rewards are multiplied by reward_scale inside the critic loss, and the critics have LayerNorm;
  2. the critics are pulled to a constant Q_min at actions far outside the box;
  3. a larger ensemble: a random subset's minimum in the target, the minimum over all in the offline actor loss, the
     mean of a random subset in the online one.
Choices that the paper leaves open: the actor's loss is -Q/mean|Q| + beta * BC; LayerNorm stands before the ReLU;
the critics are one layer deeper than the actor; the targets move with the actor, every second update.
"""

import dataclasses
import warnings
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from zoo.agents.core.batch import Batch
from zoo.agents.core.config import Hyper, as_values
from zoo.agents.core.learner import Metrics
from zoo.agents.core.members import per_member
from zoo.agents.shared.actor_critic import ActorCritic, ActorCriticConfig
from zoo.agents.shared.infeasible import infeasible_actions
from zoo.agents.shared.losses import cloning_error, squared_errors, td_target
from zoo.policies import final_uniform_, minimum
from zoo.policies.mlp import Norm


@dataclasses.dataclass(frozen=True)
class PARSConfig(ActorCriticConfig):
    critic_hidden: tuple[int, ...] = (256, 256, 256)
    critic_norm: Norm = "before"
    n_critics: int = 10
    reward_scale: Hyper = 10.0  # c_reward; the paper never shifts rewards
    alpha: Hyper = 0.001  # weight of the infeasible-action penalty
    beta: Hyper = 0.01  # weight of cloning
    infeasible_distance: Hyper = 100.0  # L, in half boxes
    infeasible: Literal["all_dims", "any_dim"] = "all_dims"  # any_dim: a random non-empty set of dimensions
    q_min: Hyper | None = None  # for raw rewards; None: the dataset's least reward / (1 - gamma)
    q_min_scaled: bool = True  # q_min follows reward_scale and reward_shift, the paper's rule; False: as it is
    target_subset: int = 2  # S_k_critic
    # Online:
    updates_per_step: int = 20
    online_alpha: Hyper | None = None  # None: as offline
    online_beta: Hyper | None = None
    online_actor_subset: int = 1  # S_k_actor

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("infeasible_distance")
        if self.q_min is None and 1.0 in as_values(self.gamma):
            raise ValueError("gamma=1 leaves no default for q_min, reward_min / (1 - gamma): give q_min, or gamma < 1")
        if self.q_min_scaled and any(as_values(self.reward_shift)) and 1.0 in as_values(self.gamma):
            raise ValueError("gamma=1 and a reward_shift leave q_min without a value: give q_min_scaled=False")
        for name in ("alpha", "beta"):
            self.check_at_least(name, 0.0)
        for name in ("online_alpha", "online_beta"):
            if getattr(self, name) is not None:
                self.check_at_least(name, 0.0)
        for name in ("target_subset", "online_actor_subset"):
            if not 1 <= getattr(self, name) <= self.n_critics:
                raise ValueError(f"{name} must be between 1 and n_critics={self.n_critics}, got {getattr(self, name)}")


class PARS(ActorCritic):
    """gradient_step is ActorCritic's; the losses are PARS's own, offline and online."""

    Config = PARSConfig
    config: PARSConfig

    def build(self) -> None:
        super().build()
        self.q_min = self.least_value()
        scales, shifts = (np.array(as_values(v)) for v in (self.config.reward_scale, self.config.reward_shift))
        spec = self.spec
        if (scales * spec.reward_mean + shifts < 0.0).any():  # on average, as the targets see them
            warnings.warn(
                f"PARS expects mostly positive rewards; those of {spec.name} average {spec.reward_mean:.3g}, so its "
                "targets would be negative: give a reward_shift that makes them positive, such as -reward_scale times "
                f"their least one, {spec.reward_min:.3g}",
                stacklevel=2,
            )

    def least_value(self) -> float | Tensor:
        """Q_min in the critics' units, a number or one for each member (P,): the least reward, for ever.

        The paper's rule is reward_scale * reward_min / (1 - gamma); a reward_shift is one more reward in every step.
        """
        h = self.hyper
        least = self.spec.reward_min / (1.0 - h.gamma) if h.q_min is None else h.q_min
        if not self.config.q_min_scaled:
            return least
        shifted = h.reward_shift / (1.0 - h.gamma) if any(as_values(self.config.reward_shift)) else 0.0
        return h.reward_scale * least + shifted

    def initialize(self) -> None:
        final_uniform_(self.critic.trunk, 3e-3)  # small first values: part of the paper's argument

    @property
    def penalty_weight(self) -> float | Tensor:
        h = self.hyper
        return h.online_alpha if self.online and h.online_alpha is not None else h.alpha

    @property
    def cloning_weight(self) -> float | Tensor:
        h = self.hyper
        return h.online_beta if self.online and h.online_beta is not None else h.beta

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """TD error with scaled rewards plus alpha * (Q(s, a_inf) - Q_min)^2; section 4 and appendix E."""
        h, alpha = self.hyper, self.penalty_weight
        next_actions = self.target_actions(batch.next_observations)
        chosen = self.draws.subset("target_subset", self.lead, h.target_subset, of=h.n_critics)
        next_q = minimum(self.target_critic(batch.next_observations, next_actions, chosen))
        target_q = td_target(self.scaled_rewards(batch), batch.terminations, next_q, self.gamma)  # (B,)

        if not isinstance(alpha, Tensor) and alpha == 0.0:  # the penalty's pass is half of the critics' work
            qs = self.critic(batch.observations, batch.actions)  # (E, B)
            loss = squared_errors(qs, target_q).mean(-1)
            return loss, {"critic/loss": loss.detach(), "critic/q": qs.detach().mean((-2, -1))}

        infeasible = self.infeasible_actions(batch.actions)  # (B, A)
        observations = torch.cat([batch.observations, batch.observations], dim=-2)
        actions = torch.cat([batch.actions, infeasible], dim=-2)
        qs, qs_infeasible = self.critic(observations, actions).chunk(2, dim=-1)  # (E, B) each
        q_min = torch.zeros_like(target_q) + per_member(self.q_min, target_q)
        td = squared_errors(qs, target_q).mean(-1)
        penalty = squared_errors(qs_infeasible, q_min).mean(-1)
        loss = td + alpha * penalty
        return loss, {
            "critic/loss": loss.detach(),
            "critic/td": td.detach(),
            "critic/penalty": penalty.detach(),
            "critic/q": qs.detach().mean((-2, -1)),
            "critic/q_std": qs.detach().std(-2).mean(-1),
            "critic/q_infeasible": qs_infeasible.detach().mean((-2, -1)),
            "critic/target_over_scale": target_q.mean(-1) / h.reward_scale,
        }

    def infeasible_actions(self, actions: Tensor) -> Tensor:
        any_dim = self.config.infeasible == "any_dim"
        return infeasible_actions(self.draws, actions, self.hyper.infeasible_distance, any_dim)

    def actor_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """-Q(s, pi) / mean|Q| + beta * mean (pi - a)^2; Q is the minimum offline, a random subset's mean online."""
        pi = self.actor(batch.observations)  # (B, A)
        if self.online:
            chosen = self.draws.subset(
                "actor_subset", self.lead, self.hyper.online_actor_subset, of=self.hyper.n_critics
            )
            q = self.critic(batch.observations, pi, chosen).mean(-2)  # (B,)
        else:
            q = minimum(self.critic(batch.observations, pi))  # (B,)
        scale = 1.0 / q.detach().abs().mean(-1).clamp(min=1e-6)  # with sparse rewards Q begins near 0
        bc = cloning_error(pi, batch.actions)
        loss = self.cloning_weight * bc - scale * q.mean(-1)
        return loss, {
            "actor/loss": loss.detach(),
            "actor/bc": bc.detach(),
            "actor/q": q.detach().mean(-1),
            "actor/scale": scale,
            "actor/magnitude": pi.detach().abs().mean((-2, -1)),
        }
