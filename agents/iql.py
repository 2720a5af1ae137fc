"""IQL: values by expectile regression, never asking the critics about an action that is not in the data.

Kostrikov, Nair and Levine 2021, "Offline Reinforcement Learning with Implicit Q-Learning", arXiv 2110.06169. V is an
upper expectile of Q over the data's actions, Q's target is r + gamma V(s'), and the actor clones the data weighted by
exp(beta (Q - V)). Steps in the order of the paper's code: V, then the actor and Q with the new V.

Presets: each dataset's of the paper; "simple-ingredients", the form of Cetin et al. 2024 (arXiv 2403.13097), whose
actor is AWAC's; and for AntMaze the variants "rs-ln" and "rs-ln-pa" with PARS's reward scaling and penalty (Kim et al.
2025, arXiv 2507.08761, section 6.5).
"""

import dataclasses
import math
import warnings
from typing import Any, Literal

import torch
from torch import Tensor

from zoo.agents.core.batch import Batch
from zoo.agents.core.config import Hyper, as_values
from zoo.agents.core.draws import dropout_masks
from zoo.agents.core.learner import Metrics
from zoo.agents.core.members import per_member
from zoo.agents.core.optim import Adam, minimize
from zoo.agents.shared.actor_critic import explore_around
from zoo.agents.shared.infeasible import infeasible_actions
from zoo.agents.shared.learned_scale import ScaleConfig, Scaled
from zoo.agents.shared.losses import scale_free, squared_errors
from zoo.agents.shared.trust import expectile_loss
from zoo.agents.shared.weighted import ScaledWeights, Weighted, WeightedConfig
from zoo.policies import DeterministicActor, NormalActor, Value, orthogonal_


@dataclasses.dataclass(frozen=True)
class IQLConfig(ScaleConfig, WeightedConfig):
    value_hidden: tuple[int, ...] = (256, 256)
    value_lr: Hyper = 3e-4
    expectile: Hyper = 0.7
    temperature: Hyper = 1.0 / 3.0  # 1 / beta, the paper's inverse temperature
    advantage: Literal["value", "policy"] = "value"  # Q - V, or AWAC's: Q less the critics' opinion of the policy
    policy: Literal["gaussian", "deterministic"] = "gaussian"
    dropout: float = 0.0  # of the actor's hidden units, in training
    orthogonal: bool = True  # initial weights of every network, with gain sqrt 2; False: actor_gain's and critic_gain's
    cosine_steps: int = 1_000_000
    exploration_noise: float = 0.03  # online, of a deterministic policy, in half boxes; from its re-runs (CORL)
    return_range: float | None = None  # rewards are scaled so that the data's returns span it, on top of reward_scale
    # PARS's penalty of infeasible actions on the critics:
    infeasible_weight: Hyper = 0.0
    infeasible_distance: Hyper = 1000.0
    q_min: Hyper = 0.0  # for scaled rewards

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("value_lr")
        self.check_positive("infeasible_distance")
        self.check_between("expectile", 0.0, 1.0)
        self.check_between("dropout", 0.0, 0.99)
        for name in ("exploration_noise", "infeasible_weight"):
            self.check_at_least(name, 0.0)
        if self.return_range is not None:
            self.check_positive("return_range")
        if self.dropout > 0.0 and self.actor_network == "residual":
            raise ValueError("dropout is for actor_network='mlp': give dropout=0.0 with residual networks")
        if self.scale != "fixed" and self.weights != "exponential":
            raise ValueError(f"scale={self.scale!r} is of exponential weights, got weights={self.weights!r}")
        if self.policy == "deterministic" and self.advantage == "policy":
            raise ValueError("advantage='policy' samples the policy: give policy='gaussian', or advantage='value'")


class IQL(Scaled, Weighted):
    Config = IQLConfig
    config: IQLConfig

    def build(self) -> None:
        self.value = Value(
            self.spec.observation_size, self.config.value_hidden, self.lead, activation=self.config.activation
        )
        super().build()
        self.optimizers["value"] = Adam(self.value.parameters(), self.config.value_lr)
        self.add_scale(1.0 / self.hyper.temperature)
        if self.config.scale != "fixed":
            self.weights = ScaledWeights(self.scale, self.hyper.max_weight)
        span = self.spec.return_max - self.spec.return_min
        wanted = self.config.return_range
        self.reward_unit = 1.0 if wanted is None or span <= 0.0 else wanted / span
        if any(as_values(self.config.infeasible_weight)):
            self.check_floor()

    def check_floor(self) -> None:
        """Warns where q_min, which is 0 for rewards that are never negative, is no floor of these rewards' values."""
        h = self.hyper
        least = torch.as_tensor(self.reward_unit * (h.reward_scale * self.spec.reward_min + h.reward_shift))
        surplus = (1.0 - h.gamma) * h.q_min - least  # of one step
        if (surplus > 1e-6 * least.abs()).any():
            warnings.warn(
                f"IQL's q_min={self.config.q_min} is above the least value that the rewards of {self.spec.name} allow, "
                f"{least.tolist()} / (1 - gamma) as scaled: infeasible actions would look better than the data's. Give "
                "that as q_min, or a reward_shift that makes the rewards positive",
                stacklevel=4,
            )

    def new_actor(self) -> NormalActor | DeterministicActor:
        c = self.config
        if c.policy == "gaussian":
            return super().new_actor()
        sizes = (self.spec.observation_size, self.spec.action_size)
        kind: dict[str, Any] = {"norm": c.actor_norm, "network": c.actor_network, "activation": c.activation}
        return DeterministicActor(*sizes, c.actor_hidden, self.lead, **kind)

    def initialize(self) -> None:
        super().initialize()
        if self.config.orthogonal:
            for network in (self.actor, self.critic, self.value):
                orthogonal_(network.trunk, math.sqrt(2.0))

    def scaled_rewards(self, batch: Batch) -> Tensor:
        return self.reward_unit * super().scaled_rewards(batch)

    def gradient_step(self, batch: Batch) -> Metrics:
        q = self.data_q(batch)
        loss, metrics = self.value_loss(batch, q)
        minimize(loss, self.optimizers["value"])
        if self.config.advantage == "value":
            metrics |= self.update_actor(batch, self.advantage(batch, q))
            metrics |= self.update_critic(batch)
        else:  # the critics' opinion of after their step
            metrics |= self.update_critic(batch)
            metrics |= self.update_actor(batch, self.sampled_advantage(batch))
        self.update_targets()
        return metrics

    def update_actor(self, batch: Batch, advantage: Tensor) -> Metrics:
        loss, metrics = self.cloning_loss(batch, advantage)
        return metrics | self.scale.minimize(loss, self.optimizers["actor"], lambda: self.score(batch))

    def score(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What a learned scale, here 1 / temperature, aims at: -alpha * Q / mean|Q| - log pi(a|s); and mean Q.

        Q: the critics' opinion of the policy's mode. The cloning error is unweighted.
        """
        q = self.aggregate(self.critic(batch.observations, self.actor(batch.observations)))  # (B,)
        cloning = self.actor.cloning_errors(batch.observations, batch.actions).mean(-1)
        return cloning - self.scale.alpha * scale_free(q).mean(-1), q.mean(-1)

    def update_critic(self, batch: Batch) -> Metrics:
        loss, metrics = self.critic_loss(batch)
        minimize(loss, self.optimizers["critic"])
        return metrics

    @torch.no_grad()
    def data_q(self, batch: Batch) -> Tensor:
        """The target critics' opinion of the data's actions, (B,)."""
        return self.aggregate(self.target_critic(batch.observations, batch.actions))

    def value_loss(self, batch: Batch, q: Tensor) -> tuple[Tensor, Metrics]:
        """V towards the expectile of q (B,), the opinion of the data's actions; equation 5."""
        v = self.value(batch.observations)  # (B,)
        loss = expectile_loss(q - v, per_member(self.hyper.expectile, v))
        return loss, {"value/loss": loss.detach(), "value/v": v.detach().mean(-1)}

    @torch.no_grad()
    def advantage(self, batch: Batch, q: Tensor) -> Tensor:
        """How much better the data's actions are, with the opinion q (B,), than the state's value, (B,)."""
        return q - self.value(batch.observations)

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Q towards r + gamma V(s'), equation 6; with a weight, PARS's penalty too."""
        with torch.no_grad():
            next_v = self.value(batch.next_observations)
        loss, metrics = self.td_loss(batch, next_v)
        weight, h = self.hyper.infeasible_weight, self.hyper
        if isinstance(weight, Tensor) or weight > 0.0:
            far = infeasible_actions(self.draws, batch.actions, h.infeasible_distance)
            floor = torch.zeros_like(batch.rewards) + per_member(h.q_min, batch.rewards)
            penalty = squared_errors(self.critic(batch.observations, far), floor).sum(-1)
            loss = loss + weight * penalty
            metrics |= {"critic/loss": loss.detach(), "critic/penalty": penalty.detach()}
        return loss, metrics

    def explore(self, observations: Tensor) -> Tensor:
        """A draw from the policy; around a deterministic one, a step of Gaussian noise."""
        if self.config.policy == "gaussian":
            return super().explore(observations)
        return explore_around(self.policy, observations, self.config.exploration_noise, self.acting)

    def actor_masks(self, observations: Tensor) -> list[Tensor]:
        return dropout_masks(self.draws, "dropout", self.config.dropout, observations, self.config.actor_hidden)
