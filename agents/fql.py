"""FQL: a flow learns the data's actions, and a network of one step learns the flow's result and to please the critics.

Park, Li and Levine 2025, "Flow Q-Learning", arXiv 2502.02538. The flow is cloning alone: no gradient of Q passes its
ten steps. The network that acts maps noise to an action at once; its loss is the distance to where the flow carries the
same noise, less the mean of the critics. All losses of an update see the parameters of before it, and so do the
targets, as in the official code.

It acts with fresh noise. Not taken over: the official loader clips the data's actions to 1 - 1e-5.
"""

import dataclasses
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from zoo.agents.core.batch import Batch
from zoo.agents.core.config import Hyper, OnlineBuffer
from zoo.agents.core.learner import Metrics
from zoo.agents.core.optim import Adam, minimize_together
from zoo.agents.shared.generative import Generative, GenerativeConfig
from zoo.agents.shared.losses import Targets, cloning_error, magnitude, squared_errors, td_target
from zoo.policies import Critic, LayerNorm, OneStepActor, Policy, VelocityField, mean, minimum, xavier_uniform_
from zoo.policies.mlp import Activation


@dataclasses.dataclass(frozen=True)
class FQLConfig(GenerativeConfig):
    actor_hidden: tuple[int, ...] = (512, 512, 512, 512)  # of the flow too
    critic_hidden: tuple[int, ...] = (512, 512, 512, 512)
    activation: Activation = "gelu"
    alpha: Hyper = 10.0  # weight of the distance to the flow's action
    flow_steps: int = 10
    normalize_q: bool = False  # the critics' term over its mean magnitude; then alpha is 0.03 to 10
    q_aggregate: Literal["mean", "min"] = "mean"  # of the target critics
    # Online:
    online_alpha: Hyper | None = None  # None: as offline
    online_buffer: OnlineBuffer = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("alpha",) if self.online_alpha is None else ("alpha", "online_alpha"):
            self.check_at_least(name, 0.0)
        self.check_at_least("flow_steps", 1)
        if self.scale != "fixed":
            self.check_positive("alpha")
        if self.scale != "fixed" and not self.normalize_q:
            raise ValueError(f"scale={self.scale!r} is of the normalised Q: give normalize_q=True")


class FQL(Generative):
    Config = FQLConfig
    config: FQLConfig

    def build(self) -> None:
        c, sizes = self.config, (self.spec.observation_size, self.spec.action_size)
        actor = OneStepActor(*sizes, c.actor_hidden, self.lead, c.activation)
        self.flow = VelocityField(*sizes, c.actor_hidden, self.lead, c.activation)
        critic, self.target_critic = (
            Critic(*sizes, c.critic_hidden, c.n_critics, self.lead, "after", activation=c.activation) for _ in range(2)
        )
        self.aggregate = minimum if c.q_aggregate == "min" else mean
        low, high = torch.tensor(self.spec.action_low), torch.tensor(self.spec.action_high)
        self.policy = Policy(actor, critic, sizes[0], low, high, self.aggregate)
        for network in (actor, self.flow, critic):
            xavier_uniform_(network.trunk)
        for module in self.modules():
            if isinstance(module, LayerNorm):
                module.eps = 1e-6  # the original's library's default
        self.target_critic.requires_grad_(False).load_state_dict(critic.state_dict())
        self.targets = Targets((self.target_critic, critic))
        self.optimizers = {
            "flow": Adam(self.flow.parameters(), c.actor_lr),
            "actor": Adam(actor.parameters(), c.actor_lr),
            "critic": Adam(critic.parameters(), c.critic_lr),
        }
        self.add_scale(1.0 / self.hyper.alpha if c.scale != "fixed" else self.hyper.alpha)

    @property
    def actor(self) -> OneStepActor:
        return self.policy.actor  # type: ignore[return-value]

    @property
    def alpha(self) -> float | Tensor:
        h = self.hyper
        return h.online_alpha if self.online and h.online_alpha is not None else h.alpha

    def gradient_step(self, batch: Batch) -> Metrics:
        critic_loss, metrics = self.critic_loss(batch)
        flow_loss, flow_metrics = self.flow_loss(batch)
        noise, taught = self.lesson(batch)
        actor_loss, q, distance = self.actor_loss(batch, noise, taught)
        metrics |= flow_metrics | {"actor/loss": actor_loss.detach(), "actor/q": q.detach()}
        metrics["actor/bc"] = distance.detach()
        self.targets.follow(self.hyper.tau)
        score = partial(self.actor_loss, batch, noise, taught)  # by the critics of before their step
        metrics |= self.scale.minimize(actor_loss, self.optimizers["actor"], score)
        minimize_together([(critic_loss, self.optimizers["critic"]), (flow_loss, self.optimizers["flow"])])
        return metrics

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Each critic towards r + gamma Q of an action of the actor's; the mean over the critics."""
        with torch.no_grad():
            noise = self.draws.normal("next_noise", batch.actions)
            next_actions = self.actor.generate(batch.next_observations, noise)
            next_q = self.aggregate(self.target_critic(batch.next_observations, next_actions))
        target_q = td_target(self.scaled_rewards(batch), batch.terminations, next_q, self.hyper.gamma)
        qs = self.critic(batch.observations, batch.actions)  # (E, B)
        loss = squared_errors(qs, target_q).mean(-1)
        return loss, {"critic/loss": loss.detach(), "critic/q": qs.detach().mean((-2, -1))}

    def flow_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """The velocity on the straight line from noise to the data's action, at a random time of it."""
        start = self.draws.normal("flow_start", batch.actions)
        time = self.draws.uniform("flow_time", batch.rewards).unsqueeze(-1)  # (B, 1)
        between = (1.0 - time) * start + time * batch.actions
        loss = cloning_error(self.flow(batch.observations, between, time), batch.actions - start)
        return loss, {"flow/loss": loss.detach()}

    @torch.no_grad()
    def lesson(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Noise, and where the flow carries it, both (B, A)."""
        noise = self.draws.normal("policy_noise", batch.actions)
        return noise, self.flow.integrate(batch.observations, noise, self.config.flow_steps)

    def actor_loss(self, batch: Batch, noise: Tensor, taught: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """alpha * (mu(s, z) - flow(s, z))^2 - mean Q(s, mu(s, z)), mu clipped for the critics; mean Q; the distance.

        A scale that is not fixed is the other term's, (mu - flow)^2 - scale * Q / mean|Q|, and begins at 1 / alpha;
        then this is also what it aims at.
        """
        pi = self.actor.unclipped(batch.observations, noise)  # (B, A)
        distance = cloning_error(pi, taught)
        q = mean(self.critic(batch.observations, pi.clamp(-1.0, 1.0)))  # (B,)
        worth = q.mean(-1) / magnitude(q) if self.config.normalize_q else q.mean(-1)
        if self.config.scale != "fixed":
            return distance - self.scale.alpha * worth, q.mean(-1), distance
        return self.alpha * distance - worth, q.mean(-1), distance
