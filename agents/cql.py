"""CQL: soft actor-critic whose critics are pushed down where the policy and chance go, and up at the data.

Kumar et al. 2020, "Conservative Q-Learning for Offline Reinforcement Learning", arXiv 2006.04779; the variant CQL(H)
with importance sampling, in the settings of its re-runs (CORL). With target_gap the penalty's weight is a Lagrange
multiplier. All losses of an update see the parameters of before it.

With return_floor it is Cal-QL (Nakamoto et al. 2023, arXiv 2303.05479): the penalty does not push the policy's actions
below what the behaviour is known to have earned from the state.
"""

import dataclasses
import math
from collections.abc import Hashable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from zoo.agents.core.batch import COLUMNS, Batch
from zoo.agents.core.config import Hyper
from zoo.agents.core.draws import Draws
from zoo.agents.core.learner import Metrics
from zoo.agents.core.members import per_member
from zoo.agents.core.optim import Adam, minimize_together
from zoo.agents.core.replay import Table
from zoo.agents.core.spec import Dataset
from zoo.agents.shared.learned_scale import ScaleConfig, Scaled
from zoo.agents.shared.losses import Targets, scale_free, td_target
from zoo.agents.shared.return_floor import ReturnFloor
from zoo.policies import Critic, GaussianActor, Pessimistic, Policy, TanhNormal, minimum, orthogonal_
from zoo.policies.critic import Aggregate
from zoo.policies.mlp import Norm
from zoo.policies.residual import Network

Proposed = tuple[Tensor, Tensor]  # actions (B, K, A) that the penalty asks about, and their log-densities (B, K)


@dataclasses.dataclass(frozen=True)
class CQLConfig(ScaleConfig):
    normalize_observations: bool = True
    actor_hidden: tuple[int, ...] = (256, 256, 256)
    critic_hidden: tuple[int, ...] = (256, 256, 256)
    critic_norm: Norm = "none"  # LayerNorm "before" or "after" each activation of the critics
    actor_network: Network = "mlp"  # "residual": a block with spectral normalisation for each hidden entry
    critic_network: Network = "mlp"
    n_critics: int = 2
    pessimism: float | None = None  # None: the critics' minimum; else their mean less this times their mean distance
    actor_lr: Hyper = 3e-5
    critic_lr: Hyper = 3e-4
    gamma: Hyper = 0.99
    tau: Hyper = 0.005  # weight of the new parameters in the targets
    target_delay: int = 1  # updates for each step of the targets
    entropy_weight: Hyper = 1.0  # times the learned temperature of SAC
    cql_alpha: Hyper = 10.0  # weight of the penalty
    penalty_actions: int = 10  # of each kind: uniform, the policy's, the policy's at the next state
    penalty_temperature: Hyper = 1.0
    importance_sampling: bool = True  # False: without the proposals' densities, the data's own action among them
    target_gap: float | None = None  # the multiplier keeps the penalty near it; None: a fixed weight
    gap_min: float | None = None  # bounds of the penalty of one sample
    gap_max: float | None = None
    max_backup: bool = False  # the target takes the best of penalty_actions of the policy's
    backup_entropy: bool = False
    # Cal-QL's floor, the discounted return of the data from the row on; online it is known once an episode has ended.
    # "sparse": an episode that did not terminate goes on with its last reward forever, as a failed search would.
    return_floor: Literal["none", "dense", "sparse"] = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("actor_lr", "critic_lr", "penalty_temperature"):
            self.check_positive(name)
        for name in ("gamma", "tau"):
            self.check_between(name, 0.0, 1.0)
        for name in ("cql_alpha", "entropy_weight"):
            self.check_at_least(name, 0.0)
        for name in ("n_critics", "penalty_actions", "target_delay"):
            self.check_at_least(name, 1)
        if self.pessimism is not None:
            self.check_at_least("pessimism", 0.0)
        if self.scale != "fixed" and self.target_gap is not None:
            raise ValueError(f"scale={self.scale!r} and target_gap={self.target_gap} both set the penalty's weight")
        if self.return_floor != "none" and {"gamma", "reward_scale", "reward_shift"} & set(self.sweeps()):
            raise ValueError("return_floor is one column for all members: gamma and rewards cannot be swept with it")


class CQL(Scaled):
    Config = CQLConfig
    config: CQLConfig

    @property
    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        return COLUMNS if self.config.return_floor == "none" else (*COLUMNS, "floor")

    def annotate(self, table: Table, dataset: Dataset) -> None:
        super().annotate(table, dataset)
        if self.floor is not None:
            table.choose("floor", self.floor.of_dataset(dataset))

    def episode_ended(self, table: Table, rows: Tensor, terminated: bool) -> None:
        if self.floor is not None:
            table.column("floor")[rows] = self.floor.of_episode(table.column("rewards")[rows], terminated)

    def build(self) -> None:
        c, sizes = self.config, (self.spec.observation_size, self.spec.action_size)
        self.floor = None
        if c.return_floor != "none":
            h = self.hyper
            self.floor = ReturnFloor(c.return_floor == "sparse", h.gamma, h.reward_scale, h.reward_shift)
        self.aggregate: Aggregate = minimum if c.pessimism is None else Pessimistic(c.pessimism)
        actor = GaussianActor(*sizes, c.actor_hidden, self.lead, (1.0, -1.0), c.actor_network, activation=c.activation)
        critic, self.target_critic = (
            Critic(*sizes, c.critic_hidden, c.n_critics, self.lead, c.critic_norm, c.critic_network, c.activation)
            for _ in range(2)
        )
        orthogonal_(critic.trunk, math.sqrt(2.0), 1e-2)
        low, high = torch.tensor(self.spec.action_low), torch.tensor(self.spec.action_high)
        self.policy = Policy(actor, critic, sizes[0], low, high, self.aggregate)
        self.target_critic.requires_grad_(False).load_state_dict(critic.state_dict())
        self.targets = Targets((self.target_critic, critic))
        self.log_alpha = nn.Parameter(torch.zeros(self.lead))
        self.optimizers = {
            "alpha": Adam([self.log_alpha], c.actor_lr),
            "actor": Adam(actor.parameters(), c.actor_lr),
            "critic": Adam(critic.parameters(), c.critic_lr),
        }
        if c.target_gap is not None:
            self.log_multiplier = nn.Parameter(torch.ones(self.lead))
            self.optimizers["multiplier"] = Adam([self.log_multiplier], c.critic_lr)
        self.add_scale(self.hyper.cql_alpha)

    @property
    def actor(self) -> GaussianActor:
        return self.policy.actor  # type: ignore[return-value]

    @property
    def critic(self) -> Critic:
        return self.policy.critic

    @property
    def alpha(self) -> Tensor:
        """SAC's temperature, () or (P,)."""
        return self.hyper.entropy_weight * self.log_alpha.detach().exp()

    def phase(self) -> tuple[Hashable, ...]:
        return (*super().phase(), self.targets_due)

    @property
    def targets_due(self) -> bool:
        return self.updates % self.config.target_delay == 0

    def gradient_step(self, batch: Batch) -> Metrics:
        actions, log_prob = self.actor.distribution(batch.observations).sample(
            self.draws.normal("policy_xi", batch.actions)
        )
        alpha_loss = -(self.log_alpha * (log_prob.detach().mean(-1) - self.spec.action_size))  # equation 18 of SAC
        actor_loss, metrics = self.actor_loss(batch, actions, log_prob)
        proposed = None if self.config.scale == "fixed" else self.proposals(batch)
        critic_loss, gaps, critic_metrics = self.critic_loss(batch, proposed)
        losses = {"alpha": alpha_loss, "actor": actor_loss}
        if self.config.target_gap is not None:
            losses["multiplier"] = self.multiplier_loss(batch, gaps)
        minimize_together([(loss, self.optimizers[name]) for name, loss in losses.items()])
        score = partial(self.score, batch, actions.detach(), proposed)
        metrics |= critic_metrics | self.scale.minimize(critic_loss, self.optimizers["critic"], score)
        metrics |= self.after_step(batch)
        if self.targets_due:
            self.targets.follow(self.hyper.tau)
        return metrics | {"alpha/loss": alpha_loss.detach(), "alpha/value": self.alpha}

    def after_step(self, batch: Batch) -> Metrics:
        """What a paper adds once the networks have moved; nothing."""
        return {}

    def actor_loss(self, batch: Batch, actions: Tensor, log_prob: Tensor) -> tuple[Tensor, Metrics]:
        """mean alpha * log pi - min Q(s, a). actions (B, A) and log_prob (B,): the policy's."""
        q = self.aggregate(self.critic(batch.observations, actions))  # (B,)
        loss = (per_member(self.alpha, q) * log_prob - q).mean(-1)
        return loss, {
            "actor/loss": loss.detach(),
            "actor/q": q.detach().mean(-1),
            "actor/entropy": -log_prob.detach().mean(-1),
        }

    def score(self, batch: Batch, pi: Tensor, proposed: Proposed | None) -> tuple[Tensor, Tensor]:
        """What a learned scale, here cql_alpha, aims at: -Q / mean|Q| + alpha * penalty; and mean Q.

        pi (B, A), proposed: actions drawn before the critics' step, the same ones after it. Q: the critics' one
        opinion. The penalty is summed over the critics, as in their loss.
        """
        assert proposed is not None
        q = self.aggregate(self.critic(batch.observations, pi))  # (B,)
        penalty = self.gaps(batch, proposed)[1].mean(-1).sum(-1)
        return self.scale.alpha * penalty - scale_free(q).mean(-1), q.mean(-1)

    def critic_loss(self, batch: Batch, proposed: Proposed | None = None) -> tuple[Tensor, Tensor, Metrics]:
        """TD errors plus the weighted penalty, summed over the critics; equation 4. Also the penalties (E, B).

        proposed: what `proposals` drew; None draws it.
        """
        target_q = td_target(self.scaled_rewards(batch), batch.terminations, self.next_q(batch), self.hyper.gamma)
        q, gaps = self.gaps(batch, self.proposals(batch) if proposed is None else proposed)
        td = (q - target_q.unsqueeze(-2)).square().mean(-1)  # (E,)
        weight = self.penalty_weight(batch).unsqueeze(-2)
        if self.config.target_gap is None:
            penalty = (weight * gaps).mean(-1)
        else:
            surplus = (weight * (gaps - self.config.target_gap)).mean(-1)
            penalty = per_member(self.multiplier.detach(), surplus) * surplus
        loss = (td + penalty).sum(-1)
        return (
            loss,
            gaps,
            {
                "critic/loss": loss.detach(),
                "critic/td": td.detach().sum(-1),
                "critic/gap": gaps.detach().mean((-2, -1)),
                "critic/q": q.detach().mean((-2, -1)),
            },
        )

    def gaps(self, batch: Batch, proposed: Proposed) -> tuple[Tensor, Tensor]:
        """q of the data's actions and the penalties of one sample, both (E, B)."""
        proposals, log_densities = proposed
        every = torch.cat([batch.actions.unsqueeze(-2), proposals], dim=-2)
        qs = self.critic.several(batch.observations, every)  # (E, B, 1 + K)
        q = qs[..., 0]
        if batch.floor is not None:  # of the policy's proposals, not of the data or the uniform ones
            fixed = 1 + self.config.penalty_actions
            raised = torch.maximum(qs[..., fixed:], batch.floor.unsqueeze(-1).unsqueeze(-3))
            qs = torch.cat([qs[..., :fixed], raised], dim=-1)
        others = qs[..., 1:] - log_densities.unsqueeze(-3) if self.config.importance_sampling else qs
        temperature = per_member(self.hyper.penalty_temperature, others)
        gaps = per_member(self.hyper.penalty_temperature, q) * (others / temperature).logsumexp(-1) - q
        if self.config.gap_min is not None or self.config.gap_max is not None:
            gaps = gaps.clamp(self.config.gap_min, self.config.gap_max)  # (E, B)
        return q, gaps

    def multiplier_loss(self, batch: Batch, gaps: Tensor) -> Tensor:
        """Raises the multiplier where the penalties (E, B) are above target_gap. For two critics their mean."""
        assert self.config.target_gap is not None
        surplus = (self.penalty_weight(batch).unsqueeze(-2) * (gaps.detach() - self.config.target_gap)).mean(-1)
        return -self.multiplier * surplus.mean(-1)

    @property
    def multiplier(self) -> Tensor:
        return self.log_multiplier.exp().clamp(max=1e6)

    def penalty_weight(self, batch: Batch) -> Tensor:
        """Each sample's weight of the penalty, (B,)."""
        return torch.zeros_like(batch.rewards) + per_member(self.scale.alpha, batch.rewards)

    @torch.no_grad()
    def next_q(self, batch: Batch) -> Tensor:
        """The targets' one opinion of an action of the policy's, or of the best of several, (B,)."""
        distribution = self.actor.distribution(batch.next_observations)
        count = self.config.penalty_actions if self.config.max_backup else 1
        actions, log_prob = several(distribution, self.draws, "next_xi", count)  # (B, count, A), (B, count)
        qs = self.target_critic.several(batch.next_observations, actions)  # (E, B, count)
        q, best = self.aggregate(qs.flatten(-2)).unflatten(-1, qs.shape[-2:]).max(-1, keepdim=True)
        if self.config.backup_entropy:
            q = q - per_member(self.alpha, q) * log_prob.gather(-1, best)
        return q.squeeze(-1)

    @torch.no_grad()
    def proposals(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Actions (B, 3M, A) that the penalty asks about at s, and their log-densities (B, 3M).

        Uniform ones, the policy's at the next state, and the policy's at the state: all are judged at the state.
        """
        count, size = self.config.penalty_actions, self.spec.action_size
        like = batch.actions.unsqueeze(-2).expand(*batch.actions.shape[:-1], count, size)
        uniform = 2.0 * self.draws.uniform("random_actions", like) - 1.0
        here = several(self.actor.distribution(batch.observations), self.draws, "current_xi", count)
        there = several(self.actor.distribution(batch.next_observations), self.draws, "next_repeat_xi", count)
        density = torch.full_like(uniform[..., 0], -size * math.log(2.0))
        return torch.cat([uniform, there[0], here[0]], dim=-2), torch.cat([density, there[1], here[1]], dim=-1)

    def explore(self, observations: Tensor) -> Tensor:
        """A draw from the policy."""
        return self.policy.sample(observations, self.acting.normal("exploration", self.policy(observations)))


def several(distribution: TanhNormal, draws: Draws, name: str, count: int) -> tuple[Tensor, Tensor]:
    """`count` actions for each row, (B, count, A), and their log-densities (B, count)."""
    mean, log_std = (part.unsqueeze(-2) for part in distribution)
    noise = draws.normal(name, mean.expand(*mean.shape[:-2], count, mean.shape[-1]))
    return TanhNormal(mean, log_std).sample(noise)
