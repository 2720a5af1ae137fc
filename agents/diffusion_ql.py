"""DiffusionQL: a diffusion model of the data's actions, pulled towards those that the critics like.

Wang et al. 2023, "Diffusion Policies as an Expressive Policy Class for Offline Reinforcement Learning",
arXiv 2208.06193. The actor denoises an action in five steps; its loss is the denoising error on the data's actions,
less eta times the critics' opinion of an action of its own, with the gradient through all five steps. Target actions
come from a slow average of the actor.

It acts by the best of 50 actions in the critics' opinion. Deviations: the official code draws one of the 50 with the
softmax of the target critics' minimum, and decays no learning rate although it says so; ours has no decay either.
"""

import dataclasses
from collections.abc import Hashable

import torch
from torch import Tensor

from zoo.agents.core.batch import Batch
from zoo.agents.core.config import Hyper
from zoo.agents.core.learner import Metrics
from zoo.agents.core.optim import Adam, minimize
from zoo.agents.shared.generative import Generative, GenerativeConfig
from zoo.agents.shared.losses import Targets, magnitude, squared_errors, td_target
from zoo.policies import Critic, DiffusionActor, Policy, minimum
from zoo.policies.mlp import Activation


@dataclasses.dataclass(frozen=True)
class DiffusionQLConfig(GenerativeConfig):
    actor_hidden: tuple[int, ...] = (256, 256, 256)
    critic_hidden: tuple[int, ...] = (256, 256, 256)
    activation: Activation = "mish"
    diffusion_steps: int = 5
    eta: Hyper = 1.0  # weight of Q against the denoising error
    max_backup: bool = False  # the target takes the best of backup_actions, for each critic alone
    backup_actions: int = 10
    gradient_clip: float = 1.0  # largest norm of the gradients of the actor, and of the critics
    actor_tau: Hyper = 0.005  # weight of the new parameters in the slow actor,
    actor_target_delay: int = 5  # which moves every so many updates
    actor_target_start: int = 1000  # once so many are behind it
    normalize_rewards: bool = False  # by the data's mean and deviation, before reward_scale and reward_shift
    evaluation_samples: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("gradient_clip")
        self.check_between("actor_tau", 0.0, 1.0)
        for name in ("eta", "actor_target_start"):
            self.check_at_least(name, 0)
        for name in ("diffusion_steps", "backup_actions", "actor_target_delay"):
            self.check_at_least(name, 1)
        self.check_at_least("n_critics", 2)


class DiffusionQL(Generative):
    Config = DiffusionQLConfig
    config: DiffusionQLConfig

    def build(self) -> None:
        c, sizes = self.config, (self.spec.observation_size, self.spec.action_size)
        actor, self.target_actor = (
            DiffusionActor(*sizes, c.actor_hidden, self.lead, c.diffusion_steps, c.activation) for _ in range(2)
        )
        critic, self.target_critic = (
            Critic(*sizes, c.critic_hidden, c.n_critics, self.lead, activation=c.activation) for _ in range(2)
        )
        low, high = torch.tensor(self.spec.action_low), torch.tensor(self.spec.action_high)
        self.policy = Policy(actor, critic, sizes[0], low, high)
        self.target_actor.requires_grad_(False).load_state_dict(actor.state_dict())
        self.target_critic.requires_grad_(False).load_state_dict(critic.state_dict())
        self.critic_targets = Targets((self.target_critic, critic))
        self.actor_targets = Targets((self.target_actor, actor))
        self.optimizers = {
            "actor": Adam(actor.parameters(), c.actor_lr),
            "critic": Adam(critic.parameters(), c.critic_lr),
        }
        self.add_scale(self.hyper.eta)

    @property
    def actor(self) -> DiffusionActor:
        return self.policy.actor  # type: ignore[return-value]

    def phase(self) -> tuple[Hashable, ...]:
        return (*super().phase(), self.actor_target_due)

    @property
    def actor_target_due(self) -> bool:
        before = self.updates - 1
        return before >= self.config.actor_target_start and before % self.config.actor_target_delay == 0

    def scaled_rewards(self, batch: Batch) -> Tensor:
        if self.config.normalize_rewards:
            batch = batch._replace(rewards=(batch.rewards - self.spec.reward_mean) / self.spec.reward_std)
        return super().scaled_rewards(batch)

    def gradient_step(self, batch: Batch) -> Metrics:
        loss, metrics = self.critic_loss(batch)
        minimize(loss, self.optimizers["critic"], self.config.gradient_clip)
        metrics |= self.update_actor(batch)
        if self.actor_target_due:
            self.actor_targets.follow(self.hyper.actor_tau)
        self.critic_targets.follow(self.hyper.tau)
        return metrics

    def update_actor(self, batch: Batch) -> Metrics:
        drawn = self.drawn(batch)
        loss, q, error = self.actor_loss(batch, drawn)
        metrics = {"actor/loss": loss.detach(), "actor/bc": error.detach(), "actor/q": q.detach()}
        return metrics | self.scale.minimize(
            loss, self.optimizers["actor"], lambda: self.actor_loss(batch, drawn), self.config.gradient_clip
        )

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Each critic towards r + gamma min Q of an action of the slow actor's, or of the best of several; summed."""
        count = self.config.backup_actions if self.config.max_backup else 1
        with torch.no_grad():
            next_actions = self.target_actor.candidates(
                batch.next_observations, self.noise("next_noise", batch.next_observations, count)
            )  # (B, count, A)
            next_q = minimum(self.target_critic.several(batch.next_observations, next_actions).amax(-1))
        target_q = td_target(self.scaled_rewards(batch), batch.terminations, next_q, self.hyper.gamma)
        qs = self.critic(batch.observations, batch.actions)  # (E, B)
        loss = squared_errors(qs, target_q).sum(-1)
        return loss, {"critic/loss": loss.detach(), "critic/q": qs.detach().mean((-2, -1))}

    def drawn(self, batch: Batch) -> tuple[Tensor, ...]:
        """The random numbers of the actor's loss: step (B,), noise (B, A) and (B, N), and a pair of critics (2,)."""
        step = self.draws.indices("step", batch.rewards.shape, self.config.diffusion_steps)
        added = self.draws.normal("added_noise", batch.actions)
        noise = self.noise("policy_noise", batch.observations, 1).squeeze(-2)
        return step, added, noise, self.draws.subset("pair", self.lead, 2, self.config.n_critics)

    def actor_loss(self, batch: Batch, drawn: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Denoising error - eta * Q_i(s, pi) / mean|Q_j|, i and j the pair; mean Q_i; the error.

        A scale that is not fixed is eta's, and this is also what it aims at.
        """
        step, added, noise, pair = drawn
        noisy = self.actor.noisy(batch.actions, step, added)
        error = (self.actor.noise(noisy, step, batch.observations) - added).square().mean((-2, -1))
        pi = self.actor.generate(batch.observations, noise)
        q, other = torch.take_along_dim(self.critic(batch.observations, pi), pair.unsqueeze(-1), -2).unbind(-2)
        return error - self.scale.alpha * q.mean(-1) / magnitude(other), q.mean(-1), error

    def noise(self, name: str, observations: Tensor, count: int) -> Tensor:
        """What `count` actions in each state are made of, (B, count, N)."""
        like = observations.new_empty(*observations.shape[:-1], count, self.actor.noise_size)
        return self.draws.normal(name, like)
